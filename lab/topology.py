"""What the lab consists of: names, cables, addresses, routes and settings, as values.

The names and addresses are fixed, because tests, documents and people use them. Only the prefix of the namespaces and
the run directory vary, so that a second lab can stand beside the first: the nodes' own names stay as they are in the
manifests, whatever their namespaces are called.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
MANIFEST_SETS: Final = REPOSITORY / "lab" / "manifests"

NODE_ASN: Final = 64512
TOR_ASN: Final = 64513
TOR: Final = IPv4Address("10.111.111.254")
TOR_V6: Final = IPv6Address("fd00:111::fe")
SUBNET_2: Final = IPv4Network("10.112.112.0/24")
SUBNET_3: Final = IPv4Network("10.113.113.0/24")
SUBNET_3_V6: Final = IPv6Network("fd00:113::/64")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabNode:
    """A node: `name` is that of its Node object, `short` the last part of its namespace's name."""

    name: str
    short: str
    address: IPv4Address
    address_v6: IPv6Address
    pods: IPv4Network
    """What pods of this node have their addresses from, where it has a kubelet."""
    pods_v6: IPv6Network


NODES: Final = tuple(
    LabNode(
        name=f"ann-n{i}",
        short=f"n{i}",
        address=IPv4Address(f"10.111.111.{i + 1}"),
        address_v6=IPv6Address(f"fd00:111::{i + 1}"),
        pods=IPv4Network(f"10.244.{i}.0/24"),
        pods_v6=IPv6Network(f"fd00:244:0:{i}::/64"),
    )
    for i in (1, 2, 3)
)
HOSTS: Final = (*(node.short for node in NODES), "tor", "host", "net")
"""Every namespace of a lab; `net` holds the bridges that are the two switches."""
CONTROL_PLANE: Final = "cp"
"""One more where the objects live in a real API server: etcd and kube-apiserver run there, and what decides for all."""
CONTROL_PLANE_ADDRESS: Final = IPv4Address("10.111.111.253")
STORES: Final = ("manifests", "kubernetes", "cluster")
"""`kubernetes` is an API server alone, `cluster` one with controllers, and kubelets that run deploy/."""
ROUTERS: Final = ("frr", "bird", "gobgp")
SWITCHES: Final = ("switch-a", "switch-b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One lab. Its namespaces are `prefix`-n1 and so on, its files are all below `run_dir`."""

    prefix: str = "ann"
    run_dir: Path = Path("/run/announcer-lab")
    store: str = "manifests"
    """Where the objects live: one of STORES."""
    router: str = "frr"
    """What runs in `tor`: one of ROUTERS."""
    agent_args: tuple[str, ...] = ()
    """More arguments of `announcer agent`, on every node."""
    in_containers: bool = False
    """Namespaces are those of containers; the manifest directory and FRR."""

    @property
    def is_cluster(self) -> bool:
        """Whether the objects are in a real API server."""
        return self.store != "manifests"

    @property
    def has_kubelets(self) -> bool:
        """Whether announcer and the workload are pods, not processes of the lab."""
        return self.store == "cluster"

    @property
    def hosts(self) -> tuple[str, ...]:
        return (*HOSTS, CONTROL_PLANE) if self.is_cluster else HOSTS

    def namespace(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    @property
    def manifests(self) -> Path:
        """The live folder: what is copied there takes effect."""
        return self.run_dir / "manifests"

    @property
    def api_dir(self) -> Path:
        """Files of etcd and kube-apiserver, and the kubeconfigs."""
        return self.run_dir / "api"

    @property
    def tor_dir(self) -> Path:
        """Configuration and sockets of the router, for `vtysh --vty_socket`, `birdc -s`, `ip netns exec ... gobgp`."""
        return self.run_dir / "tor"

    def exabgp_dir(self, node: LabNode) -> Path:
        return self.run_dir / node.name / "exabgp"

    def bfd_dir(self, node: LabNode) -> Path:
        """Sockets of the node's bfdd, for `vtysh --vty_socket`."""
        return self.run_dir / node.name / "bfd"

    @property
    def nodes_dir(self) -> Path:
        """Files of the nodes' containerds and kubelets: images unpacked, so not below /run, which may be memory."""
        return Path("/var/lib") / self.run_dir.name

    def log(self, name: str) -> Path:
        return self.run_dir / "log" / f"{name}.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of a cable: a link in a namespace, with its addresses or as a port of a switch."""

    host: str
    ifname: str
    lladdr: str = ""
    addresses: tuple[str, ...] = ()
    switch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cable:
    left: End
    right: End


def cables(lab: Lab) -> tuple[Cable, ...]:
    on_a = [(node.short, node.address, node.address_v6) for node in NODES]
    on_a += [("host", IPv4Address("10.111.111.1"), IPv6Address("fd00:111::1")), ("tor", TOR, TOR_V6)]
    on_a += [(CONTROL_PLANE, CONTROL_PLANE_ADDRESS, IPv6Address("fd00:111::fd"))] if lab.is_cluster else []
    return (
        *(_to_switch(h, "eth0", "switch-a", int(v4) & 255, (f"{v4}/24", f"{v6}/64")) for h, v4, v6 in on_a),
        *(_to_switch(node.short, "eth1", "switch-b", int(node.address) & 255) for node in NODES),
        _to_switch("host", "eth1", "switch-b", 1, ("10.112.112.1/24",)),
        Cable(
            left=End(host="tor", ifname="eth1", addresses=("192.0.2.1/24", "fd00:2::1/64")),
            right=End(host="host", ifname="eth2", addresses=("192.0.2.2/24", "fd00:2::2/64")),
        ),
    )


def _to_switch(host: str, ifname: str, switch: str, number: int, addresses: tuple[str, ...] = ()) -> Cable:
    """The MAC tells switch and host part of the address, for people who read neighbor tables."""
    lladdr = f"02:00:00:00:{'0a' if switch == 'switch-a' else '0b'}:{number:02x}"
    return Cable(
        left=End(host=host, ifname=ifname, lladdr=lladdr, addresses=addresses),
        right=End(host="net", ifname=f"{host}-{ifname}", switch=switch),
    )


def routes(lab: Lab) -> Mapping[str, tuple[str, ...]]:
    """Static routes per host, as arguments of `ip route replace`."""
    found = dict(_routes())
    if lab.has_kubelets:
        for host in (*(node.short for node in NODES), CONTROL_PLANE):
            others = [node for node in NODES if node.short != host]
            pods = [f"{one.pods} via {one.address} dev eth0" for one in others]
            pods += [f"{one.pods_v6} via {one.address_v6} dev eth0" for one in others]
            found[host] = (*found.get(host, ()), *pods)
    return found


def _routes() -> Mapping[str, tuple[str, ...]]:
    defaults = (f"default via {TOR} dev eth0", f"default via {TOR_V6} dev eth0")
    return {
        **{node.short: defaults for node in NODES},
        "host": (f"{SUBNET_3} via 192.0.2.1 dev eth2", f"{SUBNET_3_V6} via fd00:2::1 dev eth2"),
    }


def sysctls(lab: Lab, host: str) -> Mapping[str, int]:
    """Kernel settings of a namespace that must not depend on what the machine has set for new ones."""
    settings = {
        "net.ipv4.conf.all.rp_filter": 0,
        "net.ipv4.conf.default.rp_filter": 0,
        "net.ipv6.conf.all.disable_ipv6": 0,
        "net.ipv6.conf.default.accept_dad": 0,
        "net.ipv6.conf.default.accept_ra": 0,
    }
    if host == "tor" or (lab.has_kubelets and host in {node.short for node in NODES}):
        settings |= {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}
    if host == "tor":
        # Spread by ports too (L4), or a single client always meets the same node.
        settings |= {"net.ipv4.fib_multipath_hash_policy": 1, "net.ipv6.fib_multipath_hash_policy": 1}
    return settings
