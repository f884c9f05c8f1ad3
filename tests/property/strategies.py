"""Clusters, addresses and states for Hypothesis, shared by all property tests.

What is drawn from more than once is made once: Hypothesis looks into every new strategy before it draws from it, which
takes longer than the draw.
"""

from functools import cache
from typing import Any

from hypothesis import strategies as st

from tests.builders import NODES, agent, endpoints, group, group_v2, metallb, node, peer, pool, service

Raw = dict[str, Any]
POOLS = (
    group("subnet-1", "10.111.111.100-10.111.111.103", "10.111.111.0/24"),
    group("subnet-2", "10.112.112.100-10.112.112.102", "10.112.112.0/24"),
    group("subnet-3", "10.113.113.100-10.113.113.109"),
    metallb("IPAddressPool", "metal", addresses=["10.114.0.0/30", "fd00:114::/126"]),
    metallb("L2Advertisement", "l2", ipAddressPools=["metal"]),
    metallb("BGPAdvertisement", "bgp", ipAddressPools=["metal", "subnet-3"]),
)
ADDRESSES = st.sampled_from(
    [f"10.11{n}.11{n}.10{i}" for n in (1, 2, 3) for i in range(4)] + ["10.114.0.1", "fd00:114::1", "10.9.9.9"]
)
EXCLUDED = {"node.kubernetes.io/exclude-from-external-load-balancers": ""}


_SPECS: st.SearchStrategy[Raw] = st.fixed_dictionaries(
    {},
    optional={
        "externalTrafficPolicy": st.sampled_from(["Cluster", "Local"]),
        "ipFamilyPolicy": st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack"]),
        "ipFamilies": st.sampled_from([["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]]),
        "loadBalancerIP": ADDRESSES,
    },
)
_POOL_NAMES = st.sampled_from(["", "", "subnet-1", "subnet-3", "metal", "none"])
_STATUSES = st.lists(ADDRESSES, max_size=1)


@cache
@st.composite
def _service(draw: st.DrawFn, name: str) -> Raw:
    spec = draw(_SPECS)
    return service(name, pool=draw(_POOL_NAMES), addresses=draw(_STATUSES), **spec)


_NUMBERS = st.lists(st.integers(0, 20), unique=True, max_size=8)
_SOME_POOLS = st.lists(st.sampled_from(POOLS), unique_by=lambda o: (o["kind"], o["metadata"]["name"]))
_SOME_NODES = st.lists(st.sampled_from(NODES), unique=True)
_ONE_NODE = st.lists(st.sampled_from(NODES), unique=True, max_size=1)
_PEERS = st.sampled_from([[], [peer()], [peer(), peer("v6", "fd00:111::fe")]])
_AGENTS = st.sampled_from([[], [agent(extlbint="eth1")]])
_BOOLEANS = st.booleans()


@cache
@st.composite
def clusters(draw: st.DrawFn) -> list[Raw]:
    """Objects of a whole cluster: pools, Services with status and endpoints, nodes in and out of service, peers."""
    found = [draw(_service(f"s{i}")) for i in draw(_NUMBERS)]
    objects = [*draw(_SOME_POOLS), *found]
    for one in found:
        nodes = draw(_SOME_NODES)
        objects.append(endpoints(one["metadata"]["name"], nodes, ready=draw(_BOOLEANS), serving=draw(_BOOLEANS)))
    objects += [node(name, **EXCLUDED) for name in draw(_ONE_NODE)]
    objects += draw(_PEERS)
    objects += draw(_AGENTS)
    return objects


# -- for the allocator: small pools of every kind, and Services that quarrel over them ---------------------------------


def _choice(one: Raw, *addresses: str) -> tuple[Raw, tuple[str, ...]]:
    return one, addresses


CHOICES = {
    "subnet-1": _choice(POOLS[0], "10.111.111.100", "10.111.111.101"),
    "default": _choice(group("default", "10.113.113.100-10.113.113.101"), "10.113.113.100", "10.113.113.101"),
    "metal": _choice(
        pool("metal", "10.114.0.0/31", "fd00:114::/127"),
        "10.114.0.0",
        "10.114.0.1",
        "fd00:114::",
        "fd00:114::1",
    ),
    "six": _choice(pool("six", "10.121.0.0/30", "fd00:121::/128"), "10.121.0.1", "fd00:121::"),
    "red": _choice(
        pool("red", "10.115.0.0/31", serviceAllocation={"namespaces": ["red"], "priority": 1}), "10.115.0.1"
    ),
    "labeled": _choice(
        pool(
            "labeled", "10.116.0.255-10.116.1.1", serviceAllocation={"serviceSelectors": [{"matchLabels": {"a": "b"}}]}
        ),
        "10.116.0.255",
        "10.116.1.1",
    ),
    "manual": _choice(
        pool("manual", "10.117.0.0/31", autoAssign=False, avoidBuggyIPs=True), "10.117.0.0", "10.117.0.1"
    ),
    "many": _choice(
        group_v2("many", ranges=[(f"10.118.{i}.0/24", f"10.118.{i}.0/31") for i in (0, 1)], body={"multiPool": True}),
        "10.118.0.0",
        "10.118.1.1",
    ),
    "even": _choice(
        group_v2(
            "even", ranges=[(f"10.119.{i}.0/24", f"10.119.{i}.0/31") for i in (0, 1)], body={"balancePools": True}
        ),
        "10.119.0.0",
        "10.119.1.0",
    ),
    "fence": _choice(
        group_v2("fence", ranges=[("fd00:120::/64", "fd00:120::/126")], namespaces=["red"], enforceNamespaces=True),
        "fd00:120::1",
    ),
}
"""Pools by name, each with addresses to ask for and to have."""
_FAMILIES: st.SearchStrategy[Raw] = st.sampled_from(
    [
        *({}, {"ipFamilies": ["IPv4"]}, {"ipFamilies": ["IPv6"]}),
        *({"ipFamilyPolicy": f"{word}DualStack", "ipFamilies": ["IPv4", "IPv6"]} for word in ("Prefer", "Require")),
        {"ipFamilyPolicy": "PreferDualStack", "clusterIPs": ["10.96.0.1"]},
    ]
)
_KEYS = st.sampled_from([{}, {}, {"metallb.io/allow-shared-ip": "k"}, {"purelb.io/allow-shared-ip": "k"}])


def _mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual] * 3 * len(others) + list(others))


_PORTS = st.sampled_from([[80], [443], [80, 443]])
_POLICIES, _CLASSES = _mostly("Cluster", "Local"), _mostly("", "else.io/lb")
_MULTI = _mostly({}, {"purelb.io/multi-pool": "true"}, {"purelb.io/multi-pool": "false"})
_SHARING = _mostly({}, *({"announcer.io/share-with-namespaces": text} for text in ("*", "red")))
_NAMESPACES, _LABELS = st.sampled_from(["test", "red"]), st.sampled_from([{}, {"a": "b"}])
_TIMES = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])


@cache
def _of(pools: tuple[str, ...]) -> tuple[st.SearchStrategy[str], st.SearchStrategy[str], st.SearchStrategy[list[str]]]:
    """An address to ask for, a pool to ask for, addresses to have."""
    addresses = [address for name in pools for address in CHOICES[name][1]]
    return _mostly("", *addresses), _mostly("", "none", *pools), st.lists(st.sampled_from(addresses), max_size=2)


@cache
@st.composite
def balanced(draw: st.DrawFn, name: str, pools: tuple[str, ...], *, has_status: bool = True) -> Raw:
    """A Service that wants, or has, addresses of `pools`."""
    addresses, names, statuses = _of(pools)
    spec: Raw = draw(_FAMILIES) | {
        "ports": [{"port": port} for port in draw(_PORTS)],
        "selector": {"app": "x"},
        "externalTrafficPolicy": draw(_POLICIES),
        "loadBalancerClass": draw(_CLASSES),
    }
    asked = draw(addresses)
    notes = draw(_KEYS) | draw(_MULTI) | draw(_SHARING)
    found = service(
        name,
        namespace=draw(_NAMESPACES),
        pool=draw(names),
        addresses=draw(statuses) if has_status else (),
        annotations=notes | ({"purelb.io/addresses": asked} if asked else {}),
        **spec,
    )
    found["metadata"]["labels"] = draw(_LABELS)
    found["metadata"]["creationTimestamp"] = draw(_TIMES)
    return found


_THREE_POOLS = st.lists(st.sampled_from(sorted(CHOICES)), unique=True, min_size=1, max_size=3)
_TWO_AND_MORE = st.lists(st.integers(0, 20), unique=True, min_size=2, max_size=8)


@cache
@st.composite
def quarrels(draw: st.DrawFn) -> tuple[tuple[str, ...], list[Raw]]:
    """Names of some pools, and these pools with Services that are too many for them."""
    pools = tuple(draw(_THREE_POOLS))
    numbers = draw(_TWO_AND_MORE)
    return pools, [*(CHOICES[name][0] for name in pools), *(draw(balanced(f"s{i:02}", pools)) for i in numbers)]
