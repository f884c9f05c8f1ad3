"""Routes of the main table: pyroute2's messages as values, and values as pyroute2's arguments."""

import socket
from ipaddress import ip_address, ip_network
from typing import Any

from announcer.core.model import IfName, KernelRoute, RouteKind

RT_TABLE_MAIN = 254
KINDS = {kind.value: kind for kind in RouteKind}
EVERYWHERE = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 - a destination, not a bind


def read(message: Any, ifnames: dict[int, IfName]) -> KernelRoute | None:
    """None for what is neither unicast nor unreachable, or goes several ways: that is nobody's business here."""
    kind, attrs = KINDS.get(message["type"]), dict(message["attrs"])
    if kind is None or message["family"] not in EVERYWHERE or "RTA_MULTIPATH" in attrs:
        return None
    destination = attrs.get("RTA_DST", EVERYWHERE[message["family"]])
    gateway, source = attrs.get("RTA_GATEWAY"), attrs.get("RTA_PREFSRC")
    return KernelRoute(
        destination=ip_network((destination, message["dst_len"])),
        kind=kind,
        ifname=ifnames.get(attrs.get("RTA_OIF", 0)) if kind is RouteKind.UNICAST else None,
        gateway=ip_address(gateway) if gateway else None,
        prefsrc=ip_address(source) if source else None,
        metric=attrs.get("RTA_PRIORITY", 0),
        protocol=message["proto"],
    )


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
