"""Events of a node: what becomes of addresses and sessions there now, and didn't before; every move with its reason.

Both come from what the NodeAnnouncement said before and what it says now: a move that is in the report now and wasn't
then is told once, also when the API server was away meanwhile. What ends as it began, and moved in between, is told by
its moves; what changed otherwise (a route, a foreign host, more addresses than a move names) by its beginning and end.
"""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from announcer.core.desired import Mode
from announcer.core.model import Homes, NodeName, ObjectRef, Peer, Pool, Reason
from announcer.core.own import Cause
from announcer.core.report.notes import Note, Tell
from announcer.core.report.sessions import session_notes

NOTES_MOST = 20
"""Of one write; the rest is summed up."""
DONE = frozenset({Reason.HOLDING, Reason.ADVERTISED})
PENDING = frozenset({Reason.CLAIMING, Reason.ROUTE_PENDING, Reason.ROUTE_REFUSED, Reason.PEER_NOT_ESTABLISHED})
"""That is told of sessions and routes, and is no end."""


class Fate(NamedTuple):
    """What a report says of an address on a link."""

    reason: str
    mode: str
    link: str
    message: str


class Moved(NamedTuple):
    """One address of a move as a report has it: equal ones are the same."""

    who: str
    time: str
    link: str
    old: str
    new: str
    reason: str


def node_tell(node: NodeName, status: Mapping[str, Any], pools: Sequence[Pool], peers: Sequence[Peer] = ()) -> Tell:
    """At most NOTES_MOST notes, and one that says how many more there would be."""

    def tell(before: Mapping[str, Any]) -> list[Note]:
        told = _Telling(node, Homes(pools))
        told.notes.update(dict.fromkeys(session_notes(node, before, status, peers)))
        old, new = _fates(before), _fates(status)
        known = dict(_moves(before))
        fresh: dict[str, list[tuple[Moved, float]]] = {}
        for moved, silent in _moves(status):
            if moved not in known:
                fresh.setdefault(moved.who, []).append((moved, silent))
        for who in sorted(old.keys() | new.keys() | fresh.keys()):
            told.address(who, old.get(who, ()), new.get(who, ()), fresh.get(who, ()))
        return told.bounded()

    return tell


def _fates(status: Mapping[str, Any]) -> dict[str, tuple[Fate, ...]]:
    """`namespace/name address` → what becomes of it, once for each link."""
    found: dict[str, tuple[Fate, ...]] = {}
    for group in status.get("addresses") or ():
        fate = Fate(*(str(group.get(name) or "") for name in Fate._fields))
        for who in group.get("services") or ():
            found[who] = (*found.get(who, ()), fate)
    return found


def _moves(status: Mapping[str, Any]) -> Iterator[tuple[Moved, float]]:
    """Every address that a move names, in order, and for how long nobody had answered."""
    for entry in status.get("moves") or ():
        time, link, old, new, reason = (str(entry.get(n) or "") for n in ("time", "link", "from", "to", "reason"))
        for who in entry.get("services") or ():
            yield Moved(who, time, link, old, new, reason), entry.get("silentSeconds") or 0.0


class _Telling:
    """The notes of one write, as they come together."""

    def __init__(self, node: NodeName, homes: Homes) -> None:
        self.node, self.homes = node, homes
        self.notes: dict[Note, None] = {}

    def address(self, who: str, old: Sequence[Fate], new: Sequence[Fate], moves: Sequence[tuple[Moved, float]]) -> None:
        service, _, address = who.partition(" ")
        namespace, is_named, name = service.partition("/")
        if not is_named:  # an address that was no Service's any more when it moved
            return
        ref = ObjectRef(kind="Service", namespace=namespace, name=name)
        told = {fate.link for fate in old if fate.reason in DONE}
        for moved, silent in moves:
            if moved.new == self.node and moved.link not in told:
                told.add(moved.link)
                self._begun(ref, address, Mode.LOCAL.value, moved.link, _taken(moved, silent))
            elif moved.old == self.node and moved.link in told:
                told.remove(moved.link)
                self._ended(ref, address, _given(moved))
        done = {fate.link for fate in new if fate.reason in DONE}
        for fate in new:
            if fate.reason in DONE and fate.link not in told:
                self._begun(ref, address, fate.mode, fate.link, "")
            if fate.reason == Reason.FOREIGN_HOST and fate not in old:
                self._failed(ref, address, fate.message)
        reasons = [fate.reason for fate in new]
        if told and not done and not any(reason in PENDING for reason in reasons):
            self._ended(ref, address, "".join(f": {reason}" for reason in reasons[:1] if reason))

    def bounded(self) -> list[Note]:
        notes = list(self.notes)
        if len(notes) <= NOTES_MOST:
            return notes
        rest = f"{len(notes) - NOTES_MOST} more changes; NodeAnnouncement {self.node} has them all"
        ref = ObjectRef(kind="Node", name=self.node)
        return [*notes[:NOTES_MOST], Note(ref=ref, reason="AnnouncementsChanged", message=rest)]

    def _note(self, ref: ObjectRef, reason: str, message: str, *, is_warning: bool = False) -> None:
        self.notes[Note(ref=ref, reason=reason, message=message, is_warning=is_warning)] = None

    def _begun(self, ref: ObjectRef, address: str, mode: str, link: str, why: str) -> None:
        is_local = mode == Mode.LOCAL.value
        if self._is_metallb(address):  # in MetalLB's own words, which tools look for
            protocol = "layer2" if is_local else "bgp"
            self._note(ref, "nodeAssigned", f'announcing from node "{self.node}" with protocol "{protocol}"{why}')
        else:
            reason = "AnnouncingLocal" if is_local else "AnnouncingNonLocal"
            self._note(ref, reason, f"Node {self.node} announcing {address} on interface {link}{why}")

    def _ended(self, ref: ObjectRef, address: str, why: str) -> None:
        self._note(ref, "Withdrawn", f"Node {self.node} doesn't announce {address} any more{why}")

    def _failed(self, ref: ObjectRef, address: str, message: str) -> None:
        reason = "announceFailed" if self._is_metallb(address) else "AnnouncementFailed"
        self._note(ref, reason, f"Node {self.node}: {address}: {message}", is_warning=True)

    def _is_metallb(self, address: str) -> bool:
        home = self.homes.of(ip_address(address)) if address else None
        return home is not None and home[0].ref.kind == "IPAddressPool"


def _taken(moved: Moved, silent_seconds: float) -> str:
    """Nothing of an address that nobody had: that is how every one begins."""
    if not moved.old:
        return "" if moved.reason == Cause.UNHELD else f": {moved.reason}"
    silence = f", no answer for {silent_seconds:g} s" if silent_seconds else ""
    return f", taken over from {moved.old}: {moved.reason}{silence}"


def _given(moved: Moved) -> str:
    return f": {moved.reason}, {moved.new} does" if moved.new else f": {moved.reason}"
