"""Whatever people write: what the agent makes of it is a configuration that ExaBGP's own parser takes."""

from typing import Any

from exabgp.configuration.configuration import Configuration
from exabgp.logger import log
from hypothesis import given
from hypothesis import strategies as st

from announcer.core.desired import Desired, desired
from announcer.core.model import IfName, LinkAddress, NodeName, Scope
from announcer.exabgp.config import configuration
from tests.builders import Raw, ip, kernel, node, peer, raw, snapshot

ADDRESSES = st.one_of(st.ip_addresses().map(str), st.sampled_from(["fe80::1%eth0", "::ffff:10.0.0.1", "0.0.0.0", "::"]))
NUMBERS = st.integers(0, 2**32 - 1)
TEXTS = st.text(max_size=90)
SPEC: dict[str, st.SearchStrategy[Any]] = {
    "myASN": NUMBERS,
    "peerASN": NUMBERS,
    "localASN": NUMBERS,
    "sourceAddress": ADDRESSES,
    "peerPort": st.integers(0, 65535),
    "holdTime": st.sampled_from(["0s", "3s", "90s", "18h12m15s", "1s"]),
    "routerID": st.ip_addresses(v=4).map(str),
    "password": TEXTS,
    "ebgpMultiHop": st.booleans(),
    "dualStackAddressFamily": st.booleans(),
}
CONFIG: dict[str, st.SearchStrategy[Any]] = {"localAsn": NUMBERS, "authPassword": TEXTS, "description": TEXTS}
PEERS = st.builds(lambda address, more: peer("p", address, **more), ADDRESSES, st.fixed_dictionaries({}, optional=SPEC))
HERE = NodeName("n1")
OWN = LinkAddress(ifname=IfName("eth0"), address=ip("fd00:111::2"), prefixlen=64, scope=Scope.GLOBAL)


def neighbors(address: str, more: Raw, ttl: int) -> Raw:
    one = {"config": {"neighborAddress": address, "peerAsn": 64513} | more}
    one |= {"ebgpMultihop": {"enabled": True, "multihopTtl": ttl}}
    spec = {"global": {"asn": 64512}, "neighbors": [one], "netlinkImport": {"enabled": True, "interfaceList": ["x"]}}
    return raw("bgp.purelb.io/v1", "BGPConfiguration", "bgp", namespace="purelb-system", spec=spec)


NEIGHBORS = st.builds(neighbors, ADDRESSES, st.fixed_dictionaries({}, optional=CONFIG), st.integers(0, 255))


@given(st.lists(st.one_of(PEERS, NEIGHBORS), max_size=3))
def test_configuration_is_always_one_that_exabgp_takes(objects: list[Raw]) -> None:
    named = [one | {"metadata": one["metadata"] | {"name": f"p{i}"}} for i, one in enumerate(objects)]
    found = desired(snapshot(node("n1"), *named), HERE, kernel(addresses=[OWN]))
    assert isinstance(found, Desired)
    text = configuration(found.peers, ("/bin/cat", "/run/announcer/bridge.sock"))
    log.disable()
    parser = Configuration([text], text=True)
    assert parser.reload() is True, f"{parser.error}\n{text}"
    assert len(parser.neighbors) == len(found.peers)
