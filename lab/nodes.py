"""Namespaces of the lab as Kubernetes nodes: in each a containerd, a kubelet and kube-proxy (`STORE=cluster`).

Beside its network namespace a node has a mount namespace (`cluster/mounts.sh`), with /var and /run of its own, kept by
a file below the run directory as `ip netns` keeps the other, and a cgroup below one of the lab. Pods get addresses from
their node's range by the CNI plugins `ptp` and `host-local`; the ranges are routed (`topology.routes`). What containerd
starts outlives it, so a node is ended by its mark and its cgroup.
"""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from lab import control_plane, images
from lab.command import LabError, inside, run, wait_until
from lab.ending import kill
from lab.topology import NODES, REPOSITORY, Lab, LabNode

CLUSTER: Final = REPOSITORY / "lab" / "cluster"
CGROUPS: Final = Path("/sys/fs/cgroup")
SOCKET: Final = "/run/containerd/containerd.sock"
POD_RANGES: Final = "10.244.0.0/16,fd00:244::/48"
IMPORT_SECONDS: Final = 300.0
END_SECONDS: Final = 20.0


def argvs(lab: Lab, node: LabNode) -> Mapping[str, list[str]]:
    """The processes of a node, by kind."""
    programs, folder = control_plane.server(lab).programs, _folder(lab, node)
    kubelet = [str(programs / "kubelet"), f"--config={folder / 'kubelet.json'}", f"--hostname-override={node.name}"]
    kubelet += [f"--kubeconfig={control_plane.server(lab).kubeconfig(node.name)}"]
    kubelet += [f"--node-ip={node.address},{node.address_v6}"]
    proxy = [str(programs / "kube-proxy"), f"--config={folder / 'kube-proxy.json'}"]
    return {
        "containerd": enter(lab, node, ["containerd", "--config", str(CLUSTER / "containerd.toml")]),
        "kubelet": enter(lab, node, kubelet),
        "kube-proxy": inside(lab.namespace(node.short), proxy),
    }


def enter(lab: Lab, node: LabNode, argv: list[str]) -> list[str]:
    """`argv` as it has to be called to run on the node. It becomes the same process (no fork)."""
    network = f"--net=/run/netns/{lab.namespace(node.short)}"
    return ["nsenter", network, f"--mount={_mounts(lab) / node.name}", *argv]


def prepare(lab: Lab) -> None:
    """Mount namespaces, cgroups and configuration, where they are missing."""
    kept = _mounts(lab)
    kept.mkdir(parents=True, exist_ok=True)
    if str(kept) not in _mount_points():  # a mount namespace can't be kept where mounts are passed on
        run(["mount", "--bind", str(kept), str(kept)])
        run(["mount", "--make-private", str(kept)])
    for node in NODES:
        for hierarchy in _hierarchies():
            (hierarchy / _cgroup(lab, node)).mkdir(parents=True, exist_ok=True)
        _configure(lab, node)
        if str(kept / node.name) not in _mount_points():
            (kept / node.name).touch()
            own = ["unshare", f"--mount={kept / node.name}", "--propagation", "private"]
            make = [str(CLUSTER / "mounts.sh"), str(lab.nodes_dir / node.name), str(lab.run_dir)]
            run(["nsenter", f"--net=/run/netns/{lab.namespace(node.short)}", *own, *make])


def load_images(lab: Lab) -> None:
    """Into each node's containerd, as it has no registry to pull from."""
    archive = images.provide()
    for node in NODES:
        loaded = lab.nodes_dir / node.name / "images"
        if loaded.exists() and loaded.read_text("utf-8") == archive.name:
            continue
        socket = lab.nodes_dir / node.name / SOCKET.lstrip("/")
        wait_until(socket.exists, END_SECONDS, f"containerd of {node.name}: {lab.log(f'containerd-{node.name}')}")
        argv = ["ctr", "--namespace=k8s.io", "images", "import", str(archive)]
        run(enter(lab, node, argv), timeout=IMPORT_SECONDS)
        loaded.write_text(archive.name, "utf-8")


def end_containers(lab: Lab, node: LabNode) -> None:
    """Kill every container of the node and what containerd has beside them, as a power cut would; not containerd."""
    with suppress(LabError):
        wait_until(lambda: not _end(lab, node), END_SECONDS, "containers")
        return
    raise LabError(f"containers of {node.name} are still there after SIGKILL")


def remove(lab: Lab) -> None:
    """Containers, cgroups, mount namespaces and files of all nodes; there may be none. Their processes have ended."""
    for node in NODES:
        end_containers(lab, node)
        if str(_mounts(lab) / node.name) in _mount_points():
            run(["umount", str(_mounts(lab) / node.name)])
    if str(_mounts(lab)) in _mount_points():
        run(["umount", str(_mounts(lab))])
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / lab.run_dir.name, topdown=False):
            Path(folder).rmdir()
    if lab.nodes_dir.exists():
        shutil.rmtree(lab.nodes_dir)


def _end(lab: Lab, node: LabNode) -> bool:
    """Whether there was anybody."""
    return kill(_shims(lab, node), (hierarchy / _cgroup(lab, node) for hierarchy in _hierarchies()))


def _shims(lab: Lab, node: LabNode) -> set[int]:
    """containerd's helpers have its environment, and so its mark."""
    mark = f"{lab.run_dir}:containerd-{node.name}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes() and b"containerd-shim" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
    return found


def _configure(lab: Lab, node: LabNode) -> None:
    folder = _folder(lab, node)
    plugins = lab.nodes_dir / node.name / "var" / "lib" / "lab-cni"
    for place in (folder, plugins):
        place.mkdir(parents=True, exist_ok=True)
    for file, content in (
        (folder / "kubelet.json", _kubelet(lab, node)),
        (folder / "kube-proxy.json", _proxy(lab, node)),
        (plugins / "10-lab.conflist", _pod_network(node)),
    ):
        text = json.dumps(content, indent=1)
        if not file.exists() or file.read_text("utf-8") != text:  # containerd reads what is written at once
            file.write_text(text, "utf-8")


def _kubelet(lab: Lab, node: LabNode) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(control_plane.server(lab).kubelet_client)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{_cgroup(lab, node)}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "resolvConf": "",
        "clusterDomain": "cluster.local",
        "clusterDNS": ["10.96.0.10"],  # nobody is there: what runs here asks for no names
        # A full disk of this machine is nothing to evict pods for.
        "evictionHard": {"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
    }


def _proxy(lab: Lab, node: LabNode) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(control_plane.server(lab).kubeconfig("kube-proxy"))},
        "hostnameOverride": node.name,
        "clusterCIDR": POD_RANGES,
        # The table's size is one for the whole machine.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "metricsBindAddress": "127.0.0.1:10249",
    }


def _pod_network(node: LabNode) -> dict[str, Any]:
    ranges = [[{"subnet": str(node.pods)}], [{"subnet": str(node.pods_v6)}]]
    ipam = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}
    return {"cniVersion": "0.4.0", "name": "lab", "plugins": [{"type": "ptp", "mtu": 1500, "ipam": ipam}]}


def _mounts(lab: Lab) -> Path:
    return lab.run_dir / "mounts"


def _folder(lab: Lab, node: LabNode) -> Path:
    return lab.run_dir / node.name / "kubernetes"


def _cgroup(lab: Lab, node: LabNode) -> str:
    return f"{lab.run_dir.name}/{node.name}"


def _hierarchies() -> list[Path]:
    """One folder per hierarchy of cgroup v1; that of cgroup v2 itself."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _mount_points() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()}
