"""What the kernel has: adopted after a restart, put back when somebody took it away; carrier (rule 10)."""

from collections.abc import Mapping
from math import inf

from announcer.core.model import IfName
from announcer.core.own.values import Entry, Key, OwnLink, Phase, Present
from announcer.core.own.work import DARK, Work

STALE_READING = 0.5
"""Seconds: a reading of the kernel that began less than this after a change may show what was before it."""
OTHERS = frozenset({Phase.WAITING, Phase.PROBING, Phase.WATCHING, Phase.SUCCEEDING})


def look(work: Work, present: Present) -> None:
    """Adopt what the kernel still has (a restart needs no memory); put back what somebody took away."""
    is_first = work.began == inf
    if is_first:
        work.began, work.beat, work.refresh, work.refreshed = work.now, work.now, work.now, work.now
    _look_at_links(work, present.links)
    for key in present.keys:
        entry = work.entries.get(key)
        if entry is None:
            if is_first or present.at > work.removed + STALE_READING:
                work.set(key, _adopted(work, key))
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


def _adopted(work: Work, key: Key) -> Entry:
    timing, now = work.timing, work.now
    if work.links.get(key[0], DARK).has_carrier:
        return Entry(phase=Phase.HOLDING, due=now + timing.watch, since=now, announced=9)
    return Entry(phase=Phase.DARK, due=now + 2 * timing.interval, since=now)


def _put_back(work: Work, key: Key, entry: Entry) -> None:
    """Somebody deleted it. What went with the fence is not held any more by the time this is asked, see `step`."""
    work.set(key, entry._replace(announced=0, due=work.now + work.timing.announce[0], last_announced=work.now))
    work.puts.append(key)


def _darken(work: Work, ifname: IfName) -> None:
    """Rule 10. What is held stays for two intervals, before which nobody else claims: a shaken plug moves nothing."""
    for target in [t for t in work.watches if t[0] == ifname]:
        del work.watches[target]
    for key, entry in list(work.entries.items()):
        if key[0] != ifname:
            continue
        if entry.is_held:
            due = work.now + 2 * work.timing.interval
            work.set(key, entry._replace(phase=Phase.DARK, since=work.now, due=due))
        else:
            work.set(key, entry._replace(phase=Phase.WAITING, since=work.now, due=inf, holder=""))


def _light(work: Work, ifname: IfName) -> None:
    """What is still held is asked for while it is announced: rule 9 if another has it."""
    for key, entry in list(work.entries.items()):
        if key[0] != ifname:
            continue
        if entry.phase is Phase.DARK:
            work.set(key, entry._replace(phase=Phase.HOLDING, since=work.now, announced=0))
            work.announce(key)
            work.probes[key] = None
        else:
            work.wait(key, entry)
