"""A second router of the lab's nodes: BIRD, in FRR's namespace, with addresses and a port of its own.

It writes no kernel routes and has no BFD: both are FRR's there.
"""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import processes
from lab.command import inside, run, wait_until
from lab.routers import bird
from lab.routers.bird import BIRD
from lab.routers.values import Rib
from lab.topology import NODE_ASN, NODES, TOR_ASN, Lab
from tests.e2e.chaos.world import SECOND, SECOND_PORT, SECOND_V6

CONF = f"""\
log stderr all;
router id {SECOND};

# RFC 8326, as in the lab's own BIRD
filter draining {{ if (65535, 0) ~ bgp_community then bgp_local_pref = 0; accept; }}

protocol device {{ scan time 2; }}
template bgp node {{
    passive;
    hold time 9;
    keepalive time 3;
    error wait time 1, 2;
}}
"""
NAME = "second"
START_SECONDS, PAUSE_SECONDS = 10.0, 1


def conf() -> str:
    found = [CONF]
    for node in NODES:
        ends = (("v4", SECOND, node.address), ("v6", SECOND_V6, node.address_v6))
        for version, own, its in ends:
            channel = f"ip{version} {{ import filter draining; export none; }};"
            session = f"local {own} port {SECOND_PORT} as {TOR_ASN}; neighbor {its} as {NODE_ASN}; {channel}"
            found.append(f"protocol bgp {node.short}_{version} from node {{ {session} }}\n")
    return "".join(found)


def home(lab: Lab) -> Lab:
    """Where the functions for the lab's own BIRD find this one."""
    return Lab(prefix=lab.prefix, run_dir=lab.run_dir / "second", router="bird")


@contextmanager
def second_router(lab: Lab) -> Iterator[None]:
    """Started again whenever it ends."""
    tor, folder = lab.namespace("tor"), home(lab).tor_dir
    for address in (f"{SECOND}/24", f"{SECOND_V6}/64"):
        nodad = ["nodad"] if ":" in address else []
        run(["ip", "-n", tor, "address", "replace", address, "dev", "eth0", *nodad])
    folder.mkdir(parents=True)
    (folder / "bird.conf").write_text(conf(), "utf-8")
    bird_argv = inside(tor, bird.argvs(home(lab))["bird"])
    again = f"trap 'kill $child; exit' TERM; while :; do \"$@\" & child=$!; wait $child; sleep {PAUSE_SECONDS}; done"
    process = processes.spawn(lab, NAME, ["sh", "-c", again, "sh", *bird_argv])
    processes.record(lab, NAME, process.pid)  # so that it ends with the lab
    try:
        wait_until(lambda: pid(lab) is not None, START_SECONDS, f"{BIRD}: see {lab.log(NAME)}")
        yield
    finally:
        if found := pid(lab):
            subprocess.run(["kill", "-CONT", str(found)], check=False)
        process.send_signal(signal.SIGTERM)
        process.wait(START_SECONDS)


def pid(lab: Lab) -> int | None:
    """Of the process that runs, by the file that it wrote."""
    try:
        found = int((home(lab).tor_dir / "pid").read_text("ascii"))
        argv = Path(f"/proc/{found}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return found if str(home(lab).tor_dir).encode() in argv else None


def rib(lab: Lab) -> Rib:
    return bird.rib(home(lab))


def clear(lab: Lab) -> None:
    bird.clear(home(lab))
