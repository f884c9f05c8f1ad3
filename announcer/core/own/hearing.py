"""What is heard: who holds what (rules 5 and 9), who lives, and who has been away (rule 11)."""

from math import inf
from typing import assert_never

from announcer.core.model import Heard, HeardEcho, HeardProbe, WireEvent
from announcer.core.own import watch
from announcer.core.own.order import rank
from announcer.core.own.values import Cause, Entry, Key, Phase, Target
from announcer.core.own.work import Work


def hear(work: Work, frame: WireEvent) -> None:
    match frame:
        case Heard():
            _hear_arp(work, frame)
        case HeardEcho():
            _hear_echo(work, frame)
        case HeardProbe():
            _hear_probe(work, frame)
        case _:
            assert_never(frame)


def _hear_echo(work: Work, echo: HeardEcho) -> None:
    _hear_from(work, (echo.ifname, echo.lladdr), watch.hear_echo(work, echo))


def _hear_probe(work: Work, probe: HeardProbe) -> None:
    """Two ask at once whether they may hold an address (RFC 5227 §2.1.1): the later in the order lets the other go
    first.
    """
    key = (probe.ifname, probe.address)
    entry, node = work.entries.get(key), work.node_of(probe.lladdr)
    if entry is None or entry.phase is not Phase.PROBING or work.node not in entry.order:
        return
    if node in entry.order[: entry.order.index(work.node)]:
        work.wait(key, entry)


def _hear_arp(work: Work, heard: Heard) -> None:
    if heard.ifname not in work.links or any(heard.lladdr == link.lladdr for link in work.links.values()):
        return
    key, target = (heard.ifname, heard.address), (heard.ifname, heard.lladdr)
    lives = watch.hear_arp(work, heard)
    entry = work.entries.get(key)
    if entry is not None:
        _hear_holder(work, key, entry, heard)
    _hear_from(work, target, lives)


def _hear_holder(work: Work, key: Key, entry: Entry, heard: Heard) -> None:
    match entry.phase:
        case Phase.HOLDING:
            if not heard.at or heard.at >= entry.since:
                _settle(work, key, entry, heard)
        case Phase.LEAVING:
            if heard.lladdr in work.neighbors:  # rule 5: the successor is there
                work.give_up(key, entry, heard.lladdr, Cause.PLANNED)
        case Phase.SUCCEEDING if entry.cause is Cause.PLANNED and heard.lladdr == entry.holder:
            pass  # the one that is to be succeeded
        case Phase.WATCHING if _is_left_over(work, entry, heard.lladdr):
            pass
        case Phase.WATCHING if entry.holder == heard.lladdr and entry.silent:
            due = work.next_look(key, entry)
            work.set(key, entry._replace(heard=work.now, silent=0, asking=-inf, due=due))
            work.succeed_if_planned(key)
        case Phase.WAITING | Phase.PROBING | Phase.WATCHING | Phase.SUCCEEDING:
            watch.note_taken(work, key, entry, heard.lladdr)
            since = entry.since if entry.phase is Phase.WATCHING and entry.holder == heard.lladdr else work.now
            work.watch(key, entry, heard.lladdr, since)
            work.succeed_if_planned(key)
        case Phase.DARK:
            pass
        case _:
            assert_never(entry.phase)


def _is_left_over(work: Work, entry: Entry, lladdr: str) -> bool:
    """A node that is no candidate any more and has lost its agent answers until its fence falls. It is not the holder
    where a candidate has answered as well.
    """
    node, holder = work.node_of(lladdr), work.node_of(entry.holder)
    has_holder = holder in entry.order and work.now - entry.heard < work.timing.interval
    return has_holder and node is not None and node not in entry.order


def _settle(work: Work, key: Key, entry: Entry, heard: Heard) -> None:
    """Rule 9: two hold; the smaller keeps and announces.

    A MAC that is no living node's has to be heard again, while this address is defended and asked for: a single frame
    of a stranger, or a late one of a dead node, takes nothing away (RFC 5227 §2.4 (b)), and neither do several that
    came before the defence.
    """
    lladdr = heard.lladdr
    own = work.links[key[0]].lladdr
    seen = work.watches.get((key[0], lladdr))
    is_strange = lladdr not in work.neighbors or (seen is not None and seen.is_dead)
    if rank(own, key[1]) < rank(lladdr, key[1]) or _is_succeeded(work, entry, lladdr):
        work.announce(key)
    elif is_strange and work.now >= entry.until:
        work.announce(key)
        work.probes[key] = None
        work.set(key, work.entries[key]._replace(until=work.now + work.timing.defend, heard=work.now))
    elif is_strange and _is_old(work, entry, heard):
        work.announce(key)
    else:
        work.give_up(key, entry, lladdr, Cause.CONFLICT)
        if key in work.entries and entry.cause is Cause.PLANNED:
            _back_off(work, key)


def _is_old(work: Work, entry: Entry, heard: Heard) -> bool:
    """It came before the defence; or, of a node that was taken for dead, so long after it that nobody answered that."""
    is_before = 0 < heard.at <= entry.until - work.timing.defend
    return is_before or (work.now - entry.heard > work.timing.interval * 5 and heard.lladdr in work.neighbors)


def _is_succeeded(work: Work, entry: Entry, lladdr: str) -> bool:
    """A moment after a planned claim its frames may be older than that, and it may leave for having heard of it."""
    node = work.node_of(lladdr)
    is_fresh = work.now - entry.since < work.timing.interval * 2
    return entry.cause is Cause.PLANNED and is_fresh and node is not None and node not in entry.order


def _back_off(work: Work, key: Key) -> None:
    """The holder doesn't know yet that it is no candidate; once it does, it waits `leave` for its successor.

    So the next claim comes within that time, and where the holder's view stays old for a minute, more rarely.
    """
    entry, timing = work.entries[key], work.timing
    pause = timing.leave / 2 if entry.tries < 30 else timing.foreign_most
    until = work.now + pause
    work.set(key, entry._replace(until=until, tries=entry.tries + 1, due=min(entry.due, until)))


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
                    work.set(key, entry._replace(source=""))
                    work.probes[key] = None
                work.announce(key)
    if was_dead:
        for key, entry in list(work.entries.items()):
            if entry.phase is Phase.SUCCEEDING and (key[0], entry.holder) == target:
                work.watch(key, entry, lladdr, work.now)
