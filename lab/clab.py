"""lab/announcer.clab.yml as values: what containerlab makes of it, as far as that file goes.

containerlab knows more than is used there. A field that this doesn't know is refused by name, so that nothing of the
file is passed over where it is deployed without containerlab (`lab.containers`).
"""

import shlex
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from lab.command import LabError
from lab.topology import REPOSITORY, Cable, End

FILE: Final = REPOSITORY / "lab" / "announcer.clab.yml"
SHARED: Final = "container:"
"""Begins the network mode of a node that is in the network of another one."""
NODE_FIELDS: Final = frozenset(
    {"kind", "image", "image-pull-policy", "network-mode", "binds", "user", "entrypoint", "cmd", "sysctls", "exec"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A node of the file. `network` is `none`, or SHARED and the name of another node."""

    name: str
    image: str
    network: str
    user: str
    entrypoint: tuple[str, ...]
    argv: tuple[str, ...]
    binds: tuple[str, ...]
    """As `docker run --volume` has them."""
    sysctls: Mapping[str, str]
    execs: tuple[tuple[str, ...], ...]
    """Run in it, in this order, once it has its links."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    name: str
    containers: tuple[Container, ...]
    """Those that others share a network with come first."""
    links: tuple[tuple[Cable, int], ...]
    """With the MTU; `host` of an end is the name of a container."""

    def full_name(self, container: str) -> str:
        """What the container is called on the machine, and its namespace in /run/netns."""
        return f"clab-{self.name}-{container}"


def read(file: Path = FILE) -> Topology:
    told = yaml.safe_load(file.read_text("utf-8"))
    _only(told, {"name", "topology"}, str(file))
    body = told["topology"]
    _only(body, {"defaults", "nodes", "links"}, "topology")
    containers = [_container(name, body["defaults"], node, file.parent) for name, node in body["nodes"].items()]
    return Topology(
        name=told["name"],
        containers=tuple(sorted(containers, key=lambda container: container.network.startswith(SHARED))),
        links=tuple(_link(link) for link in body["links"]),
    )


def _container(name: str, defaults: Mapping[str, Any], node: Mapping[str, Any], folder: Path) -> Container:
    """What is said of the node goes before the defaults; binds and settings of both count."""
    for where, fields in (("defaults", defaults), (f"nodes.{name}", node)):
        _only(fields, NODE_FIELDS, f"topology.{where}")
    merged = {**defaults, **node}
    if merged["kind"] != "linux":
        raise LabError(f"topology.nodes.{name}.kind = {merged['kind']!r}: only linux is known here")
    return Container(
        name=name,
        image=merged["image"],
        network=merged["network-mode"],
        user=merged.get("user", ""),
        entrypoint=tuple(shlex.split(merged.get("entrypoint", ""))),
        argv=tuple(shlex.split(merged.get("cmd", ""))),
        binds=tuple(f"{folder / bind}" for fields in (defaults, node) for bind in fields.get("binds", ())),
        # IPv6 is what containerlab switches on in every node of this kind.
        sysctls={"net.ipv6.conf.all.disable_ipv6": "0", **{k: str(v) for k, v in merged.get("sysctls", {}).items()}},
        execs=tuple(tuple(shlex.split(line)) for line in merged.get("exec", ())),
    )


def _link(link: Mapping[str, Any]) -> tuple[Cable, int]:
    _only(link, {"type", "mtu", "endpoints"}, "topology.links")
    if link["type"] != "veth":
        raise LabError(f"topology.links: type {link['type']!r}: only veth is known here")
    left, right = (_end(end) for end in link["endpoints"])
    return Cable(left=left, right=right), link["mtu"]


def _end(end: Mapping[str, str]) -> End:
    _only(end, {"node", "interface", "mac"}, "topology.links.endpoints")
    return End(host=end["node"], ifname=end["interface"], lladdr=end.get("mac", ""))


def _only(fields: Mapping[str, Any], known: Set[str], where: str) -> None:
    if unknown := sorted(fields.keys() - known):
        raise LabError(f"{where}: {', '.join(unknown)}: not known here; containerlab itself may know it")
