# announcer: the same targets for people and for CI. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

MANIFESTS ?= purelb
STORE ?= manifests
ROUTER ?= frr
export ROUTER
PYTEST_ARGS ?=
BIN := .venv/bin
PURE := $(wildcard tests/property tests/unit)
REAL := $(wildcard tests/contract tests/integration tests/e2e)
# The long ones first, and no worker waits while another has some left.
PARALLEL := -n auto --dist worksteal
CODE := announcer $(wildcard exabgp bench) lab tests

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: lab
lab: $(or $(filter kubelets,$(STORE:cluster=kubelets)),$(filter cluster,$(STORE:kubernetes=cluster)),setup) ## build or repair the lab with MANIFESTS=purelb|metallb, STORE=manifests|kubernetes|cluster, ROUTER=frr|bird|gobgp, check its promises (needs root)
	@$(BIN)/python -m lab up --manifests $(MANIFESTS) --store $(STORE) --router $(ROUTER)

.PHONY: lab-check
lab-check: ## check the promises of the running lab again (needs root)
	@$(BIN)/python -m lab check

.PHONY: lab-down
lab-down: ## remove every trace of the lab (needs root)
	@$(BIN)/python -m lab down

.PHONY: lab-containers
lab-containers: ## build the images, deploy lab/announcer.clab.yml with docker, check the same promises, take all away (needs root, minutes)
	@lab/setup.sh containers
	@$(BIN)/python -m lab containers

.PHONY: lab-containers-check
lab-containers-check: setup ## check the promises of what `containerlab deploy -t lab/announcer.clab.yml` has deployed (needs root)
	@$(BIN)/python -m lab check-containers

# The tests run the lab with every router.
test test-all test-e2e: ROUTER := frr bird gobgp

.PHONY: test
test: cluster lint ## install what is missing and run every check and test but the long ones (needs root)
	$(BIN)/pytest $(PARALLEL) -m "not long" $(PURE) $(PYTEST_ARGS)
	$(BIN)/pytest -m "not long" $(REAL) $(PYTEST_ARGS)

.PHONY: test-all
test-all: cluster kubelets lint ## the same, labs with other routers, BFD, drains and kubelets, alerts by promtool and the dashboard by Grafana's schema (needs root)
	$(BIN)/pytest $(PARALLEL) $(PURE) $(PYTEST_ARGS)
	$(BIN)/pytest $(REAL) $(PYTEST_ARGS)

.PHONY: check
check: venv lint ## lint, types, import contracts, unit and property tests (no root)
	$(BIN)/pytest $(PARALLEL) $(PURE) $(PYTEST_ARGS)

.PHONY: lint
lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports

.PHONY: test-netns
test-netns: setup ## tests that make network namespaces of their own (needs root)
	$(BIN)/pytest -m netns $(PYTEST_ARGS)

.PHONY: test-e2e
test-e2e: cluster ## tests that run the product against real ExaBGP, FRR and kernels (needs root)
	$(BIN)/pytest -m e2e $(PYTEST_ARGS)

.PHONY: test-kubernetes
test-kubernetes: cluster ## tests against a real kube-apiserver
	$(BIN)/pytest -m kubernetes $(PYTEST_ARGS)

.PHONY: chaos
chaos: setup ## what breaks and changes by a seed: do FRR and BIRD have what is proven, and in the end what is desired? (SEED=, MINUTES=; needs root)
	@$(BIN)/python -m tests.e2e.chaos --seed $(or $(SEED),1) --minutes $(or $(MINUTES),10)

.PHONY: bench-lab
bench-lab: ## figures of the running lab: latency to the FIB, 1,000 Services, memory (needs root and `make lab`)
	@$(BIN)/python -m bench.figures

.PHONY: bench-kubernetes
bench-kubernetes: cluster ## figures with 10,000 Services on a real API server; fails where a bound is not held (needs root, minutes)
	@$(BIN)/python -m bench.kubernetes

.PHONY: fuzz-frames
fuzz-frames: venv ## parse 1,000,000 mangled ARP, ND and ICMP frames (COUNT=, SEED=), and say how fast
	@$(BIN)/python -m tests.property.mangling $(or $(COUNT),1000000) $(SEED)

.PHONY: bench-wire
bench-wire: venv ## figures of the wire: frames/s decoded, what an ARP flood costs, beside tcpdump (needs root)
	@$(BIN)/python -m bench.wire

.PHONY: bench-failover
bench-failover: setup ## what a client sees of every fault and planned change, 30 times each (RUNS=, CASES=; needs root, over an hour)
	@$(BIN)/python -m bench.failover --runs $(or $(RUNS),30) $(CASES)

.PHONY: bench-bgp
bench-bgp: ROUTER := frr bird gobgp
bench-bgp: setup ## drain, hold time, BFD, latency, 10,000 routes, idle cost with FRR and BIRD; fails where a bound is not held (RUNS=, CASES=; needs root)
	@$(BIN)/python -m bench.bgp --runs $(or $(RUNS),30) $(CASES)

.PHONY: bench-soak
bench-soak: setup ## half an hour with 100 local addresses and load: moves, and what the agents cost (MINUTES=, ADDRESSES=; needs root)
	@$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),30) --addresses $(or $(ADDRESSES),100)

.PHONY: bench-bfd
bench-bfd: setup ## what a client sees of a node in a black hole, 30 times with BFD of 3 x 100 ms (RUNS=; needs root, minutes)
	@$(BIN)/python -m bench.bfd --runs $(or $(RUNS),30)

DOCKER ?= docker
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.PHONY: images
images: ## build the container images (DOCKER=podman, IMAGE_FLAGS="--build-arg BASE=...", REGISTRY=registry.example/)
	$(DOCKER) build $(IMAGE_FLAGS) -f images/announcer.Dockerfile -t $(REGISTRY)announcer:$(VERSION) .
	$(DOCKER) build $(IMAGE_FLAGS) -f images/exabgp.Dockerfile -t $(REGISTRY)announcer-exabgp:$(VERSION) .
	$(DOCKER) build $(IMAGE_FLAGS) -f images/bfd.Dockerfile -t $(REGISTRY)announcer-bfd:$(VERSION) .
	$(DOCKER) build $(IMAGE_FLAGS) -f images/clab.Dockerfile -t $(REGISTRY)announcer-clab:$(VERSION) .

.PHONY: test-images
test-images: cluster ## tests of the images of `make images` as deploy/ runs them (needs root and docker)
	$(BIN)/pytest tests/images $(PYTEST_ARGS)

CYCLONEDX := build/sbom/bin/cyclonedx-py requirements --output-reproducible

.PHONY: sbom
sbom: ## what the images have beside their base, as CycloneDX: build/announcer.cdx.json, build/announcer-exabgp.cdx.json
	python3 -m venv build/sbom
	build/sbom/bin/pip -q install cyclonedx-bom==7.5.0
	$(CYCLONEDX) images/announcer.txt --pyproject pyproject.toml -o build/announcer.cdx.json
	$(CYCLONEDX) images/exabgp.txt -o build/announcer-exabgp.cdx.json

COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header

.PHONY: lock
lock: venv ## pin all dependencies again, without addresses
	$(BIN)/pip -q install uv
	$(COMPILE) --group dev pyproject.toml -o requirements.txt
	$(COMPILE) --no-annotate -c requirements.txt --no-emit-package exabgp pyproject.toml -o images/announcer.txt
	echo exabgp | $(COMPILE) --no-annotate -c requirements.txt - -o images/exabgp.txt
	echo 'setuptools>=77' | $(COMPILE) --no-annotate - -o images/build.txt

.PHONY: setup
setup: ## install the system packages and the virtual environment where they are missing
	@lab/setup.sh

.PHONY: cluster
cluster: ## setup, and a real kube-apiserver and etcd, built from their Go modules once per machine (minutes)
	@lab/setup.sh cluster

.PHONY: kubelets
kubelets: ## all that, and containerd, kubelet and the others of a whole cluster, for `make lab STORE=cluster`
	@lab/setup.sh kubelets

.PHONY: venv
venv: ## make or update .venv only
	@lab/setup.sh venv
