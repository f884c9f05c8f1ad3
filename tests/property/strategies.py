"""Clusters, addresses and states for Hypothesis, shared by all property tests."""

from collections.abc import Sequence
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


@st.composite
def services(draw: st.DrawFn, *, most: int = 8) -> list[Raw]:
    names = draw(st.lists(st.integers(0, 20), unique=True, max_size=most))
    return [draw(_service(f"s{i}")) for i in names]


@st.composite
def _service(draw: st.DrawFn, name: str) -> Raw:
    spec: Raw = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "externalTrafficPolicy": st.sampled_from(["Cluster", "Local"]),
                "ipFamilyPolicy": st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack"]),
                "ipFamilies": st.sampled_from([["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]]),
                "loadBalancerIP": ADDRESSES,
            },
        )
    )
    pool = draw(st.sampled_from(["", "", "subnet-1", "subnet-3", "metal", "none"]))
    status = draw(st.lists(ADDRESSES, max_size=1))
    return service(name, pool=pool, addresses=status, **spec)


@st.composite
def clusters(draw: st.DrawFn) -> list[Raw]:
    """Objects of a whole cluster: pools, Services with status and endpoints, nodes in and out of service, peers."""
    found = draw(services())
    objects = [*draw(st.lists(st.sampled_from(POOLS), unique_by=lambda o: (o["kind"], o["metadata"]["name"]))), *found]
    for one in found:
        nodes = draw(st.lists(st.sampled_from(NODES), unique=True))
        objects.append(
            endpoints(one["metadata"]["name"], nodes, ready=draw(st.booleans()), serving=draw(st.booleans()))
        )
    objects += [node(name, **EXCLUDED) for name in draw(st.lists(st.sampled_from(NODES), unique=True, max_size=1))]
    objects += draw(st.sampled_from([[], [peer()], [peer(), peer("v6", "fd00:111::fe")]]))
    objects += draw(st.sampled_from([[], [agent(extlbint="eth1")]]))
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


@st.composite
def balanced(draw: st.DrawFn, name: str, pools: Sequence[str], *, has_status: bool = True) -> Raw:
    """A Service that wants, or has, addresses of `pools`."""
    addresses = [address for name in pools for address in CHOICES[name][1]]
    spec: Raw = draw(_FAMILIES) | {
        "ports": [{"port": port} for port in draw(st.sampled_from([[80], [443], [80, 443]]))],
        "selector": {"app": "x"},
        "externalTrafficPolicy": draw(_mostly("Cluster", "Local")),
        "loadBalancerClass": draw(_mostly("", "else.io/lb")),
    }
    asked = draw(_mostly("", *addresses))
    notes = draw(_KEYS) | draw(_mostly({}, {"purelb.io/multi-pool": "true"}, {"purelb.io/multi-pool": "false"}))
    notes |= draw(_mostly({}, *({"announcer.io/share-with-namespaces": text} for text in ("*", "red"))))
    found = service(
        name,
        namespace=draw(st.sampled_from(["test", "red"])),
        pool=draw(_mostly("", "none", *pools)),
        addresses=draw(st.lists(st.sampled_from(addresses), max_size=2)) if has_status else (),
        annotations=notes | ({"purelb.io/addresses": asked} if asked else {}),
        **spec,
    )
    found["metadata"]["labels"] = draw(st.sampled_from([{}, {"a": "b"}]))
    found["metadata"]["creationTimestamp"] = draw(st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]))
    return found


@st.composite
def quarrels(draw: st.DrawFn) -> tuple[list[str], list[Raw]]:
    """Names of some pools, and these pools with Services that are too many for them."""
    pools = draw(st.lists(st.sampled_from(sorted(CHOICES)), unique=True, min_size=1, max_size=3))
    names = draw(st.lists(st.integers(0, 20), unique=True, min_size=2, max_size=8))
    return pools, [*(CHOICES[name][0] for name in pools), *(draw(balanced(f"s{i:02}", pools)) for i in names)]
