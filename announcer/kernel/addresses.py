"""Addresses: RTM_NEWADDR, RTM_DELADDR and RTM_GETADDR messages as bytes (linux/if_addr.h)."""

import socket
import struct
from ipaddress import IPv4Address, IPv6Address

from announcer.core.model import PROTOCOL, IfName, IPAddress, LinkAddress, Scope
from announcer.kernel.channel import NLM_F_CREATE, NLM_F_REPLACE, attribute, attributes

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefixlen, flags, scope, index
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS, IFA_PROTO = 1, 2, 6, 8, 11  # IFA_PROTO: Linux 5.18
IFA_F_NODAD, IFA_F_NOPREFIXROUTE = 0x02, 0x200
CACHEINFO = struct.Struct("=IIII")  # struct ifa_cacheinfo: preferred, valid, created, updated
FOREVER = 0xFFFFFFFF
EVERY_FAMILY = IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
SCOPES = {scope.value: scope for scope in Scope}


def put(ifindex: int, address: IPAddress, valid_seconds: int | None) -> tuple[int, int, bytes]:
    """Add or replace `address` in our form.

    IPv6 has no scope to keep it from becoming a source, so its preferred lifetime is 0: deprecated (RFC 4862 §5.5.4).
    IFA_PROTO is given each time: a replace without it would clear our mark.
    """
    valid = FOREVER if valid_seconds is None else valid_seconds
    flags = IFA_F_NOPREFIXROUTE | (IFA_F_NODAD if address.version == 6 else 0)
    body = _identity(ifindex, address) + attribute(IFA_FLAGS, struct.pack("=I", flags))
    body += attribute(IFA_PROTO, bytes([PROTOCOL]))
    body += attribute(IFA_CACHEINFO, CACHEINFO.pack(0 if address.version == 6 else valid, valid, 0, 0))
    return RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body


def remove(ifindex: int, address: IPAddress) -> tuple[int, int, bytes]:
    return RTM_DELADDR, 0, _identity(ifindex, address)


def _identity(ifindex: int, address: IPAddress) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    head = IFADDRMSG.pack(family, address.max_prefixlen, 0, Scope.LINK.value, ifindex)
    return head + attribute(IFA_LOCAL, address.packed) + attribute(IFA_ADDRESS, address.packed)


def read(data: memoryview, ifnames: dict[int, IfName]) -> LinkAddress | None:
    """One answer of a dump; None for families that are not ours and links that the dump of links didn't show."""
    family, prefixlen, _, scope, ifindex = IFADDRMSG.unpack_from(data)
    if family not in {socket.AF_INET, socket.AF_INET6} or ifindex not in ifnames:
        return None
    found = dict(attributes(data[IFADDRMSG.size :]))
    raw = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    if raw is None:
        return None
    valid = CACHEINFO.unpack_from(found[IFA_CACHEINFO])[1] if IFA_CACHEINFO in found else FOREVER
    return LinkAddress(
        ifname=ifnames[ifindex],
        address=IPv4Address(bytes(raw)) if family == socket.AF_INET else IPv6Address(bytes(raw)),
        prefixlen=prefixlen,
        scope=SCOPES.get(scope, Scope.HOST),
        protocol=found[IFA_PROTO][0] if IFA_PROTO in found else 0,
        valid_seconds=None if valid == FOREVER else valid,
    )
