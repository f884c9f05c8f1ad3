"""What time brings: probes, claims (rules 2, 7, 8), announcements (rule 3), the fence (rule 4)."""

from collections.abc import Mapping
from math import inf
from typing import assert_never

from announcer.core.model import IfName, IPAddress
from announcer.core.own import watch
from announcer.core.own.order import together
from announcer.core.own.values import Cause, Entry, Key, Phase, Target
from announcer.core.own.work import Work, at_beats


def tick(work: Work) -> None:
    dead: list[Target] = []
    if work.now - work.beat > work.timing.missed * work.timing.interval:
        _wake_up(work)
    if work.now >= work.beat:
        dead = watch.beat(work, _wanted(work))
        _beacon(work)
    elif work.now >= work.verdict:
        dead = watch.verdict(work)
    for target in dead:
        _inherit(work, target)
    _act_on_all(work)
    work.suspect()
    if work.now >= work.refresh:
        work.refreshes += [key for key, entry in work.entries.items() if entry.is_held]
        work.refresh = work.now + work.timing.refresh
        if not work.refreshes:
            work.refreshed = work.now


def _act_on_all(work: Work) -> None:
    work.wake = work.due = inf
    for key, entry in list(work.entries.items()):
        if entry.due <= work.now:
            _act(work, key, entry)
            continue
        work.due = min(work.due, entry.due)
        if entry.due < work.wake and not at_beats(entry.phase):
            work.wake = entry.due


def _wake_up(work: Work) -> None:
    """What was asked or seen before this agent stood still says nothing about who holds now."""
    work.woke = work.now
    for key, entry in list(work.entries.items()):
        if entry.phase is Phase.PROBING or entry.phase is Phase.SUCCEEDING:
            work.wait(key, entry)
        elif entry.phase is Phase.WATCHING and (entry.silent or entry.asking > -inf):
            work.set(key, entry._replace(silent=0, asking=-inf))


def _wanted(work: Work) -> Mapping[Target, tuple[IPAddress, ...]]:
    """Whom to watch, and what each one holds: holders that this node is first or second behind, and dead nodes that
    something was taken from (rule 11).
    """
    if work.wanted is None or work.changes != work.before.changes:
        found: dict[Target, list[IPAddress]] = {}
        for (ifname, address), entry in work.entries.items():
            is_behind = entry.phase is Phase.WATCHING or entry.phase is Phase.SUCCEEDING
            if is_behind and entry.holder in work.neighbors and work.is_watcher(entry):
                found.setdefault((ifname, entry.holder), []).append(address)
            elif entry.source and entry.source in work.neighbors and entry.phase is Phase.HOLDING:
                found.setdefault((ifname, entry.source), []).append(address)
        work.wanted = {target: tuple(held) for target, held in found.items()}
    return work.wanted


def _inherit(work: Work, target: Target) -> None:
    """Rule 7 for all that a dead node held, in one go. Where that was last seen before this agent stood still, somebody
    may have taken it meanwhile: it is asked for.
    """
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
        if entry.heard < work.woke:
            work.wait(key, entry)
        elif position == 0:
            work.claim(key, entry, Cause.NODE_DEAD, silent)
        else:
            due = work.now + position * pause
            work.set(key, entry._replace(phase=Phase.SUCCEEDING, since=work.now, due=due, cause=Cause.NODE_DEAD))


def _beacon(work: Work) -> None:
    """Twice a second something that is held is announced: by that, others notice that this node is back."""
    if work.now < work.beacon:
        return
    work.beacon = (work.now // work.timing.beacon + 1) * work.timing.beacon
    held: dict[IfName, list[Key]] = {}
    for key, entry in work.entries.items():
        if entry.phase is Phase.HOLDING:
            held.setdefault(key[0], []).append(key)
    for keys in held.values():
        key = keys[work.sequence // 5 % len(keys)]
        if work.now - work.entries[key].last_announced >= work.timing.interval:
            work.announces.append(key)
            work.set(key, work.entries[key]._replace(last_announced=work.now))


def _act(work: Work, key: Key, entry: Entry) -> None:
    match entry.phase:
        case Phase.WAITING:
            _probe(work, key, entry._replace(phase=Phase.PROBING, since=work.now))
        case Phase.PROBING:
            _probe(work, key, entry)
        case Phase.WATCHING:
            work.succeed_if_planned(key)
            if work.entries[key] is entry:
                _ask_holder(work, key, entry)
        case Phase.SUCCEEDING:
            _succeed(work, key, entry)
        case Phase.HOLDING:
            work.announces.append(key)
            work.set(key, _announced(work, key, entry))
        case Phase.LEAVING:
            work.give_up(key, entry, "", Cause.PLANNED)
        case Phase.DARK:
            work.give_up(key, entry, "", Cause.CARRIER_LOST)
            if key in work.entries:
                work.set(key, work.entries[key]._replace(due=inf))
        case _:
            assert_never(entry.phase)


def _succeed(work: Work, key: Key, entry: Entry) -> None:
    """Its turn has come, unless those before it are at it."""
    seen = work.watches.get((key[0], entry.holder))
    is_dead = seen is not None and entry.cause is Cause.NODE_DEAD
    if is_dead and watch.is_being_taken(work, key, entry):
        work.set(key, entry._replace(due=work.now + work.timing.interval / 2))
    else:
        work.claim(key, entry, entry.cause, work.now - seen.heard if seen and is_dead else 0.0)


def _probe(work: Work, key: Key, entry: Entry) -> None:
    """Rule 2. A probe is due one interval after it has left (`Asked`), or to be asked again if it never did."""
    if entry.silent >= work.timing.probes:
        work.claim(key, entry, Cause.UNHELD, work.now - entry.since)
        return
    work.probes[key] = None
    work.set(key, entry._replace(asking=work.now, due=work.now + work.timing.unsent))


def _ask_holder(work: Work, key: Key, entry: Entry) -> None:
    """Rule 8: is it still held? Not while its node is silent: that is the watch's to judge.

    Those behind ask more often before they claim, or they could do so at the same moment as the first.
    """
    seen = work.watches.get((key[0], entry.holder))
    is_quiet = seen is not None and not seen.is_dead and (seen.silent > 0 or seen.doubted is not None)
    is_node = entry.holder in work.neighbors
    if entry.silent >= work.timing.probes + 2 * entry.position:
        if not is_quiet and _hears(work, key[0]):
            cause = Cause.AGENT_GONE if is_node else Cause.FOREIGN_GONE
            work.claim(key, entry, cause, work.now - entry.heard)
            return
    elif entry.silent and is_node and not is_quiet:
        work.suspects.add((key[0], entry.holder))
    work.probes[key] = None
    work.set(key, entry._replace(asking=work.now, due=work.now + work.timing.watch))


def _hears(work: Work, ifname: IfName) -> bool:
    """Whether anybody answers here at all, as far as there is anybody to answer."""
    return work.now - work.answered.get(ifname, work.now) < work.timing.doubt_most or (
        not any(t[0] == ifname for t in work.watches)
    )


def _announced(work: Work, key: Key, entry: Entry) -> Entry:
    """Rule 3: again after 0.1 and 0.3 s, for frames that were lost and holders that know no better yet, and after 1.1
    and 3 s, for clients that ignore a second change within a second; then steadily, not all in the same second.
    """
    series, count = work.timing.announce, entry.announced + 1
    steady = work.timing.announce_steady * (0.9 + int(key[1]) % 11 / 100)
    is_new = count < len(series)
    due = work.now + series[count] - series[count - 1] if is_new else together(work.now + steady, work.timing)
    return entry._replace(announced=min(count, 9), due=due, last_announced=work.now)
