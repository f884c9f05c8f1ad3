"""Weights of paths: what a router is told of how much a node should get (draft-ietf-idr-link-bandwidth).

| usable endpoints of the Service on the node | weight |
|---|---|
| none (policy Cluster: the node passes on) | 1 |
| 1 | 2 |
| 2 to 3 | 4 |
| 4 to 7 | 8, and so on, STEPS_MOST times |

Steps are coarse, as each change moves flows that are established. Every node says a weight, or routers would mix paths
with and without; none is 0, which routers don't take for a drain.
"""

from typing import Final

from announcer.core.model import BandwidthKind, DesiredPeer, LinkBandwidth

STEPS_MOST: Final = 10
BYTES_PER_SECOND: Final = 125_000
"""Of weight 1: 1 Mbit/s, as routers show it. Only ratios count."""
AS_TRANS: Final = 23456
"""For an AS number of four octets, where there is room for two (RFC 6793 §4.2.2)."""


def weight(endpoints: int) -> int:
    return int(1 << min(endpoints.bit_length(), STEPS_MOST))


def link_bandwidth(peer: DesiredPeer, endpoints: int) -> LinkBandwidth | None:
    """None for a peer that is not to be told."""
    if peer.link_bandwidth is BandwidthKind.NONE:
        return None
    return LinkBandwidth(
        asn=peer.my_asn if peer.my_asn < 2**16 else AS_TRANS,
        bytes_per_second=weight(endpoints) * BYTES_PER_SECOND,
        is_transitive=peer.link_bandwidth is BandwidthKind.TRANSITIVE,
    )
