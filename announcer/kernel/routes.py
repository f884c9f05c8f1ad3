"""Routes of the main table: RTM_GETROUTE's answers as values (linux/rtnetlink.h), and values as pyroute2's arguments.

pyroute2 reads every table and throws away what wasn't asked for: of a node with ten thousand addresses, ten thousand
routes of the table `local`, half a second of processor time at each look. Here the kernel filters.
"""

import socket
import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from announcer.core.model import IfName, IPAddress, IPNetwork, KernelRoute, RouteKind
from announcer.kernel.channel import attributes

RTM_GETROUTE = 26
RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_MULTIPATH = 1, 4, 5, 6, 7, 9
NUMBER = struct.Struct("=I")
RT_TABLE_MAIN = 254
KINDS = {kind.value: kind for kind in RouteKind}
FAMILIES = (socket.AF_INET, socket.AF_INET6)


def every(family: int) -> bytes:
    """The body of a dump request; the kernel heeds its table where the socket asks for strict checks (Linux 4.20)."""
    return RTMSG.pack(family, 0, 0, 0, RT_TABLE_MAIN, 0, 0, 0, 0)


def read(data: memoryview, ifnames: dict[int, IfName]) -> KernelRoute | None:
    """None for what is neither unicast nor unreachable, or goes several ways: that is nobody's business here."""
    family, dst_len, _, _, table, protocol, _, number, _ = RTMSG.unpack_from(data)
    kind, found = KINDS.get(number), dict(attributes(data[RTMSG.size :]))
    if kind is None or family not in FAMILIES or table != RT_TABLE_MAIN or RTA_MULTIPATH in found:
        return None
    (oif,) = NUMBER.unpack(found[RTA_OIF]) if RTA_OIF in found else (0,)
    (metric,) = NUMBER.unpack(found[RTA_PRIORITY]) if RTA_PRIORITY in found else (0,)
    return KernelRoute(
        destination=_network(family, found.get(RTA_DST), dst_len),
        kind=kind,
        ifname=ifnames.get(oif) if kind is RouteKind.UNICAST else None,
        gateway=_address(found[RTA_GATEWAY]) if RTA_GATEWAY in found else None,
        prefsrc=_address(found[RTA_PREFSRC]) if RTA_PREFSRC in found else None,
        metric=metric,
        protocol=protocol,
    )


def _network(family: int, packed: memoryview | None, dst_len: int) -> IPNetwork:
    """No RTA_DST is the default route."""
    if family == socket.AF_INET:
        return IPv4Network((bytes(packed or bytes(4)), dst_len))
    return IPv6Network((bytes(packed or bytes(16)), dst_len))


def _address(packed: memoryview) -> IPAddress:
    return IPv4Address(bytes(packed)) if len(packed) == 4 else IPv6Address(bytes(packed))


def arguments(route: KernelRoute, ifindex: int | None) -> dict[str, Any]:
    """What pyroute2 wants to know of a route. IPv4 on-link routes have scope link, as those of the kernel."""
    found: dict[str, Any] = {
        "family": socket.AF_INET if route.destination.version == 4 else socket.AF_INET6,
        "dst": str(route.destination),
        "table": RT_TABLE_MAIN,
        "proto": route.protocol,
        "type": route.kind.value,
    }
    if route.metric:
        found["priority"] = route.metric
    if ifindex is not None:
        found["oif"] = ifindex
        if route.destination.version == 4 and route.gateway is None:
            found["scope"] = 253
    if route.gateway:
        found["gateway"] = str(route.gateway)
    if route.prefsrc:
        found["prefsrc"] = str(route.prefsrc)
    return found
