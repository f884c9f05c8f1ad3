"""Reading the kernel whole, carrying out one Action at a time, and waking whoever waits when anything changes.

Success of a change is what the kernel acknowledges, and for devconf what it shows afterwards. Nothing without our
mark is removed: addresses are looked at first, routes are matched by protocol.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, assert_never

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from announcer.core.model import (
    PROTOCOL,
    UNKNOWN,
    AddVirtualLink,
    Guard,
    IfName,
    IPAddress,
    KernelAction,
    KernelRoute,
    LinkAddress,
    ObservedKernel,
    PutAddresses,
    PutGuard,
    PutRoute,
    RemoveAddresses,
    RemoveGuard,
    RemoveRoute,
    RemoveVirtualLink,
    RouteKind,
    SetDevconf,
    Unknown,
)
from announcer.kernel import addresses, links, nftables, routes
from announcer.kernel.channel import Channel, messages
from announcer.kernel.errors import KernelError, RefusedError
from announcer.kernel.guard import GuardTable

log = logging.getLogger(__name__)
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE
HINT_BYTES = 1 << 16
REOPEN_SECONDS = 1.0
GONE = frozenset({errno.EADDRNOTAVAIL})
AT_ONCE = 500
"""Addresses read or written as bytes between two moments in which the loop may do something else: some 3 ms."""


class Kernel:
    """`async with Kernel() as kernel:`. Calls may overlap."""

    def __init__(self, *, timeout_seconds: float = 5.0) -> None:
        self._timeout = timeout_seconds
        self._guard = GuardTable(timeout_seconds=timeout_seconds)
        self._route_socket: Any = None
        self._ifnames: dict[int, IfName] = {}
        self._mortal: frozenset[tuple[IfName, IPAddress]] = frozenset()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drop()

    async def read(self) -> ObservedKernel:
        """One complete dump. Raises KernelError when it isn't complete: then nothing is known."""
        found_links = tuple(links.read(message) for message in await self._ask("get_links"))
        ifnames = {link.ifindex: link.ifname for link in found_links}
        found_routes = await self._read_routes(ifnames)
        found = tuple(await self._read_addresses(ifnames))
        self._ifnames, self._mortal = ifnames, frozenset((a.ifname, a.address) for a in found if _is_mortal(a))
        return ObservedKernel(
            links=found_links,
            addresses=found,
            routes=tuple(found_routes),
            devconf_all=links.read_devconf_all(),
            guard=await self._read_guard(),
        )

    async def _read_guard(self) -> Guard | Unknown | None:
        """Without it the rest is known all the same."""
        try:
            return await self._guard.read()
        except KernelError as error:
            log.warning("the port guard could not be read: %s", error)
            return UNKNOWN

    async def apply(self, action: KernelAction) -> None:
        """Idempotent: there already on add, gone already on removal succeed. Raises KernelError."""
        match action:
            case AddVirtualLink():
                await self._add_virtual_link(action.ifname)
            case RemoveVirtualLink():
                await self._remove_virtual_link(action.ifname)
            case SetDevconf():
                await self._set_devconf(action)
            case PutAddresses():
                await self._put_addresses(action)
            case RemoveAddresses():
                await self._remove_addresses(action)
            case PutRoute():
                await self._put_route(action.route)
            case RemoveRoute():
                await self._remove_route(action.route)
            case PutGuard() | RemoveGuard():
                await self._guard.apply(action)
            case _:
                assert_never(action)

    async def watch(self, wake: Callable[[], None]) -> None:
        """For ever: call `wake` soon after anything changes. A message is a hint to look again, nothing is learned from
        it; when the kernel had more to say than the socket holds (ENOBUFS), that is a hint too. Only that a lifetime of
        ours goes on is no news: of a thousand addresses it is said every three seconds.
        """
        async with asyncio.TaskGroup() as tasks:
            # Others may have thousands of rules: theirs are not even parsed.
            ours = _watch(nftables.NETLINK_NETFILTER, nftables.GROUP, lambda hint: nftables.TABLE in hint, wake)
            tasks.create_task(ours, name="nftables")
            await _watch(socket.NETLINK_ROUTE, GROUPS, lambda hint: not self._is_renewal(memoryview(hint)), wake)

    def _is_renewal(self, hint: memoryview) -> bool:
        """Whether it says nothing but lifetimes, of addresses of ours that had one at the last look."""
        try:
            return all(kind == addresses.RTM_NEWADDR and self._has(data) for _, kind, _, data in messages(hint))
        except KernelError:
            return False

    def _has(self, data: memoryview) -> bool:
        told = addresses.read(data, self._ifnames)
        return told is not None and _is_mortal(told) and (told.ifname, told.address) in self._mortal

    # -- links -----------------------------------------------------------------------------------------------------

    async def _add_virtual_link(self, ifname: IfName) -> None:
        """A dummy; where the kernel has none, a bridge without ports does the same. One that is there stays."""
        if ifname not in {name for _, name in socket.if_nameindex()}:
            with Channel(timeout_seconds=self._timeout) as channel:
                refused = await channel.request([links.create(ifname, "dummy")])
                if 0 in refused and refused[0].errno == errno.EOPNOTSUPP:
                    refused = await channel.request([links.create(ifname, "bridge")])
                if 0 in refused and refused[0].errno != errno.EEXIST:
                    raise refused[0]
            await self._request([links.mark(_index(ifname))])
        await self._request([links.set_up(_index(ifname))])

    async def _remove_virtual_link(self, ifname: IfName) -> None:
        for link in map(links.read, await self._ask("get_links")):
            if link.ifname == ifname and not link.is_ours:
                raise KernelError(f"{ifname} is not ours (no alias {links.ALIAS}) and stays")
            if link.ifname == ifname:
                await self._request([links.remove(link.ifindex)], fine={errno.ENODEV})

    async def _set_devconf(self, action: SetDevconf) -> None:
        await self._request([links.set_devconf(_index(action.ifname), action)])
        shown = next(
            (ln.devconf for ln in map(links.read, await self._ask("get_links")) if ln.ifname == action.ifname), None
        )
        for name in links.DEVCONF:
            wanted = getattr(action, name)
            if wanted is not None and (shown is None or getattr(shown, name) != wanted):
                raise KernelError(f"{action.ifname}: {name} was set to {wanted} and shows {shown}")

    # -- addresses -------------------------------------------------------------------------------------------------

    async def _read_addresses(self, ifnames: dict[int, IfName]) -> list[LinkAddress]:
        with Channel(timeout_seconds=self._timeout) as channel:
            found = await channel.dump(addresses.RTM_GETADDR, addresses.EVERY_FAMILY)
        there: list[LinkAddress] = []
        for start in range(0, len(found), AT_ONCE):
            some = (addresses.read(data, ifnames) for data in found[start : start + AT_ONCE])
            there += [one for one in some if one]
            await asyncio.sleep(0)
        return there

    async def _put_addresses(self, action: PutAddresses) -> None:
        index = _index(action.ifname)
        puts: list[tuple[int, int, bytes]] = []
        for start in range(0, len(action.addresses), AT_ONCE):
            some = action.addresses[start : start + AT_ONCE]
            puts += [addresses.put(index, a, action.valid_seconds) for a in some]
            await asyncio.sleep(0)
        await self._request(puts)

    async def _remove_addresses(self, action: RemoveAddresses) -> None:
        index = _index(action.ifname)
        there = await self._read_addresses({index: action.ifname})
        ours = {a.address for a in there if a.is_ours and a.prefixlen == a.address.max_prefixlen}
        foreign = [a for a in action.addresses if a not in ours and a in {one.address for one in there}]
        gone = ours.intersection(action.addresses)
        flushed = await self._read_flushed(action.ifname, [a.address for a in there if a.address not in gone])
        await self._request([addresses.remove(index, a) for a in action.addresses if a in gone], fine=GONE)
        for route in flushed:
            await self._restore_route(route, index)
        if foreign:
            raise KernelError(f"{action.ifname}: {foreign[0]} is not ours (no protocol {PROTOCOL}) and stays")

    async def _read_flushed(self, ifname: IfName, left: list[IPAddress]) -> list[KernelRoute]:
        """The routes, ours and others', that go with the last IPv4 address of a link (fib_disable_ip)."""
        if any(address.version == 4 for address in left):
            return []
        there = await self._read_routes({_index(ifname): ifname})
        return [r for r in there if r.ifname == ifname and r.destination.version == 4]

    async def _restore_route(self, route: KernelRoute, ifindex: int) -> None:
        """Others' too: it was our removal that took it. What can't be put back is found missing by the next look."""
        try:
            await self._ask("route", "add", **routes.arguments(route, ifindex))
        except RefusedError as error:
            if error.errno != errno.EEXIST:
                log.warning("a route that went with the last address of a link is not back: %s: %s", route, error)

    async def _request(
        self, messages: list[tuple[int, int, bytes]], fine: frozenset[int] | set[int] = frozenset()
    ) -> None:
        """All of them, also when some are refused; then the first refusal is raised, with how many there were."""
        with Channel(timeout_seconds=self._timeout) as channel:
            refused = [r for r in (await channel.request(messages)).values() if r.errno not in fine]
        if refused:
            more = f"; {len(refused)} of {len(messages)} refused" if len(messages) > 1 else ""
            raise KernelError(f"{refused[0]}{more}") from refused[0]

    # -- routes ----------------------------------------------------------------------------------------------------

    async def _read_routes(self, ifnames: dict[int, IfName]) -> list[KernelRoute]:
        there: list[KernelRoute] = []
        for family in routes.FAMILIES:
            try:
                with Channel(timeout_seconds=self._timeout) as channel:
                    found = await channel.dump(routes.RTM_GETROUTE, routes.every(family))
            except RefusedError as error:
                if error.errno != errno.ENOENT:
                    raise
                continue  # where no route was ever made, there is no main table
            there += [route for route in (routes.read(data, ifnames) for data in found) if route]
        return there

    async def _put_route(self, route: KernelRoute) -> None:
        """Add; where one of ours with the same destination and metric is in the way, replace that, and no other."""
        wanted = routes.arguments(route, _index(route.ifname) if route.ifname else None)
        try:
            await self._ask("route", "add", **wanted)
        except RefusedError as error:
            if error.errno != errno.EEXIST:
                raise
            there = (await self.read()).routes
            rivals = [r for r in there if r.destination == route.destination and r.metric in {route.metric, 1024}]
            if any(not r.is_ours for r in rivals):
                raise KernelError(f"somebody else's route to {route.destination} is in the way, and stays") from error
            if route not in there:
                await self._ask("route", "replace", **wanted)

    async def _remove_route(self, route: KernelRoute) -> None:
        try:
            index = socket.if_nametoindex(route.ifname) if route.ifname and route.kind is RouteKind.UNICAST else None
            await self._ask("route", "del", **(routes.arguments(route, index) | {"proto": PROTOCOL}))
        except RefusedError as error:
            if error.errno not in {errno.ESRCH, errno.ENOENT}:
                raise
        except OSError:
            return  # the link is gone, and its routes with it

    # -- pyroute2 --------------------------------------------------------------------------------------------------

    async def _ask(self, verb: str, *arguments: Any, **options: Any) -> list[Any]:
        """One request through pyroute2. After anything but a refusal its socket can't be trusted and is replaced."""
        try:
            async with asyncio.timeout(self._timeout):
                if self._route_socket is None:
                    self._route_socket = await AsyncIPRoute(ext_ack=True, strict_check=True).__aenter__()
                answer = await getattr(self._route_socket, verb)(*arguments, **options)
                return [message async for message in answer] if hasattr(answer, "__aiter__") else list(answer or [])
        except NetlinkError as error:
            raise RefusedError(error.code, _words(error)) from error
        except (TimeoutError, OSError) as error:
            await self._drop()
            raise KernelError(f"netlink {verb}: {error or 'timeout'}") from error

    async def _drop(self) -> None:
        old, self._route_socket = self._route_socket, None
        if old is not None:
            await old.__aexit__(None, None, None)


async def _watch(family: int, groups: int, is_news: Callable[[bytes], bool], wake: Callable[[], None]) -> None:
    loop, buffer = asyncio.get_running_loop(), memoryview(bytearray(HINT_BYTES))
    while True:
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family) as hints:
                hints.setblocking(False)
                hints.bind((0, groups))
                while True:
                    count = await loop.sock_recv_into(hints, buffer)
                    if is_news(bytes(buffer[:count])):
                        wake()
        except OSError as error:
            wake()
            if error.errno == errno.EPROTONOSUPPORT:
                return  # a kernel without netfilter
            if error.errno != errno.ENOBUFS:
                log.warning("kernel notifications are opened again: %s", error)
                await asyncio.sleep(REOPEN_SECONDS)


def _is_mortal(address: LinkAddress) -> bool:
    return address.is_ours and address.valid_seconds is not None


def _index(ifname: IfName) -> int:
    try:
        return socket.if_nametoindex(ifname)
    except OSError as error:
        raise KernelError(f"there is no link {ifname}") from error


def _words(error: NetlinkError) -> str:
    return str(error.args[1]) if len(error.args) > 1 else ""
