"""What both API groups with BGP in them say alike: timers, identifiers, passwords, communities.

| timers | ExaBGP can | so |
|---|---|---|
| hold time (RFC 4271 §4.2) | 0, or 3 s and more | honored |
| keepalive interval | a third of the hold time that both agree on, whatever is asked for | another one has no effect |
| connect retry | at once, and after failures with pauses that grow to 60 s | has no effect |
"""

import re
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Network

from announcer.core.dialects.fields import Fields, read_address, read_network
from announcer.core.model import IPAddress, Reason, RouterId, RouterIdFrom

AS_MOST = 2**32 - 1  # RFC 6793
HOLD_SECONDS = 90
PASSWORD_BYTES = 80  # TCP_MD5SIG_MAXKEYLEN
WELL_KNOWN = {
    "no-export": "65535:65281",  # RFC 1997
    "no-advertise": "65535:65282",
    "no-export-subconfed": "65535:65283",
    "graceful-shutdown": "65535:0",  # RFC 8326
    "accept-own": "65535:1",  # RFC 7611
    "blackhole": "65535:666",  # RFC 7999
}
"""Names that everybody may write, unless a Community gives them another meaning."""
RECONNECT = "ExaBGP connects again at once, and after failures with pauses that grow to 60 s"
UNNUMBERED = "ExaBGP connects to an address, and can't find out who is on a link"
KEEPALIVE = "ExaBGP sends a keepalive every third of the hold time"
_COMMUNITY = re.compile(r"(\d{1,5}):(\d{1,5})|large:(\d{1,10}):(\d{1,10}):(\d{1,10})")  # RFC 1997, RFC 8092
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_PART = re.compile(r"(\d+(?:\.\d*)?)(h|ms|m|s|us|ns)")
_UNITS = {
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1000),
    "us": Fraction(1, 10**6),
    "ns": Fraction(1, 10**9),
}
_ANNOTATION = re.compile(r"\$\{node\.annotations\[(['\"])([A-Za-z0-9./_-]+)\1\]\}")
_SOURCES = {
    "": RouterIdFrom.OWN_ADDRESS,
    "auto": RouterIdFrom.OWN_ADDRESS,
    "${NODE_IP}": RouterIdFrom.INTERNAL_IP,
    "${NODE_IPV4}": RouterIdFrom.INTERNAL_IP,
    "${NODE_EXTERNAL_IP}": RouterIdFrom.EXTERNAL_IP,
}


def is_community(text: str) -> bool:
    found = _COMMUNITY.fullmatch(text)
    if not found:
        return False
    standard, large = found.groups()[:2], found.groups()[2:]
    return all(int(n) < 2**16 for n in standard if n) and all(int(n) < 2**32 for n in large if n)


def read_duration(spec: Fields, name: str) -> Fraction | None:
    """Seconds of a Go duration such as 1m30s; None where nothing is given, or a mistake."""
    text = spec.text(name)
    if not text:
        return None
    if text == "0":
        return Fraction(0)
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        spec.refuse(name, text, "is not a time", "write it as 9s or 1m30s")
        return None
    return sum((Fraction(part[1]) * _UNITS[part[2]] for part in parts), Fraction(0))


def read_timers(spec: Fields, hold_name: str, keepalive_name: str, *, in_seconds: bool = False) -> int:
    """The hold time in seconds; one of both given makes the other (three keepalives in a hold time, RFC 4271 §4.4)."""
    hold, keepalive = (_read_time(spec, name, in_seconds=in_seconds) for name in (hold_name, keepalive_name))
    if hold is None:
        hold = Fraction(HOLD_SECONDS) if keepalive is None else 3 * keepalive
    if hold != 0 and not (3 <= hold <= 65535 and hold.denominator == 1):
        name = hold_name if spec.has(hold_name) else keepalive_name
        spec.refuse(name, spec.get(name), "must be 0s or from 3s to 65535s", "such as 9s or 1m30s")
        return HOLD_SECONDS
    if keepalive is not None and keepalive > hold:
        spec.refuse(keepalive_name, spec.get(keepalive_name), f"is longer than {hold_name}")
    elif keepalive is not None and 3 * keepalive != hold:
        shown = spec.get(keepalive_name)
        spec.refuse(keepalive_name, shown, f"has no effect: {KEEPALIVE}", f"{hold / 3}s", Reason.NO_EFFECT)
    return int(hold)


def _read_time(spec: Fields, name: str, *, in_seconds: bool) -> Fraction | None:
    if not in_seconds:
        return read_duration(spec, name)
    return Fraction(spec.number(name, 0, low=0, high=65535)) if spec.has(name) else spec.get(name)


def read_password(spec: Fields, name: str) -> str:
    """Whatever it is, it is not shown."""
    text = spec.get(name)
    if text is None or text == "":
        return ""
    if not isinstance(text, str):
        spec.refuse(name, None, "must be a string", "put it between quotes")
        return ""
    if problem := wrong_password(text):
        spec.refuse(name, None, problem)
    return text


def read_secret_name(spec: Fields) -> str:
    """It becomes part of a URL, so that only what can be the name of a Secret may stand there (RFC 1123)."""
    name = spec.required("name")
    if name and not _NAME.fullmatch(name):
        spec.refuse("name", name, "can't be the name of a Secret: lower case letters, digits, `-` and `.`")
    return name


def wrong_password(text: str) -> str:
    """What keeps it from being the key of a session (RFC 2385); empty where nothing does."""
    if _CONTROL.search(text):
        return "has a control character in it, such as a line break at its end"
    size = len(text.encode())
    return "" if 0 < size <= PASSWORD_BYTES else f"has {size} bytes, and a key has 1 to {PASSWORD_BYTES}"


def read_router_id(spec: Fields, name: str, pool_name: str = "") -> RouterId:
    """An IPv4 address (RFC 6286); where there is a pool, also what of the node it is to be made from."""
    text = spec.text(name)
    pool = _read_pool(spec, pool_name) if pool_name else None
    forms = _SOURCES if pool_name else {"": RouterIdFrom.OWN_ADDRESS}
    if text in forms:
        return RouterId(source=forms[text], pool=pool)
    if pool_name and (found := _ANNOTATION.fullmatch(text)):
        return RouterId(source=RouterIdFrom.ANNOTATION, annotation=found[2], pool=pool)
    try:
        return RouterId(written=IPv4Address(text))
    except ValueError:
        remedy = "`auto`, ${NODE_IP}, ${NODE_EXTERNAL_IP} or ${node.annotations['key']}" if pool_name else ""
        spec.refuse(name, text, "must be written as an IPv4 address (RFC 6286)", remedy)
        return RouterId()


def _read_pool(spec: Fields, name: str) -> IPv4Network | None:
    written = spec.text(name)
    pool = read_network(written) if written else None
    if isinstance(pool, IPv4Network):
        return pool
    if written:
        spec.refuse(name, written, "is not an IPv4 network", "such as 10.255.0.0/16")
    return None


def read_peer_address(spec: Fields, name: str) -> IPAddress | None:
    text = spec.text(name)
    found = read_address(text)
    if "%" in text or (found is not None and found.is_link_local):
        spec.refuse(name, text, f"is not supported: {UNNUMBERED}", "give a global address", Reason.UNSUPPORTED_FIELD)
    elif text and (found is None or found.is_unspecified or found.is_multicast):
        spec.refuse(name, text, "is not the IP address of a host")
    else:
        return found
    return None


def refuse_other_family(spec: Fields, name: str, source: IPAddress | None, peer: IPAddress | None) -> None:
    if source and peer and source.version != peer.version:
        spec.refuse(name, str(source), "is not of the family of the peer's address")
