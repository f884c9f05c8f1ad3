"""One node of the ownership protocol, with a clock that a test turns."""

from dataclasses import replace
from typing import Any

from announcer.core import own
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
)
from announcer.core.own import (
    Asked,
    Frames,
    May,
    Move,
    Neighbor,
    OwnLink,
    Phase,
    Present,
    Refreshed,
    Tick,
    Timing,
    next_due,
    step,
)
from tests.builders import ip

ETH0, VIP = IfName("eth0"), ip("10.111.111.100")
KEY = (ETH0, VIP)
OWN, OTHER, FOREIGN = "02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:99"
N1, N2, N3 = NodeName("n1"), NodeName("n2"), NodeName("n3")
MACS = [f"02:00:00:00:03:{i:02x}" for i in range(99)]
THIRD = "02:00:00:00:00:04"
NEIGHBORS = {
    OTHER: Neighbor(node=N2, addresses=(ip("10.111.111.3"),)),
    THIRD: Neighbor(node=N3, addresses=(ip("10.111.111.4"),)),
}
LINK = OwnLink(lladdr=OWN, sources=(ip("10.111.111.2"),))
TIMING = Timing()
PROBE = SendProbe(ifname=ETH0, addresses=(VIP,))
PUT = PutAddresses(ifname=ETH0, addresses=(VIP,), valid_seconds=10)
ANNOUNCE = SendAnnouncement(ifname=ETH0, addresses=(VIP,))
REQUEST = SendRequest(ifname=ETH0, addresses=(VIP,), asks=LINK.sources)
REMOVE = RemoveAddresses(ifname=ETH0, addresses=(VIP,))


class Node:
    """One node's protocol with a clock that the test turns; whoever lives answers its echoes, unless it `is_jammed` and
    no question leaves.
    """

    def __init__(
        self,
        *,
        now: float = 100.0,
        lladdr: str = OWN,
        link: OwnLink = LINK,
        held: frozenset[own.Key] = frozenset(),
        timing: Timing = TIMING,
    ) -> None:
        self.timing = timing
        self.now, self.state, self.did = now, own.Ownership(), list[tuple[float, Action]]()
        self.moves = list[Move]()
        self.is_jammed = False
        self.link, self.alive = replace(link, lladdr=lladdr), {OTHER, THIRD}
        self.present(*held)

    def tell(self, event: own.Event) -> tuple[Action, ...]:
        self.state, outcome = step(self.state, event, self.now, self.timing)
        self.moves += [one for one in outcome if isinstance(one, Move)]
        actions = tuple(one for one in outcome if not isinstance(one, Move))
        self.did += [(round(self.now, 3), action) for action in actions]
        if any(isinstance(a, PutAddresses) for a in actions):
            self.tell(Refreshed(at=self.now))
        for action in [] if self.is_jammed else actions:
            if isinstance(action, SendProbe):
                self.tell(Asked(ifname=action.ifname, at=self.now, addresses=action.addresses))
            elif isinstance(action, SendEcho):
                self.tell(Asked(ifname=action.ifname, at=self.now, lladdrs=tuple(e.lladdr for e in action.echoes)))
                self.answer(action)
        return tuple(a for a in actions if not isinstance(a, SendEcho))

    def answer(self, action: SendEcho) -> None:
        for echo in action.echoes:
            if echo.lladdr in self.alive:
                told = HeardEcho(ifname=action.ifname, address=echo.target, lladdr=echo.lladdr, sequence=echo.sequence)
                self.tell(Frames(frames=(told,)))

    def may(self, order: tuple[NodeName, ...] | None = (N1, N2), keep: frozenset[IPAddress] = frozenset()) -> None:
        found = {} if order is None else {KEY: order}
        self.tell(May(node=N1, candidacies=found, neighbors=NEIGHBORS, keep=keep))

    def present(self, *keys: own.Key, **change: Any) -> tuple[Action, ...]:
        self.link = replace(self.link, **change)
        return self.tell(Present(keys=frozenset(keys), links={ETH0: self.link}, at=self.now))

    def hear(self, lladdr: str) -> tuple[Action, ...]:
        return self.tell(Frames(frames=(Heard(ifname=ETH0, address=VIP, lladdr=lladdr),)))

    def run(self, seconds: float) -> list[tuple[float, Action]]:
        """Let time pass; what was done in it but for echoes, with the time since its beginning."""
        start, before = self.now, len(self.did)
        end = start + seconds
        while (due := next_due(self.state)) <= end + 1e-9:
            self.now = max(self.now, due)
            self.tell(Tick())
        self.now = end
        return [(round(at - start, 3), a) for at, a in self.did[before:] if not isinstance(a, SendEcho)]

    @property
    def phase(self) -> Phase | None:
        entry = self.state.entries.get(KEY)
        return entry.phase if entry else None

    def holding(self) -> "Node":
        self.may()
        self.run(5)
        assert self.phase is Phase.HOLDING
        return self

    def watching(self, order: tuple[NodeName, ...] = (N1, N2)) -> "Node":
        self.may(order)
        self.hear(OTHER)
        assert self.phase is Phase.WATCHING
        return self


def when(did: list[tuple[float, Action]], action: Action) -> list[float]:
    return [at for at, one in did if one == action]
