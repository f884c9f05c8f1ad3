"""The rules of the protocol, §4, one function an event; `step` is the only way in."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import assert_never

from announcer.core.model import Action, Heard, HeardEcho, HeardProbe, IfName, IPAddress, PutAddresses, WireEvent
from announcer.core.own import watch
from announcer.core.own.order import is_watcher, rank
from announcer.core.own.timing import Timing
from announcer.core.own.values import (
    Cause,
    Entry,
    Event,
    Frames,
    Key,
    May,
    Neighbor,
    Ownership,
    OwnLink,
    Phase,
    Present,
    Refreshed,
    Step,
    Target,
    Tick,
    Unsent,
)
from announcer.core.own.work import DARK, Work, grouped

NEIGHBORS_MOST = 4096
STALE_READING = 0.5
"""Seconds: a reading of the kernel that began less than this after a change may show what was before it."""


def step(state: Ownership, event: Event, now: float, timing: Timing) -> Step:
    """The next state, and what to do, in order; `now` is monotonic."""
    work = Work(state, now, timing)
    match event:
        case May():
            _judge(work, event)
        case Present():
            _look(work, event)
        case Frames():
            for frame in event.frames:
                _hear_frame(work, frame)
        case Refreshed():
            work.refreshed = max(work.refreshed, event.at)
        case Unsent():
            for target in [t for t in work.watches if t[0] == event.ifname]:
                work.watches[target] = replace(work.watches[target], asked=False)
        case Tick():
            _tick(work)
        case _:
            assert_never(event)
    return work.finish()


def farewell(state: Ownership, now: float, timing: Timing) -> tuple[Action, ...]:
    """On SIGTERM: everything held stays long enough for the next agent to take over without a move.

    Nothing where the fence may have fallen already: it could be another's by now.
    """
    if now - state.refreshed >= timing.fence - timing.margin:
        return ()
    held = (key for key, entry in state.entries.items() if entry.is_held)
    seconds = timing.farewell
    return tuple(PutAddresses(ifname=name, addresses=some, valid_seconds=seconds) for name, some in grouped(held))


def next_due(state: Ownership) -> float:
    """When `Tick` has something to do again, on the clock of `step`; infinity while nothing is entered."""
    return min(state.beat, state.verdict, state.wake) if state.entries else inf


def interest(state: Ownership) -> frozenset[IPAddress]:
    """What the wire has to listen for."""
    nodes = (address for neighbor in state.neighbors.values() for address in neighbor.addresses)
    gateways = (address for link in state.links.values() for address in link.gateways)
    return frozenset([*(address for _, address in state.entries), *nodes, *gateways])


# -- what the pass decided -------------------------------------------------------------------------------------------


def _judge(work: Work, may: May) -> None:
    work.node = may.node
    work.neighbors = _remembered(work, may)
    for key, order in may.candidacies.items():
        old = work.entries.get(key)
        if old is None:
            _enter(work, key, Entry(phase=Phase.WAITING, due=inf, since=work.now, order=order))
        elif old.phase is Phase.LEAVING:
            back = replace(old, phase=Phase.HOLDING, since=work.now, due=work.now, announced=0)
            work.set(key, replace(back, order=order))
        else:
            work.set(key, replace(old, order=order))
            _reconsider(work, key)
    for key in [k for k in work.entries if k not in may.candidacies]:
        entry = work.entries[key]
        if entry.phase is Phase.HOLDING:
            if key[1] not in may.keep:  # rule 5
                leaving = replace(entry, phase=Phase.LEAVING, since=work.now, order=())
                work.set(key, replace(leaving, due=work.now + work.timing.leave))
        elif entry.phase is Phase.DARK:
            work.set(key, replace(entry, order=()))
        elif entry.phase is not Phase.LEAVING:
            del work.entries[key]


def _remembered(work: Work, may: May) -> Mapping[str, Neighbor]:
    """A node whose object is gone may still hold addresses: its MAC is no foreign host's."""
    if all(work.neighbors.get(lladdr) == neighbor for lladdr, neighbor in may.neighbors.items()):
        return work.neighbors
    known = dict(work.neighbors) | dict(may.neighbors)
    return known if len(known) <= NEIGHBORS_MOST else dict(may.neighbors)


def _enter(work: Work, key: Key, entry: Entry) -> None:
    if work.links.get(key[0], DARK).has_carrier:
        work.wait(key, entry)
    else:
        work.set(key, entry)


def _reconsider(work: Work, key: Key) -> None:
    """The order, or what is known of the holder, may be new."""
    entry = work.entries[key]
    if entry.phase is Phase.WATCHING:
        position = work.position(key, entry)
        if position != entry.position:
            entry = replace(entry, position=position)
            work.set(key, replace(entry, due=min(entry.due, work.next_look(key, entry))))
        _succeed_if_planned(work, key)


def _succeed_if_planned(work: Work, key: Key) -> None:
    """Rule 6: the holder is a node that is no candidate (any more). The first claims at once, and then the others.

    A claim that lost against a holder that knows no better yet isn't repeated at once.
    """
    entry = work.entries[key]
    node = work.node_of(entry.holder)
    if node is None or node in entry.order or work.now < entry.until:
        return
    if entry.position == 0:
        work.claim(key, entry, Cause.PLANNED, 0.0)
    else:
        pause = min(entry.position * work.timing.leave / 4, work.timing.leave)
        later = replace(entry, phase=Phase.SUCCEEDING, since=work.now, due=work.now + pause, cause=Cause.PLANNED)
        work.set(key, later)


# -- what the kernel has ---------------------------------------------------------------------------------------------


def _look(work: Work, present: Present) -> None:
    """Adopt what the kernel still has (a restart needs no memory); put back what somebody took away."""
    is_first = work.began == inf
    if is_first:
        work.began, work.beat, work.refresh, work.refreshed = work.now, work.now, work.now, work.now
    _look_at_links(work, present.links)
    for key in present.keys:
        entry = work.entries.get(key)
        if entry is None:
            if is_first or present.at > work.removed + STALE_READING:
                due = work.now + work.timing.watch
                work.set(key, Entry(phase=Phase.HOLDING, due=due, since=work.now, announced=9))
        elif entry.phase in OTHERS and present.at > entry.since + STALE_READING:
            work.removes.append(key)
    for key, entry in list(work.entries.items()):
        is_missing = key not in present.keys and present.at > max(entry.since, work.before.began)
        if entry.phase is Phase.HOLDING and is_missing:
            _put_back(work, key, entry)


def _look_at_links(work: Work, links: Mapping[IfName, OwnLink]) -> None:
    before, work.links = work.links, links
    for ifname in before.keys() | links.keys():
        was, is_lit = before.get(ifname, DARK).has_carrier, links.get(ifname, DARK).has_carrier
        if was and not is_lit:
            _darken(work, ifname)
        elif is_lit and not was:
            _light(work, ifname)


OTHERS = {Phase.WAITING, Phase.PROBING, Phase.WATCHING, Phase.SUCCEEDING}


def _put_back(work: Work, key: Key, entry: Entry) -> None:
    """Somebody deleted it. What went while the fence wasn't refreshed may be another's by now."""
    if key[0] in work.links and _has_fence(work):
        work.set(key, replace(entry, announced=0, due=work.now + work.timing.announce[0], last_announced=work.now))
        work.puts.append(key)
    else:
        work.give_up(key, entry, "", Cause.FENCE_FELL)


def _has_fence(work: Work) -> bool:
    return work.now - work.refreshed < work.timing.fence - work.timing.margin


def _darken(work: Work, ifname: IfName) -> None:
    """Rule 10. What is held stays for two intervals, before which nobody else claims: a shaken plug moves nothing."""
    for target in [t for t in work.watches if t[0] == ifname]:
        del work.watches[target]
    for key, entry in list(work.entries.items()):
        if key[0] != ifname:
            continue
        if entry.is_held:
            due = work.now + 2 * work.timing.interval
            work.set(key, replace(entry, phase=Phase.DARK, since=work.now, due=due))
        else:
            work.set(key, replace(entry, phase=Phase.WAITING, since=work.now, due=inf, holder=""))


def _light(work: Work, ifname: IfName) -> None:
    """What is still held is asked for while it is announced: rule 9 if another has it."""
    for key, entry in list(work.entries.items()):
        if key[0] != ifname:
            continue
        if entry.phase is Phase.DARK:
            work.set(key, replace(entry, phase=Phase.HOLDING, since=work.now, announced=0))
            work.announce(key)
            work.probes[key] = None
        else:
            work.wait(key, entry)


# -- what is heard ---------------------------------------------------------------------------------------------------


def _hear_frame(work: Work, frame: WireEvent) -> None:
    match frame:
        case Heard():
            _hear(work, frame)
        case HeardEcho():
            _hear_echo(work, frame)
        case HeardProbe():
            pass  # who asks holds nothing
        case _:
            assert_never(frame)


def _hear_echo(work: Work, echo: HeardEcho) -> None:
    _hear_from(work, (echo.ifname, echo.lladdr), watch.hear_echo(work, echo))


def _hear(work: Work, heard: Heard) -> None:
    if heard.ifname not in work.links or any(heard.lladdr == link.lladdr for link in work.links.values()):
        return
    key, target = (heard.ifname, heard.address), (heard.ifname, heard.lladdr)
    lives = watch.hear_arp(work, heard)
    entry = work.entries.get(key)
    if entry is not None:
        match entry.phase:
            case Phase.HOLDING:
                if not heard.at or heard.at >= entry.since:
                    _settle(work, key, entry, heard.lladdr)
            case Phase.LEAVING:
                if heard.lladdr in work.neighbors:  # rule 5: the successor is there
                    work.give_up(key, entry, heard.lladdr, Cause.PLANNED)
            case Phase.SUCCEEDING if entry.cause is Cause.PLANNED and heard.lladdr == entry.holder:
                pass  # the one that is to be succeeded
            case Phase.WAITING | Phase.PROBING | Phase.WATCHING | Phase.SUCCEEDING:
                since = entry.since if entry.phase is Phase.WATCHING and entry.holder == heard.lladdr else work.now
                work.watch(key, entry, heard.lladdr, since)
                _succeed_if_planned(work, key)
            case Phase.DARK:
                pass
            case _:
                assert_never(entry.phase)
    _hear_from(work, target, lives)


def _settle(work: Work, key: Key, entry: Entry, lladdr: str) -> None:
    """Rule 9: two hold; the smaller keeps and announces.

    A MAC that is no living node's has to be heard again, while this address is defended and asked for: a single frame
    of a stranger, or a late one of a dead node, takes nothing away (RFC 5227 §2.4 (b)).
    """
    own = work.links[key[0]].lladdr
    seen = work.watches.get((key[0], lladdr))
    is_strange = lladdr not in work.neighbors or (seen is not None and seen.is_dead)
    if rank(own, key[1]) < rank(lladdr, key[1]):
        work.announce(key)
    elif is_strange and work.now >= entry.until:
        work.announce(key)
        work.probes[key] = None
        work.set(key, replace(work.entries[key], until=work.now + work.timing.defend, heard=work.now))
    elif is_strange and work.now - entry.heard > work.timing.interval * 5 and lladdr in work.neighbors:
        work.announce(key)  # it was an old frame, and so is this
    else:
        work.give_up(key, entry, lladdr, Cause.CONFLICT)
        if key in work.entries:
            work.set(key, replace(work.entries[key], until=work.now + work.timing.leave))


def _hear_from(work: Work, target: Target, lives: Target | None) -> None:
    """Rule 11, and the same for nodes that nobody had watched: who has been away may hold what is held here."""
    ifname, lladdr = target
    if lladdr not in work.neighbors:
        return
    last = work.seen.get(target, work.began)
    work.seen[target] = work.now
    was_dead = lives is not None and work.watches[lives].is_dead
    if was_dead:
        watch.revive(work, target)
    if was_dead or work.now - last > work.timing.gap:
        node = work.node_of(lladdr)
        for key, entry in list(work.entries.items()):
            if key[0] == ifname and entry.phase is Phase.HOLDING and (node in entry.order or entry.source == lladdr):
                if entry.source == lladdr:
                    work.set(key, replace(entry, source=""))
                    work.probes[key] = None
                work.announce(key)
    if was_dead:
        for key, entry in list(work.entries.items()):
            if entry.phase is Phase.SUCCEEDING and (key[0], entry.holder) == target:
                work.watch(key, entry, lladdr, work.now)


# -- time ------------------------------------------------------------------------------------------------------------


def _tick(work: Work) -> None:
    if not _has_fence(work):
        _lose_all(work)
    dead: list[Target] = []
    if work.now >= work.beat:
        dead = watch.beat(work, _wanted(work))
        _beacon(work)
    elif work.now >= work.verdict:
        dead = watch.verdict(work)
    for target in dead:
        _inherit(work, target)
    work.wake = inf
    for key, entry in list(work.entries.items()):
        if entry.due <= work.now:
            _act(work, key, entry)
        elif entry.due < work.wake:
            work.wake = entry.due
    if work.now >= work.refresh:
        work.refreshes += [key for key, entry in work.entries.items() if entry.is_held]
        work.refresh = work.now + work.timing.refresh
        if not work.refreshes:
            work.refreshed = work.now


def _lose_all(work: Work) -> None:
    """This agent stood still, or the kernel refused, for longer than the fence: others may hold all of it by now."""
    for key, entry in list(work.entries.items()):
        if entry.is_held:
            work.give_up(key, entry, "", Cause.FENCE_FELL)
    work.refreshed = work.now


def _wanted(work: Work) -> dict[Target, list[IPAddress]]:
    """Whom to watch, and what each one holds: holders that this node is first or second behind, and dead nodes that
    something was taken from (rule 11).
    """
    wanted: dict[Target, list[IPAddress]] = {}
    for (ifname, address), entry in work.entries.items():
        target = (ifname, entry.holder or entry.source)
        if entry.phase is Phase.WATCHING or entry.phase is Phase.SUCCEEDING:
            if entry.holder in work.neighbors and is_watcher(entry.position, entry.order, work.timing):
                wanted.setdefault(target, []).append(address)
        elif entry.source and target in work.watches and work.watches[target].is_dead:
            wanted.setdefault(target, []).append(address)
    return wanted


def _inherit(work: Work, target: Target) -> None:
    """Rule 7 for all that a dead node held, in one go."""
    ifname, lladdr = target
    keys = [
        key
        for key, entry in work.entries.items()
        if key[0] == ifname and entry.holder == lladdr and entry.phase is Phase.WATCHING
    ]
    silent = work.now - work.watches[target].heard
    pause = work.timing.interval + work.timing.bulk * len(keys)
    for key in keys:
        entry = work.entries[key]
        position = work.position(key, entry)
        if position == 0:
            work.claim(key, entry, Cause.NODE_DEAD, silent)
        else:
            due = work.now + position * pause
            work.set(key, replace(entry, phase=Phase.SUCCEEDING, since=work.now, due=due, cause=Cause.NODE_DEAD))


def _beacon(work: Work) -> None:
    """Twice a second something that is held is announced: by that, others notice that this node is back."""
    if work.now < work.beacon:
        return
    work.beacon = work.now + work.timing.beacon
    held: dict[IfName, list[Key]] = {}
    for key, entry in work.entries.items():
        if entry.phase is Phase.HOLDING:
            held.setdefault(key[0], []).append(key)
    for keys in held.values():
        key = keys[work.sequence // 5 % len(keys)]
        if work.now - work.entries[key].last_announced >= work.timing.interval:
            work.announces.append(key)
            work.set(key, replace(work.entries[key], last_announced=work.now))


def _act(work: Work, key: Key, entry: Entry) -> None:
    match entry.phase:
        case Phase.WAITING:
            work.probes[key] = None
            due = work.now + work.timing.interval
            work.set(key, replace(entry, phase=Phase.PROBING, since=work.now, due=due, silent=1))
        case Phase.PROBING if entry.silent >= work.timing.probes:
            work.claim(key, entry, Cause.UNHELD, work.now - entry.since)
        case Phase.PROBING:
            work.probes[key] = None
            work.set(key, replace(entry, silent=entry.silent + 1, due=work.now + work.timing.interval))
        case Phase.WATCHING:
            _ask_holder(work, key, entry)
        case Phase.SUCCEEDING:
            node, seen = entry.holder, work.watches.get((key[0], entry.holder))
            silent = work.now - seen.heard if seen and entry.cause is Cause.NODE_DEAD else 0.0
            work.claim(key, replace(entry, holder=node), entry.cause, silent)
        case Phase.HOLDING:
            work.announces.append(key)
            work.set(key, _announced(work, key, entry))
        case Phase.LEAVING:
            work.give_up(key, entry, "", Cause.PLANNED)
        case Phase.DARK:
            work.give_up(key, entry, "", Cause.CARRIER_LOST)
            if key in work.entries:
                work.set(key, replace(work.entries[key], due=inf))
        case _:
            assert_never(entry.phase)


def _ask_holder(work: Work, key: Key, entry: Entry) -> None:
    """Rule 8: is it still held? Not while its node is silent: that is the watch's to judge."""
    if entry.silent >= work.timing.probes:
        seen = work.watches.get((key[0], entry.holder))
        is_quiet = seen is not None and not seen.is_dead and (seen.silent > 0 or seen.doubted is not None)
        if not is_quiet and _hears(work, key[0]):
            is_node = entry.holder in work.neighbors
            cause = Cause.AGENT_GONE if is_node else Cause.FOREIGN_GONE
            work.claim(key, entry, cause, work.now - entry.heard)
            return
    else:
        entry = replace(entry, silent=entry.silent + 1)
    work.probes[key] = None
    work.set(key, replace(entry, due=work.now + work.timing.watch))


def _hears(work: Work, ifname: IfName) -> bool:
    """Whether anybody answers here at all, as far as there is anybody to answer."""
    return work.now - work.answered.get(ifname, work.now) < work.timing.doubt_most or (
        not any(t[0] == ifname for t in work.watches)
    )


def _announced(work: Work, key: Key, entry: Entry) -> Entry:
    """Rule 3: again after 0.1, 1.1 and 3 s, for clients that ignore a second change within a second; then steadily,
    not all in the same second.
    """
    series, count = work.timing.announce, entry.announced + 1
    steady = work.timing.announce_steady * (0.9 + int(key[1]) % 11 / 100)
    pause = series[count] - series[count - 1] if count < len(series) else steady
    return replace(entry, announced=min(count, 9), due=work.now + pause, last_announced=work.now)
