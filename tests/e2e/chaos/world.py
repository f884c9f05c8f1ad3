"""What the manifests say, and what each router should have of each node then: said here anew, with no code of ours."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from lab.topology import NODE_ASN, NODES, SUBNET_3, SUBNET_3_V6, TOR, TOR_ASN, TOR_V6, LabNode
from tests.e2e.laboratory import service

POOLS: Final = {"chaos": ("10.120.0.0/24", 24), "chaos-v6": ("fd00:120::/120", 8)}
"""Subnet, and how many Services there may be; each asks for its own address."""
SECOND, SECOND_V6, SECOND_PORT = "10.111.111.252", "fd00:111::fc", 1790
PROFILE: Final = {"receiveInterval": 500, "transmitInterval": 500, "detectMultiplier": 5}
"""1.5 s on the nodes, 2.5 s at the router: a machine that is busy must not look like a dead one."""
SECRET: Final = "tor-password"
EXCLUDE: Final = "node.kubernetes.io/exclude-from-external-load-balancers: ''"
End = tuple[str, str]
"""A session by its ends: addresses of router and node."""
Table = Mapping[End, frozenset[str]]
"""Prefixes by session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A BGPPeer. `password` is in a Secret; with `has_bfd` there is BFD too."""

    name: str
    address: str
    port: int = 179
    hold_time: int = 9
    has_bfd: bool = False
    password: str = ""
    is_there: bool = True

    @property
    def is_v6(self) -> bool:
        return ":" in self.address

    def end(self, node: LabNode) -> End:
        return self.address, str(node.address_v6 if self.is_v6 else node.address)


def first_peers() -> dict[str, Peer]:
    found = (
        Peer(name="tor", address=str(TOR)),
        Peer(name="tor-v6", address=str(TOR_V6)),
        Peer(name="second", address=SECOND, port=SECOND_PORT),
        Peer(name="second-v6", address=SECOND_V6, port=SECOND_PORT),
    )
    return {peer.name: peer for peer in found}


@dataclass(slots=True)
class World:
    """What the manifests say now: the endpoints of each Service, which nodes are excluded, and the peers.

    `services` maps a Service to the nodes with its endpoints and whether its policy is Local.
    """

    services: dict[str, tuple[frozenset[str], bool]] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()
    peers: dict[str, Peer] = field(default_factory=first_peers)

    def change(self, name: str, **values: Any) -> Peer:
        self.peers[name] = replace(self.peers[name], **values)
        return self.peers[name]

    def expected(self) -> Table:
        """Of every session that there may be; nothing where the peer is gone."""
        return {
            peer.end(node): frozenset(self._prefixes(peer, node)) if peer.is_there else frozenset()
            for peer in self.peers.values()
            for node in NODES
        }

    def _prefixes(self, peer: Peer, node: LabNode) -> Iterable[str]:
        if node.name in self.excluded:
            return
        yield str(SUBNET_3_V6 if peer.is_v6 else SUBNET_3)
        for name, (nodes, is_local) in self.services.items():
            if is_v6(name) == peer.is_v6 and nodes and (node.name in nodes or not is_local):
                yield f"{address_of(name)}/{128 if peer.is_v6 else 32}"


def is_v6(name: str) -> bool:
    return "v6" in name


def address_of(name: str) -> str:
    number = int(name.rpartition("-")[2])
    return f"fd00:120::{number:x}" if is_v6(name) else f"10.120.0.{number}"


# -- texts ---------------------------------------------------------------------------------------------------------


def documents(objects: Iterable[object]) -> str:
    return "---\n".join(json.dumps(one) + "\n" for one in objects)


def pools() -> str:
    return documents(
        {
            "apiVersion": "purelb.io/v2",
            "kind": "ServiceGroup",
            "metadata": {"name": name, "namespace": "purelb-system"},
            "spec": {"remote": {f"v{6 if ':' in subnet else 4}pools": [_pool(subnet)]}},
        }
        for name, (subnet, _) in POOLS.items()
    )


def _pool(subnet: str) -> dict[str, str]:
    return {"subnet": subnet, "pool": subnet, "aggregation": "/128" if ":" in subnet else "/32"}


def service_text(name: str, nodes: frozenset[str], *, is_local: bool) -> str:
    made, slices = (json.loads(text) for text in service(name, "chaos-v6" if is_v6(name) else "chaos").split("---\n"))
    made["metadata"]["annotations"]["purelb.io/addresses"] = address_of(name)
    made["spec"] |= {
        "externalTrafficPolicy": "Local" if is_local else "Cluster",
        "ipFamilies": ["IPv6" if is_v6(name) else "IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    slices["addressType"] = "IPv6" if is_v6(name) else "IPv4"
    address = "fd00:aaaa::1" if is_v6(name) else "10.0.0.1"
    slices["endpoints"] = [{"nodeName": node, "addresses": [address]} for node in sorted(nodes)]
    return documents((made, slices))


def nodes_text(text: str, excluded: frozenset[str]) -> str:
    """The lab's file of nodes, with the label that takes these out of service."""
    for node in excluded:
        hostname = f"kubernetes.io/hostname: {node}"
        text = text.replace(hostname, f"{hostname}\n    {EXCLUDE}")
    return text


def peers_text(peers: Iterable[Peer]) -> str:
    """In place of the lab's bgp.yaml."""
    lengths: dict[str, object] = {"aggregationLength": SUBNET_3.prefixlen, "aggregationLengthV6": SUBNET_3_V6.prefixlen}
    named = {"ipAddressPools": ["subnet-3", "subnet-3-v6", "subnet-3-dual"]}
    advertisement = _metallb("BGPAdvertisement", "v1beta1", "subnet-3", lengths | named)
    profile = _metallb("BFDProfile", "v1beta1", "patient", dict(PROFILE))
    return documents([profile, advertisement, *(_peer(peer) for peer in peers if peer.is_there)])


def secret_text(password: str) -> str:
    metadata = {"name": SECRET, "namespace": "metallb-system"}
    kind = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth"}
    return documents([kind | {"metadata": metadata, "stringData": {"password": password}}])


def _peer(peer: Peer) -> object:
    spec = {"myASN": NODE_ASN, "peerASN": TOR_ASN, "peerAddress": peer.address, "peerPort": peer.port}
    spec |= {"holdTime": f"{peer.hold_time}s"}
    spec |= {"bfdProfile": "patient"} if peer.has_bfd else {}
    spec |= {"passwordSecret": {"name": SECRET}} if peer.password else {}
    return _metallb("BGPPeer", "v1beta2", peer.name, spec)


def _metallb(kind: str, version: str, name: str, spec: Mapping[str, object]) -> object:
    metadata = {"name": name, "namespace": "metallb-system"}
    return {"apiVersion": f"metallb.io/{version}", "kind": kind, "metadata": metadata, "spec": spec}
