"""The settings of ownership: the only place with their defaults, and what of them is refused.

| setting | default | is |
|---|---|---|
| interval | 0.1 s | T: how often a node is asked whether it lives; one step of waiting for those before in the order |
| missed | 3 | questions in a row without an answer after which a node is dead; the last one has half an interval |
| probes | 3 | unanswered probes after which nobody holds an address (PROBE_NUM of RFC 5227 §1.1) |
| watch | 1 s | how often the first candidate asks whether an address is still held, of up to 10 of one holder |
| fence | 10 s | valid_lft of a held address: for how long it outlives its agent |
| refresh | 3 s | how often the fence is set anew |
| farewell | 300 s | valid_lft that SIGTERM leaves, for the next agent |
| leave | 2 s | for how long a holder that is no candidate any more waits for its successor |
| announce_steady | 60 s | how often every held address is announced; switches forget after 300 s |
| watchers_at | 50 | with more candidates than this, a node has `watchers` watchers |
| watchers | 3 | |
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Self

INTERVAL_LEAST = 0.05
"""Below it, whole machines that pause were taken for dead ones (measured, facts/l2-ecmp.md §3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds and counts, see the table above; `check` refuses what is unsafe."""

    interval: float = 0.1
    missed: int = 3
    probes: int = 3
    watch: float = 1.0
    fence: int = 10
    refresh: float = 3.0
    farewell: int = 300
    leave: float = 2.0
    announce: tuple[float, ...] = (0.1, 0.3, 1.1, 3.0)
    announce_steady: float = 60.0
    watchers_at: int = 50
    watchers: int = 3
    # Not settings: parts of the protocol that nobody has a reason to turn.
    asked_each: int = 10
    """Of a holder of more addresses than this, each is asked for more rarely than once in `watch`."""
    bulk: float = 0.0003
    """What one address adds to the wait of the second behind a dead node: the first may have a thousand to announce."""
    succession: float = 1.0
    """For how long those behind wait at most while one before them takes over one address after the other."""
    doubt_most: float = 3.0
    gap: float = 3.0
    """A node that was not heard for longer has been away, and may come back with what others have taken since."""
    beacon: float = 0.5
    foreign_most: float = 30.0
    unsent: float = 2.0
    """A probe that has not left by then never will: the wire's own timeout is shorter."""
    defend: float = 10.0  # DEFEND_INTERVAL, RFC 5227 §1.1

    def check(self) -> Self:
        """Raises ValueError for what is unsafe, with setting, value and remedy."""
        for name, value, is_bad, remedy in self._mistakes():
            if is_bad:
                raise ValueError(f"{name} = {value:g}: {remedy}")
        return self

    @property
    def margin(self) -> float:
        """Before the kernel's own hand takes an address, its agent has given it up."""
        return min(1.0, self.fence / 10)

    def _mistakes(self) -> Iterable[tuple[str, float, bool, str]]:
        t, fence = self.interval, self.fence
        return (
            ("interval", t, not INTERVAL_LEAST <= t <= 1, f"must be from {INTERVAL_LEAST:g} to 1 s; try 0.1"),
            ("missed", self.missed, not 2 <= self.missed <= 20, "must be from 2 to 20; try 3"),
            ("probes", self.probes, not 1 <= self.probes <= 10, "must be from 1 to 10; try 3"),
            ("watch", self.watch, not 5 * t <= self.watch <= 60, "must be from 5 intervals to 60 s; try 1"),
            ("refresh", self.refresh, not self.refresh >= 0.5, "must be 0.5 s or more; try 3"),
            ("fence", fence, not fence > 3 * self.refresh, f"must exceed three refreshes; try {_next(self.refresh)}"),
            ("fence", fence, not fence <= 300, "must be 300 s or less: so long nobody answers when an agent dies"),
            (
                "farewell",
                self.farewell,
                not fence <= self.farewell <= 3600,
                "must be from the fence to 3600 s; try 300",
            ),
            ("leave", self.leave, not 10 * t <= self.leave <= 30, "must be from 10 intervals to 30 s; try 2"),
            ("announce_steady", self.announce_steady, not 5 <= self.announce_steady <= 300, "must be from 5 to 300 s"),
            ("watchers_at", self.watchers_at, not 2 <= self.watchers_at <= 500, "must be from 2 to 500; try 50"),
            ("watchers", self.watchers, not 2 <= self.watchers <= 10, "must be from 2 to 10; try 3"),
        )


SETTINGS = (
    "interval", "missed", "probes", "watch", "fence", "refresh", "farewell", "leave", "announce_steady",
    "watchers_at", "watchers",
)  # fmt: skip


def read_timing(texts: Iterable[str]) -> Timing:
    """`KEY=VALUE` texts over the defaults. Raises ValueError that names setting, value and remedy."""
    kinds = {field.name: field.type for field in fields(Timing)}
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in SETTINGS:
            raise ValueError(f"{name}: no such setting; there are {', '.join(SETTINGS)}")
        try:
            found[name] = int(value) if kinds[name] in {int, "int"} else float(value)
        except ValueError as error:
            whole = "a whole number" if kinds[name] in {int, "int"} else "a number of seconds"
            raise ValueError(f"{name} = {value!r}: is not {whole}") from error
    return Timing(**found).check()  # type: ignore[arg-type]  # int where the field is one, see above


def _next(refresh: float) -> int:
    return int(3 * refresh) + 1
