"""`announcer agent` and `announcer allocator`: build the edges, hand them to the daemon, run until told to stop."""

import argparse
import logging
import os
import secrets
import socket
import time
from contextlib import AsyncExitStack

from announcer.bfd import Bfdd
from announcer.cli import stores
from announcer.core.model import NodeName
from announcer.daemons.agent import Agent
from announcer.daemons.allocator import Allocator, Alone
from announcer.daemons.owner import Owner
from announcer.daemons.priority import go_before_others
from announcer.daemons.process import prepare, run_until_told
from announcer.daemons.telling import agent_server, allocator_server, beside
from announcer.exabgp import ExabgpSession
from announcer.kernel import Kernel
from announcer.store.kubernetes import CONFIGURATION, MIRRORS, KubernetesStore, Lease, Role, read_by_allocator
from announcer.store.manifests import ManifestStore
from announcer.wire import Wire

log = logging.getLogger(__name__)


async def agent(arguments: argparse.Namespace) -> int:
    if not go_before_others():
        log.info("runs at the priority of everything else: CAP_SYS_NICE would make fail-over timely on a busy node")
    prepare()
    async with AsyncExitStack() as stack:
        kernel = await stack.enter_async_context(Kernel())
        wire = await stack.enter_async_context(Wire(lambda batch: owner.heard(batch)))
        folder = stores.manifests(arguments, agent_of=arguments.node)
        store: ManifestStore | KubernetesStore
        if folder is None:
            opened = await stack.enter_async_context(stores.client(arguments))
            store = stores.for_agent(opened, arguments.node)
        else:
            store = folder
        owner = Owner(kernel, wire, time.monotonic, arguments.ownership, lambda: daemon.loop.wake())
        sidecar = ExabgpSession(arguments.exabgp_dir, lambda: daemon.loop.wake())
        daemon = Agent(
            node=NodeName(arguments.node),
            store=store,
            kernel=kernel,
            wire=wire,
            sidecar=sidecar,
            owner=owner,
            clock=time.monotonic,
            pace=arguments.pace,
            classes=stores.classes(arguments),
            guards_ports=arguments.port_guard == "on",
            bfd=Bfdd(arguments.bfd_dir, lambda: daemon.loop.wake()) if arguments.bfd_dir else None,
        )
        server = agent_server(arguments.metrics_address, arguments.metrics_tls, daemon)
        await run_until_told(lambda: beside(daemon.run, server), daemon.farewell, daemon.release)
    return 0


async def allocator(arguments: argparse.Namespace) -> int:
    prepare()
    classes = stores.classes(arguments)
    folder = stores.manifests(arguments)
    if folder is not None:
        daemon = Allocator(folder, Alone(), classes)
        server = allocator_server(arguments.metrics_address, arguments.metrics_tls, daemon)
        await run_until_told(lambda: beside(daemon.run, server), daemon.farewell)
        return 0
    async with stores.client(arguments) as opened:
        lease = Lease(
            opened,
            namespace=arguments.lease_namespace,
            name=arguments.lease_name,
            identity=f"{os.environ.get('POD_NAME') or socket.gethostname()}-{secrets.token_hex(4)}",
            clock=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
            timing=arguments.lease_seconds,
            held=lambda: daemon.held(),
        )
        resources = read_by_allocator(has_mirrors=arguments.metallb_status)
        kinds = frozenset({"Service", *(resource.kind for resource in (*CONFIGURATION, *MIRRORS))})
        role = Role(component="announcer-allocator", writes=kinds, may_write=lease.is_leader, term=lambda: lease.term)
        store = stores.kubernetes(opened, resources, role)
        mirrors_in = arguments.lease_namespace if arguments.metallb_status else None
        daemon = Allocator(store, lease, classes, mirrors_in=mirrors_in)
        server = allocator_server(arguments.metrics_address, arguments.metrics_tls, daemon)
        await run_until_told(lambda: beside(daemon.run, server), daemon.farewell, store.release, before_end=store.close)
    return 0
