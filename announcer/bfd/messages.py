"""What is said to bfdd and by it (FRR 8.4.4, bfdd/bfdctl.h and its command line): values ↔ bytes and text. No socket.

| socket | used for | because |
|---|---|---|
| control (`--bfdctl`), JSON with a header | changes of state, pushed as they happen | |
| vty | making sessions and reading them back | JSON knows neither passive mode nor the minimum TTL |

A session without a local address, or one on a link or in a VRF, is not one of ours, and is left alone.
"""

import json
import struct
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any, Final

from announcer.core.model import BfdSession, BfdSettings, BfdState, Diagnostic, IPAddress, ObservedBfd

HEADER: Final = struct.Struct("!IHBB")
"""Length of what follows, number of the request, type, version."""
VERSION, RESPONSE, NOTIFY = 1, 1, 4
SUBSCRIBE: Final = HEADER.pack(8, 1, NOTIFY, VERSION) + struct.pack("=Q", 1)
"""Ask for every change of a session's state (BCM_NOTIFY_PEER_STATE)."""
PAYLOAD_BYTES: Final = 64 * 1024
LIST: Final = "show bfd peers json"
_STATES: Final = {state.value: state for state in BfdState} | {"shutdown": BfdState.ADMIN_DOWN}
_DIAGNOSTICS: Final = {
    "control detection time expired": Diagnostic.DETECTION_TIME_EXPIRED,
    "echo function failed": Diagnostic.ECHO_FAILED,
    "neighbor signaled session down": Diagnostic.NEIGHBOR_SIGNALED_DOWN,
    "forwarding plane reset": Diagnostic.FORWARDING_PLANE_RESET,
    "path down": Diagnostic.PATH_DOWN,
    "concatenated path down": Diagnostic.CONCATENATED_PATH_DOWN,
    "administratively down": Diagnostic.ADMINISTRATIVELY_DOWN,
    "reverse concatenated path down": Diagnostic.REVERSE_CONCATENATED_PATH_DOWN,
}
Key = tuple[IPAddress, IPAddress, bool]


class BfdError(Exception):
    """What was wanted of bfdd could not be had. Another pass may have more luck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A session as bfdd lists it: how it is set, `canonical`, and how it fares."""

    session: BfdSession
    seen: ObservedBfd


def key_of(session: BfdSession | ObservedBfd) -> Key:
    return session.peer_address, session.local_address, session.is_multihop


def canonical(session: BfdSession) -> BfdSession:
    """Without what can't be set on it: no echo over several hops, no minimum TTL over one."""
    default, settings = BfdSettings(), session.settings
    if not session.is_multihop:
        return replace(session, settings=replace(settings, minimum_ttl=default.minimum_ttl))
    return replace(session, settings=replace(settings, echo_milliseconds=default.echo_milliseconds, is_echoing=False))


def put(session: BfdSession) -> tuple[str, ...]:
    """Lines that make a session, or change it. Repeated, they change nothing."""
    settings = session.settings
    lines = [
        _peer(session),
        f"detect-multiplier {settings.detect_multiplier}",
        f"receive-interval {settings.receive_milliseconds}",
        f"transmit-interval {settings.transmit_milliseconds}",
        f"{'' if settings.is_passive else 'no '}passive-mode",
    ]
    if session.is_multihop:
        lines.append(f"minimum-ttl {settings.minimum_ttl}")
    else:
        lines += [f"echo {which}-interval {settings.echo_milliseconds}" for which in ("transmit", "receive")]
        lines.append(f"{'' if settings.is_echoing else 'no '}echo-mode")
    return tuple(lines)


def remove(session: BfdSession) -> tuple[str, ...]:
    """The neighbor is told AdminDown first, or it would take this for a failure (RFC 5880 §6.8.16)."""
    return _peer(session), "shutdown", f"no {_peer(session)}"


def _peer(session: BfdSession) -> str:
    return f"peer {session.peer_address}{' multihop' * session.is_multihop} local-address {session.local_address}"


def parse_list(text: str, now: float) -> tuple[Listed, ...]:
    """Raises BfdError where it isn't a list of sessions: then nothing is known."""
    try:
        return tuple(found for raw in json.loads(text) if (found := _listed(raw, now)) is not None)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BfdError(f"not a list of sessions: {text[:100]!r}") from error


def _listed(raw: Any, now: float) -> Listed | None:
    if "local" not in raw or "interface" in raw or raw.get("vrf", "default") != "default":
        return None
    settings = BfdSettings(
        receive_milliseconds=raw["receive-interval"],
        transmit_milliseconds=raw["transmit-interval"],
        detect_multiplier=raw["detect-multiplier"],
        echo_milliseconds=raw["echo-receive-interval"],
        is_echoing=raw["echo-transmit-interval"] != 0,
        is_passive=raw["passive-mode"],
        minimum_ttl=raw.get("minimum-ttl", BfdSettings().minimum_ttl),
    )
    peer, local, is_multihop = ip_address(raw["peer"]), ip_address(raw["local"]), bool(raw["multihop"])
    session = BfdSession(peer_address=peer, local_address=local, is_multihop=is_multihop, settings=settings)
    seen = ObservedBfd(
        peer_address=peer,
        local_address=local,
        is_multihop=is_multihop,
        state=_STATES[raw["status"]],
        diagnostic=_DIAGNOSTICS.get(raw["diagnostic"], Diagnostic.NONE),
        remote_diagnostic=_DIAGNOSTICS.get(raw["remote-diagnostic"], Diagnostic.NONE),
        since=now - _seconds(raw),
    )
    return Listed(session=canonical(session), seen=seen)


def parse_notice(payload: bytes, now: float) -> ObservedBfd | None:
    """A change of state; None for what isn't ours to understand, or is broken."""
    try:
        raw = json.loads(payload)
        if raw["op"] != "status" or "local-interface" in raw:
            return None
        return ObservedBfd(
            peer_address=ip_address(raw["peer-address"]),
            local_address=ip_address(raw["local-address"]),
            is_multihop=bool(raw["multihop"]),
            state=_STATES[raw["state"]],
            diagnostic=_code(raw["diagnostics"]),
            remote_diagnostic=_code(raw["remote-diagnostics"]),
            since=now - _seconds(raw),
        )
    except (ValueError, TypeError, KeyError):
        return None


def _code(number: int) -> Diagnostic:
    return Diagnostic(number) if number in set(Diagnostic) else Diagnostic.NONE


def _seconds(raw: Any) -> int:
    """For how long it has been Up, or not Up."""
    return int(raw.get("uptime", raw.get("downtime", 0)))
