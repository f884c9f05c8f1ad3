"""Links and their devconf: what pyroute2 shows as values, and RTM_NEWLINK / RTM_SETLINK messages as bytes."""

import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from announcer.core.model import Devconf, IfName, Link, SetDevconf
from announcer.kernel.channel import NLM_F_CREATE, NLM_F_EXCL, attribute, nested

RTM_NEWLINK, RTM_DELLINK, RTM_SETLINK = 16, 17, 19
IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFLA_IFNAME, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC = 3, 18, 20, 26
IFLA_INFO_KIND, IFLA_INET_CONF, IFLA_INET6_ADDR_GEN_MODE = 1, 1, 8
IN6_ADDR_GEN_MODE_NONE = 1
IFF_UP, IFF_LOWER_UP, ARPHRD_ETHER = 0x1, 0x10000, 1
DEVCONF = {"rp_filter": 8, "arp_announce": 18, "arp_ignore": 19}  # IPV4_DEVCONF_*, linux/ip.h
ALIAS = "announcer"
"""Our mark on links that we made (IFLA_IFALIAS; `ip link` shows it)."""


def read(message: Any) -> Link:
    """A link of pyroute2's dump."""
    flags, name = message["flags"], IfName(message.get("ifname"))
    info, families = message.get("linkinfo"), message.get("af_spec")
    inet = families.get("af_inet") if families else None
    return Link(
        ifname=name,
        ifindex=message["index"],
        lladdr=(message.get("address") or "").lower(),
        kind=(info.get("kind") if info else None) or "",
        is_up=bool(flags & IFF_UP),
        has_carrier=bool(flags & IFF_UP and flags & IFF_LOWER_UP),
        is_ethernet=message["ifi_type"] == ARPHRD_ETHER,
        is_enslaved=message.get("master") is not None,
        is_ours=message.get("ifalias") == ALIAS,
        devconf=_devconf(inet) if inet else None,
    )


def _devconf(inet: Mapping[str, int]) -> Devconf:
    return Devconf(**{name: inet[name] for name in DEVCONF})


def read_devconf_all() -> Devconf:
    """net.ipv4.conf.all of the calling process's namespace; there is no netlink message that shows all three."""
    base = Path("/proc/sys/net/ipv4/conf/all")
    return Devconf(**{name: int((base / name).read_text()) for name in DEVCONF})


def create(ifname: str, kind: str) -> tuple[int, int, bytes]:
    body = IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attribute(IFLA_IFNAME, ifname.encode() + b"\0")
    body += nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind.encode()))
    return RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body


def remove(ifindex: int) -> tuple[int, int, bytes]:
    return RTM_DELLINK, 0, IFINFOMSG.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0)


def mark(ifindex: int) -> tuple[int, int, bytes]:
    """Our alias, and no IPv6 link-local address: nothing else is to be on this link."""
    quiet = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
    body = IFINFOMSG.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0) + attribute(IFLA_IFALIAS, ALIAS.encode())
    return RTM_SETLINK, 0, body + nested(IFLA_AF_SPEC, nested(socket.AF_INET6, quiet))


def set_up(ifindex: int) -> tuple[int, int, bytes]:
    return RTM_SETLINK, 0, IFINFOMSG.pack(socket.AF_UNSPEC, 0, ifindex, IFF_UP, IFF_UP)


def set_devconf(ifindex: int, action: SetDevconf) -> tuple[int, int, bytes]:
    values = {name: getattr(action, name) for name in DEVCONF}
    conf = [attribute(DEVCONF[name], struct.pack("=I", v)) for name, v in values.items() if v is not None]
    spec = nested(IFLA_AF_SPEC, nested(socket.AF_INET, nested(IFLA_INET_CONF, *conf)))
    return RTM_SETLINK, 0, IFINFOMSG.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0) + spec
