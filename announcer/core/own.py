"""Who holds a local address on a link: one step of the ownership protocol, a function of state, event and time.

Kubernetes says who may hold an address (`Candidacy`), the wire says who does. Rule numbers are those of the protocol
(docs: ownership); this version watches addresses, not yet nodes.

| phase | meaning | leaves when |
|---|---|---|
| WAITING | a candidate lets those before it go first: position x T (rule 2) | the time is over: PROBING |
| PROBING | RFC 5227 probes are out, nobody has answered yet | enough stayed unanswered: HOLDING; an answer: WATCHING |
| WATCHING | somebody else holds it; probed once a second (rule 8) | three in a row unanswered: HOLDING |
| HOLDING | this kernel answers; fence refreshed (rule 4) | candidacy lost: LEAVING; conflict lost: WATCHING |
| LEAVING | no candidate any more, still answering (rule 5) | a successor is heard, or 2 s went by |
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from hashlib import sha256
from math import inf

from announcer.core.model import (
    Action,
    Heard,
    IfName,
    IPAddress,
    PutAddresses,
    RemoveAddresses,
    SendAnnouncement,
    SendProbe,
)

Key = tuple[IfName, IPAddress]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds. `interval` is T; `fence` the valid_lft of a held address, `farewell` the one that SIGTERM leaves."""

    interval: float = 0.1
    settle: float = 3.0
    watch: float = 1.0
    foreign_most: float = 30.0
    leave: float = 2.0
    fence: int = 10
    refresh: float = 3.0
    farewell: int = 300
    announce: tuple[float, ...] = (0.1, 1.1, 3.0)
    announce_steady: float = 60.0


class Phase(Enum):
    WAITING = "waiting"
    PROBING = "probing"
    WATCHING = "watching"
    HOLDING = "holding"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One address on one link. `due` is when it acts next, `since` when the phase began, `silent` the unanswered probes
    in a row, `announced` the announcements sent, `holder` the MAC that was heard last.
    """

    phase: Phase
    due: float
    since: float
    position: int = 0
    silent: int = 0
    announced: int = 0
    holder: str = ""
    rivals: frozenset[str] = frozenset()

    @property
    def is_held(self) -> bool:
        return self.phase in {Phase.HOLDING, Phase.LEAVING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """The state of one node: entries by link and address, own MACs by link, when it began to listen on a link."""

    entries: Mapping[Key, Entry] = field(default_factory=dict)
    lladdrs: Mapping[IfName, str] = field(default_factory=dict)
    listening: Mapping[IfName, float] = field(default_factory=dict)
    nodes: frozenset[str] = frozenset()
    refreshed: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class May:
    """What the pass decided: `candidacies` by key as (position, rivals); `keep` are addresses that nobody may judge."""

    candidacies: Mapping[Key, tuple[int, frozenset[str]]]
    keep: frozenset[IPAddress] = frozenset()
    nodes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What the kernel has of ours on real links, and those links' MACs."""

    keys: frozenset[Key]
    lladdrs: Mapping[IfName, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    pass


Event = May | Present | Heard | Tick
Step = tuple[Ownership, tuple[Action, ...]]


def step(state: Ownership, event: Event, now: float, timing: Timing) -> Step:
    """The next state and what to do, in order; `now` is monotonic. Addresses come before what announces them."""
    match event:
        case May():
            return _judge(state, event, now, timing), ()
        case Present():
            return _look(state, event, now, timing)
        case Heard():
            return _hear(state, event, now, timing)
        case Tick():
            return _tick(state, now, timing)


def farewell(state: Ownership, timing: Timing) -> tuple[Action, ...]:
    """On SIGTERM: everything held stays long enough for the next agent to take over without a move."""
    held = [key for key, entry in state.entries.items() if entry.is_held]
    return tuple(_put(held, timing.farewell))


def next_due(state: Ownership, timing: Timing) -> float:
    """When `Tick` has something to do again, on the clock of `step`; infinity while nothing is entered."""
    if not state.entries:
        return inf
    held = any(entry.is_held for entry in state.entries.values())
    refresh = state.refreshed + timing.refresh if held else inf
    return min(refresh, *(entry.due for entry in state.entries.values()))


def _judge(state: Ownership, may: May, now: float, timing: Timing) -> Ownership:
    entries: dict[Key, Entry] = {}
    for key, (position, rivals) in may.candidacies.items():
        old = state.entries.get(key)
        if old is None:
            due = now + position * timing.interval
            entries[key] = Entry(phase=Phase.WAITING, due=due, since=now, position=position, rivals=rivals)
        elif old.phase is Phase.LEAVING:
            back = replace(old, phase=Phase.HOLDING, since=now, due=now, announced=0)
            entries[key] = replace(back, position=position, rivals=rivals)
        else:
            entries[key] = _hurry(replace(old, position=position, rivals=rivals), may.nodes, now)
    for key, old in state.entries.items():
        if key not in entries and old.is_held:
            leaves = old.phase is Phase.HOLDING and key[1] not in may.keep
            entries[key] = replace(old, phase=Phase.LEAVING, since=now, due=now + timing.leave) if leaves else old
    return replace(state, entries=entries, nodes=may.nodes)


def _hurry(entry: Entry, nodes: frozenset[str], now: float) -> Entry:
    """Rule 6: the holder is a node that is no candidate any more, and this is the first: claim at once."""
    is_orphan = entry.holder in nodes and entry.holder not in entry.rivals
    if entry.phase is Phase.WATCHING and entry.position == 0 and is_orphan:
        return replace(entry, phase=Phase.PROBING, silent=1000, due=now, since=now)
    return entry


def _look(state: Ownership, present: Present, now: float, timing: Timing) -> Step:
    """Adopt what the kernel still has (a restart needs no memory); put back what somebody took away.

    An address that went while the fence was not refreshed is not put back: another node may have it by now.
    """
    entries = dict(state.entries)
    lost: list[Key] = []
    for key in present.keys - entries.keys():
        entries[key] = Entry(phase=Phase.HOLDING, due=now, since=now, announced=len(timing.announce))
    for key in present.keys & entries.keys():
        if not entries[key].is_held:
            entries[key] = replace(entries[key], phase=Phase.HOLDING, since=now, due=now, announced=0)
    for key, entry in state.entries.items():
        if not entry.is_held or key in present.keys:
            continue
        if key[0] in present.lladdrs and now - state.refreshed < timing.fence and entry.phase is Phase.HOLDING:
            lost.append(key)
            entries[key] = replace(entry, announced=0, due=now)
        else:
            entries[key] = replace(entry, phase=Phase.WAITING, since=now, due=now + entry.position * timing.interval)
    listening = {ifname: state.listening.get(ifname, now) for ifname in present.lladdrs}
    is_first = not state.refreshed
    new = replace(state, entries=entries, lladdrs=present.lladdrs, listening=listening)
    return replace(new, refreshed=now - timing.refresh if is_first else state.refreshed), tuple(
        _put(lost, timing.fence)
    )


def _hear(state: Ownership, heard: Heard, now: float, timing: Timing) -> Step:
    key = (heard.ifname, heard.address)
    entry, own = state.entries.get(key), state.lladdrs.get(heard.ifname)
    if entry is None or own is None or heard.lladdr == own:
        return state, ()
    told = replace(entry, holder=heard.lladdr, silent=0)
    match entry.phase:
        case Phase.HOLDING if _rank(own, heard.address) < _rank(heard.lladdr, heard.address):
            return _with(state, key, replace(told, announced=0)), (_announce([key])[0],)  # rule 9: ours stays
        case Phase.HOLDING:
            watching = replace(told, phase=Phase.WATCHING, since=now, due=now + timing.watch)
            return _with(state, key, watching), tuple(_remove([key]))
        case Phase.LEAVING:
            return _without(state, key), tuple(_remove([key]))  # rule 5: the successor is there
        case Phase.WAITING | Phase.PROBING | Phase.WATCHING:
            since = entry.since if entry.phase is Phase.WATCHING else now
            return _with(
                state,
                key,
                replace(told, phase=Phase.WATCHING, since=since, due=_next_look(told, since, state, now, timing)),
            ), ()


def _next_look(entry: Entry, since: float, state: Ownership, now: float, timing: Timing) -> float:
    """Once a second, those further back a little later; a host that is no node of ours ever more rarely."""
    if entry.holder in state.nodes or not state.nodes:
        return now + timing.watch + entry.position * timing.interval
    return now + min(max(timing.watch, now - since), timing.foreign_most)


def _tick(state: Ownership, now: float, timing: Timing) -> Step:
    entries = dict(state.entries)
    probes: list[Key] = []
    claims: list[Key] = []
    again: list[Key] = []
    gone: list[Key] = []
    for key, entry in state.entries.items():
        if entry.due > now:
            continue
        match entry.phase:
            case Phase.WAITING:
                probes.append(key)
                entries[key] = replace(entry, phase=Phase.PROBING, since=now, due=now + timing.interval, silent=0)
            case Phase.PROBING | Phase.WATCHING:
                entries[key] = _unanswered(state, key, entry, now, timing)
                (claims if entries[key].phase is Phase.HOLDING else probes).append(key)
            case Phase.HOLDING:
                again.append(key)
                entries[key] = _announced(entry, now, timing)
            case Phase.LEAVING:
                gone.append(key)
                del entries[key]
    held = [key for key, entry in entries.items() if entry.is_held]
    is_due = now - state.refreshed >= timing.refresh
    actions = [*_put(held if is_due else claims, timing.fence), *_announce(claims + again), *_remove(gone)]
    refreshed = now if is_due else state.refreshed
    return replace(state, entries=entries, refreshed=refreshed), (*actions, *_by_link(SendProbe, probes))


def _unanswered(state: Ownership, key: Key, entry: Entry, now: float, timing: Timing) -> Entry:
    """One more probe got no answer. A claim needs one while PROBING once this node has listened long enough, else
    three; the first probe of WATCHING is only sent now, so three silent ones need four visits.
    """
    silent = entry.silent + 1
    has_listened = now - state.listening.get(key[0], now) > timing.settle
    needed = (1 if has_listened else 3) if entry.phase is Phase.PROBING else 4
    if silent >= needed:
        first = now + timing.announce[0]
        return replace(entry, phase=Phase.HOLDING, since=now, due=first, announced=0, silent=0, holder="")
    pause = timing.interval if entry.phase is Phase.PROBING else timing.watch
    return replace(entry, silent=silent, due=now + pause)


def _announced(entry: Entry, now: float, timing: Timing) -> Entry:
    """Rule 3: again after 0.1, 1.1 and 3 s, for clients that ignore a second change within a second; then steadily."""
    count = entry.announced + 1
    gaps = [later - sooner for sooner, later in zip(timing.announce, timing.announce[1:], strict=False)]
    pause = gaps[count - 1] if count <= len(gaps) else timing.announce_steady
    return replace(entry, announced=count, due=now + pause)


def _rank(lladdr: str, address: IPAddress) -> bytes:
    return sha256(f"{lladdr}#{address}".encode()).digest()


def _with(state: Ownership, key: Key, entry: Entry) -> Ownership:
    return replace(state, entries={**state.entries, key: entry})


def _without(state: Ownership, key: Key) -> Ownership:
    return replace(state, entries={k: v for k, v in state.entries.items() if k != key})


def _group(keys: Iterable[Key]) -> list[tuple[IfName, tuple[IPAddress, ...]]]:
    found: dict[IfName, list[IPAddress]] = {}
    for ifname, address in keys:
        found.setdefault(ifname, []).append(address)
    return [(ifname, tuple(sorted(found[ifname], key=lambda a: (a.version, int(a))))) for ifname in sorted(found)]


def _put(keys: Iterable[Key], valid_seconds: int) -> list[Action]:
    return [PutAddresses(ifname=name, addresses=some, valid_seconds=valid_seconds) for name, some in _group(keys)]


def _remove(keys: Iterable[Key]) -> list[Action]:
    return [RemoveAddresses(ifname=name, addresses=some) for name, some in _group(keys)]


def _announce(keys: Iterable[Key]) -> list[Action]:
    return [SendAnnouncement(ifname=name, addresses=some) for name, some in _group(keys)]


def _by_link(kind: type[SendProbe], keys: Iterable[Key]) -> list[Action]:
    return [kind(ifname=name, addresses=some) for name, some in _group(keys)]
