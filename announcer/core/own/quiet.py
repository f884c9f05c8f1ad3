"""Steps in which nothing is to be decided, made without a look at every entry.

| events | where |
|---|---|
| a beat, and what was heard | all nodes that are watched have answered, holders show what they hold, nothing is due |
| nodes were asked | no verdict waits for it |

For as long as nothing happens these are eight of ten beats, and most of what an idle agent costs. `whole` says the same
of them in some four times the time; the simulation holds each against it.
"""

from collections.abc import Sequence
from math import inf

from announcer.core.model import Echo, Heard, HeardEcho, IfName, SendEcho, SendProbe, WireEvent
from announcer.core.own import watch
from announcer.core.own.order import next_look, those_before
from announcer.core.own.timing import Timing
from announcer.core.own.values import Asked, Entry, Event, Frames, Key, Ownership, Phase, Step, Tick, Watch
from announcer.core.own.work import PORTION, grouped


def quiet(state: Ownership, events: Sequence[Event], now: float, timing: Timing) -> Step | None:
    """None where it takes `whole` to say."""
    if state.began < inf and now - state.refreshed >= timing.fence - timing.margin:
        return None
    match events:
        case [Tick()]:
            return _beat(state, (), now, timing)
        case [Frames(frames=frames), Tick()]:
            return _beat(state, frames, now, timing)
        case [Asked(), *_] if state.verdict == inf:
            return _count(state, events, now, timing)
    return None


def _count(state: Ownership, events: Sequence[Event], now: float, timing: Timing) -> Step | None:
    watches = dict(state.watches)
    for asked in events:
        if not isinstance(asked, Asked) or now - asked.at > timing.interval / 2:
            return None
        entries = [state.entries.get((asked.ifname, address)) for address in asked.addresses]
        if any(entry is not None and entry.asking == asked.at for entry in entries):
            return None
        for target, one in watches.items():
            if watch.is_asked(target, one, asked):
                watches[target] = one._replace(asked=True)
    return state._replace(watches=watches), ()


def _beat(state: Ownership, frames: Sequence[WireEvent], now: float, timing: Timing) -> Step | None:
    sequence = (state.sequence + 1) % watch.SEQUENCES
    is_due = now >= min(state.due, state.beacon, state.refresh) or sequence % watch.GATEWAYS_EACH == 1
    if is_due or not state.beat <= now <= state.beat + timing.interval / 2 or state.verdict < inf:
        return None
    heard = _heard(state, frames, now, timing)
    if heard is None or heard.wanted is None or heard.watches.keys() != heard.wanted.keys():
        return None
    if not all(map(_is_well, heard.watches.values())):
        return None
    watches, echoes, probes = dict(heard.watches), dict[IfName, list[Echo]](), list[Key]()
    for target in sorted(watches):
        one, held, (ifname, lladdr) = watches[target], heard.wanted[target], target
        echo, probed = watch.question(state.links[ifname], state.neighbors[lladdr], lladdr, held, one, sequence)
        if echo is not None:
            echoes.setdefault(ifname, []).append(echo)
        if probed is not None:
            probes.append((ifname, probed))
        watches[target] = one._replace(has_echo=False, has_arp=False, asked=False, asking=now, probed=probed)
    if len(probes) > PORTION:
        return None
    after = heard._replace(watches=watches, sequence=sequence, beat=state.beat + timing.interval)
    return after, (
        *(SendEcho(ifname=ifname, echoes=tuple(some)) for ifname, some in echoes.items()),
        *(SendProbe(ifname=ifname, addresses=some) for ifname, some in grouped(probes)),
    )


def _is_well(one: Watch) -> bool:
    return watch.lives(one) and one.silent == 0 and one.doubted is None and not one.is_dead


def _heard(state: Ownership, frames: Sequence[WireEvent], now: float, timing: Timing) -> Ownership | None:
    watches, seen, answered, due = dict(state.watches), dict(state.seen), dict(state.answered), state.due
    told: dict[Key, Entry] = {}
    for frame in frames:
        target, when = (frame.ifname, frame.lladdr), frame.at or now
        one = watches.get(target)
        if one is None or one.is_dead or now - seen.get(target, state.began) > timing.gap:
            return None
        seen[target] = now
        if isinstance(frame, HeardEcho):
            if not watch.is_answer(frame, one, state.neighbors.get(frame.lladdr), state.sequence):
                return None
            watches[target] = one._replace(has_echo=True, echoed=True, heard=when)
            answered[frame.ifname] = when
        elif isinstance(frame, Heard) and frame.address not in state.links[frame.ifname].gateways:
            if not one.echoed:
                watches[target] = one._replace(has_arp=True, heard=when)
                answered[frame.ifname] = when
            key = (frame.ifname, frame.address)
            if (entry := told.get(key) or state.entries.get(key)) is not None:
                if state.counts is None or not _is_of_holder(state, entry, frame, timing):
                    return None
                after = next_look(frame.address, entry.position, state.counts.get(target, 0), now, timing)
                told[key] = entry._replace(heard=now, silent=0, asking=-inf, due=after)
                due = min(due, after)
        else:
            return None
    entries = {**state.entries, **told} if told else state.entries
    return state._replace(watches=watches, seen=seen, answered=answered, entries=entries, due=due)


def _is_of_holder(state: Ownership, entry: Entry, frame: Heard, timing: Timing) -> bool:
    """What nobody has asked for has the place behind the holder looked at again: one that was dead may live now."""
    node = state.neighbors[frame.lladdr].node
    if entry.phase is not Phase.WATCHING or entry.holder != frame.lladdr or node not in entry.order:
        return False
    return entry.silent > 0 or entry.position == len(those_before(state.node, entry.order, node, frame.address, timing))
