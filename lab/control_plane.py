"""The lab with its objects in a real API server: `make lab STORE=kubernetes`, and `STORE=cluster`.

etcd and kube-apiserver run in a namespace of their own on switch-a; agents reach the API server over that switch, as
they would a control-plane node. The manifests are those of the other store, applied with kubectl. With `kubernetes`
there is no controller-manager and no kubelet: Nodes with their status and EndpointSlices are what the manifests say.
With `cluster` they are there, so the manifests' Nodes and EndpointSlices are left out.
"""

import json
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from lab import apiserver, binaries
from lab.apiserver import ApiServer
from lab.command import LabError, inside, wait_until
from lab.topology import CONTROL_PLANE, CONTROL_PLANE_ADDRESS, MANIFEST_SETS, NODES, REPOSITORY, Lab

READY_SECONDS: Final = 60.0
WORKLOAD: Final = REPOSITORY / "lab" / "cluster" / "test-nginx.yaml"
"""The pods behind the Services, where there are kubelets."""
SET_LABEL: Final = "announcer.io/lab-set"
"""Marks what came from the lab's own manifests, so that a swap of sets finds it."""
PRUNED: Final = (
    *(
        "services",
        "deployments.apps",
        "endpointslices.discovery.k8s.io",
        "servicegroups.purelb.io",
        "lbnodeagents.purelb.io",
    ),
    *(
        "ipaddresspools.metallb.io",
        "l2advertisements.metallb.io",
        "bgpadvertisements.metallb.io",
        "bgppeers.metallb.io",
    ),
)


def server(lab: Lab) -> ApiServer:
    programs = binaries.cache_folder() if lab.has_kubelets else binaries.folder()
    nodes = tuple(node.name for node in NODES) if lab.has_kubelets else ()
    return ApiServer(folder=lab.api_dir, programs=programs, address=str(CONTROL_PLANE_ADDRESS), nodes=nodes)


def prepare(lab: Lab) -> None:
    """Programs, keys, kubeconfigs, and a `kubectl` for people in the run directory. Minutes where Go has to build."""
    if lab.has_kubelets:
        binaries.provide_cluster()
    else:
        binaries.provide()
    apiserver.prepare(server(lab))
    script = kubectl_path(lab)
    argv = [*_enter(lab), str(server(lab).programs / "kubectl"), f"--kubeconfig={server(lab).kubeconfig('admin')}"]
    script.write_text(f'#!/bin/sh\nexec {" ".join(argv)} "$@"\n', encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


def kubectl_path(lab: Lab) -> Path:
    return lab.run_dir / "kubectl"


def argvs(lab: Lab) -> Mapping[str, list[str]]:
    """The processes of the control plane, by the names that the lab has for them."""
    found = {"etcd": server(lab).etcd_argv(), "apiserver": server(lab).argv()}
    if lab.has_kubelets:
        found |= {"controller-manager": _controller_manager(server(lab)), "scheduler": _scheduler(server(lab))}
    return {name: [*_enter(lab), *argv] for name, argv in found.items()}


def _controller_manager(api: ApiServer) -> list[str]:
    return [
        str(api.programs / "kube-controller-manager"),
        f"--kubeconfig={api.kubeconfig('kube-controller-manager')}",
        f"--service-account-private-key-file={api.folder / 'service-account.key'}",
        f"--root-ca-file={api.ca_file}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]


def _scheduler(api: ApiServer) -> list[str]:
    kubeconfig = f"--kubeconfig={api.kubeconfig('kube-scheduler')}"
    return [str(api.programs / "kube-scheduler"), kubeconfig, "--leader-elect=false", "--bind-address=127.0.0.1"]


def is_ready(lab: Lab) -> bool:
    return "ok" in _try_kubectl(lab, "get", "--raw", "/readyz")


def install(lab: Lab) -> None:
    """CRDs and rights, as a user of deploy/ gets them; all of deploy/ where there is who runs it."""
    wait_until(lambda: is_ready(lab), READY_SECONDS, f"the API server: {lab.log('apiserver')}")
    if lab.has_kubelets:
        kubectl(lab, "apply", "-k", str(REPOSITORY / "deploy"))
    else:
        folders = apiserver.crds_and_rights(REPOSITORY)
        kubectl(lab, "apply", "--server-side", *(f"--filename={folder}" for folder in folders))
    kubectl(lab, "wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")


def apply(lab: Lab, manifest_set: str) -> None:
    """Apply a set; what another set brought goes, what people added stays."""
    found = [one for file in sorted((MANIFEST_SETS / manifest_set).glob("*.yaml")) for one in objects(file)]
    if lab.has_kubelets:
        found = [one for one in found if one["kind"] not in {"Node", "EndpointSlice"}] + objects(WORKLOAD)
    for wanted in (_is_first, lambda one: not _is_first(one)):
        put(lab, [_labelled(one, manifest_set) for one in found if wanted(one)])
    kubectl(lab, "delete", ",".join(PRUNED), "--all-namespaces", f"--selector={SET_LABEL},{SET_LABEL}!={manifest_set}")


def put(lab: Lab, objects: Iterable[Any]) -> None:
    """Server-side apply, and the status of Nodes, which a kubelet would write.

    That is a merge patch, as kubelets send it: an apply takes two addresses of one type for duplicates.
    """
    found = list(objects)
    text = "\n---\n".join(yaml.safe_dump({k: v for k, v in one.items() if k != "status"}) for one in found)
    kubectl(lab, "apply", "--server-side", "--force-conflicts", "--filename=-", stdin=text)
    for node in (one for one in found if one["kind"] == "Node" and "status" in one):
        change = json.dumps({"status": node["status"]})
        kubectl(lab, "patch", "node", node["metadata"]["name"], "--subresource=status", "--type=merge", "-p", change)


def kubectl(lab: Lab, *arguments: str, stdin: str = "") -> str:
    return apiserver.kubectl(server(lab), *arguments, stdin=stdin, prefix=_enter(lab))


def _try_kubectl(lab: Lab, *arguments: str) -> str:
    try:
        return kubectl(lab, *arguments)
    except LabError:
        return ""


def _enter(lab: Lab) -> tuple[str, ...]:
    return tuple(inside(lab.namespace(CONTROL_PLANE), []))


def objects(file: Path) -> list[Any]:
    return [one for one in yaml.safe_load_all(file.read_text("utf-8")) if one]


def _is_first(one: Any) -> bool:
    """Namespaces must be there before anything in them."""
    return one["kind"] in {"Namespace", "Node"}


def _labelled(one: Any, manifest_set: str) -> Any:
    metadata = one["metadata"]
    return {**one, "metadata": {**metadata, "labels": {**metadata.get("labels", {}), SET_LABEL: manifest_set}}}
