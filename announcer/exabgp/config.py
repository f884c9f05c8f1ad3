"""The configuration file of ExaBGP: peers → text.

The process block comes first: a mistake above it would take the bridge away on reload. Every peer's description is a
fingerprint of the whole, by which the session sees which configuration ExaBGP runs (ExaBGP drops a reload silently
while updates wait, 5.0.15 reactor/loop.py). It doesn't compare descriptions, so a new one leaves sessions alone.

A password is written in base64, so that every character of it is a word of the file. The file is its owner's alone.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from announcer.core.model import DesiredPeer
from announcer.exabgp.text import word

PROCESS: Final = "announcer"
ADJACENT_TTL: Final = 1
_BLOCK: Final = re.compile(r"^neighbor (\S+) \{\n.*?^\}$", re.MULTILINE | re.DOTALL)
_MARK: Final = re.compile(r"^    description [A-Za-z0-9-]+;$", re.MULTILINE)
Blocks = Mapping[str, str]
"""The text of each peer, by its address, without the fingerprint."""


def configuration(peers: tuple[DesiredPeer, ...], bridge_argv: tuple[str, ...], others: Blocks | None = None) -> str:
    """The same text for the same peers in any order. No peer at all is a valid configuration. `others` of a former
    text stay, but for those that are among `peers`.
    """
    blocks = _blocks(peers, others or {})
    mark = _fingerprint(blocks)
    process = [f"process {PROCESS} {{", f"    run {' '.join(map(word, bridge_argv))};", "    encoder json;", "}"]
    texts = ["\n".join(process)] + [_MARK.sub(f"    description {mark};", text, count=1) for text in blocks]
    return "\n\n".join(texts) + "\n"


def fingerprint(peers: tuple[DesiredPeer, ...], others: Blocks | None = None) -> str:
    """Empty where there is no peer to carry it."""
    return _fingerprint(_blocks(peers, others or {}))


def blocks_of(text: str) -> Blocks:
    """What a text of `configuration` says of each peer."""
    unmarked = _MARK.sub(f"    description {PROCESS};", text)
    return {found[1]: found[0] for found in _BLOCK.finditer(unmarked)}


def _fingerprint(blocks: list[str]) -> str:
    return f"{PROCESS}-{sha256(chr(10).join(blocks).encode('ascii')).hexdigest()[:16]}" if blocks else ""


def _blocks(peers: tuple[DesiredPeer, ...], others: Blocks) -> list[str]:
    """In the order of their addresses as texts, so that a peer that is kept as it was changes nothing."""
    blocks = {**others, **{str(peer.peer_address): _neighbor(peer) for peer in peers}}
    return [blocks[name] for name in sorted(blocks)]


def _neighbor(peer: DesiredPeer) -> str:
    settings = {
        "description": PROCESS,
        "router-id": peer.router_id,
        "local-address": peer.local_address,
        "local-as": peer.my_asn,
        "peer-as": peer.peer_asn,
        "hold-time": peer.hold_time_seconds,
        "connect": peer.peer_port,
        "outgoing-ttl": peer.multihop_ttl or ADJACENT_TTL,
        "adj-rib-in": "false",  # what the router advertises is nothing to us, and may be a full table
    }
    if peer.password:
        settings |= {"md5-base64": "true", "md5-password": b64encode(peer.password.encode()).decode("ascii")}
    lines = [f"    {name} {word(value)};" for name, value in settings.items()]
    families = "".join(f" ipv{version} unicast;" for version in sorted(peer.families))
    lines.append(f"    family {{{families} }}")
    events = "neighbor-changes; send { parsed; update; notification; } receive { packets; notification; }"
    lines.append(f"    api {{ processes [ {PROCESS} ]; {events} }}")
    return "\n".join([f"neighbor {word(peer.peer_address)} {{", *lines, "}"])
