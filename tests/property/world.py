"""A deterministic world for the ownership step: nodes with kernels, agents and views of the API, on one lossy link.

Time is virtual and everything comes from one seed. A kernel answers ARP and echo by itself, also while its agent is
dead, and removes addresses when their lifetime ends; a SIGSTOPped agent's frames wait in its socket; a stalled machine
does nothing at all.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from ipaddress import IPv4Address
from random import Random

from announcer.core import own
from announcer.core.elect import elect
from announcer.core.model import (
    Action,
    Heard,
    HeardEcho,
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
from announcer.core.own import Frames, May, Move, Neighbor, Ownership, OwnLink, Present, Refreshed, Tick, Timing

ETH0 = IfName("eth0")
GATEWAY, ROUTER = IPv4Address("10.0.0.254"), "02:00:00:00:99:fe"


@dataclass(slots=True)
class Host:
    """One node: what its kernel has (address → end of its life), and its agent."""

    name: NodeName
    lladdr: str
    own: IPAddress
    addresses: dict[IPAddress, float] = field(default_factory=dict)
    has_power: bool = True
    has_carrier: bool = True
    runs: bool = True
    is_stopped: bool = False
    stalled_until: float = 0.0
    life: int = 0
    state: Ownership = Ownership()
    view: dict[IPAddress, frozenset[NodeName]] = field(default_factory=dict)
    waiting: list[WireEvent] = field(default_factory=list)


class World:
    def __init__(self, *, seed: int, nodes: int = 3, addresses: int = 4, timing: Timing | None = None) -> None:
        self.random, self.timing = Random(seed), timing or Timing()
        self.now = 0.0
        self.loss, self.delay, self.doubles = 0.0, 0.002, 0.0
        self.sides: dict[str, int] = {}
        self.lag = 0.0
        self.api = True
        self.scores = dict[NodeName, int]()
        self.moves = list[tuple[float, NodeName, Move]]()
        self.trace = list[str]()
        self.looks = list[Callable[[], None]]()
        self._queue = list[tuple[float, int, Callable[[], None]]]()
        self._count = 0
        self.vips: list[IPAddress] = [IPv4Address("10.0.1.0") + i for i in range(addresses)]
        self.hosts = {
            NodeName(f"n{i}"): Host(NodeName(f"n{i}"), f"02:00:00:00:00:{i:02x}", IPv4Address("10.0.0.0") + i)
            for i in range(1, nodes + 1)
        }
        self.truth = {vip: frozenset(self.hosts) for vip in self.vips}
        for host in self.hosts.values():
            host.view = dict(self.truth)
            self.at(self.random.random() * 0.5, lambda h=host: self.start(h))  # type: ignore[misc]

    # -- time ----------------------------------------------------------------------------------------------------

    def at(self, pause: float, what: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._queue, (self.now + pause, self._count, what))

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

    def holders(self, vip: IPAddress) -> list[NodeName]:
        """Kernels that answer for it on the link."""
        return [h.name for h in self.hosts.values() if self.is_up(h) and self.has(h, vip) and h.has_carrier]

    def last_behind(self, vip: IPAddress, holder: NodeName) -> NodeName:
        """The candidate that comes last behind `holder`."""
        return [node for node in elect(self.truth[vip], vip, scores=self.scores) if node != holder][-1]

    def has(self, host: Host, vip: IPAddress) -> bool:
        return host.addresses.get(vip, -1.0) > self.now

    def is_up(self, host: Host) -> bool:
        return host.has_power and host.stalled_until <= self.now

    def can_act(self, host: Host) -> bool:
        return self.is_up(host) and host.runs and not host.is_stopped

    def can_hear(self, one: str, other: str) -> bool:
        return self.sides.get(one, 0) == self.sides.get(other, 0)

    # -- faults --------------------------------------------------------------------------------------------------

    def start(self, host: Host) -> None:
        host.life += 1
        host.runs, host.is_stopped, host.state, host.waiting = True, False, Ownership(), []
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
        host.addresses = {a: end + seconds for a, end in host.addresses.items() if end > self.now}
        self.at(seconds + 1e-6, lambda: self.wake(host))
        self._soon(host)

    def power(self, host: Host, *, on: bool) -> None:
        if on and not host.has_power:
            host.has_power, host.addresses = True, {}
            self.start(host)
        elif not on:
            host.has_power = False
            self.kill(host)
            host.addresses = {}

    def weather(self, *, loss: float = 0.0, doubles: float = 0.0, delay: float = 0.002) -> None:
        self.loss, self.doubles, self.delay = loss, doubles, delay

    def carrier(self, host: Host, *, on: bool) -> None:
        host.has_carrier = on
        self._soon(host)

    def delete(self, host: Host, vip: IPAddress) -> None:
        """Somebody takes our address away."""
        host.addresses.pop(vip, None)
        self._soon(host)

    def reach_api(self, *, is_there: bool) -> None:
        self.api = is_there
        self.publish()

    def want(self, vip: IPAddress, nodes: frozenset[NodeName]) -> None:
        self.truth[vip] = nodes
        self.publish()

    def publish(self) -> None:
        if self.api:
            for host in self.hosts.values():
                self.at(self.random.random() * self.lag, lambda h=host: self.see(h))  # type: ignore[misc]

    def see(self, host: Host) -> None:
        if self.api:
            host.view = dict(self.truth)
            if self.can_act(host):
                self.judge(host)

    # -- an agent ------------------------------------------------------------------------------------------------

    def tell(self, host: Host, event: own.Event) -> None:
        due = own.next_due(host.state)
        host.state, outcome = own.step(host.state, event, self.now, self.timing)
        for one in outcome:
            if isinstance(one, Move):
                self.moves.append((self.now, host.name, one))
                self.note(f"{host.name}: {one.address} {one.old or '-'} -> {one.new or '-'} {one.cause.value}")
            else:
                self._apply(host, one)
        if own.next_due(host.state) < due:
            self._later(host, own.next_due(host.state) - self.now)

    def look(self, host: Host) -> None:
        """A pass reads the kernel."""
        link = OwnLink(lladdr=host.lladdr, has_carrier=host.has_carrier, sources=(host.own,), gateways=(GATEWAY,))
        keys = frozenset((ETH0, a) for a, end in host.addresses.items() if end > self.now)
        self.tell(host, Present(keys=keys, links={ETH0: link}, at=self.now))

    def judge(self, host: Host) -> None:
        mine = {a: nodes for a, nodes in host.view.items() if host.name in nodes and host.has_carrier}
        orders = {(ETH0, a): elect(nodes, a, scores=self.scores) for a, nodes in mine.items()}
        others = {h.lladdr: Neighbor(node=h.name, addresses=(h.own,)) for h in self.hosts.values() if h is not host}
        self.tell(host, May(node=host.name, candidacies=orders, neighbors=others))

    def wake(self, host: Host) -> None:
        """Whatever was in the socket is read before time is told."""
        if not self.can_act(host):
            return
        waiting, host.waiting = host.waiting, []
        if waiting:
            self.tell(host, Frames(frames=tuple(waiting)))
        if own.next_due(host.state) <= self.now:
            self.tell(host, Tick())
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

    # -- kernels and wire ----------------------------------------------------------------------------------------

    def _apply(self, host: Host, action: Action) -> None:
        match action:
            case PutAddresses():
                self._put(host, action)
            case RemoveAddresses():
                for vip in action.addresses:
                    host.addresses.pop(vip, None)
            case _:
                self._transmit(host, action)

    def _put(self, host: Host, action: PutAddresses) -> None:
        end = self.now + (action.valid_seconds or 10**9)
        for vip in action.addresses:
            host.addresses[vip] = end
            self.at(end - self.now + 1e-6, lambda v=vip: self._expire(host, v))  # type: ignore[misc]
        self.tell(host, Refreshed(at=self.now))

    def _transmit(self, host: Host, action: Action) -> None:
        match action:
            case SendProbe():
                for vip in action.addresses:
                    self._to_all(host, lambda to, v=vip: self._asked(to, host, v))  # type: ignore[misc]
                    if vip == GATEWAY and host.has_carrier:
                        self._answer_as_router(host)
            case SendAnnouncement():
                for vip in action.addresses:
                    self._to_all(host, lambda to, v=vip: self._receive(to, self._shown(host, v)))  # type: ignore[misc]
            case SendRequest():
                self._to_all(host, lambda to: self._receive(to, self._shown(host, action.address)))
            case SendEcho():
                for echo in action.echoes:
                    self._to_all(host, lambda to, e=echo: self._echo(to, host, e.lladdr, e.sequence))  # type: ignore[misc]
            case _:
                raise AssertionError(action)

    def _expire(self, host: Host, vip: IPAddress) -> None:
        if vip in host.addresses and not self.has(host, vip):
            del host.addresses[vip]
            self._soon(host)

    def _shown(self, host: Host, vip: IPAddress) -> Heard:
        return Heard(ifname=ETH0, address=vip, lladdr=host.lladdr)

    def _to_all(self, host: Host, what: Callable[[Host], None]) -> None:
        for other in self.hosts.values():
            if other is not host:
                self._carry(host, other, lambda o=other: what(o))  # type: ignore[misc]

    def _carry(self, sender: Host, receiver: Host, what: Callable[[], None]) -> None:
        if not sender.has_carrier or not self.can_hear(sender.name, receiver.name):
            return
        for _ in range(2 if self.random.random() < self.doubles else 1):
            if self.random.random() >= self.loss:
                arrives = self.delay * (0.05 + self.random.random())
                self.at(arrives, lambda: what() if self._takes(sender, receiver) else None)

    def _takes(self, sender: Host, receiver: Host) -> bool:
        return self.is_up(receiver) and receiver.has_carrier and self.can_hear(sender.name, receiver.name)

    def _asked(self, host: Host, asker: Host, vip: IPAddress) -> None:
        if self.has(host, vip) or vip == host.own:
            self._carry(host, asker, lambda: self._receive(asker, self._shown(host, vip)))

    def _echo(self, host: Host, asker: Host, lladdr: str, sequence: int) -> None:
        if host.lladdr == lladdr:
            told = HeardEcho(ifname=ETH0, address=host.own, lladdr=lladdr, sequence=sequence)
            self._carry(host, asker, lambda: self._receive(asker, told))

    def _answer_as_router(self, asker: Host) -> None:
        told = Heard(ifname=ETH0, address=GATEWAY, lladdr=ROUTER)
        if self.random.random() >= self.loss and self.can_hear("router", asker.name):
            self.at(self.delay, lambda: self._receive(asker, told) if self.is_up(asker) else None)

    def _receive(self, host: Host, told: WireEvent) -> None:
        if isinstance(told, Heard):
            told = Heard(ifname=told.ifname, address=told.address, lladdr=told.lladdr, at=self.now)
        if self.can_act(host):
            self.tell(host, Frames(frames=(told,)))
        elif host.runs and self.is_up(host):
            host.waiting.append(told)
