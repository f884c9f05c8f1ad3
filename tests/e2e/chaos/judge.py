"""Proven moments: what nodes say is proven, against what routers have, session by session, at any time.

A session counts where its node's agent answers, and says that ExaBGP is known, the session established, every route
proven and none on its way; where both ends have the same TCP connection, with nothing on its way to the router; and
where all that is the same before and after the router was asked. So nothing is said of a session in a black hole: what
was sent there is proven to be sent. What differs is looked at until it is the same, or something else is said, or time
is over.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lab import processes, routers
from lab.command import LabError, inside, run
from lab.topology import NODES, TOR, TOR_V6, Lab, LabNode
from tests.e2e.chaos import second
from tests.e2e.chaos.world import SECOND, SECOND_V6, End, Table

ARRIVES_SECONDS: Final = 2.0
"""For what is proven and was taken from the socket to be in the table, on a busy machine."""
ANSWER_SECONDS: Final = "1"
_VALUE: Final = re.compile(r'^announcer_exabgp_session_(\w+)\{peer="([^"]+)"(?:,state="(\w+)")?\} (\S+)$', re.MULTILINE)


class Violation(Exception):  # noqa: N818 - what this looks for, more than an error
    """Something isn't as it must be; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a node says of one session that is established and at rest. Equal twice: it was not told anew between."""

    prefixes: frozenset[str]
    connection: tuple[str, str]
    told_at: int
    said: tuple[tuple[str, ...], ...]


Claims = Mapping[End, Claim]


@dataclass(slots=True)
class Judge:
    lab: Lab
    say: Callable[[str], None]
    moments: int = 0
    compared: int = 0
    late: int = 0
    _since: dict[End, tuple[Claim, float]] = field(default_factory=dict)
    """What differs, and since when."""

    def look(self) -> bool:
        """Compare what can be compared now. True while something differs that may yet arrive; raises Violation."""
        before = self.claims()
        table = self.table({router for router, _ in before})
        after = self.claims() if table else {}
        same = {end: claim for end, claim in after.items() if before.get(end) == claim and end in table}
        wrong = differences(same, table)
        self.moments += bool(same)
        self.compared += len(same)
        for end in [end for end in self._since if end not in wrong]:
            claim, _ = self._since.pop(end)
            if same.get(end) == claim:
                self.late += 1
                self.say(f"{' '.join(end)}: what was proven came late")
        now = time.monotonic()
        for end in wrong:
            claim, since = self._since.get(end, (same[end], now))
            self._since[end] = (same[end], since if claim == same[end] else now)
        lasting = [wrong[end] for end, (_, since) in self._since.items() if now - since > ARRIVES_SECONDS]
        if lasting:
            raise Violation(
                f"proven for {ARRIVES_SECONDS:.0f} s, but a router has something else: {'; '.join(lasting)}"
            )
        return bool(wrong)

    def claims(self) -> dict[End, Claim]:
        found: dict[End, Claim] = {}
        wires = self._connections()
        for node in NODES:
            for end, (prefixes, told_at, said) in self._said(node).items():
                if end in wires:
                    found[end] = Claim(prefixes=prefixes, connection=wires[end], told_at=told_at, said=said)
        return found

    def _said(self, node: LabNode) -> dict[End, tuple[frozenset[str], int, tuple[tuple[str, ...], ...]]]:
        """Nothing of an agent that doesn't answer: what its file says is of another time."""
        if not self.is_running(f"agent-{node.name}"):
            return {}
        ask = ["curl", "-sS", "--noproxy", "*", "--max-time", ANSWER_SECONDS]
        url = f"http://127.0.0.1:{processes.AGENT_PORT}/metrics"
        try:
            text = run(inside(self.lab.namespace(node.short), [*ask, url]))
            told_at, status = report(self.lab, node)
        except (LabError, OSError, ValueError):
            return {}
        values = tuple(match.groups("") for match in _VALUE.finditer(text))
        states: dict[str, dict[str, float]] = {}
        for kind, peer, state, value in values:
            states.setdefault(peer, {})[state or kind] = float(value)
        found = {}
        for peer, told in states.items():
            prefixes = frozenset(proven(status, peer))
            if is_at_rest(told, len(prefixes)):
                end = (peer, str(node.address_v6 if ":" in peer else node.address))
                found[end] = (prefixes, told_at, tuple(v for v in values if v[1] == peer))
        return found

    def _connections(self) -> dict[End, tuple[str, str]]:
        """Connections that both ends have, by address and port of both, with nothing on its way to the router: all that
        the node gave was acknowledged there (RFC 9293 §3.4), and read.
        """
        ours = {(n, f) for node in NODES for _, unsent, n, f in self._sockets(node.short) if unsent == "0"}
        theirs = {(f, n) for unread, _, n, f in self._sockets("tor") if unread == "0"}
        return {(host(far), host(near)): (near, far) for near, far in ours & theirs}

    def _sockets(self, name: str) -> Iterator[list[str]]:
        """Bytes that are not read, and not acknowledged; address and port here and there."""
        argv = ["ss", "-tnH", "state", "established"]
        return (line.split()[:4] for line in run(inside(self.lab.namespace(name), argv)).splitlines())

    def table(self, wanted: Iterable[str] | None = None) -> Table:
        """Of those routers that answer. A path that drains counts as another prefix."""
        found: dict[End, set[str]] = {}
        asked = set(wanted) if wanted is not None else None
        for name, addresses, rib in self._routers():
            if (asked is not None and not asked & addresses) or not self.is_running(name):
                continue
            try:
                paths_of = rib(self.lab)
            except LabError:
                continue
            for router in addresses:
                found |= {(router, str(end)): set() for n in NODES for end in (n.address, n.address_v6)}
            for prefix, paths in paths_of.items():
                router = next(one for one in addresses if (":" in one) == (":" in prefix))
                for peer, local_pref in paths.items():
                    found[router, peer].add(prefix if local_pref else f"{prefix} draining")
        return {end: frozenset(prefixes) for end, prefixes in found.items()}

    def _routers(self) -> Iterator[tuple[str, frozenset[str], Callable[[Lab], routers.Rib]]]:
        yield "bgpd", frozenset({str(TOR), str(TOR_V6)}), routers.of(self.lab).rib
        yield "bird", frozenset({SECOND, SECOND_V6}), second.rib

    def is_running(self, name: str) -> bool:
        """And isn't stopped."""
        pid = second.pid(self.lab) if name == "bird" else processes.find(self.lab, name)
        try:
            return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] not in "TtZ"
        except OSError:
            return False


def differences(claims: Claims, table: Table) -> dict[End, str]:
    """What a router lacks, and has too much, in words."""
    wanted = {end: claim.prefixes for end, claim in claims.items() if table[end] != claim.prefixes}
    return {end: difference(end, prefixes, table[end]) for end, prefixes in wanted.items()}


def difference(end: End, wanted: frozenset[str], there: frozenset[str]) -> str:
    return f"{end[0]} lacks of {end[1]} {sorted(wanted - there)}, and has beside them {sorted(there - wanted)}"


def is_at_rest(told: Mapping[str, float], count: int) -> bool:
    """Of a session's metrics, with how many prefixes the report calls proven: the two are of one moment."""
    is_still = told.get("established") == 1 and not told.get("pending") and not told.get("refused")
    return is_still and told.get("proven") == count


def proven(status: Any, peer: str) -> Iterator[str]:
    """Prefixes that the report says this peer has. The same prefix may serve several Services."""
    for row in status.get("addresses", ()):
        if row["mode"] == "virtual" and peer in row["peers"]:
            for text in row["services"]:
                address = text.split()[1]
                yield row["prefix"] if "/" in row["prefix"] else f"{address}/{128 if ':' in address else 32}"


def report(lab: Lab, node: LabNode) -> tuple[int, Any]:
    """When it was written, and its status."""
    file = lab.manifests / ".status" / "nodeannouncement" / "_cluster" / f"{node.name}.json"
    with file.open(encoding="utf-8") as opened:
        told_at = Path(f"/proc/self/fd/{opened.fileno()}").stat().st_mtime_ns
        return told_at, json.loads(opened.read())["status"]


def host(text: str) -> str:
    """Of address and port."""
    return text.rpartition(":")[0].strip("[]")
