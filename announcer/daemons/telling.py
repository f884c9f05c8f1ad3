"""What a daemon says of itself to Prometheus and the kubelet: values that it has anyway, read when somebody asks."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Final, get_args

from announcer.core import own
from announcer.core.model import BfdState, BgpAction, KernelAction, SessionReport, SetBfd, Unknown
from announcer.core.report import Tally, unready
from announcer.daemons.agent import Agent
from announcer.daemons.allocator import Allocator
from announcer.daemons.loop import BOUNDS, Ran
from announcer.metrics import (
    Address,
    ClusterState,
    NodeState,
    PassState,
    ProcessState,
    Server,
    StoreState,
    TlsFiles,
    cluster_metrics,
    exposition,
    node_metrics,
)
from announcer.store import StoreHealth

PLANNED: Final = tuple(sorted(kind.__name__ for kind in (*get_args(KernelAction), *get_args(BgpAction), SetBfd)))

ROUTES: Final = ("proven", "pending", "refused")


async def beside(work: Callable[[], Awaitable[None]], server: Server | None) -> None:
    """Serve while `work` goes on. Who is served is cut off with it, and waited for by nobody."""
    if server is None:
        await work()
        return
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_awaited(work), name="work")
        tasks.create_task(server.run(), name="metrics")


def agent_server(address: Address | None, files: TlsFiles | None, agent: Agent) -> Server | None:
    """None where there is no address to serve at."""
    if address is None:
        return None
    scrape = exposition(lambda: node_metrics(node_state(agent)))
    server = Server(address, scrape, lambda: agent_unready(agent), files)
    server.leave = agent.leave
    return server


def allocator_server(address: Address | None, files: TlsFiles | None, allocator: Allocator) -> Server | None:
    if address is None:
        return None
    scrape = exposition(lambda: cluster_metrics(cluster_state(allocator)))
    return Server(address, scrape, lambda: allocator_unready(allocator), files)


def node_state(agent: Agent) -> NodeState:
    health, holds, found = agent.store.health(), agent.holds(), agent.tally or Tally()
    sessions = None if isinstance(agent.sidecar.observed(), Unknown) or agent.past is None else agent.past.sessions
    told = sessions or ()
    return NodeState(
        process=_process(health, agent.loop.ran, agent_unready(agent), is_held=bool(holds)),
        services=found.services,
        addresses=found.addresses,
        failed_actions={name: agent.failures[name] for name in PLANNED},
        report_failures=agent.report_failures,
        moves={cause.value: agent.owner.changes[cause] for cause in own.Cause},
        late=agent.owner.late_beats,
        held=sum(entry.is_held for entry in agent.owner.state.entries.values()),
        peers=None if sessions is None else _states(sessions),
        routes=None if sessions is None else {name: sum(getattr(s, name) for s in sessions) for name in ROUTES},
        sessions={str(s.peer_address): int(s.is_established) for s in told},
        session_routes={(str(s.peer_address), name): getattr(s, name) for s in told for name in ROUTES},
        sessions_ended={str(s.peer_address): agent.sessions_ended[s.peer_address] for s in told},
        bfd=_bfd(agent),
        frames={ifname: asdict(counters) for ifname, counters in agent.wire.counters().items()},
    )


def cluster_state(allocator: Allocator) -> ClusterState:
    """Of services and pools a process that doesn't lead says nothing: what it knew once is not true any more."""
    health, is_leader = allocator.store.health(), allocator.leadership.is_leader()
    return ClusterState(
        process=_process(health, allocator.loop.ran, allocator_unready(allocator), is_held=health.is_held),
        is_leader=is_leader,
        services=allocator.services if is_leader else {},
        pools=allocator.pools if is_leader else {},
    )


def agent_unready(agent: Agent) -> tuple[str, ...]:
    doubts = [f"held back {hold}" for hold in agent.doubts()]
    return unready(
        unread=_unread(agent.store.health()),
        doubts=doubts,
        failed=agent.failed,
        found=agent.tally,
        failure=agent.loop.ran.failure,
    )


def allocator_unready(allocator: Allocator) -> tuple[str, ...]:
    """One that doesn't lead is ready to."""
    is_done = not allocator.leadership.is_leader() or allocator.passed_in == allocator.leadership.term
    found = Tally() if is_done else None
    unread = _unread(allocator.store.health())
    return unready(unread=unread, doubts=(), failed={}, found=found, failure=allocator.loop.ran.failure)


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _unread(health: StoreHealth) -> str:
    return "" if health.is_synced else health.message or "lists are on their way"


def _process(health: StoreHealth, ran: Ran, why: tuple[str, ...], *, is_held: bool) -> ProcessState:
    bounds = ["+Inf" if bound == BOUNDS[-1] else str(bound) for bound in BOUNDS]
    return ProcessState(
        store=StoreState(is_synced=health.is_synced, is_held=is_held, away_seconds=health.away_seconds),
        passes=PassState(
            failures=ran.failures, seconds=ran.seconds, buckets=tuple(zip(bounds, ran.within, strict=True))
        ),
        unready=why,
    )


def _states(sessions: Sequence[SessionReport]) -> Mapping[str, int]:
    up = sum(session.is_established for session in sessions)
    return {"established": up, "down": len(sessions) - up}


def _bfd(agent: Agent) -> Mapping[str, int] | None:
    observed = agent.bfd.observed() if agent.bfd else None
    if observed is None or isinstance(observed, Unknown):
        return None
    found = [session.state for session in observed]
    return {state.value: found.count(state) for state in BfdState}
