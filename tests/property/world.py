"""A deterministic world for the ownership step: nodes with kernels, agents and views of the API, on lossy links.

Time is virtual and everything comes from one seed. A kernel answers ARP and echo by itself, also while its agent is
dead, and removes addresses when their lifetime ends; a SIGSTOPped agent's frames wait in its socket; a stalled machine
does nothing at all; a jammed one gets no frame out. What the links carry is in `segment.py`.
"""

from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from math import inf
from random import Random

from announcer.core import own
from announcer.core.elect import elect
from announcer.core.model import (
    Action,
    IfName,
    IPAddress,
    NodeName,
    PutAddresses,
    RemoveAddresses,
    SendAnnouncement,
    SendEcho,
    SendProbe,
    SendRequest,
    WireEvent,
)
from announcer.core.own import Frames, Key, May, Move, Neighbor, OwnLink, Present, Refreshed, Tick, Timing
from announcer.core.own.quiet import quiet
from announcer.core.own.rules import whole
from announcer.wire.sockets import GATHER
from tests.property.segment import ETH0, Host, Segment, gateways

__all__ = ["ETH0", "Host", "World"]


class World(Segment):
    """`families` are those of the addresses: "4", "6", or "46" for Services that have one of each, which belong
    together. The first `bare` nodes have no address of their own; the last `spare` ones have yet to join.
    """

    def __init__(
        self,
        *,
        seed: int,
        nodes: int = 3,
        addresses: int = 4,
        links: int = 1,
        families: str = "4",
        bare: int = 0,
        spare: int = 0,
    ) -> None:
        super().__init__(Random(seed), tuple(IfName(f"eth{i}") for i in range(links)), families)
        self.timing = Timing()
        self.lag, self.api = 0.0, True
        self.scores = dict[NodeName, int]()
        self.moves = list[tuple[float, NodeName, Move]]()
        self.trace = list[str]()
        self.asked = 0
        """For how many addresses somebody has asked on the wire."""
        self.looks = list[Callable[[], None]]()
        self.compares, self.short_cuts = False, 0
        """Whether each short cut of `steps` is held against the whole way, and how many there were."""
        self._queue, self._count = list[tuple[float, int, Callable[[], None]]](), count()
        self.vips, self.leads = _addresses(addresses, families)
        self.keys = [(ifname, vip) for ifname in self.links for vip in self.vips]
        self._held, self._held_until = dict[Key, list[NodeName]](), -inf
        for i in range(1, nodes + spare + 1):
            self.hosts[NodeName(f"n{i}")] = self.make_host(i, is_bare=i <= bare)
        self.members = frozenset([*self.hosts][:nodes])
        self.truth = dict.fromkeys(self.vips, self.members)
        for name, host in self.hosts.items():
            host.view, host.members, host.has_power = dict(self.truth), self.members, name in self.members
            if host.has_power:
                self.at(self.random.random() * 0.5, lambda h=host: self.start(h))  # type: ignore[misc]

    # -- time ----------------------------------------------------------------------------------------------------

    def at(self, pause: float, what: Callable[[], None]) -> None:
        heappush(self._queue, (self.now + pause, next(self._count), what))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            when, _, what = heappop(self._queue)
            self.now = when
            what()
            for look in self.looks:
                look()
        self.now = end

    def note(self, text: str) -> None:
        self.trace.append(f"{self.now:9.4f} {text}")

    # -- what is true --------------------------------------------------------------------------------------------

    def holders(self, vip: IPAddress, ifname: IfName = ETH0) -> list[NodeName]:
        """Kernels that answer for it on the link."""
        return self.held()[ifname, vip]

    def held(self) -> Mapping[Key, list[NodeName]]:
        """The holders of every address on every link: looked for again when something has `changed`, or ended by time.

        Whoever looks after every event gets the same object for as long as nothing is different.
        """
        if self.now >= self._held_until:
            self._held = {key: [] for key in self.keys}
            up = [h for h in self.hosts.values() if self.is_up(h)]
            for host in up:
                for key, end in host.addresses.items():
                    if end > self.now and host.nics[key[0]].has_carrier:
                        self._held[key].append(host.name)
            ends = [end for host in up for end in host.addresses.values()]
            ends += [host.stalled_until for host in self.hosts.values()]
            self._held_until = min((end for end in ends if end > self.now), default=inf)
        return self._held

    def changed(self) -> None:
        """Power, a carrier, the addresses of a kernel, or whether its machine stands still."""
        self._held_until = -inf

    def last_behind(self, vip: IPAddress, holder: NodeName) -> NodeName:
        """The candidate that comes last behind `holder`."""
        return [node for node in elect(self.truth[vip], vip, scores=self.scores) if node != holder][-1]

    def can_act(self, host: Host) -> bool:
        return self.is_up(host) and host.runs and not host.is_stopped

    # -- faults --------------------------------------------------------------------------------------------------

    def start(self, host: Host) -> None:
        host.life += 1
        host.runs, host.is_stopped, host.state, host.waiting = True, False, own.Ownership(), []
        if host.has_power:
            self.look(host)
            self.judge(host)
            self._later(host, 0.0)

    def kill(self, host: Host, *, gently: bool = False, back_in: float | None = None) -> None:
        if gently and self.can_act(host):
            for action in own.farewell(host.state, self.now, self.timing):
                self._apply(host, action)
        host.runs, host.life, host.waiting = False, host.life + 1, []
        if back_in is not None:
            self.at(back_in, lambda: self.start(host))

    def stop(self, host: Host, *, back_in: float | None = None) -> None:
        host.is_stopped = True
        if back_in is not None:
            self.at(back_in, lambda: self.resume(host))

    def resume(self, host: Host) -> None:
        if host.is_stopped:
            host.is_stopped = False
            self.wake(host)
            self._soon(host)

    def stall(self, host: Host, seconds: float) -> None:
        """The whole machine pauses, its clock too as far as lifetimes go."""
        host.stalled_until = self.now + seconds
        host.addresses = {key: end + seconds for key, end in host.addresses.items() if end > self.now}
        self.changed()
        self.at(seconds + 1e-6, lambda: self.wake(host))
        self._soon(host)

    def power(self, host: Host, *, on: bool) -> None:
        self.changed()
        if on and not host.has_power and host.name in self.members:
            host.has_power, host.addresses = True, {}
            self.start(host)
        elif not on:
            host.has_power = False
            self.kill(host)
            host.addresses = {}

    def join(self, host: Host) -> None:
        """A new node: its own agent knows of it at once, the others when they see its Node object and its report."""
        if host.name in self.members:
            return
        self.members |= {host.name}
        self.truth = {vip: nodes | {host.name} for vip, nodes in self.truth.items()}
        host.view, host.members = dict(self.truth), self.members
        self.power(host, on=True)
        self.publish()

    def carrier(self, host: Host, ifname: IfName, *, on: bool) -> None:
        host.nics[ifname].has_carrier = on
        self.changed()
        self._soon(host)

    def delete(self, host: Host, key: Key) -> None:
        """Somebody takes our address away."""
        host.addresses.pop(key, None)
        self.changed()
        self._soon(host)

    def reach_api(self, *, is_there: bool) -> None:
        self.api = is_there
        self.publish()

    def want(self, vip: IPAddress, nodes: frozenset[NodeName]) -> None:
        """For all addresses of its Service, as these have the same candidates."""
        self.truth |= {one: nodes & self.members for one in self.vips if self.leads[one] == self.leads[vip]}
        self.publish()

    def publish(self) -> None:
        if self.api:
            for host in self.hosts.values():
                self.at(self.random.random() * self.lag, lambda h=host: self.see(h))  # type: ignore[misc]

    def see(self, host: Host) -> None:
        if self.api:
            host.view, host.members = dict(self.truth), self.members
            if self.can_act(host):
                self.judge(host)

    # -- an agent ------------------------------------------------------------------------------------------------

    def tell(self, host: Host, *events: own.Event) -> None:
        due = own.next_due(host.state)
        if self.compares:
            self._compare(host, events)
        host.state, outcome = own.steps(host.state, events, self.now, self.timing)
        if any(isinstance(event, May | Present) for event in events):
            host.interest = own.interest(host.state)
        for one in outcome:
            if isinstance(one, Move):
                self.moves.append((self.now, host.name, one))
                old, new = one.old or "-", one.new or "-"
                self.note(f"{host.name}: {one.ifname} {one.address} {old} -> {new} {one.cause.value}")
            else:
                self._apply(host, one)
        if own.next_due(host.state) < due:
            self._later(host, own.next_due(host.state) - self.now)

    def _compare(self, host: Host, events: tuple[own.Event, ...]) -> None:
        """A short cut leads to where the whole way would; only `due` may be earlier than that."""
        short = quiet(host.state, events, self.now, self.timing)
        if short is not None:
            self.short_cuts += 1
            state, outcome = whole(host.state, events, self.now, self.timing)
            assert short[1] == outcome
            assert short[0].due <= state.due
            assert short[0]._replace(due=state.due) == state

    def look(self, host: Host) -> None:
        """A pass reads the kernel."""
        links = {
            ifname: OwnLink(
                lladdr=nic.lladdr,
                has_carrier=nic.has_carrier,
                sources=nic.addresses,
                gateways=gateways(ifname, self.families),
            )
            for ifname, nic in host.nics.items()
        }
        keys = frozenset(key for key, end in host.addresses.items() if end > self.now)
        self.tell(host, Present(keys=keys, links=links, at=self.now))

    def judge(self, host: Host) -> None:
        lit = [ifname for ifname, nic in host.nics.items() if nic.has_carrier]
        orders = {
            (ifname, vip): elect(nodes, self.leads[vip], scores=self.scores)
            for vip, nodes in host.view.items()
            for ifname in lit
            if host.name in nodes
        }
        others = {
            nic.lladdr: Neighbor(node=other.name, addresses=nic.addresses)
            for other in self.hosts.values()
            for nic in other.nics.values()
            if other is not host and other.name in host.members
        }
        self.tell(host, May(node=host.name, candidacies=orders, neighbors=others))

    def wake(self, host: Host) -> None:
        """Whatever was in the socket is read before time is told."""
        if not self.can_act(host):
            return
        waiting, host.waiting = host.waiting, []
        heard = [Frames(frames=tuple(waiting))] if waiting else []
        if own.next_due(host.state) <= self.now:
            self.tell(host, *heard, Tick())
        elif heard:
            self.tell(host, *heard)
        self._later(host, max(0.0, own.next_due(host.state) - self.now))

    def _later(self, host: Host, pause: float) -> None:
        life = host.life
        late = 0.001 + self.random.random() * 0.004
        if pause < 1000:
            self.at(max(0.0, pause) + late, lambda: self.wake(host) if self._is_due(host, life) else None)

    def _is_due(self, host: Host, life: int) -> bool:
        return host.life == life and own.next_due(host.state) <= self.now

    def _soon(self, host: Host) -> None:
        """The kernel notifies, a pass follows, as soon as there is somebody to make it."""
        life = host.life

        def look() -> None:
            if host.life != life:
                return
            if self.can_act(host):
                self.look(host)
                self.judge(host)
            else:
                self.at(0.05, look)

        self.at(0.005 + self.random.random() * 0.02, look)

    # -- its kernel ----------------------------------------------------------------------------------------------

    def _apply(self, host: Host, action: Action) -> None:
        match action:
            case PutAddresses():
                self._put(host, action)
            case RemoveAddresses():
                for vip in action.addresses:
                    host.addresses.pop((action.ifname, vip), None)
                self.changed()
            case SendProbe() | SendAnnouncement() | SendRequest() | SendEcho():
                self.asked += len(action.addresses) if isinstance(action, SendProbe) else 0
                if asked := self.transmit(host, action):
                    self.tell(host, asked)
            case _:
                raise AssertionError(action)

    def _put(self, host: Host, action: PutAddresses) -> None:
        end = self.now + (action.valid_seconds or 10**9)
        for vip in action.addresses:
            key = (action.ifname, vip)
            host.addresses[key] = end
            self.at(end - self.now + 1e-6, lambda k=key: self._expire(host, k))  # type: ignore[misc]
        self.changed()
        self.tell(host, Refreshed(at=self.now))

    def _expire(self, host: Host, key: Key) -> None:
        if key in host.addresses and not self.has(host, key):
            del host.addresses[key]
            self._soon(host)

    def hear(self, host: Host, told: WireEvent) -> None:
        """It waits in the socket: for the next tick, or for a reading some time after the first."""
        if not host.runs or not self.is_up(host):
            return
        host.waiting.append(told)
        if len(host.waiting) == 1:
            self._read_later(host)

    def _read_later(self, host: Host) -> None:
        life = host.life

        def read() -> None:
            if host.life == life and host.waiting:
                self.read(host) if self.can_act(host) else self._read_later(host)

        self.at(GATHER, read)

    def read(self, host: Host) -> None:
        if host.waiting:
            waiting, host.waiting = host.waiting, []
            self.tell(host, Frames(frames=tuple(waiting)))


def _addresses(number: int, families: str) -> tuple[list[IPAddress], dict[IPAddress, IPAddress]]:
    """The addresses, and the first one of the Service of each."""
    firsts: dict[str, IPAddress] = {"4": IPv4Address("10.0.1.0"), "6": IPv6Address("fd00::1:0")}
    services = [[firsts[version] + i for version in families] for i in range(number)]
    return [a for service in services for a in service], {a: service[0] for service in services for a in service}
