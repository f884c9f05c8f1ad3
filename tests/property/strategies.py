"""Clusters, addresses and states for Hypothesis, shared by all property tests."""

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


# -- for the allocator: small pools of every kind, and Services that ask for everything --------------------------------

CHOICES = (
    *POOLS[:1],
    group("default", "10.113.113.100-10.113.113.103"),
    pool("metal", "10.114.0.0/30", "fd00:114::/126"),
    pool("red", "10.115.0.0/31", "fd00:115::/127", serviceAllocation={"namespaces": ["red"], "priority": 1}),
    pool("labeled", "10.116.0.255-10.116.1.1", serviceAllocation={"serviceSelectors": [{"matchLabels": {"a": "b"}}]}),
    pool("manual", "10.117.0.0/31", autoAssign=False, avoidBuggyIPs=True),
    group_v2("many", ranges=[(f"10.118.{i}.0/24", f"10.118.{i}.0/31") for i in (0, 1)], body={"multiPool": True}),
    group_v2("even", ranges=[(f"10.119.{i}.0/24", f"10.119.{i}.0/31") for i in (0, 1)], body={"balancePools": True}),
    group_v2("fence", ranges=[("fd00:120::/64", "fd00:120::/126")], namespaces=["blue"], enforceNamespaces=True),
)
_ASKED = st.sampled_from(
    ["10.113.113.101", "10.114.0.1", "fd00:114::1", "10.114.0.2,fd00:114::2", "10.115.0.1", "10.118.1.0", "fd00:120::1"]
)
_HAD = st.one_of(
    ADDRESSES,
    st.sampled_from(
        ["10.115.0.0", "fd00:115::1", "10.116.1.0", "10.117.0.1", "10.118.0.0", "10.118.1.1", "10.119.0.0"]
    ),
    st.sampled_from(["fd00:114::", "fd00:120::", "10.114.0.0"]),
)
_NOTES = st.fixed_dictionaries(
    {},
    optional={
        "purelb.io/addresses": _ASKED,
        "purelb.io/multi-pool": st.sampled_from(["true", "false"]),
        "announcer.io/share-with-namespaces": st.sampled_from(["*", "test", "red, test"]),
    },
)
_KEYS = st.sampled_from([{}, {}, {"metallb.io/allow-shared-ip": "k"}, {"purelb.io/allow-shared-ip": "k"}])


def pools() -> st.SearchStrategy[list[Raw]]:
    return st.lists(st.sampled_from(CHOICES), unique_by=lambda one: str(one["metadata"]["name"]))


@st.composite
def balanced(draw: st.DrawFn, name: str, *, has_status: bool = True) -> Raw:
    """A Service that may ask for everything at once; one that contradicts itself is among them."""
    spec: Raw = draw(
        st.fixed_dictionaries(
            {"ports": st.lists(st.sampled_from([{"port": 80}, {"port": 443}]), min_size=1, unique_by=str)},
            optional={
                "externalTrafficPolicy": st.sampled_from(["Cluster", "Local"]),
                "selector": st.just({"app": "x"}),
                "ipFamilyPolicy": st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack"]),
                "ipFamilies": st.sampled_from([["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]]),
                "clusterIPs": st.sampled_from([["10.96.0.1"], ["10.96.0.1", "fd00:96::1"]]),
                "loadBalancerClass": st.sampled_from(["purelb.io/purelb", "else.io/lb"]),
            },
        )
    )
    names = [one["metadata"]["name"] for one in CHOICES]
    found = service(
        name,
        namespace=draw(st.sampled_from(["test", "test", "red", "blue"])),
        pool=draw(st.sampled_from(["", "", "", "none", *names])),
        addresses=draw(st.lists(_HAD, max_size=3)) if has_status else (),
        annotations=draw(_NOTES) | draw(_KEYS),
        **spec,
    )
    found["metadata"]["labels"] = draw(st.sampled_from([{}, {"a": "b"}]))
    found["metadata"]["creationTimestamp"] = draw(st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]))
    return found


@st.composite
def choices(draw: st.DrawFn) -> list[Raw]:
    """Some pools, and Services that quarrel over them."""
    names = draw(st.lists(st.integers(0, 20), unique=True, max_size=10))
    return [*draw(pools()), *(draw(balanced(f"s{i:02}")) for i in names)]
