"""`python -m lab up | check | down`: what `make lab`, `make lab-check` and `make lab-down` call. Needs root.

`containers` is `make lab-containers`: the lab in containers from its images to its end. `check-containers` checks one
that containerlab has deployed.
"""

import argparse
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from lab import checks, clab, containers, control_plane, engine, images, live, network, nodes, pods, processes
from lab.command import LabError, run
from lab.topology import ROUTERS, STORES, Lab


def up(lab: Lab, manifest_set: str) -> int:
    """Build or repair the lab, apply the set, and check it."""
    started = time.monotonic()
    build(lab, manifest_set)
    _say(f"the lab stands after {time.monotonic() - started:.1f} s; waiting for its promises (up to a minute)")
    code = check(lab, manifest_set)
    where = f"kubectl is {control_plane.kubectl_path(lab)}" if lab.is_cluster else f"the live folder is {lab.manifests}"
    _say(f"{where}, logs are in {lab.run_dir}/log; `make lab-down` removes everything")
    return code


def build(lab: Lab, manifest_set: str) -> None:
    """Everything of `up` but the checks. Running it again repairs what is missing and keeps the rest."""
    lab.run_dir.mkdir(parents=True, exist_ok=True)
    before = live.store(lab)
    if before not in {None, lab.store}:
        processes.stop(lab)
        if "cluster" in {before, lab.store}:  # kube-proxy and pods leave much in the namespaces
            nodes.remove(lab)
            network.remove(lab)
    made = network.build(lab)
    if any(lab.namespace(host) in made for host in lab.hosts):
        processes.stop(lab)  # whoever runs still, runs in a namespace that is gone
        nodes.remove(lab)
    _say(f"network: made {', '.join(made)}" if made else "network: stood already, repaired where it differed")
    is_metallb = manifest_set == "metallb"
    if not is_metallb:
        network.set_return_routes(lab, present=False)
    if lab.has_kubelets:
        _start_kubelets(lab, manifest_set)
    elif lab.is_cluster:
        _start_cluster(lab, manifest_set)
    else:
        live.apply(lab, manifest_set)
        _say(f"manifests: lab/manifests/{manifest_set} is in {lab.manifests}")
        _say(f"processes: {'started' if processes.start(lab) else 'run already'}")
    if is_metallb:
        _say("network: `ip route add 10.112.112.0/24 dev eth1` on every node, as the document says for MetalLB")
        network.set_return_routes(lab, present=True)


def _start_cluster(lab: Lab, manifest_set: str) -> None:
    """The API server first, then what it has to serve, then those who ask it: as in any cluster."""
    control_plane.prepare(lab)
    later = [child.name for child in processes.children(lab) if child.name.startswith(("agent-", "allocator"))]
    is_new = processes.start(lab, held=later)
    control_plane.install(lab)
    live.apply(lab, manifest_set)
    _say(f"manifests: deploy/crds, deploy/rbac and lab/manifests/{manifest_set} are applied with kubectl")
    for name in later:
        processes.release(lab, name)
    _say(f"processes: {'started' if is_new else 'run already'}, kube-apiserver among them")


def _start_kubelets(lab: Lab, manifest_set: str) -> None:
    """The API server and what starts containers first, then deploy/ and the set, then those who run them."""
    control_plane.prepare(lab)
    nodes.prepare(lab)
    later = [
        child.name for child in processes.children(lab) if child.name.startswith(("controller", "scheduler", "kube"))
    ]
    is_new = processes.start(lab, held=later)
    nodes.load_images(lab)
    _say("images: announcer, announcer-exabgp and one for the lab's own pods are on the nodes")
    control_plane.install(lab)
    live.apply(lab, manifest_set)
    _say(f"manifests: `kubectl apply -k deploy/`, lab/manifests/{manifest_set} and {control_plane.WORKLOAD.name}")
    for name in later:
        processes.release(lab, name)
    _say(f"processes: {'started' if is_new else 'run already'}, three kubelets among them; waiting for the pods")
    pods.wait(lab)


def check(lab: Lab, manifest_set: str | None) -> int:
    if manifest_set is None:
        raise LabError("there is no lab: run `make lab` first")
    results = checks.check(lab, manifest_set)
    where = processes.store_argv(lab, "admin")
    try:
        _say(f"who answers for what (`announcer status {' '.join(where)}`):\n\n{run(checks.status_argv(lab))}")
        if lab.is_cluster:
            _say(f"kubectl get services -A:\n\n{control_plane.kubectl(lab, 'get', 'services', '-A')}")
        if lab.has_kubelets:
            _say(f"kubectl get pods -A -o wide:\n\n{control_plane.kubectl(lab, 'get', 'pods', '-A', '-o', 'wide')}")
    except LabError as error:
        _say(str(error))
    sys.stdout.write(checks.table(results))
    failed = sum(not result.ok for result in results)
    _say(f"\n{len(results) - failed} of {len(results)} promises hold")
    return 1 if failed else 0


def down(lab: Lab) -> int:
    """End every process, remove the namespaces and the run directory; nothing there is fine too."""
    processes.stop(lab)
    nodes.remove(lab)
    network.remove(lab)
    if lab.run_dir.exists():
        shutil.rmtree(lab.run_dir)
    _say("the lab is gone: processes, namespaces and files")
    return 0


def down_with_engine(lab: Lab) -> int:
    """Also what a killed `make lab-containers` has left."""
    with engine.left() as is_there:
        if is_there:
            containers.destroy(clab.read())
            _say("a lab in containers was left: it goes, and so does the dockerd that was started for it")
    return down(lab)


def up_and_down_in_containers() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended then too
    with engine.running() as is_ours:
        images.build_all(in_ours=is_ours)
        with containers.deployed():
            code = check(containers.LAB, containers.MANIFEST_SET)
    _say("the lab in containers is gone; its images stay")
    return code


def default_lab(store: str | None = None, router: str | None = None) -> Lab:
    """The lab that runs, or one with `store` and `router`. ANNOUNCER_LAB_PREFIX puts a second lab beside the first."""
    prefix = os.environ.get("ANNOUNCER_LAB_PREFIX", "ann")
    run_dir = Lab().run_dir if prefix == "ann" else Path(f"/run/announcer-lab-{prefix}")
    lab = Lab(prefix=prefix, run_dir=run_dir)
    found = replace(lab, store=store or live.store(lab) or lab.store)
    return replace(found, router=router or live.router(lab) or lab.router)


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    parser.add_argument("verb", choices=("up", "check", "down", "containers", "check-containers"))
    parser.add_argument("--manifests", choices=live.SETS, default="purelb")
    parser.add_argument("--store", choices=STORES, help="where the objects live, for `up` (manifests)")
    parser.add_argument("--router", choices=ROUTERS, help="what runs in ann-tor, for `up` (frr)")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.stderr.write("the lab needs root: network namespaces and addresses are made; try `sudo make lab`\n")
        return 1
    is_new = arguments.verb == "up"
    lab = default_lab(arguments.store or "manifests", arguments.router or "frr") if is_new else default_lab()
    try:
        match arguments.verb:
            case "up":
                return up(lab, arguments.manifests)
            case "check":
                return check(lab, live.current(lab))
            case "containers":
                return up_and_down_in_containers()
            case "check-containers":
                return check(containers.LAB, containers.MANIFEST_SET)
            case _:
                return down_with_engine(lab)
    except LabError as error:
        sys.stderr.write(f"lab: {error}\n")
        return 1


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
