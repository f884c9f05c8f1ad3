"""The links of the ownership world: what a frame meets on its way, and who answers it."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from random import Random

from announcer.core import own
from announcer.core.model import (
    Heard,
    HeardEcho,
    HeardProbe,
    IfName,
    IPAddress,
    NodeName,
    SendAnnouncement,
    SendEcho,
    SendProbe,
    SendRequest,
    WireEvent,
)
from announcer.core.own import Asked, Key, Ownership

ETH0 = IfName("eth0")
ROUTER, STRANGER = "router", "stranger"
MACS = {ROUTER: "02:00:00:00:99:fe", STRANGER: "02:00:00:00:99:01"}


@dataclass(slots=True)
class Nic:
    """One link of a node: its MAC and the node's own addresses on it."""

    lladdr: str
    addresses: tuple[IPAddress, ...]
    has_carrier: bool = True


@dataclass(slots=True)
class Host:
    """One node: what its kernel has (address → end of its life), its agent, and what that has seen of the API."""

    name: NodeName
    nics: dict[IfName, Nic]
    addresses: dict[Key, float] = field(default_factory=dict)
    has_power: bool = True
    runs: bool = True
    is_stopped: bool = False
    is_jammed: bool = False
    stalled_until: float = 0.0
    life: int = 0
    state: Ownership = Ownership()
    view: dict[IPAddress, frozenset[NodeName]] = field(default_factory=dict)
    members: frozenset[NodeName] = frozenset()
    interest: frozenset[IPAddress] = frozenset()
    waiting: list[WireEvent] = field(default_factory=list)


Sent = SendProbe | SendAnnouncement | SendRequest | SendEcho
"""What leaves by a link."""


class Segment:
    def __init__(self, random: Random, links: tuple[IfName, ...], families: str) -> None:
        self.random, self.links, self.families = random, links, families
        self.now = 0.0
        self.loss, self.delay, self.doubles = 0.0, 0.002, 0.0
        self.sides: dict[tuple[IfName, str], int] = {}
        self.strangers = set[Key]()
        self.hosts: dict[NodeName, Host] = {}

    @abstractmethod
    def at(self, pause: float, what: Callable[[], None]) -> None: ...

    @abstractmethod
    def hear(self, host: Host, told: WireEvent) -> None: ...

    def make_host(self, number: int, *, is_bare: bool) -> Host:
        nics = {
            ifname: Nic(f"02:00:00:00:{i:02x}:{number:02x}", () if is_bare else _own(i, number, self.families))
            for i, ifname in enumerate(self.links)
        }
        return Host(NodeName(f"n{number}"), nics)

    # -- what is true --------------------------------------------------------------------------------------------

    def is_up(self, host: Host) -> bool:
        return host.has_power and host.stalled_until <= self.now

    def has(self, host: Host, key: Key) -> bool:
        return host.addresses.get(key, -1.0) > self.now

    def can_hear(self, one: str, other: str, ifname: IfName = ETH0) -> bool:
        return not self.sides or self.sides.get((ifname, one), 0) == self.sides.get((ifname, other), 0)

    # -- faults --------------------------------------------------------------------------------------------------

    def weather(self, *, loss: float = 0.0, doubles: float = 0.0, delay: float = 0.002) -> None:
        self.loss, self.doubles, self.delay = loss, doubles, delay

    def part(self, sides: dict[str, int], ifnames: tuple[IfName, ...] | None = None) -> None:
        self.sides |= {(ifname, who): side for ifname in ifnames or self.links for who, side in sides.items()}

    def meet_stranger(self, key: Key) -> None:
        """A host that is no node begins to hold an address, and says so."""
        self.strangers.add(key)
        for host in self.hosts.values():
            self._carry(STRANGER, host, key[0], Heard(ifname=key[0], address=key[1], lladdr=MACS[STRANGER]))

    # -- frames --------------------------------------------------------------------------------------------------

    def transmit(self, host: Host, action: Sent) -> Asked | None:
        """What the agent is told of questions that have left; nothing leaves a link without carrier."""
        if host.is_jammed or not host.nics[action.ifname].has_carrier:
            return None
        match action:
            case SendProbe():
                for address in action.addresses:
                    self._probe(host, action.ifname, address)
                return Asked(ifname=action.ifname, at=self.now, addresses=action.addresses)
            case SendEcho():
                for echo in action.echoes:
                    self._echo(host, action.ifname, echo.target, echo.sequence)
                return Asked(ifname=action.ifname, at=self.now, lladdrs=tuple(e.lladdr for e in action.echoes))
            case SendAnnouncement():
                shown = action.addresses
            case SendRequest():  # whoever isn't asked hears ARP, and no neighbor discovery
                shown = tuple(a for a in action.addresses if a.version == 4)
        others = self.others(host)
        for address in shown:
            for other in others:
                self._carry(host.name, other, action.ifname, _shown(host, action.ifname, address))
        return None

    def others(self, host: Host) -> list[Host]:
        return [other for other in self.hosts.values() if other is not host]

    def _probe(self, host: Host, ifname: IfName, address: IPAddress) -> None:
        for other in self.others(host):
            self._carry_to(host.name, other, ifname, lambda o=other: self._asked(o, host, ifname, address))  # type: ignore[misc]
        for who, holds in (
            (ROUTER, address in gateways(ifname, "46")),
            (STRANGER, (ifname, address) in self.strangers),
        ):
            if holds and self.can_hear(host.name, who, ifname) and self.random.random() >= self.loss:
                self._carry(who, host, ifname, Heard(ifname=ifname, address=address, lladdr=MACS[who]))

    def _asked(self, host: Host, asker: Host, ifname: IfName, address: IPAddress) -> None:
        if self.has(host, (ifname, address)) or address in host.nics[ifname].addresses:
            self._carry(host.name, asker, ifname, _shown(host, ifname, address))
        self._receive(host, HeardProbe(ifname=ifname, address=address, lladdr=asker.nics[ifname].lladdr))

    def _echo(self, host: Host, ifname: IfName, target: IPAddress, sequence: int) -> None:
        for other in self.others(host):
            if target in (nic := other.nics[ifname]).addresses:
                told = HeardEcho(ifname=ifname, address=target, lladdr=nic.lladdr, sequence=sequence)
                self._carry_to(
                    host.name, other, ifname, lambda o=other, t=told: self._carry(o.name, host, ifname, t)  # type: ignore[misc]
                )  # fmt: skip

    def _carry(self, sender: str, receiver: Host, ifname: IfName, told: WireEvent) -> None:
        self._carry_to(sender, receiver, ifname, lambda: self._receive(receiver, told))

    def _carry_to(self, sender: str, receiver: Host, ifname: IfName, what: Callable[[], None]) -> None:
        source = self.hosts.get(NodeName(sender))
        if (source and not source.nics[ifname].has_carrier) or not self.can_hear(sender, receiver.name, ifname):
            return
        for _ in range(2 if self.random.random() < self.doubles else 1):
            if self.random.random() >= self.loss:
                arrives = self.delay * (0.05 + self.random.random())
                self.at(arrives, lambda: what() if self._takes(sender, receiver, ifname) else None)

    def _takes(self, sender: str, receiver: Host, ifname: IfName) -> bool:
        is_lit = receiver.nics[ifname].has_carrier
        return self.is_up(receiver) and is_lit and self.can_hear(sender, receiver.name, ifname)

    def _receive(self, host: Host, told: WireEvent) -> None:
        """The filter lets through what the agent listens for; the kernel says when it took it."""
        if not isinstance(told, HeardEcho) and told.address not in host.interest:
            return
        if isinstance(told, HeardProbe) and not own.minds_probes(host.state):
            return
        self.hear(host, replace(told, at=self.now))


def _shown(host: Host, ifname: IfName, address: IPAddress) -> Heard:
    return Heard(ifname=ifname, address=address, lladdr=host.nics[ifname].lladdr)


def _own(link: int, number: int, families: str) -> tuple[IPAddress, ...]:
    v4, v6 = IPv4Address(f"10.{link}.0.{number}"), IPv6Address(f"fd00:0:0:{link}::{number}")
    return tuple(address for address in (v4, v6) if str(address.version) in families)


@cache
def gateways(ifname: IfName, families: str) -> tuple[IPAddress, ...]:
    return _own(int(ifname[3:]), 254, families)
