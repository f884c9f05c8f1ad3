"""What daemons need of each edge, as protocols: the real edges and the fakes of the tests both fit."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from announcer.core.model import (
    BgpAction,
    IfName,
    IPAddress,
    KernelAction,
    Link,
    ObjectRef,
    ObservedBfd,
    ObservedBgp,
    ObservedKernel,
    SetBfd,
    Snapshot,
    Unknown,
    WireAction,
)
from announcer.core.report import Tell, tell_nothing
from announcer.store import StoreHealth
from announcer.wire import Counters


class Kernel(Protocol):
    async def read(self) -> ObservedKernel: ...
    async def apply(self, action: KernelAction) -> None: ...
    async def watch(self, wake: Callable[[], None]) -> None: ...


class Wire(Protocol):
    def set_links(self, links: Iterable[Link]) -> None: ...
    def listen_for(self, addresses: Iterable[IPAddress] | None) -> None: ...
    def hear_probes(self, *, wanted: bool) -> None: ...
    def read_empty(self) -> None: ...
    async def apply(self, action: WireAction) -> None: ...
    def counters(self) -> Mapping[IfName, Counters]: ...


class Sidecar(Protocol):
    def observed(self) -> ObservedBgp | Unknown: ...
    async def apply(self, action: BgpAction) -> None: ...
    async def run(self) -> None: ...


class Bfd(Protocol):
    problem: str

    def observed(self) -> tuple[ObservedBfd, ...] | Unknown: ...
    async def apply(self, action: SetBfd) -> None: ...
    async def run(self) -> None: ...


class Store(Protocol):
    async def latest(self) -> Snapshot | Unknown: ...
    async def run(self, wake: Callable[[], None]) -> None: ...
    async def refresh(self) -> None: ...
    def release(self) -> None: ...
    async def write_status(
        self,
        ref: ObjectRef,
        status: Mapping[str, object],
        *,
        annotations: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        tell: Tell = tell_nothing,
        basis: object = None,
    ) -> None: ...
    async def remove(self, ref: ObjectRef) -> None: ...
    def health(self) -> StoreHealth: ...


class Leadership(Protocol):
    """Whether this process may act for the cluster; `release` lets others at once.

    `term` counts how often it began to: between two terms somebody else may have acted.
    """

    term: int

    def is_leader(self) -> bool: ...
    async def run(self, on_change: Callable[[], None]) -> None: ...
    async def release(self) -> None: ...
