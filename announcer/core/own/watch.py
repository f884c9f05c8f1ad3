"""Is that node dead? §5 of the protocol: nodes are watched, not addresses.

| of a node | is |
|---|---|
| answered ICMP once | judged by ICMP alone: an EVPN switch may answer ARP for the dead |
| never | judged by ARP as well: a firewall may drop ICMP |
| no address on the link | asked for the addresses that it holds, one after the other |

ARP is only asked where its answer could decide. Every question is one interval old when it is judged, but for the last
one: half an interval after it, or the median outage would be 3.5 T. An own tick that is late by more than T/2 judges
nothing, and asks anew. Where doubt in this node's own link is possible, somebody else has to have answered.
"""

from collections.abc import Mapping
from math import inf

from announcer.core.model import Echo, Heard, HeardEcho, IfName, IPAddress
from announcer.core.own.values import Asked, Entry, Key, Neighbor, OwnLink, Phase, Target, Watch
from announcer.core.own.work import Work

SEQUENCES = 2**16
LATE_ANSWERS = 3
GATEWAYS_EACH = 100
"""Beats after which all gateways are asked, to know which ones answer at all."""


def beat(work: Work, wanted: Mapping[Target, tuple[IPAddress, ...]]) -> list[Target]:
    """Judge the interval that ends, and ask again. Returns who has died with it; `wanted` has what each one holds."""
    timing, now = work.timing, work.now
    is_late = now - work.beat > timing.interval / 2
    work.beat = now + timing.interval if is_late else work.beat + timing.interval
    for target in work.watches.keys() - wanted.keys():
        del work.watches[target]
    for target, watch in work.watches.items():
        work.watches[target] = _judged(watch, now, is_late=is_late)
    for target in sorted(wanted.keys() - work.watches.keys()):
        work.watches[target] = Watch(heard=now)
    dead = [] if is_late else _dead(work, timing.missed)
    work.sequence = (work.sequence + 1) % SEQUENCES
    for target in sorted(work.watches):
        _ask(work, target, wanted[target])
    _ask_gateways(work)
    is_last = any(w.silent == timing.missed - 1 and not w.is_dead for w in work.watches.values())
    work.verdict = now + timing.interval / 2 if is_last else inf
    return dead


def verdict(work: Work) -> list[Target]:
    """Half an interval after the last question: whoever was silent all the time, and still is."""
    work.verdict = inf
    return _dead(work, work.timing.missed, still_open=1)


def count(work: Work, asked: Asked) -> None:
    """This interval's questions have left. One that took longer than T/2 to leave counts for nothing."""
    half = work.timing.interval / 2
    if work.now - asked.at > half:
        return
    for target, watch in work.watches.items():
        if is_asked(target, watch, asked):
            work.watches[target] = watch._replace(asked=True)
            if work.verdict < inf:
                work.verdict = max(work.verdict, work.now + half)


def is_asked(target: Target, watch: Watch, asked: Asked) -> bool:
    is_his = target[1] in asked.lladdrs or (watch.probed is not None and watch.probed in asked.addresses)
    return target[0] == asked.ifname and watch.asking == asked.at and is_his


def hear_echo(work: Work, echo: HeardEcho) -> Target | None:
    """The node that lives, if it is watched: what comes back is one of the last questions, and from that MAC."""
    target = (echo.ifname, echo.lladdr)
    watch = work.watches.get(target)
    if watch is None or not is_answer(echo, watch, work.neighbors.get(echo.lladdr), work.sequence):
        return None
    when = echo.at or work.now
    work.watches[target] = watch._replace(has_echo=True, echoed=True, heard=when)
    work.answered[echo.ifname] = when
    return target


def is_answer(echo: HeardEcho, watch: Watch | None, neighbor: Neighbor | None, sequence: int) -> bool:
    """Whether it answers one of the last questions to a node that is watched."""
    is_young = (sequence - echo.sequence) % SEQUENCES < LATE_ANSWERS
    return watch is not None and neighbor is not None and echo.address in neighbor.addresses and is_young


def hear_arp(work: Work, heard: Heard) -> Target | None:
    """The node that lives, if it is watched and is judged by ARP."""
    target, when = (heard.ifname, heard.lladdr), heard.at or work.now
    if heard.address in work.links[heard.ifname].gateways:
        work.reachable.add((heard.ifname, heard.address))
        work.answered[heard.ifname] = when
    if (watch := work.watches.get(target)) is None:
        return None
    work.watches[target] = watch._replace(has_arp=True, heard=watch.heard if watch.echoed else when)
    if watch.echoed:
        return None
    work.answered[heard.ifname] = when
    return target


def note_taken(work: Work, key: Key, entry: Entry, lladdr: str) -> None:
    """Somebody shows an address; if a dead node had held it and it is a node, that one is at taking over."""
    target = (key[0], entry.holder)
    watch = work.watches.get(target)
    is_successor = lladdr != entry.holder and lladdr in work.neighbors
    if entry.phase is Phase.SUCCEEDING and watch is not None and is_successor:
        work.watches[target] = watch._replace(taken={**watch.taken, lladdr: work.now})


def is_being_taken(work: Work, key: Key, entry: Entry) -> bool:
    """Whether a node before this one is still at it: with a thousand addresses, that takes a busy one its time."""
    watch = work.watches.get((key[0], entry.holder))
    if watch is None or work.now - entry.since > work.timing.succession:
        return False
    fresh = {work.node_of(lladdr) for lladdr, at in watch.taken.items() if work.now - at < 1.5 * work.timing.interval}
    return not fresh.isdisjoint(work.those_before(key, entry))


def revive(work: Work, target: Target) -> None:
    watch = work.watches[target]
    work.watches[target] = watch._replace(silent=0, doubted=None, is_dead=False, taken={})


def lives(watch: Watch) -> bool:
    return watch.has_echo or (watch.has_arp and not watch.echoed)


def _judged(watch: Watch, now: float, *, is_late: bool) -> Watch:
    if lives(watch):
        return watch._replace(has_echo=False, has_arp=False, silent=0, doubted=None)
    silent = watch.silent if is_late or not watch.asked else watch.silent + 1
    return watch._replace(has_echo=False, has_arp=False, silent=silent)


def _dead(work: Work, missed: int, *, still_open: int = 0) -> list[Target]:
    silent = [
        t
        for t, w in work.watches.items()
        if not w.is_dead and w.silent + still_open >= missed and not (still_open and (lives(w) or not w.asked))
    ]
    fresh = {work.node_of(t[1]) for t in silent if work.watches[t].doubted is None}
    dead = []
    for target in silent:
        watch = work.watches[target]
        began = watch.doubted if watch.doubted is not None else work.now
        is_doubted = len(fresh) > 1 or watch.doubted is not None
        if _is_sure(work, target, silent, is_doubted=is_doubted, began=began):
            dead.append(target)
            work.watches[target] = watch._replace(is_dead=True)
        else:
            work.watches[target] = watch._replace(doubted=began)
    return dead


def _is_sure(work: Work, target: Target, silent: list[Target], *, is_doubted: bool, began: float) -> bool:
    """One that falls silent alone is dead if somebody else answers here; several are looked at once more."""
    ifname, timing = target[0], work.timing
    waited = work.now - began
    if is_doubted and waited < timing.interval * 0.9:
        return False
    others = any(t[0] == ifname and t not in silent and not w.is_dead for t, w in work.watches.items())
    asked = others or any(link == ifname for link, _ in work.reachable)
    has_answer = work.now - work.answered.get(ifname, 0.0) < 1.6 * timing.interval and ifname in work.answered
    return has_answer or not asked or waited >= timing.doubt_most


def _ask(work: Work, target: Target, held: tuple[IPAddress, ...]) -> None:
    ifname, watch = target[0], work.watches[target]
    echo, probed = question(work.links[ifname], work.neighbors[target[1]], target[1], held, watch, work.sequence)
    if echo is not None:
        work.echoes.setdefault(ifname, []).append(echo)
    if probed is not None:
        work.probes[ifname, probed] = None
    work.watches[target] = watch._replace(asked=False, asking=work.now, probed=probed)


def question(
    link: OwnLink, neighbor: Neighbor, lladdr: str, held: tuple[IPAddress, ...], watch: Watch, sequence: int
) -> tuple[Echo | None, IPAddress | None]:
    """An echo, from an own address of the family; the address to probe where that may decide."""
    ends = next(((s, t) for t in neighbor.addresses for s in link.sources if s.version == t.version), None)
    echo = Echo(source=ends[0], target=ends[1], lladdr=lladdr, sequence=sequence) if ends else None
    known = () if watch.echoed else neighbor.addresses or held
    return echo, known[sequence % len(known)] if known else None


def _ask_gateways(work: Work) -> None:
    """Those on whose links somebody is silent; all of them now and then."""
    quiet: set[IfName] = {t[0] for t, w in work.watches.items() if w.silent and not w.is_dead}
    steady = {t[0] for t in work.watches} if work.sequence % GATEWAYS_EACH == 1 else set()
    for ifname in quiet | steady:
        for gateway in work.links[ifname].gateways:
            work.probes[ifname, gateway] = None
