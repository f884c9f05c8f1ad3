"""Clusters, addresses and states for Hypothesis, shared by all property tests."""

from typing import Any

from hypothesis import strategies as st

from tests.builders import NODES, agent, endpoints, group, metallb, node, peer, service

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
