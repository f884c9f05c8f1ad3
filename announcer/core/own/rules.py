"""The rules of the protocol, §4, one function an event; `steps` is the way in, and `step` for one event."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import assert_never

from announcer.core.model import IPAddress, PutAddresses
from announcer.core.own import watch
from announcer.core.own.hearing import hear
from announcer.core.own.looking import look
from announcer.core.own.quiet import quiet
from announcer.core.own.ticking import tick
from announcer.core.own.timing import Timing
from announcer.core.own.values import (
    Asked,
    Entry,
    Event,
    Frames,
    Key,
    May,
    Neighbor,
    Ownership,
    Phase,
    Present,
    Refreshed,
    Step,
    Tick,
)
from announcer.core.own.work import DARK, Work, grouped

NEIGHBORS_MOST = 4096


def step(state: Ownership, event: Event, now: float, timing: Timing) -> Step:
    """The next state, and what to do, in order; `now` is monotonic."""
    return steps(state, (event,), now, timing)


def steps(state: Ownership, events: Sequence[Event], now: float, timing: Timing) -> Step:
    """The same for several events that are told of at one moment."""
    return quiet(state, events, now, timing) or whole(state, events, now, timing)


def whole(state: Ownership, events: Sequence[Event], now: float, timing: Timing) -> Step:
    """What `steps` does where anything may have to be decided."""
    work = Work(state, now, timing)
    if work.began < inf and not work.has_fence():
        work.lose_all()  # before anything that is heard is met as by a holder
    for event in events:
        _meet(work, event)
    return work.finish()


def _meet(work: Work, event: Event) -> None:
    match event:
        case May():
            _judge(work, event)
        case Present():
            look(work, event)
        case Frames():
            for frame in event.frames:
                hear(work, frame)
        case Refreshed():
            work.refreshed = max(work.refreshed, event.at)
        case Asked():
            _count(work, event)
        case Tick():
            tick(work)
        case _:
            assert_never(event)


def farewell(state: Ownership, now: float, timing: Timing) -> tuple[PutAddresses, ...]:
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


def minds_probes(state: Ownership) -> bool:
    """Whether it matters now that somebody else asks for an address: only to one that asks for it itself."""
    return any(entry.phase is Phase.PROBING for entry in state.entries.values())


def _count(work: Work, asked: Asked) -> None:
    """Whoever was asked has a whole interval from now on to answer."""
    watch.count(work, asked)
    for key in ((asked.ifname, address) for address in asked.addresses):
        entry = work.entries.get(key)
        if entry is not None and entry.asking == asked.at:
            due = work.now + work.timing.interval if entry.phase is Phase.PROBING else entry.due
            work.set(key, entry._replace(silent=entry.silent + 1, asking=-inf, due=due))


# -- what the pass decided -------------------------------------------------------------------------------------------


def _judge(work: Work, may: May) -> None:
    work.node = may.node
    known, work.neighbors = work.neighbors, _remembered(work, may)
    if work.neighbors is not known:
        work.wanted = None
    for key, order in may.candidacies.items():
        old = work.entries.get(key)
        if old is None:
            _enter(work, key, Entry(phase=Phase.WAITING, due=inf, since=work.now, order=order))
        elif old.phase is Phase.LEAVING:
            back = old._replace(phase=Phase.HOLDING, since=work.now, due=work.now, announced=0)
            work.set(key, back._replace(order=order))
        else:
            work.set(key, old._replace(order=order))
            _reconsider(work, key, is_met=old.holder in work.neighbors and old.holder not in known)
    for key in [k for k in work.entries if k not in may.candidacies]:
        entry = work.entries[key]
        if entry.phase is Phase.HOLDING:
            if key[1] not in may.keep:  # rule 5
                leaving = entry._replace(phase=Phase.LEAVING, since=work.now, order=())
                work.set(key, leaving._replace(due=work.now + work.timing.leave))
        elif entry.phase is Phase.DARK:
            work.set(key, entry._replace(order=()))
        elif entry.phase is not Phase.LEAVING:
            work.drop(key)


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


def _reconsider(work: Work, key: Key, *, is_met: bool) -> None:
    """The order may be new, or what is known of the holder: `is_met` where it turns out to be a node."""
    entry = work.entries[key]
    if entry.phase is Phase.WATCHING:
        position = work.position(key, entry)
        if position != entry.position or is_met:
            entry = entry._replace(position=position)
            work.set(key, entry._replace(due=min(entry.due, work.next_look(key, entry))))
        work.succeed_if_planned(key)
