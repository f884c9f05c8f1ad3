"""One row for each field of the BGP objects: YAML → what ExaBGP is told → what a real FRR has of it.

Everything runs once and side by side: a session for every row of SESSIONS, each between addresses of its own, and every
advertisement. A test looks at what came of its row.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.builders import Raw, group, metallb, pool
from tests.integration.exabgp import Router, Sidecar, frr, node_and_router
from tests.integration.peering import SECONDS, documents, peering, web
from tests.waiting import until

pytestmark = pytest.mark.netns
PEER = "{{apiVersion: metallb.io/v1beta2, kind: BGPPeer, metadata: {{name: {name}, namespace: lb}}, spec: {{{spec}}}}}"
OURS = "myASN: 64512, peerASN: 64513, peerAddress: {peer}, sourceAddress: {source}"
SIX = OURS.replace("{peer}", "'{peer}'").replace("{source}", "'{source}'")
EXTERNAL = ("remote-as 64512",)
BOTH = {"advertisedAndReceived": True}
V4, V6 = (f"neighborCapabilities.multiprotocolExtensions.ipv{version}Unicast" for version in (4, 6))


@dataclass(frozen=True, kw_only=True)
class Session:
    """`spec` is of a BGPPeer, `neighbor` one of the BGPConfiguration's; {peer} and {source} are addresses of its own.

    `router` is what FRR is told of it. Of what ExaBGP is told are `told`, of FRR's neighbor `seen`.
    """

    about: str
    name: str = ""
    spec: str = ""
    neighbor: str = ""
    router: tuple[str, ...] = EXTERNAL
    told: tuple[str, ...] = ()
    seen: dict[str, Any] = field(default_factory=dict)

    @property
    def peer(self) -> str:
        return self._address(SESSIONS.index(self) + 100)

    @property
    def source(self) -> str:
        """The node's own where nothing is said."""
        return self._address(SESSIONS.index(self) + 10 if "{source}" in self.spec + self.neighbor else 2)

    def _address(self, number: int) -> str:
        return f"fd00:9::{number}" if "'{peer}'" in self.spec else f"10.9.0.{number}"

    def text(self, template: str) -> str:
        return template.replace("{peer}", self.peer).replace("{source}", self.source)


# A row's place makes its addresses, which others name: new ones go to the end.
SESSIONS = (
    Session(
        about="myASN, peerASN, peerAddress, and every default",
        name="tor",
        spec="myASN: 64512, peerASN: 64513, peerAddress: {peer}",
        told=("local-as 64512", "peer-as 64513", "hold-time 90", "connect 179", "outgoing-ttl 1", "ipv4 unicast; }"),
        seen={"remoteAs": 64512, "remoteRouterId": "10.9.0.2", "bgpTimerHoldTimeMsecs": 90_000, V4: BOTH},
    ),
    Session(
        about="peerAddress of IPv6",
        name="tor6",
        spec="myASN: 64512, peerASN: 64513, peerAddress: '{peer}'",
        told=("local-address fd00:9::2", "router-id 10.9.0.2", "{ ipv6 unicast; }"),
        seen={"hostForeign": "fd00:9::2", V6: BOTH, V4: {"advertised": True}},
    ),
    Session(about="sourceAddress", spec=OURS, told=("local-address {source}",), seen={"hostForeign": "{source}"}),
    Session(
        about="holdTime, keepaliveTime",
        spec=f"{OURS}, holdTime: 30s, keepaliveTime: 10s",
        told=("hold-time 30",),
        seen={"bgpTimerHoldTimeMsecs": 30_000, "bgpTimerKeepAliveIntervalMsecs": 10_000},
    ),
    Session(
        about="routerID",
        spec=f"{OURS}, routerID: 10.0.0.7",
        told=("router-id 10.0.0.7",),
        seen={"remoteRouterId": "10.0.0.7"},
    ),
    Session(
        about="localASN",
        spec=f"{OURS}, localASN: 4200000001",
        router=("remote-as 4200000001",),
        told=("local-as 4200000001",),
        seen={"remoteAs": 4_200_000_001},
    ),
    Session(
        about="dynamicASN: internal",
        name="internal",
        spec="myASN: 64513, dynamicASN: internal, peerAddress: {peer}, sourceAddress: {source}",
        router=("remote-as 64513",),
        told=("local-as 64513", "peer-as 64513", "outgoing-ttl 255"),
        seen={"remoteAs": 64513, "nbrInternalLink": True},
    ),
    Session(
        about="ebgpMultiHop",
        spec=f"{OURS}, ebgpMultiHop: true",
        router=(*EXTERNAL, "ttl-security hops 1"),  # packets with a TTL of 255 alone count (RFC 5082)
        told=("outgoing-ttl 255",),
    ),
    Session(about="peerPort", name="port", spec=f"{OURS}, peerPort: 1179", told=("connect 1179",)),
    Session(
        about="password",
        spec=f"{OURS}, password: 'p{{l}};#a\"in'",
        router=(*EXTERNAL, 'password p{l};#a"in'),
        told=("md5-base64 true",),
    ),
    Session(
        about="passwordSecret",
        spec=f"{OURS}, passwordSecret: {{name: tor}}",
        router=(*EXTERNAL, "password of-the-secret"),
        told=("md5-base64 true",),
    ),
    Session(
        about="dualStackAddressFamily",
        name="dual",
        spec=f"{OURS}, dualStackAddressFamily: true",
        told=("family { ipv4 unicast; ipv6 unicast; }",),
        seen={V4: BOTH, V6: BOTH},
    ),
    Session(about="nodeSelectors", spec=f"{OURS}, nodeSelectors: [{{matchLabels: {{rack: a}}}}]", told=("neighbor",)),
    Session(about="connectTime, disableMP", spec=f"{OURS}, connectTime: 10s, disableMP: true", told=("neighbor",)),
    Session(
        about="neighborAddress, peerAsn, localAddress, routerID of an annotation",
        neighbor="config: {neighborAddress: {peer}, peerAsn: 64513}, transport: {localAddress: {source}}",
        told=("router-id 10.0.0.9", "local-address {source}"),
        seen={"remoteRouterId": "10.0.0.9"},
    ),
    Session(
        about="peerGroup",
        neighbor="config: {neighborAddress: {peer}, peerGroup: rack}, transport: {localAddress: {source}}",
        router=(*EXTERNAL, "password of-the-group"),
        told=("peer-as 64513", "hold-time 12"),
        seen={"bgpTimerHoldTimeMsecs": 12_000},
    ),
    Session(
        about="localAsn, authPassword, description",
        neighbor="config: {neighborAddress: {peer}, peerAsn: 64513, localAsn: 65001, authPassword: plain, "
        "description: a; b}, transport: {localAddress: {source}}",
        router=("remote-as 65001", "password plain"),
        told=("local-as 65001",),
        seen={"remoteAs": 65001},
    ),
    Session(
        about="authPasswordSecretRef",
        neighbor="config: {neighborAddress: {peer}, peerAsn: 64513, authPasswordSecretRef: {name: rack, key: md5}}, "
        "transport: {localAddress: {source}}",
        router=(*EXTERNAL, "password of-the-rack"),
        told=("md5-base64 true",),
    ),
    Session(
        about="timers.config",
        neighbor="config: {neighborAddress: {peer}, peerAsn: 64513}, transport: {localAddress: {source}}, "
        "timers: {config: {keepaliveInterval: 5}}",
        told=("hold-time 15",),
        seen={"bgpTimerHoldTimeMsecs": 15_000, "bgpTimerKeepAliveIntervalMsecs": 5_000},
    ),
    Session(
        about="afiSafis",
        neighbor="config: {neighborAddress: {peer}, peerAsn: 64513}, transport: {localAddress: {source}}, "
        "afiSafis: [{family: ipv6-unicast, enabled: true}, {family: ipv4-unicast, enabled: false}]",
        told=("family { ipv6 unicast; }",),
        seen={V6: BOTH, V4: {"advertised": True}},
    ),
    Session(
        about="ebgpMultihop.multihopTtl",
        neighbor="config: {neighborAddress: {peer}, peerAsn: 64513}, transport: {localAddress: {source}}, "
        "ebgpMultihop: {enabled: true, multihopTtl: 5}",
        router=(*EXTERNAL, "ttl-security hops 251"),  # at least 5
        told=("outgoing-ttl 5",),
    ),
    Session(
        about="nodeSelector",
        neighbor="config: {neighborAddress: {peer}, peerAsn: 64513}, transport: {localAddress: {source}}, "
        "nodeSelector: {matchExpressions: [{key: rack, operator: In, values: [a, b]}]}",
        told=("neighbor",),
    ),
    Session(
        about="holdTime: 0s",
        spec=f"{OURS}, holdTime: 0s",
        told=("hold-time 0",),
        seen={"bgpTimerHoldTimeMsecs": 0, "bgpTimerKeepAliveIntervalMsecs": 0},
    ),
    Session(
        about="password of IPv6",
        spec=f"{SIX}, password: plain",
        router=(*EXTERNAL, "password plain"),
        told=("md5-base64 true",),
    ),
    Session(
        about="dualStackAddressFamily of IPv6",
        name="dual6",
        spec=f"{SIX}, dualStackAddressFamily: true",
        told=("family { ipv4 unicast; ipv6 unicast; }",),
        seen={V4: BOTH, V6: BOTH},
    ),
)
ABSENT = {
    "nodeSelectors": f"{OURS}, nodeSelectors: [{{matchLabels: {{rack: b}}}}]",
    "dynamicASN: external": "myASN: 64512, dynamicASN: external, peerAddress: {peer}",
}
"""Of which no session comes."""
NEIGHBORS = """
apiVersion: bgp.purelb.io/v1
kind: BGPConfiguration
metadata: {name: bgp, namespace: lb}
spec:
  global: {asn: 64512, routerID: "${node.annotations['bgp/id']}"}
  netlinkImport: {enabled: true, interfaceList: [kube-lb0]}
  peerGroups:
  - config: {peerGroupName: rack, peerAsn: 64513, authPassword: of-the-group}
    timers: {config: {holdTime: 12}}
  neighbors:
  - {config: {neighborAddress: 10.9.0.99, peerAsn: 64513, adminDown: true}}
"""
OTHERS = """
{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {rack: a}, annotations: {bgp/id: 10.0.0.9}},
 status: {addresses: [{type: InternalIP, address: 10.9.0.2}]}}
---
{apiVersion: v1, kind: Secret, metadata: {name: tor, namespace: lb}, type: kubernetes.io/basic-auth,
 stringData: {password: of-the-secret}}
---
{apiVersion: v1, kind: Secret, metadata: {name: rack, namespace: lb}, data: {md5: b2YtdGhlLXJhY2s=}}
---
{apiVersion: metallb.io/v1beta1, kind: Community, metadata: {name: c, namespace: lb},
 spec: {communities: [{name: mine, value: "64512:99"}, {name: vast, value: "large:64512:9:9"}]}}
"""


@dataclass(frozen=True, kw_only=True)
class Advertised:
    """What FRR has of a prefix by each peer's session, by a Service `name` and `objects`; None is no path."""

    about: str
    objects: tuple[Raw, ...]
    services: tuple[list[Raw], ...]
    seen: dict[str, dict[str, dict[str, Any] | None]]


def ad(name: str, *pools: str, **spec: Any) -> Raw:
    return metallb("BGPAdvertisement", name, **({"ipAddressPools": list(pools)} if pools else {}), **spec)


def labelled(one: Raw, **labels: str) -> Raw:
    return one | {"metadata": one["metadata"] | {"labels": labels}}


HERE, THERE = {"matchLabels": {"rack": "a"}}, {"matchLabels": {"rack": "b"}}
ADVERTISED = (
    Advertised(
        about="communities: standard, large, of a Community, well-known",
        objects=(
            pool("words", "10.50.0.0/24"),
            ad("words", "words", communities=["64512:7", "large:64512:1:2", "mine", "vast", "no-export"]),
        ),
        services=(web("words", "10.50.0.1"),),
        seen={
            "10.50.0.1/32": {
                "tor": {
                    "community.list": ["64512:7", "64512:99", "noExport"],
                    "largeCommunity.list": ["64512:1:2", "64512:9:9"],
                    "nexthops.0.ip": "10.9.0.2",
                    "aspath.string": "64512",
                    "origin": "IGP",
                    "locPrf": None,
                    "metric": None,
                }
            }
        },
    ),
    Advertised(
        about="communities: graceful-shutdown (RFC 8326)",
        objects=(pool("calm", "10.51.0.0/24"), ad("calm", "calm", communities=["graceful-shutdown"])),
        services=(web("calm", "10.51.0.1"),),
        seen={"10.51.0.1/32": {"tor": {"community.list": ["gracefulShutdown"], "locPrf": 0}}},
    ),
    Advertised(
        about="localPref, to iBGP alone",
        objects=(pool("liked", "10.52.0.0/24"), ad("liked", "liked", localPref=250)),
        services=(web("liked", "10.52.0.1"),),
        seen={"10.52.0.1/32": {"internal": {"locPrf": 250}, "tor": {"locPrf": None}}},
    ),
    Advertised(
        about="aggregationLength, aggregationLengthV6; policy Local has routes of its own",
        objects=(
            pool("wide", "10.53.0.0/16", "fd00:53::/48"),
            ad("wide", "wide", aggregationLength=24, aggregationLengthV6=64),
        ),
        services=(
            web("wide", "10.53.1.1", "fd00:53:0:1::1"),
            web("own", "10.53.2.1", "fd00:53:0:2::1", externalTrafficPolicy="Local"),
        ),
        seen={
            "10.53.1.0/24": {"tor": {}, "tor6": None},
            "10.53.1.1/32": {"tor": None},
            "10.53.2.1/32": {"tor": {}},
            "10.53.2.0/24": {"tor": None},
            "fd00:53:0:1::/64": {"tor6": {}, "tor": None},
            "fd00:53:0:1::1/128": {"tor6": None},
            "fd00:53:0:2::1/128": {"tor6": {}},
        },
    ),
    Advertised(
        about="several advertisements of one pool: of other lengths, and of one length put together",
        objects=(
            pool("many", "10.54.0.0/24"),
            ad("many-a", "many", communities=["64512:1"], localPref=120),
            ad("many-b", "many", communities=["64512:2"], localPref=120),
            ad("many-c", "many", aggregationLength=24, communities=["64512:3"]),
        ),
        services=(web("many", "10.54.0.1"),),
        seen={
            "10.54.0.1/32": {
                "tor": {"community.list": ["64512:1", "64512:2"]},
                "internal": {"community.list": ["64512:1", "64512:2"], "locPrf": 120},
            },
            "10.54.0.0/24": {"tor": {"community.list": ["64512:3"]}, "internal": {"locPrf": 100}},
        },
    ),
    Advertised(
        about="peers, by name and by a neighbor's address",
        objects=(
            pool("some", "10.55.0.0/24"),
            ad("some-a", "some", peers=["internal", "10.9.0.115"]),
            ad("some-b", "some", peers=["tor"], aggregationLength=28),
        ),
        services=(web("some", "10.55.0.1"),),
        seen={
            "10.55.0.1/32": {"internal": {}, "peerGroup": {}, "tor": None, "dual": None},
            "10.55.0.0/28": {"tor": {}, "internal": None},
        },
    ),
    Advertised(
        about="nodeSelectors",
        objects=(
            pool("racks", "10.56.0.0/24"),
            ad("racks-a", "racks", nodeSelectors=[THERE, HERE]),
            ad("racks-b", "racks", nodeSelectors=[THERE], aggregationLength=28),
        ),
        services=(web("racks", "10.56.0.1"),),
        seen={"10.56.0.1/32": {"tor": {}}, "10.56.0.0/28": {"tor": None}},
    ),
    Advertised(
        about="serviceSelectors",
        objects=(
            pool("shops", "10.57.0.0/24"),
            ad("shops", "shops", serviceSelectors=[{"matchLabels": {"tier": "front"}}], communities=["64512:5"]),
        ),
        services=(
            [labelled(one, tier="front") if one["kind"] == "Service" else one for one in web("front", "10.57.0.1")],
            web("back", "10.57.0.2"),
        ),
        seen={"10.57.0.1/32": {"tor": {"community.list": ["64512:5"]}}, "10.57.0.2/32": {"tor": None}},
    ),
    Advertised(
        about="ipAddressPoolSelectors",
        objects=(
            labelled(pool("gold", "10.58.0.0/24"), tier="gold"),
            pool("iron", "10.59.0.0/24"),
            ad("gold", ipAddressPoolSelectors=[{"matchLabels": {"tier": "gold"}}], communities=["64512:6"]),
        ),
        services=(web("gold", "10.58.0.1"), web("iron", "10.59.0.1")),
        seen={"10.58.0.1/32": {"tor": {"community.list": ["64512:6"]}}, "10.59.0.1/32": {"tor": None}},
    ),
    Advertised(
        about="a virtual pool of PureLB's to peers of both groups, its aggregation",
        objects=(group("default", "10.60.0.100-10.60.0.110", "10.60.0.0/24"),),
        services=(web("purelb", "10.60.0.100"),),
        seen={"10.60.0.0/24": {"tor": {}, "internal": {}, "peerGroup": {}}, "10.60.0.100/32": {"tor": None}},
    ),
    Advertised(
        about="next hops: the session's own, and the node's of the other family",
        objects=(pool("both", "10.61.0.0/24", "fd00:61::/120"), ad("both", "both")),
        services=(web("both", "10.61.0.1", "fd00:61::1"),),
        seen={
            "10.61.0.1/32": {
                "dual6": {"nexthops.0.ip": "10.9.0.2"},
                "dual": {"nexthops.0.ip": "10.9.0.21"},
                "sourceAddress": {"nexthops.0.ip": "10.9.0.12"},
            },
            "fd00:61::1/128": {
                "dual6": {"nexthops.0.ip": "fd00:9::34"},
                "dual": {"nexthops.0.ip": "fd00:9::2"},
                "tor6": {"nexthops.0.ip": "fd00:9::2"},
            },
        },
    ),
)


# -- running it ------------------------------------------------------------------------------------------------------


@dataclass
class Evidence:
    """What came of everything: a text for each peer of ExaBGP's, FRR's neighbors, and its paths by prefix."""

    blocks: dict[str, str]
    neighbors: dict[str, Any]
    paths: dict[str, dict[str, Any]]
    errors: str


def sources() -> dict[str, str]:
    """Address of the node's end, by the name of a session or what it is about."""
    return {one.name or one.about: one.source for one in SESSIONS}


def objects() -> list[Raw]:
    peers = [
        PEER.format(name=one.name or f"p{i}", spec=one.text(one.spec)) for i, one in enumerate(SESSIONS) if one.spec
    ]
    spare = [PEER.format(name=f"none{i}", spec=text) for i, text in enumerate(ABSENT.values())]
    neighbors = [f"  - {{{one.text(one.neighbor)}}}\n" for one in SESSIONS if one.neighbor]
    spare = [text.replace("{peer}", f"10.9.0.{90 + i}").replace("{source}", "10.9.0.2") for i, text in enumerate(spare)]
    found = documents("\n---\n".join([*peers, *spare, NEIGHBORS + "".join(neighbors), OTHERS]))
    for one in ADVERTISED:
        found += [*one.objects, *(raw for service in one.services for raw in service)]
    return found


def router_configuration() -> str:
    lines = ["router bgp 64513", " bgp router-id 10.9.0.1", " no bgp ebgp-requires-policy"]
    for one in SESSIONS:
        lines += [f" neighbor {one.source} {line}" for line in (*one.router, "passive")]
    for version in (4, 6):
        lines += [f" address-family ipv{version} unicast", *(f"  neighbor {one.source} activate" for one in SESSIONS)]
    return "\n".join([*lines, ""])


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    folder = tmp_path_factory.mktemp("fields")
    with node_and_router() as (node, tor):
        for one in SESSIONS:
            for host, address in ((node, one.source), (tor, one.peer)):
                length = "64" if ":" in address else "24"
                host.ip(
                    "address", "replace", f"{address}/{length}", "dev", "eth0", *(["nodad"] if length == "64" else [])
                )
        other_port = next(one.peer for one in SESSIONS if one.name == "port")
        tor.exec(
            "nft",
            f"add table ip t; add chain ip t c {{ type nat hook prerouting priority -100; }}; "
            f"add rule ip t c ip daddr {other_port} tcp dport 1179 redirect to :179; "
            f"add chain ip t f {{ type filter hook prerouting priority -300; }}; "
            f"add rule ip t f ip daddr {other_port} tcp dport 179 drop",
        )
        with frr(tor, router_configuration()) as router:
            sidecar = Sidecar(node, folder)
            sidecar.start()
            try:
                return asyncio.run(gathered(sidecar, router))
            finally:
                sidecar.kill()


async def gathered(sidecar: Sidecar, router: Router) -> Evidence:
    own = list(dict.fromkeys(["10.9.0.2", *sources().values()]))
    in_order = [one for one in own if ":" not in one] + [one for one in own[::-1] if ":" in one]  # as the kernel lists
    links = [f"{one}/{64 if ':' in one else 24} eth0" for one in in_order]
    async with peering(sidecar, *objects(), links=links) as found:
        await found.has(*(one.peer for one in SESSIONS))
        await until(lambda: wanted() <= received(router), seconds=SECONDS, what="the router's routes")
        prefixes = {prefix for one in ADVERTISED for prefix in one.seen}
        return Evidence(
            blocks={one.peer: found.block(one.peer) for one in SESSIONS},
            neighbors=router.neighbors(),
            paths={prefix: router.paths(prefix) for prefix in prefixes},
            errors=found.errors(),
        )


def wanted() -> set[tuple[str, str]]:
    """Prefixes and who is to advertise them."""
    found = sources()
    pairs = ((prefix, peers) for one in ADVERTISED for prefix, peers in one.seen.items())
    return {(prefix, found[name]) for prefix, peers in pairs for name, path in peers.items() if path is not None}


def received(router: Router) -> set[tuple[str, str]]:
    routes = (route for version in (4, 6) for route in router.rib(version).items())
    return {(prefix, path["peerId"]) for prefix, paths in routes for path in paths}


def at(value: Any, path: str) -> Any:
    """`a.0.b` in JSON; None where there is no such thing."""
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else (value or {}).get(part)
    return value


@pytest.mark.parametrize("row", SESSIONS, ids=lambda row: row.about)
def test_session_is_what_its_field_says(evidence: Evidence, row: Session) -> None:
    for text in row.told:
        assert row.text(text) in evidence.blocks[row.peer]
    neighbor = evidence.neighbors[row.source]
    assert neighbor["bgpState"] == "Established"
    assert {path: at(neighbor, path) for path in row.seen} == {
        path: row.text(value) if isinstance(value, str) else value for path, value in row.seen.items()
    }


def test_no_other_session_is_there(evidence: Evidence) -> None:
    assert sum(one["bgpState"] == "Established" for one in evidence.neighbors.values()) == len(SESSIONS)
    assert evidence.errors == ""


@pytest.mark.parametrize("row", ADVERTISED, ids=lambda row: row.about)
def test_route_is_what_its_advertisements_say(evidence: Evidence, row: Advertised) -> None:
    for prefix, peers in row.seen.items():
        for name, wanted in peers.items():
            path = evidence.paths[prefix].get(sources()[name])
            if wanted is None:
                assert path is None, (prefix, name)
            else:
                assert path is not None, (prefix, name)
                assert {key: at(path, key) for key in wanted} == wanted, (prefix, name)
