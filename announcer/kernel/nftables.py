"""The port guard's table as nftables messages, and read from them (linux/netfilter/nf_tables.h).

Written as bytes like addresses are: transactions of pyroute2 0.9 end without a word of what became of them, and an
element takes it forty times as long. What `nft list table inet announcer` shows of it is in docs/port-guard.md.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

from announcer.core.model import Guard, IPAddress, Port
from announcer.kernel.channel import NLM_F_CREATE, attribute, attributes, nested

TABLE = b"announcer\0"
NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 = 1, 2, 10
NETLINK_NETFILTER = 12
NFT = 10 << 8  # NFNL_SUBSYS_NFTABLES
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, NEWRULE, GETRULE, NEWSET, GETSET = (
    NFT | n for n in (*range(5), 6, 7, 9, 10)
)
NEWSETELEM, GETSETELEM, DELSETELEM, GETGEN = (NFT | n for n in (12, 13, 14, 16))
BATCH_BEGIN, BATCH_END = 0x10, 0x11
GROUP = 1 << 6  # NFNLGRP_NFTABLES
NLM_F_APPEND = 0x800
NF_INET_PRE_ROUTING, PRIORITY = 0, -150
"""After reassembly (-400) and conntrack (-200), before DNAT (-100): the destination is the one asked for."""
DROP, ACCEPT, JUMP = 0, 1, -3
TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
NUMBERS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}
NAMES = {number: name for name, number in NUMBERS.items()}
INET_PROTO, INET_SERVICE = 12, 13  # nft's own names of types, for its listing
SETS = {
    b"addresses-4\0": (4, 7),
    b"addresses-6\0": (16, 8),
    b"ports-4\0": (12, 7 << 12 | INET_PROTO << 6 | INET_SERVICE),
    b"ports-6\0": (24, 8 << 12 | INET_PROTO << 6 | INET_SERVICE),
}
"""Length of a key in bytes, and its type as nft shows it."""
ELEMENTS_A_MESSAGE = 500
"""A list of elements is one attribute, of 64 KiB at most."""
PORT = struct.Struct("!B3xH2x")
Message = tuple[int, int, bytes]


def head(family: int = NFPROTO_INET, resource: int = 0) -> bytes:
    return struct.pack("!BBH", family, 0, resource)  # struct nfgenmsg


def put(old: Guard | None, new: Guard) -> list[Message]:
    """From `old` to `new`: elements alone where the rules are as they should be, else the whole table anew."""
    base = old if old is not None and old.is_whole else None
    made = [] if base else [*_clear(), *_frame()]
    before, after = _elements(base or Guard()), _elements(new)
    for name in SETS:
        made += _change(DELSETELEM, 0, name, sorted(before[name] - after[name]))
        made += _change(NEWSETELEM, NLM_F_CREATE, name, sorted(after[name] - before[name]))
    return _batch(made)


def remove() -> list[Message]:
    return _batch(_clear())


def _batch(messages: list[Message]) -> list[Message]:
    if not messages:
        return []
    return [(BATCH_BEGIN, 0, head(0, NFT >> 8)), *messages, (BATCH_END, 0, head(0, NFT >> 8))]


def _clear() -> list[Message]:
    """A table that isn't there can't be deleted, so it is made before."""
    name = head() + attribute(1, TABLE)
    return [(NEWTABLE, NLM_F_CREATE, name), (DELTABLE, 0, name)]


def _frame() -> Iterator[Message]:
    table = head() + attribute(1, TABLE)
    yield NEWTABLE, NLM_F_CREATE, table
    for number, (name, (length, kind)) in enumerate(SETS.items(), 1):
        about = attribute(2, name) + _u32(3, 0) + _u32(4, kind) + _u32(5, length) + _u32(10, number)
        yield NEWSET, NLM_F_CREATE, table + about
    for name, is_base in CHAINS.items():
        hook = nested(4, _u32(1, NF_INET_PRE_ROUTING), _u32(2, PRIORITY)) + _u32(5, ACCEPT) + attribute(7, b"filter\0")
        yield NEWCHAIN, NLM_F_CREATE, table + attribute(3, name) + (hook if is_base else b"")
    for chain, userdata, expressions in RULES:
        rule = attribute(2, chain) + nested(4, *(nested(1, e) for e in expressions)) + attribute(7, userdata)
        yield NEWRULE, NLM_F_CREATE | NLM_F_APPEND, table + rule


# -- rules ---------------------------------------------------------------------------------------------------------


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!i" if value < 0 else "!I", value))


def _expression(name: bytes, *data: bytes) -> bytes:
    return attribute(1, name + b"\0") + nested(2, *data)


def _meta(key: int, register: int = 1) -> bytes:
    return _expression(b"meta", _u32(2, key), _u32(1, register))


def _payload(base: int, offset: int, length: int, register: int = 1) -> bytes:
    """`base` is 1 for the network header and 2 for what comes after it."""
    return _expression(b"payload", _u32(1, register), _u32(2, base), _u32(3, offset), _u32(4, length))


def _compare(value: bytes, *, equal: bool = True) -> bytes:
    return _expression(b"cmp", _u32(1, 1), _u32(2, 0 if equal else 1), nested(3, attribute(1, value)))


def _masked(mask: bytes) -> bytes:
    zero = nested(5, attribute(1, bytes(len(mask))))
    return _expression(b"bitwise", _u32(1, 1), _u32(2, 1), _u32(3, len(mask)), nested(4, attribute(1, mask)), zero)


def _lookup(name: bytes) -> bytes:
    return _expression(b"lookup", attribute(1, name), _u32(2, 1))


def _verdict(code: int, chain: bytes = b"") -> bytes:
    to = attribute(2, chain) if chain else b""
    return _expression(b"immediate", _u32(1, 0), nested(2, nested(2, _u32(1, code), to)))


META_IIF, META_NFPROTO, META_L4PROTO = 4, 15, 16
LOOPBACK = struct.pack("=I", 1)
ESTABLISHED_OR_RELATED = struct.pack("=I", 2 | 4)
"""In ct's state: IP_CT_ESTABLISHED and IP_CT_RELATED, each 1 << (state + 1), replies among them."""
GUARD_4, GUARD_6 = b"ipv4\0", b"ipv6\0"
CHAINS = {GUARD_4: False, GUARD_6: False, b"prerouting\0": True}
ICMP_TYPES = {"destination-unreachable": 3, "echo-request": 8, "time-exceeded": 11, "parameter-problem": 12}
ICMPV6_TYPES = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136,
}
NEXT_HEADER_FRAGMENT = 44


def _rules() -> Iterator[tuple[bytes, str, list[bytes]]]:
    """Chain, comment and expressions, in order."""
    top = b"prerouting\0"
    yield top, "from the node itself", [_meta(META_IIF), _compare(LOOPBACK), _verdict(ACCEPT)]
    v4, v6 = ([_meta(META_NFPROTO), _compare(bytes([family]))] for family in (NFPROTO_IPV4, NFPROTO_IPV6))
    to_4, to_6 = _payload(1, 16, 4), _payload(1, 24, 16)
    yield top, "to our addresses", [*v4, to_4, _lookup(b"addresses-4\0"), _verdict(JUMP, GUARD_4)]
    yield top, "to our addresses", [*v6, to_6, _lookup(b"addresses-6\0"), _verdict(JUMP, GUARD_6)]
    for chain, to, register, name in ((GUARD_4, to_4, 9, b"ports-4\0"), (GUARD_6, to_6, 12, b"ports-6\0")):
        is_4 = chain == GUARD_4
        proto, port = _meta(META_L4PROTO, register), _payload(2, 2, 2, register + 1)
        family = v4 if is_4 else v6  # nft shows the address by its name then
        yield chain, "ports of Services", [*family, to, proto, port, _lookup(name), _verdict(ACCEPT)]
        for text, number in (ICMP_TYPES if is_4 else ICMPV6_TYPES).items():
            protocol = bytes([ICMP if is_4 else ICMPV6])
            kind = [_meta(META_L4PROTO), _compare(protocol), _payload(2, 0, 1), _compare(bytes([number]))]
            yield chain, text, [*kind, _verdict(ACCEPT)]
        state = [
            _expression(b"ct", _u32(2, 0), _u32(1, 1)),
            _masked(ESTABLISHED_OR_RELATED),
            _compare(bytes(4), equal=False),
        ]
        yield chain, "established", [*state, _verdict(ACCEPT)]
        yield chain, "everything else", [_expression(b"counter"), _verdict(DROP)]


def _marked(text: str, expressions: Sequence[bytes]) -> bytes:
    """A comment as nft shows it, which tells the rule from any other version of it."""
    comment = f"{text} ({zlib.crc32(b''.join(expressions)):08x})".encode() + b"\0"
    return bytes([0, len(comment)]) + comment


RULES = [(chain, _marked(text, expressions), expressions) for chain, text, expressions in _rules()]


def is_whole(chains: Iterable[memoryview], rules: Iterable[memoryview], sets: Iterable[memoryview]) -> bool:
    """Whether dumps of chains, rules and sets show exactly ours; `_mine` finds those of our table."""
    hooks = {bytes(c[3]): 4 in c for c in _mine(chains)}
    texts = [(bytes(r[2]), bytes(r.get(7, b""))) for r in _mine(rules)]
    by_chain = [(chain, text) for name in CHAINS for chain, text in texts if chain == name]
    wanted = [(chain, text) for name in CHAINS for chain, text, _ in RULES if chain == name]
    kinds = {bytes(s[2]): struct.unpack("!I", s[5])[0] for s in _mine(sets)}
    return hooks == CHAINS and by_chain == wanted and kinds == {name: length for name, (length, _) in SETS.items()}


def has_table(tables: Iterable[memoryview]) -> bool | None:
    """None where it is there and dormant, so that none of its rules counts."""
    flags = [bytes(t.get(2, b"")) for t in _mine(tables)]
    return (True if flags[0] in {b"", bytes(4)} else None) if flags else False


def _mine(messages: Iterable[memoryview]) -> Iterator[dict[int, memoryview]]:
    for data in messages:
        found = dict(attributes(data[4:]))
        if data[0] == NFPROTO_INET and bytes(found.get(1, b"")) == TABLE:
            yield found


# -- elements ------------------------------------------------------------------------------------------------------


def _elements(guard: Guard) -> dict[bytes, set[bytes]]:
    found: dict[bytes, set[bytes]] = {name: set() for name in SETS}
    for address in guard.addresses:
        found[b"addresses-4\0" if address.version == 4 else b"addresses-6\0"].add(address.packed)
    for address, protocol, port in guard.ports:
        key = address.packed + PORT.pack(NUMBERS[protocol], port)
        found[b"ports-4\0" if address.version == 4 else b"ports-6\0"].add(key)
    return found


def _change(kind: int, flags: int, name: bytes, keys: list[bytes]) -> Iterator[Message]:
    about = head() + attribute(1, TABLE) + attribute(2, name)
    for start in range(0, len(keys), ELEMENTS_A_MESSAGE):
        some = (nested(1, nested(1, attribute(1, key))) for key in keys[start : start + ELEMENTS_A_MESSAGE])
        yield kind, flags, about + nested(3, *some)


def set_request(name: bytes) -> bytes:
    return head() + attribute(1, TABLE) + attribute(2, name)


def keys(messages: Iterable[memoryview]) -> Iterator[bytes]:
    """Of the answers to one request for elements."""
    for data in messages:
        for number, elements in attributes(data[4:]):
            for _, element in attributes(elements) if number == 3 else ():
                for kind, key in attributes(element):
                    if kind == 1:
                        yield from (bytes(value) for what, value in attributes(key) if what == 1)


def read_address(key: bytes) -> IPAddress:
    return IPv4Address(key) if len(key) == 4 else IPv6Address(key)


def read_port(key: bytes) -> Port:
    number, port = PORT.unpack(key[-PORT.size :])
    return read_address(key[: -PORT.size]), NAMES.get(number, str(number)), port
