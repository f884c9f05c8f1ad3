"""The configuration file of ExaBGP: peers → text.

The process block comes first: a mistake above it would take the bridge away on reload. Every peer's description is a
fingerprint of the whole, by which the session sees which configuration ExaBGP runs (ExaBGP drops a reload silently
while updates wait, 5.0.15 reactor/loop.py). It doesn't compare descriptions, so a new one leaves sessions alone.
"""

from hashlib import sha256
from typing import Final

from announcer.core.model import DesiredPeer
from announcer.exabgp.text import word

PROCESS: Final = "announcer"


def configuration(peers: tuple[DesiredPeer, ...], bridge_argv: tuple[str, ...]) -> str:
    """The same text for the same peers in any order. No peer at all is a valid configuration."""
    mark = fingerprint(peers)
    process = [f"process {PROCESS} {{", f"    run {' '.join(map(word, bridge_argv))};", "    encoder json;", "}"]
    blocks = ["\n".join(process)] + [_neighbor(peer, mark) for peer in _ordered(peers)]
    return "\n\n".join(blocks) + "\n"


def fingerprint(peers: tuple[DesiredPeer, ...]) -> str:
    text = "\n".join(_neighbor(peer, PROCESS) for peer in _ordered(peers))
    return f"{PROCESS}-{sha256(text.encode('ascii')).hexdigest()[:16]}"


def _ordered(peers: tuple[DesiredPeer, ...]) -> list[DesiredPeer]:
    return sorted(peers, key=lambda peer: (peer.peer_address.version, int(peer.peer_address)))


def _neighbor(peer: DesiredPeer, mark: str) -> str:
    settings = {
        "description": mark,
        "router-id": peer.router_id,
        "local-address": peer.local_address,
        "local-as": peer.my_asn,
        "peer-as": peer.peer_asn,
        "hold-time": peer.hold_time_seconds,
        "connect": peer.peer_port,
        "outgoing-ttl": _ttl(peer),
        "adj-rib-in": "false",  # what the router advertises is nothing to us, and may be a full table
    }
    lines = [f"    {name} {word(value)};" for name, value in settings.items()]
    lines.append("    family { ipv4 unicast; ipv6 unicast; }")
    lines.append(f"    api {{ processes [ {PROCESS} ]; neighbor-changes; send {{ parsed; update; }} }}")
    return "\n".join([f"neighbor {word(peer.peer_address)} {{", *lines, "}"])


def _ttl(peer: DesiredPeer) -> int:
    """An eBGP peer is on a shared subnet unless said otherwise, as routers take it."""
    is_adjacent = peer.my_asn != peer.peer_asn and not peer.ebgp_multihop
    return 1 if is_adjacent else 255
