"""`announcer agent` and `announcer allocator`: build the edges, hand them to the daemon, run until told to stop."""

import argparse
import time

from announcer.core import own
from announcer.core.dialects import assemble, parse
from announcer.core.model import NodeName
from announcer.daemons.agent import Agent
from announcer.daemons.allocator import Allocator
from announcer.daemons.owner import Owner
from announcer.daemons.process import run_until_told
from announcer.exabgp import ExabgpSession
from announcer.kernel import Kernel
from announcer.store.manifests import ManifestStore
from announcer.wire import Wire


async def agent(arguments: argparse.Namespace) -> int:
    async with Kernel() as kernel:
        store = ManifestStore(arguments.manifests, parse=parse, assemble=assemble)
        async with Wire(lambda batch: owner.heard(batch)) as wire:
            owner = Owner(kernel, wire, time.monotonic, own.Timing(), lambda: daemon.loop.wake())
            sidecar = ExabgpSession(arguments.exabgp_dir, lambda: daemon.loop.wake())
            daemon = Agent(
                node=NodeName(arguments.node),
                store=store,
                kernel=kernel,
                wire=wire,
                sidecar=sidecar,
                owner=owner,
                clock=time.monotonic,
            )
            await run_until_told(daemon.run, daemon.farewell)
    return 0


async def allocator(arguments: argparse.Namespace) -> int:
    daemon = Allocator(ManifestStore(arguments.manifests, parse=parse, assemble=assemble))
    await run_until_told(daemon.run, daemon.farewell)
    return 0
