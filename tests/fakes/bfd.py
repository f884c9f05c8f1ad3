"""A bfdd for tests of daemons: the interface of `Bfdd`, whose sessions come up and fail as a test says.

As the real one, it knows every session that it was asked for, Down at first; what fails is the path.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from announcer.core.model import UNKNOWN, BfdState, Diagnostic, IPAddress, ObservedBfd, SetBfd, Unknown


class FakeBfd:
    """`is_away` makes `observed` UNKNOWN. `asked` is what it was asked for the last time."""

    def __init__(self, wake: Callable[[], None], clock: Callable[[], float]) -> None:
        self._wake, self._clock = wake, clock
        self._seen: dict[IPAddress, ObservedBfd] = {}
        self.is_away = False
        self.asked: SetBfd | None = None
        self.problem = ""

    def observed(self) -> tuple[ObservedBfd, ...] | Unknown:
        return UNKNOWN if self.is_away else tuple(self._seen.values())

    async def apply(self, action: SetBfd) -> None:
        self.asked = action
        kept = {peer: one for peer, one in self._seen.items() if action.keeps_others or peer in action.keeps}
        for one in action.sessions:
            fresh = ObservedBfd(
                peer_address=one.peer_address,
                local_address=one.local_address,
                is_multihop=one.is_multihop,
                since=self._clock(),
            )
            kept[one.peer_address] = self._seen.get(one.peer_address, fresh)
        self._seen = {peer: kept[peer] for peer in sorted(kept, key=lambda a: (a.version, int(a)))}

    async def run(self) -> None:
        await asyncio.Event().wait()

    def set_up(self, peer: IPAddress) -> None:
        self._set(peer, BfdState.UP, Diagnostic.NONE)

    def fail(self, peer: IPAddress) -> None:
        self._set(peer, BfdState.DOWN, Diagnostic.DETECTION_TIME_EXPIRED)

    def set_away(self, *, is_away: bool = True) -> None:
        self.is_away, self.problem = is_away, "bfdd does not answer" if is_away else ""
        self._wake()

    def _set(self, peer: IPAddress, state: BfdState, diagnostic: Diagnostic) -> None:
        self._seen[peer] = replace(self._seen[peer], state=state, diagnostic=diagnostic, since=self._clock())
        self._wake()
