"""The promises of the lab and whether they hold, seen from outside: the external host, the router's kernel, the wire.

A promise is waited for: the lab has just been started, and addresses, sessions and routes take their time. What was
last seen is reported either way.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

from lab import clab, containers, control_plane, pods, processes, routers
from lab.command import LabError, inside, read_json, run, run_json
from lab.topology import CONTROL_PLANE, NODES, REPOSITORY, SUBNET_3, SUBNET_3_V6, Lab, LabNode, cables

READY: Final = "ready"
"""What /readyz answers when it is."""
VIP_1: Final = IPv4Address("10.111.111.100")
VIP_2: Final = IPv4Address("10.112.112.100")
VIP_3: Final = IPv4Address("10.113.113.100")
VIP_3_V6: Final = IPv6Address("fd00:113::100")
VIP_DUAL: Final = IPv4Address("10.113.113.201")
VIP_DUAL_V6: Final = IPv6Address("fd00:113::200")
SERVICES: Final = {
    "purelb": {
        "test/test-nginx-1": str(VIP_1),
        "test/test-nginx-2": str(VIP_2),
        "test/test-nginx-3": str(VIP_3),
        "test/test-nginx-3-v6": str(VIP_3_V6),
        "test/test-nginx-3-dual": f"{VIP_DUAL},{VIP_DUAL_V6}",
    },
    "metallb": {"test/test-nginx-1": str(VIP_1), "test/test-nginx-2": str(VIP_2)},
}
CONNECTIONS: Final = 60
SERVICE_PORT: Final = 80
SCANNED: Final = (22, 80, 179, processes.AGENT_PORT, 10250)
DEADLINE_SECONDS: Final = 60.0
FETCH_SECONDS: Final = 60.0
STEADY_SECONDS: Final = 2.0
WATCH_SECONDS: Final = 10.0
SEEN_WIDTH: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    ok: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    text: str
    look: Callable[[Lab], Seen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    promise: str
    seen: str
    ok: bool


def promises(lab: Lab, manifest_set: str) -> tuple[Promise, ...]:
    every_node = f"{CONNECTIONS} connections from ann-host reach all three nodes"
    running = ("container", containers_run) if lab.in_containers else ("process", processes_run)
    local = (
        Promise(text=f"every {running[0]} of the lab runs", look=running[1]),
        Promise(text="every agent says that it is ready", look=agents_are_ready),
        Promise(text=f"subnet-1: curl {VIP_1} from ann-host", look=lambda lab: curl(lab, VIP_1)),
        Promise(text="subnet-1: exactly one MAC answers ARP", look=lambda lab: one_answers_arp(lab, "eth0", VIP_1)),
        Promise(text=f"subnet-2: curl {VIP_2} from ann-host", look=lambda lab: curl(lab, VIP_2)),
        Promise(text="subnet-2: exactly one MAC answers ARP", look=lambda lab: one_answers_arp(lab, "eth1", VIP_2)),
        Promise(text="subnet-2: in by eth1, replies out by eth1", look=lambda lab: stays_on(lab, "eth1", VIP_2)),
    )
    virtual = (
        Promise(text="BGP: 3 IPv4 and 3 IPv6 sessions at ann-tor", look=sessions_established),
        Promise(text=f"subnet-3: 3 next hops to {SUBNET_3} in the FIB", look=lambda lab: routed(lab, SUBNET_3)),
        Promise(text=f"subnet-3: curl {VIP_3} from ann-host", look=lambda lab: curl(lab, VIP_3)),
        Promise(text=f"subnet-3: {every_node}", look=lambda lab: reaches_every_node(lab, VIP_3)),
        Promise(text=f"IPv6: 3 next hops to {SUBNET_3_V6} in the FIB", look=lambda lab: routed(lab, SUBNET_3_V6)),
        Promise(text=f"IPv6: curl {VIP_3_V6} from ann-host", look=lambda lab: curl(lab, VIP_3_V6)),
        Promise(text=f"IPv6: {every_node}", look=lambda lab: reaches_every_node(lab, VIP_3_V6)),
        Promise(text=f"dual stack: curl {VIP_DUAL} from ann-host", look=lambda lab: curl(lab, VIP_DUAL)),
        Promise(text=f"dual stack: curl {VIP_DUAL_V6} from ann-host", look=lambda lab: curl(lab, VIP_DUAL_V6)),
    )
    listed = (
        Promise(text="only the Services' ports answer", look=lambda lab: ports_are_guarded(lab, manifest_set)),
        Promise(text="announcer status lists every address", look=lambda lab: status_lists(lab, manifest_set)),
        *(
            [Promise(text="kubectl get services: EXTERNAL-IP", look=lambda lab: external_ips(lab, manifest_set))]
            if lab.is_cluster
            else []
        ),
        *([Promise(text="all pods are ready, none was restarted", look=pods_run)] if lab.has_kubelets else []),
    )
    return (*local, *(virtual if manifest_set == "purelb" else ()), *listed)


def check(lab: Lab, manifest_set: str, *, deadline_seconds: float = DEADLINE_SECONDS) -> tuple[Result, ...]:
    """Look at each promise until it holds; all of them together have `deadline_seconds`, and each is looked at once."""
    deadline = time.monotonic() + deadline_seconds
    return tuple(_wait_for(lab, promise, deadline) for promise in promises(lab, manifest_set))


def _wait_for(lab: Lab, promise: Promise, deadline: float) -> Result:
    while True:
        try:
            seen = promise.look(lab)
        except LabError as error:
            seen = Seen(ok=False, text=_shorten(str(error)))
        if seen.ok or time.monotonic() > deadline:
            return Result(promise=promise.text, seen=seen.text, ok=seen.ok)
        time.sleep(0.2)


def _shorten(text: str) -> str:
    """A traceback tells most in its last line."""
    last = text.splitlines()[-1]
    return last if len(last) <= SEEN_WIDTH else f"{last[: SEEN_WIDTH - 3]}..."


def table(results: Sequence[Result]) -> str:
    width = max(len(result.promise) for result in results)
    seen = max(len(result.seen) for result in results)
    lines = [f"{'PROMISE':{width}}  {'SEEN':{seen}}  RESULT"]
    lines += [f"{r.promise:{width}}  {r.seen:{seen}}  {'ok' if r.ok else 'FAILED'}" for r in results]
    return "\n".join(lines) + "\n"


# -- what is looked at ---------------------------------------------------------------------------------------------


def processes_run(lab: Lab) -> Seen:
    names = [processes.SUPERVISOR, *(child.name for child in processes.children(lab))]
    down = [
        f"{name}{' (held)' if processes.is_held(lab, name) else ''}"
        for name in names
        if not processes.find(lab, name) or processes.age_seconds(lab, name) < STEADY_SECONDS
    ]
    text = f"down or just started: {', '.join(down)}" if down else f"{len(names)} processes"
    return Seen(ok=not down, text=_shorten(text))


def containers_run(_: Lab) -> Seen:
    topology = clab.read()
    found = [topology.full_name(container.name) for container in topology.containers]
    unsteady = containers.not_steady(found)
    text = f"down or just started: {', '.join(unsteady)}" if unsteady else f"{len(found)} containers"
    return Seen(ok=not unsteady, text=_shorten(text))


def agents_are_ready(lab: Lab) -> Seen:
    """What /readyz says on each node."""
    said = {node.name: readiness(lab, node.short) for node in NODES}
    waiting = [f"{name}: {text.partition(chr(10))[0]}" for name, text in said.items() if text != READY]
    return Seen(ok=not waiting, text=_shorten("; ".join(waiting) if waiting else f"{len(said)} agents are ready"))


def readiness(lab: Lab, host: str) -> str:
    """READY, or what that node's agent waits for."""
    return ask(lab, host, processes.AGENT_PORT, "/readyz").strip()


def ask(lab: Lab, host: str, port: int, path: str) -> str:
    """What a process of the lab answers in its own namespace, also where that is an error."""
    argv = ["curl", "-sS", "--noproxy", "*", "--max-time", "3", f"http://127.0.0.1:{port}{path}"]
    return run(inside(lab.namespace(host), argv))


def curl(lab: Lab, address: IPv4Address | IPv6Address) -> Seen:
    argv = ["curl", "-sS", "--noproxy", "*", "--max-time", "3", _url(address)]
    try:
        answer = run(inside(lab.namespace("host"), argv)).strip()
    except LabError as error:
        return Seen(ok=False, text=_shorten(f"curl: {str(error).partition('curl: ')[2]}"))
    return Seen(ok=answer in {node.name for node in NODES}, text=f"answered by {answer}")


def one_answers_arp(lab: Lab, ifname: str, address: IPv4Address) -> Seen:
    found = _look_inside(lab, "host", "arp", ifname, str(address))
    known = {cable.left.lladdr: f"{cable.left.host} {cable.left.ifname}" for cable in cables(lab)}
    text = ", ".join(f"{lladdr} ({known.get(lladdr, 'nobody of the lab')})" for lladdr in found) or "no answer"
    return Seen(ok=len(found) == 1 and found[0] in known, text=text)


def stays_on(lab: Lab, ifname: str, address: IPv4Address) -> Seen:
    """One request from ann-host, watched on every link of every node."""
    with ExitStack() as stack:
        watchers = [(node, stack.enter_context(_watch(lab, node, address))) for node in NODES]
        for _, watcher in watchers:
            if watcher.stdout is None or watcher.stdout.readline() != "ready\n":
                raise LabError("the watcher of a node's links ended early")
        answer = curl(lab, address)
        told = [(node, _told(watcher)) for node, watcher in watchers]
    at = [(node.name, said["in"], said["out"]) for node, said in told if said["in"] or said["out"]]
    text = "; ".join(f"{name} in by {','.join(i) or '-'}, out by {','.join(o) or '-'}" for name, i, o in at)
    return Seen(ok=answer.ok and [(i, o) for _, i, o in at] == [([ifname], [ifname])], text=text or answer.text)


def sessions_established(lab: Lab) -> Seen:
    up = [ip_address(address) for address, peer in routers.of(lab).peers(lab).items() if peer.is_established]
    counts = {version: sum(address.version == version for address in up) for version in (4, 6)}
    text = ", ".join(f"{count} IPv{version}" for version, count in counts.items())
    return Seen(ok=all(count == len(NODES) for count in counts.values()), text=f"established: {text}")


def next_hops(lab: Lab, prefix: IPv4Network | IPv6Network) -> frozenset[str]:
    """Those that ann-tor's kernel has for exactly this prefix."""
    family = "-4" if prefix.version == 4 else "-6"
    shown = run_json(["ip", "-j", family, "-n", lab.namespace("tor"), "route", "show", str(prefix)])
    return frozenset(
        str(hop["gateway"]) for route in shown for hop in route.get("nexthops", [route]) if "gateway" in hop
    )


def routed(lab: Lab, prefix: IPv4Network | IPv6Network) -> Seen:
    found = next_hops(lab, prefix)
    wanted = {str(node.address if prefix.version == 4 else node.address_v6) for node in NODES}
    return Seen(ok=found == wanted, text=f"via {', '.join(sorted(found))}" if found else "no route")


def reaches_every_node(lab: Lab, address: IPv4Address | IPv6Address) -> Seen:
    found = fetch(lab, address, CONNECTIONS)
    text = ", ".join(f"{answer} {count}" for answer, count in sorted(found.items()))
    return Seen(ok=set(found) == {node.name for node in NODES} and sum(found.values()) == CONNECTIONS, text=text)


def fetch(lab: Lab, address: IPv4Address | IPv6Address, count: int) -> dict[str, int]:
    """How often each node answered ann-host, over `count` new connections."""
    answers: dict[str, int] = _look_inside(lab, "host", "fetch", _url(address), str(count))
    return answers


def ports_are_guarded(lab: Lab, manifest_set: str) -> Seen:
    """Every address, asked from ann-host; the nodes' own show that the others' silence is the guard's."""
    given = [one for addresses in SERVICES[manifest_set].values() for one in addresses.split(",")]
    asked = ",".join(dict.fromkeys([*given, str(NODES[0].address)]))
    found: dict[str, list[int]] = _look_inside(lab, "host", "ports", asked, *map(str, SCANNED))
    bare = found.pop(str(NODES[0].address))
    wrong = [f"{one} {sorted(ports)}" for one, ports in found.items() if ports != [SERVICE_PORT]]
    text = f"{len(found)} addresses: {SERVICE_PORT} alone, {NODES[0].name}: {len(bare)} of {len(SCANNED)}"
    return Seen(ok=not wrong and set(bare) == set(SCANNED), text=_shorten("; ".join(wrong)) if wrong else text)


def status_argv(lab: Lab) -> list[str]:
    """`announcer status` where the objects are, in the namespace from which they can be read."""
    argv = [sys.executable, "-m", "announcer", "status", *processes.store_argv(lab, "admin")]
    return inside(lab.namespace(CONTROL_PLANE), argv) if lab.is_cluster else argv


def status_lists(lab: Lab, manifest_set: str) -> Seen:
    told = run_json([*status_argv(lab), "-o", "json"])
    listed = {(row["service"], row["address"]): row["nodes"] for row in told["services"]}
    wanted = [(service, one) for service, given in SERVICES[manifest_set].items() for one in given.split(",")]
    missing = [f"{service} {address}" for service, address in wanted if not listed.get((service, address))]
    return Seen(ok=not missing, text=f"without nodes: {', '.join(missing)}" if missing else f"{len(wanted)} addresses")


def external_ips(lab: Lab, manifest_set: str) -> Seen:
    """What kubectl shows in its column EXTERNAL-IP: name and addresses."""
    lines = control_plane.kubectl(lab, "get", "services", "--all-namespaces", "--no-headers").splitlines()
    shown = {f"{namespace}/{name}": external for namespace, name, _, _, external, *_ in map(str.split, lines)}
    missing = [
        f"{name} {shown.get(name)}" for name, given in SERVICES[manifest_set].items() if shown.get(name) != given
    ]
    return Seen(
        ok=not missing,
        text=f"not so: {', '.join(missing)}" if missing else " ".join(shown[name] for name in SERVICES[manifest_set]),
    )


def pods_run(lab: Lab) -> Seen:
    restarted = [f"{pod['metadata']['name']} {pods.restarts(pod)} times" for pod in pods.of(lab) if pods.restarts(pod)]
    wrong = ", ".join(filter(None, (pods.complaint(lab), *restarted)))
    return Seen(ok=not wrong, text=_shorten(wrong or f"{len(pods.of(lab))} pods, 0 restarts"))


# -- looking from inside a namespace -------------------------------------------------------------------------------


def _inside(lab: Lab, host: str, *arguments: str) -> list[str]:
    return inside(lab.namespace(host), [sys.executable, str(REPOSITORY / "lab" / "inside.py"), *arguments])


def _look_inside(lab: Lab, host: str, *arguments: str) -> Any:
    return run_json(_inside(lab, host, *arguments), timeout=FETCH_SECONDS)


def _watch(lab: Lab, node: LabNode, address: IPv4Address) -> "subprocess.Popen[str]":
    argv = _inside(lab, node.short, "watch", str(address))
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _told(watcher: "subprocess.Popen[str]") -> dict[str, list[str]]:
    try:
        text = watcher.communicate(timeout=WATCH_SECONDS)[0]
    except subprocess.TimeoutExpired as error:
        watcher.kill()
        raise LabError("the watcher of a node's links doesn't end") from error
    found: dict[str, list[str]] = read_json(text or "{}", ["inside.py", "watch"])
    return {"in": [], "out": [], **found}


def _url(address: IPv4Address | IPv6Address) -> str:
    return f"http://{address}/" if address.version == 4 else f"http://[{address}]/"
