"""The lab in containers: lab/announcer.clab.yml carried out with docker and `ip`, as containerlab carries it out.

For machines without containerlab, and for tests. Names, links, namespaces below /run/netns and the order of steps are
containerlab's, so what looks at the lab (`lab.checks`) needn't know who has deployed it.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lab import clab
from lab.command import run, run_json
from lab.topology import REPOSITORY, Lab

LAB: Final = Lab(prefix="clab-announcer-ann", run_dir=REPOSITORY / "lab" / "run", in_containers=True)
MANIFEST_SET: Final = "purelb"
"""What the live folder begins with."""
NETNS: Final = Path("/run/netns")
STEADY_SECONDS: Final = 2.0
DOCKER_SECONDS: Final = 120.0
CAPABILITIES: Final = ("NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_NICE")
"""What containers need beside docker's own. containerlab gives all, which a root that lacks one itself can't."""


@contextmanager
def deployed() -> Iterator[None]:
    """Deployed from nothing, and gone afterwards with all that the containers wrote."""
    topology = clab.read()
    destroy(topology)
    try:
        deploy(topology)
        yield
    finally:
        destroy(topology)


def deploy(topology: clab.Topology) -> None:
    NETNS.mkdir(parents=True, exist_ok=True)
    for container in topology.containers:
        docker("run", *flags(topology, container), container.image, *container.entrypoint[1:], *container.argv)
        name = topology.full_name(container.name)
        pid = docker("inspect", "--format={{.State.Pid}}", name)
        (NETNS / name).symlink_to(f"/proc/{pid}/ns/net")
    for cable, mtu in topology.links:
        add: list[str] = []
        for words, end in ((["name"], cable.left), (["type", "veth", "peer", "name"], cable.right)):
            add += [*words, end.ifname, "mtu", str(mtu), "netns", topology.full_name(end.host)]
            add += ["address", end.lladdr] if end.lladdr else []
        run(["ip", "link", "add", *add])
        for end in (cable.left, cable.right):
            run(["ip", "-n", topology.full_name(end.host), "link", "set", "dev", end.ifname, "up"])
    for container in topology.containers:
        for argv in container.execs:
            docker("exec", "--user=0", topology.full_name(container.name), *argv)


def flags(topology: clab.Topology, container: clab.Container) -> list[str]:
    """Of `docker run`. As containerlab's: with a terminal, started again when it ends."""
    is_sharing = container.network.startswith(clab.SHARED)
    other = container.network.removeprefix(clab.SHARED)
    network = f"{clab.SHARED}{topology.full_name(other)}" if is_sharing else container.network
    return [
        *("--detach", "--tty", "--interactive", "--restart=always"),
        *(f"--cap-add={name}" for name in CAPABILITIES),
        f"--name={topology.full_name(container.name)}",
        f"--network={network}",
        *([] if is_sharing else [f"--hostname={container.name}"]),
        *([f"--user={container.user}"] if container.user else []),
        *(f"--entrypoint={word}" for word in container.entrypoint[:1]),
        *(f"--volume={bind}" for bind in container.binds),
        *(f"--sysctl={name}={value}" for name, value in container.sysctls.items()),
    ]


def destroy(topology: clab.Topology) -> None:
    """Containers, namespaces' names and what is in lab/run; nothing there is fine too."""
    there = docker("ps", "--all", "--format={{.Names}}").split()
    names = [topology.full_name(container.name) for container in topology.containers]
    if found := [name for name in names if name in there]:
        docker("rm", "--force", "--volumes", *found)
    for name in names:
        if (NETNS / name).is_symlink():
            (NETNS / name).unlink()
    for path in LAB.run_dir.glob("[!.]*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def not_steady(names: list[str]) -> list[str]:
    """Those that don't run, or have just been started; LabError where one isn't there at all."""
    found = run_json(["docker", "inspect", *names], timeout=DOCKER_SECONDS)
    return [one["Name"].lstrip("/") for one in found if not _is_steady(one["State"])]


def _is_steady(state: dict[str, object]) -> bool:
    age = datetime.now(UTC) - datetime.fromisoformat(str(state["StartedAt"]))
    return bool(state["Running"]) and age.total_seconds() >= STEADY_SECONDS


def docker(*arguments: str) -> str:
    return run(["docker", *arguments], timeout=DOCKER_SECONDS).strip()
