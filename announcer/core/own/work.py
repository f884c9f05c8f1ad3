"""One step while it is made: the state's parts, changeable, and what comes out of them.

Out come Actions in the order in which they are to be carried out: addresses before what announces them, in portions, so
that of a thousand addresses the first are announced before the last are on the link.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from math import inf

from announcer.core.model import (
    Action,
    Echo,
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
from announcer.core.own.order import is_watcher, next_look, those_before
from announcer.core.own.timing import Timing
from announcer.core.own.values import Cause, Entry, Key, Move, Ownership, OwnLink, Phase, Step, Target

PORTION = 64
WATCHING, HOLDING = Phase.WATCHING, Phase.HOLDING


class Work:
    def __init__(self, state: Ownership, now: float, timing: Timing) -> None:
        self.before, self.now, self.timing = state, now, timing
        self.entries, self.watches, self.seen = dict(state.entries), dict(state.watches), dict(state.seen)
        self.answered, self.reachable = dict(state.answered), set(state.reachable)
        self.links, self.neighbors, self.node = state.links, state.neighbors, state.node
        self.began, self.beat, self.verdict = state.began, state.beat, state.verdict
        self.wake, self.due = state.wake, state.due
        self.sequence, self.beacon, self.changes = state.sequence, state.beacon, state.changes
        self.wanted = state.wanted
        self.refresh, self.refreshed, self.removed = state.refresh, state.refreshed, state.removed
        self.woke = state.woke
        self.puts: list[Key] = []
        self.announces: list[Key] = []
        self.removes: list[Key] = []
        self.refreshes: list[Key] = []
        self.probes: dict[Key, None] = {}
        self.echoes: dict[IfName, list[Echo]] = {}
        self.moves: list[Move] = []
        self.suspects: set[Target] = set()
        self.counts, self._is_counted = state.counts, False

    # -- entries -------------------------------------------------------------------------------------------------

    def set(self, key: Key, entry: Entry) -> None:
        old = self.entries.get(key)
        self.entries[key] = entry
        if old is None or old.phase is not entry.phase or old.holder != entry.holder:
            self.changes += 1
        if old is None or old.position != entry.position or old.source != entry.source:
            self.wanted = None
        self.due = min(self.due, entry.due)
        if entry.due < self.wake and not at_beats(entry.phase):
            self.wake = entry.due

    def drop(self, key: Key) -> None:
        del self.entries[key]
        self.changes += 1

    def node_of(self, lladdr: str) -> NodeName | None:
        neighbor = self.neighbors.get(lladdr)
        return neighbor.node if neighbor else None

    def position(self, key: Key, entry: Entry) -> int:
        """This node's place behind the holder, those that are known to be dead left out."""
        dead = {self.node_of(lladdr) for (ifname, lladdr), w in self.watches.items() if w.is_dead and ifname == key[0]}
        return sum(node not in dead for node in self.those_before(key, entry))

    def those_before(self, key: Key, entry: Entry) -> tuple[NodeName, ...]:
        """The candidates behind the holder that come before this node."""
        return those_before(self.node, entry.order, self.node_of(entry.holder), key[1], self.timing)

    def is_watcher(self, entry: Entry) -> bool:
        return is_watcher(entry.position, entry.order, self.timing)

    def claim(self, key: Key, entry: Entry, cause: Cause, silent_seconds: float) -> None:
        source = entry.holder if cause is Cause.NODE_DEAD else ""
        first = self.now + self.timing.announce[0]
        self.move(key, entry.holder, self.node or "", cause, silent_seconds)
        held = entry._replace(phase=Phase.HOLDING, since=self.now, due=first, announced=0, silent=0, source=source)
        self.set(key, held._replace(holder="", cause=cause, last_announced=self.now, asking=-inf))
        self.puts.append(key)

    def announce(self, key: Key) -> None:
        """At once, from the beginning of the series; once an interval at most, whatever a flood says."""
        entry = self.entries[key]
        if self.now - entry.last_announced < self.timing.interval:
            return
        first = self.now + self.timing.announce[0]
        self.announces.append(key)
        self.set(key, entry._replace(announced=0, last_announced=self.now, due=min(entry.due, first)))

    def give_up(self, key: Key, entry: Entry, holder: str, cause: Cause) -> None:
        """Stop answering. Whoever is still a candidate goes on watching, else nothing stays."""
        self.removes.append(key)
        self.removed = self.now
        self.move(key, self.node or "", holder, cause)
        if entry.phase is Phase.LEAVING or self.node not in entry.order:
            self.drop(key)
        elif holder:
            self.watch(key, entry, holder, self.now)
        else:
            self.wait(key, entry)

    def wait(self, key: Key, entry: Entry) -> None:
        entry = entry._replace(phase=Phase.WAITING, since=self.now, silent=0, holder="", source="", asking=-inf)
        entry = entry._replace(position=self.position(key, entry))
        self.set(key, entry._replace(due=self.now + entry.position * self.timing.interval))

    def watch(self, key: Key, entry: Entry, holder: str, since: float) -> None:
        told = entry._replace(phase=Phase.WATCHING, since=since, holder=holder, heard=self.now, silent=0, source="")
        told = told._replace(position=self.position(key, told), asking=-inf)
        self.set(key, told._replace(due=self.next_look(key, told)))

    def next_look(self, key: Key, entry: Entry) -> float:
        if entry.holder not in self.neighbors:
            return self.now + min(max(self.timing.watch, self.now - entry.since), self.timing.foreign_most)
        held = self._held_by(key[0], entry.holder)
        before = self.before.entries.get(key, entry)
        is_fresh = before.phase is not WATCHING or before.holder not in self.before.neighbors
        return next_look(key[1], entry.position, held, self.now, self.timing, is_fresh=is_fresh)

    def _held_by(self, ifname: IfName, holder: str) -> int:
        """Of those that this node may hold; as of the first time that a step asks."""
        if self.counts is None or (self.changes != self.before.changes and not self._is_counted):
            self.counts = Counter((key[0], entry.holder) for key, entry in self.entries.items())
            self._is_counted = True
        return self.counts.get((ifname, holder), 0)

    def suspect(self) -> None:
        """Ask with the next beat for everything else of the holders in `suspects`, but for what is asked already."""
        if not self.suspects:
            return
        for key, entry in list(self.entries.items()):
            is_quiet = entry.phase is WATCHING and not entry.silent and entry.asking == -inf
            if is_quiet and (key[0], entry.holder) in self.suspects and entry.due > self.now:
                self.entries[key] = entry._replace(due=self.now)
                self.due = self.now

    def move(self, key: Key, old: str, new: str, cause: Cause, silent_seconds: float = 0.0) -> None:
        names = [self.node_of(who) or who for who in (old, new)]
        seconds = round(max(0.0, silent_seconds), 3)
        self.moves.append(
            Move(ifname=key[0], address=key[1], old=names[0], new=names[1], cause=cause, silent_seconds=seconds)
        )

    def has_fence(self) -> bool:
        return self.now - self.refreshed < self.timing.fence - self.timing.margin

    def lose_all(self) -> None:
        """This agent stood still, or the kernel refused, for longer than the fence: others may hold it all."""
        for key, entry in list(self.entries.items()):
            if entry.is_held:
                self.give_up(key, entry, "", Cause.FENCE_FELL)
        self.refreshed = self.now

    def succeed_if_planned(self, key: Key) -> None:
        """Rule 6: the holder is a node that is no candidate (any more). The first claims at once, and then the others.

        A claim that lost against a holder that knows no better yet isn't repeated at once.
        """
        entry = self.entries[key]
        node = self.node_of(entry.holder)
        if node is None or node in entry.order or self.now < entry.until:
            return
        if entry.position == 0:
            self.claim(key, entry, Cause.PLANNED, 0.0)
        else:
            pause = min(entry.position * self.timing.leave / 4, self.timing.leave)
            later = entry._replace(phase=Phase.SUCCEEDING, since=self.now, due=self.now + pause, cause=Cause.PLANNED)
            self.set(key, later)

    # -- what comes out ------------------------------------------------------------------------------------------

    def finish(self) -> Step:
        """Nothing is sent or put on a link without carrier; removals are always carried out."""
        state = Ownership(
            entries=self.entries,
            links=self.links,
            neighbors=self.neighbors,
            watches=self.watches,
            seen=self.seen,
            answered=self.answered,
            reachable=frozenset(self.reachable),
            node=self.node,
            began=self.began,
            beat=self.beat,
            verdict=self.verdict,
            wake=self.wake if self.entries else inf,
            due=self.due,
            sequence=self.sequence,
            changes=self.changes,
            wanted=self.wanted if self.changes == self.before.changes else None,
            counts=self.counts if self.changes == self.before.changes else None,
            beacon=self.beacon,
            refresh=self.refresh,
            refreshed=self.refreshed,
            removed=self.removed,
            woke=self.woke,
        )
        return state, (*self.moves, *self._actions())

    def _actions(self) -> Iterator[Action]:
        fence = self.timing.fence
        if not (self.puts or self.announces or self.removes or self.refreshes or self.echoes or self.probes):
            return
        for ifname, addresses in self._portions(self.puts):
            yield PutAddresses(ifname=ifname, addresses=addresses, valid_seconds=fence)
            if self._is_lit(ifname):
                yield SendAnnouncement(ifname=ifname, addresses=addresses)
        for ifname, addresses in self._portions(k for k in self.announces if self._is_lit(k[0])):
            yield SendAnnouncement(ifname=ifname, addresses=addresses)
        yield from self._requests()
        for ifname, addresses in grouped(k for k in self.removes if not self._is_held(k)):
            yield RemoveAddresses(ifname=ifname, addresses=addresses)
        for ifname, addresses in grouped(self.refreshes):
            yield PutAddresses(ifname=ifname, addresses=addresses, valid_seconds=fence)
        for ifname in sorted(self.echoes):
            yield SendEcho(ifname=ifname, echoes=tuple(self.echoes[ifname]))
        for ifname, addresses in self._portions(k for k in self.probes if self._is_lit(k[0])):
            yield SendProbe(ifname=ifname, addresses=addresses)

    def _requests(self) -> Iterator[SendRequest]:
        """Rule 3: while an announcement is new, a request for something else as well, for whoever ignores what nobody
        asked for.

        A broadcast ARP request is heard by all, and whoever has an entry for its spa updates it, asked or not (RFC 826,
        the merge flag). So one is sent also where there is no gateway: for an own address, which nobody answers.
        A neighbor solicitation is taken only by the one that it asks for.
        """
        told = (k for k in (*self.puts, *self.announces) if self._is_lit(k[0]) and self._is_new(k))
        for ifname, addresses in self._portions(told):
            link = self.links[ifname]
            asks = link.gateways
            if not any(gateway.version == 4 for gateway in asks):
                asks += tuple(a for a in link.sources if a.version == 4)[:1]
            if {a.version for a in addresses} & {a.version for a in asks}:
                yield SendRequest(ifname=ifname, addresses=addresses, asks=asks)

    def _is_held(self, key: Key) -> bool:
        """At the end of the step: what was given up in it may have been claimed again."""
        entry = self.entries.get(key)
        return entry is not None and entry.is_held

    def _is_new(self, key: Key) -> bool:
        entry = self.entries.get(key)
        return entry is not None and entry.announced < len(self.timing.announce)

    def _portions(self, keys: Iterable[Key]) -> Iterator[tuple[IfName, tuple[IPAddress, ...]]]:
        for ifname, addresses in grouped(keys):
            for start in range(0, len(addresses), PORTION):
                yield ifname, addresses[start : start + PORTION]

    def _is_lit(self, ifname: IfName) -> bool:
        return self.links.get(ifname, DARK).has_carrier


def at_beats(phase: Phase) -> bool:
    """Whether an entry acts with the next beat: with a thousand of them, each would be a wake-up of its own."""
    return phase is WATCHING or phase is HOLDING


DARK = OwnLink(lladdr="", has_carrier=False)


def grouped(keys: Iterable[Key]) -> list[tuple[IfName, tuple[IPAddress, ...]]]:
    """By link, sorted, each once."""
    found: dict[IfName, set[IPAddress]] = {}
    for ifname, address in keys:
        found.setdefault(ifname, set()).add(address)
    return [(name, tuple(sorted(found[name], key=lambda a: (a.version, int(a))))) for name in sorted(found)]
