"""What may happen. Acts are chosen by name and dice alone, so that a seed means the same on every machine."""

import os
import signal
from contextlib import suppress

from lab.command import LabError, run
from lab.routers import frr
from lab.topology import NODES
from tests.e2e.chaos import second
from tests.e2e.chaos.running import Act, Chaos, Undo
from tests.e2e.chaos.world import POOLS

HOLD_TIMES = (6, 9, 17, 40)
KILLED = ("exabgp", "bridge", "agent", "bfdd", "bgpd", "bird", "allocator")
FROZEN = ("exabgp", "bridge", "agent", "bfdd", "bgpd", "bird")
OF_NODES = frozenset({"exabgp", "bridge", "agent", "bfdd"})


def edit_services(chaos: Chaos) -> None:
    """Several at once: new ones, other endpoints, another policy, gone ones."""
    dice = chaos.dice
    for _ in range(dice.choice((1, 1, 3, 12))):
        pool = dice.choice(sorted(POOLS))
        name = f"{pool}-{dice.randint(1, POOLS[pool][1])}"
        if name in chaos.world.services and dice.random() < 0.4:
            chaos.say(f"remove {name}")
            chaos.remove_service(name)
            continue
        nodes = frozenset(node.name for node in NODES if dice.random() < 0.7)
        is_local = dice.random() < 0.5
        chaos.say(f"put {name}, {'Local' if is_local else 'Cluster'}, on {sorted(nodes)}")
        chaos.put_service(name, nodes, is_local=is_local)


def flicker(chaos: Chaos) -> None:
    """The known trap: a route that comes, drains, and comes again while nothing arrives."""
    name = f"chaos-{chaos.dice.randint(1, POOLS['chaos'][1])}"
    every = frozenset(node.name for node in NODES)
    for is_there in (True, False, True):
        chaos.say(f"flicker {name} {'on' if is_there else 'off'}")
        chaos.put_service(name, every if is_there else frozenset(), is_local=False)
        chaos.pause(chaos.dice.choice((0.02, 0.3, 1.2)))


def exclude(chaos: Chaos) -> None:
    """At most two of three nodes."""
    found = frozenset(chaos.dice.sample([node.name for node in NODES], chaos.dice.randint(0, 2)))
    chaos.say(f"exclude {sorted(found)}")
    chaos.put_nodes(found)


def edit_timers(chaos: Chaos) -> None:
    """The agents write another configuration, ExaBGP reads it again and makes one of each node's sessions anew."""
    name, seconds = chaos.dice.choice(sorted(chaos.world.peers)), chaos.dice.choice(HOLD_TIMES)
    chaos.say(f"hold time {seconds} of {name}")
    chaos.world.change(name, hold_time=seconds)
    chaos.put_peers()


def edit_peers(chaos: Chaos) -> None:
    """One goes, or comes back."""
    name = chaos.dice.choice(sorted(chaos.world.peers))
    is_there = chaos.world.change(name, is_there=not chaos.world.peers[name].is_there).is_there
    chaos.say(f"{'add' if is_there else 'remove'} peer {name}")
    chaos.put_peers()


def edit_bfd(chaos: Chaos) -> None:
    name = chaos.dice.choice(("tor", "tor-v6"))
    has_bfd = chaos.world.change(name, has_bfd=not chaos.world.peers[name].has_bfd).has_bfd
    chaos.say(f"{'BFD' if has_bfd else 'no BFD'} for {name}")
    chaos.put_peers()


def rotate(chaos: Chaos) -> None:
    """A new password, or none, on both sides; the nodes first, or the router."""
    password = chaos.dice.choice(("", *(f"password-{chaos.dice.randint(1, 10**6)}" for _ in range(3))))
    is_router_first, between = chaos.dice.random() < 0.5, chaos.dice.choice((0.0, 0.3, 2.0))
    chaos.say(f"password {password!r}, {'the router' if is_router_first else 'the Secret'} first")
    if is_router_first:  # it is told what is in the world
        chaos.world.change("tor", password=password)
        chaos.tell_router()
        chaos.pause(between)
    chaos.put_password(password)
    if not is_router_first:
        chaos.pause(between)
        chaos.tell_router()


def clear(chaos: Chaos) -> None:
    node = chaos.dice.choice(NODES)
    texts = ("clear bgp *", f"clear bgp {node.address}", f"clear bgp ipv6 {node.address_v6}", "birdc restart all")
    command = chaos.dice.choice(texts)
    chaos.say(command)
    with suppress(LabError):  # a router that doesn't run or is stopped
        if command.startswith("birdc"):
            if chaos.judge.is_running("bird"):
                second.clear(chaos.lab)
        else:
            run(frr.vtysh(chaos.lab, command), timeout=1.0)


def reload(chaos: Chaos) -> None:
    chaos.send(f"exabgp-{chaos.dice.choice(NODES).name}", signal.SIGUSR1)


def kill(chaos: Chaos) -> None:
    name = _chosen(chaos, KILLED)
    is_agent = name.startswith("agent")
    chaos.send(name, chaos.dice.choice((signal.SIGKILL, signal.SIGTERM)) if is_agent else signal.SIGKILL)


def kill_router(chaos: Chaos) -> None:
    """All of it at once, as when it loses power."""
    for daemon in frr.ORDER:
        chaos.send(daemon, signal.SIGKILL)


def freeze(chaos: Chaos) -> Undo | None:
    name = _chosen(chaos, FROZEN)
    pid = chaos.send(name, signal.SIGSTOP)

    def thaw() -> None:
        chaos.say(f"SIGCONT {name}")
        with suppress(ProcessLookupError):
            os.kill(pid or 0, signal.SIGCONT)

    _meanwhile(chaos)
    return thaw if pid else None


def _meanwhile(chaos: Chaos) -> None:
    """What is decided while nothing arrives, or nobody listens."""
    for _ in range(chaos.dice.randint(0, 3)):
        act = chaos.dice.choice((edit_services, flicker, exclude))
        chaos.done[act.__name__] += 1
        act(chaos)
        chaos.pause(chaos.dice.choice((0.05, 0.5, 2.5)))


def _chosen(chaos: Chaos, kinds: tuple[str, ...]) -> str:
    kind, node = chaos.dice.choice(kinds), chaos.dice.choice(NODES)
    return f"{kind}-{node.name}" if kind in OF_NODES else kind


def black_hole(chaos: Chaos) -> Undo:
    """The routers lose every packet to a node; no link goes down."""
    node = chaos.dice.choice(NODES)
    ip = ["ip", "-n", chaos.lab.namespace("tor"), "route"]
    both = [str(node.address), str(node.address_v6)]
    chaos.say(f"black hole before {node.name}")
    for address in both:
        run([*ip, "replace", "blackhole", address])
    _meanwhile(chaos)

    def heal() -> None:
        chaos.say(f"no black hole before {node.name}")
        for address in both:
            with suppress(LabError):  # two holes before one node are one
                run([*ip, "delete", "blackhole", address])

    return heal


ACTS: tuple[Act, ...] = (
    *(edit_services, edit_services, edit_services, flicker, exclude, edit_timers, edit_peers, edit_peers, edit_bfd),
    *(rotate, clear, reload, kill, kill, kill, kill_router, freeze, freeze, black_hole, black_hole),
)
