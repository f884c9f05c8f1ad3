"""The images as deploy/ runs them: by a real container engine, without a shell, their root file system read only.

`make test-images`, after `make images`. The containers of the DaemonSet have the user and capabilities of deploy/base;
the cable of their pod leads to a FRR.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.command import LabError, wait_until
from tests.images.pods import Pod, complaints, containers, docker, flags, has_route, is_ready, running
from tests.integration.bfdd import daemon
from tests.integration.exabgp import Router

START_SECONDS = 2.0
MANIFESTS = "--manifests=/manifests"
OBJECTS = """
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 10.9.0.2}]}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: a}
spec: {addresses: [10.20.0.0/24]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: a}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: a}
spec: {myASN: 64512, peerASN: 64513, peerAddress: 10.9.0.1, holdTime: 9s, bfdProfile: fast}
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: fast, namespace: a}
spec: {receiveInterval: 300, transmitInterval: 300}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: a}
spec: {type: LoadBalancer, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 10.20.0.1}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: a, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.9.0.2], nodeName: n1, conditions: {ready: true}}]
ports: [{port: 80, protocol: TCP}]
"""


@contextmanager
def advertised(folder: Path) -> Iterator[tuple[Pod, Router]]:
    """A pod with agent and ExaBGP, whose route the router has."""
    (folder / "objects.yaml").write_text(OBJECTS, encoding="utf-8")
    with running(folder) as (pod, router, _):
        pod.start("exabgp")
        pod.start("agent", MANIFESTS)
        wait_until(lambda: has_route(router), 60.0, "the route")
        yield pod, router


def once(name: str, *arguments: str) -> str:
    """What a container of deploy/base says that runs to its end, with other arguments."""
    container = containers()[name]
    return docker("run", "--rm", "--network=none", *flags(container), *arguments)


def test_command_runs_without_a_shell() -> None:
    assert "usage: announcer status" in once("allocator", containers()["agent"]["image"], "status", "--help")


def test_program_is_loaded_in_time() -> None:
    """By the processor's time, as the machine may do other work."""
    program = "import time, announcer.cli; print(time.process_time())"
    took = once("allocator", "--entrypoint=python3", containers()["agent"]["image"], "-c", program)
    assert float(took) < START_SECONDS


def test_sidecar_gives_up_without_an_agent_and_names_what_it_waits_for() -> None:
    image = containers()["exabgp"]["image"]
    with pytest.raises(LabError, match=r"ended with 75: (?s:.*)no /run/announcer/exabgp\.next"):
        once("exabgp", "--tmpfs=/run/announcer", image, "/run/announcer", "1")


def test_sidecar_names_the_volume_that_it_lacks() -> None:
    image = containers()["exabgp"]["image"]
    with pytest.raises(LabError, match=r"ended with 73: can't write to /run/announcer: Read-only file system"):
        once("exabgp", image, "/run/announcer", "1")


def test_pod_advertises_its_address_and_keeps_it_over_the_end_of_each_container(tmp_path: Path) -> None:
    with advertised(tmp_path) as (pod, router):
        assert "10.20.0.1/32" in pod.node.ip("-4", "address", "show", "dev", "kube-lb0")
        wait_until(lambda: is_ready(pod, "agent"), 20.0, "the agent to be ready")
        pod.kill("agent")
        assert has_route(router)
        assert "10.20.0.1/32" in pod.node.ip("-4", "address", "show", "dev", "kube-lb0")
        pod.start("agent", MANIFESTS)
        pod.kill("exabgp")
        wait_until(lambda: not has_route(router), 20.0, "the router to notice")
        pod.start("exabgp")
        wait_until(lambda: has_route(router), 60.0, "the route again")


def test_agent_may_go_before_others_and_nothing_is_refused(tmp_path: Path) -> None:
    with advertised(tmp_path) as (pod, _):
        assert complaints(pod, "agent") == []
        assert pod.inside("agent", "python3", "-c", "import os; print(os.getpriority(os.PRIO_PROCESS, 1))") == "-10"


def test_bfdd_beside_the_agent_has_its_session_with_the_router(tmp_path: Path) -> None:
    (tmp_path / "objects.yaml").write_text(OBJECTS, encoding="utf-8")
    with running(tmp_path) as (pod, router, tor), daemon(tor) as theirs:
        wait_until((theirs.directory / "bfdd.vty").exists, 10.0, "the router's bfdd")
        theirs.configure("peer 10.9.0.2", "no shutdown")
        pod.start("exabgp")
        pod.start("bfdd")
        pod.start("agent", MANIFESTS, "--bfd-dir=/run/bfd")
        wait_until(lambda: theirs.states() == {"10.9.0.2": "up"}, 30.0, "the BFD session")
        wait_until(lambda: has_route(router), 60.0, "the route")


def state(pod: Pod) -> tuple[str, str, str]:
    return pod.node.ip("address"), pod.node.ip("route"), pod.node.exec("nft", "list", "ruleset")


def test_node_is_as_it_was_once_it_has_been_cleaned_up(tmp_path: Path) -> None:
    (tmp_path / "objects.yaml").write_text(OBJECTS, encoding="utf-8")
    with running(tmp_path) as (pod, router, _):
        before = state(pod)
        pod.start("exabgp")
        pod.start("agent", MANIFESTS)
        wait_until(lambda: has_route(router), 60.0, "the route")
        for name in ("agent", "exabgp"):
            pod.kill(name)
        assert all("10.20.0.1" in text for text in state(pod)[::2])
        pod.start("cleanup")
        wait_until(lambda: "removed link kube-lb0" in pod.logs("cleanup"), 20.0, "the cleanup")
        assert state(pod) == before
