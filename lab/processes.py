"""The lab's processes: which there are, and starting, finding and ending them by what they left in the run directory.

`pids/NAME` holds the process id of each. As ids are used again, a process counts as ours only while its environment
carries the mark that the supervisor gave it; nothing else is ever signalled, so this works after a crash of the
supervisor too. `hold/NAME` keeps a process down once it has ended.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from lab import bfd, control_plane, nodes, routers
from lab.command import LabError, inside, wait_until
from lab.topology import CONTROL_PLANE, NODES, REPOSITORY, Lab

MARK: Final = "ANNOUNCER_LAB_PROCESS"
SUPERVISOR: Final = "supervisor"
AGENT_PORT, ALLOCATOR_PORT = 9720, 9721
"""Of metrics, by default."""
ALLOCATORS: Final = {"allocator-1": ALLOCATOR_PORT, "allocator-2": ALLOCATOR_PORT + 1}
"""In a cluster there are two, of which one leads; they share a namespace, so that one needs another port."""
START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 10.0
AHEAD: Final = ("nice", "-n", "-15")
"""The router is before others for the processors: it stands for a machine of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process that the supervisor keeps running; `restart_seconds` after its end it starts again."""

    name: str
    argv: tuple[str, ...]
    restart_seconds: float = 1.0


def children(lab: Lab) -> tuple[Child, ...]:
    tor = lab.namespace("tor")
    found = [Child(name=n, argv=tuple(inside(tor, [*AHEAD, *argv]))) for n, argv in routers.of(lab).argvs(lab).items()]
    if lab.has_kubelets:
        return (*found, *_cluster(lab))
    announcer = [sys.executable, "-m", "announcer"]
    for node in NODES:
        folder = str(lab.exabgp_dir(node))
        agent = [*announcer, "agent", *store_argv(lab, "agent"), "--node", node.name, "--exabgp-dir", folder]
        agent += ["--bfd-dir", str(lab.bfd_dir(node)), *lab.agent_args]
        http = [sys.executable, str(REPOSITORY / "lab" / "http_server.py"), node.name]
        exabgp = [str(REPOSITORY / "exabgp" / "run"), folder]
        for kind, argv in (("http", http), ("exabgp", exabgp), ("bfdd", bfd.argv(lab, node)), ("agent", agent)):
            # ExaBGP stays away for a while, so that a person sees the router without its routes.
            pause = 3.0 if kind == "exabgp" else 1.0
            here = tuple(inside(lab.namespace(node.short), argv))
            found.append(Child(name=f"{kind}-{node.name}", argv=here, restart_seconds=pause))
    allocator = [*announcer, "allocator", *store_argv(lab, "allocator")]
    if not lab.is_cluster:  # in a namespace, so that its port for metrics is not one of the machine
        return (*found, Child(name="allocator", argv=tuple(inside(lab.namespace("net"), allocator))))
    found += [Child(name=name, argv=tuple(argv)) for name, argv in control_plane.argvs(lab).items()]
    for name, port in ALLOCATORS.items():
        told = ["env", f"POD_NAME={name}", *allocator, "--metrics-address", f":{port}"]
        argv = inside(lab.namespace(CONTROL_PLANE), told)
        found.append(Child(name=name, argv=tuple(argv)))
    return tuple(found)


def _cluster(lab: Lab) -> Iterator[Child]:
    """Of announcer none: kubelets run it."""
    for name, argv in control_plane.argvs(lab).items():
        yield Child(name=name, argv=tuple(argv))
    for node in NODES:
        for kind, argv in nodes.argvs(lab, node).items():
            yield Child(name=f"{kind}-{node.name}", argv=tuple(argv))


def store_argv(lab: Lab, who: str) -> tuple[str, ...]:
    """Which store a process is told to use, and as whom: `agent`, `allocator` or `admin`."""
    if lab.is_cluster:
        return ("--kubeconfig", str(control_plane.server(lab).kubeconfig(who)))
    return ("--manifests", str(lab.manifests))


def find(lab: Lab, name: str) -> int | None:
    """The process id of a live process of this lab, else None."""
    try:
        pid = int((lab.run_dir / "pids" / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return pid if _is_ours(lab, name, pid) else None


def age_seconds(lab: Lab, name: str) -> float:
    """How long ago its id was recorded: one that ends and starts again all the time never gets old."""
    try:
        return time.time() - (lab.run_dir / "pids" / name).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def is_held(lab: Lab, name: str) -> bool:
    return (lab.run_dir / "hold" / name).exists()


def hold(lab: Lab, name: str) -> None:
    """Don't start this process again once it has ended; ending it is the caller's."""
    (lab.run_dir / "hold" / name).touch()


def release(lab: Lab, name: str) -> None:
    (lab.run_dir / "hold" / name).unlink(missing_ok=True)


def start(lab: Lab, held: Iterable[str] = ()) -> bool:
    """Start the supervisor, which starts the others but those `held`. False if one with the same list runs already."""
    text = json.dumps([asdict(child) for child in children(lab)], indent=1)
    spec = lab.run_dir / "children.json"
    is_running = find(lab, SUPERVISOR) is not None and spec.exists() and spec.read_text(encoding="utf-8") == text
    if not is_running:
        stop(lab)
        for folder in (lab.run_dir / "pids", lab.run_dir / "hold", lab.run_dir / "log"):
            folder.mkdir(parents=True, exist_ok=True)
        for name in held:
            hold(lab, name)
        for node in NODES:
            lab.exabgp_dir(node).mkdir(parents=True, exist_ok=True)
            bfd.prepare(lab, node)
        routers.of(lab).prepare(lab)
        spec.write_text(text, encoding="utf-8")
        argv = [sys.executable, "-m", "lab.supervisor", str(lab.run_dir)]
        spawn(lab, SUPERVISOR, argv).wait(START_SECONDS)
        wait_until(lambda: find(lab, SUPERVISOR) is not None, START_SECONDS, f"the supervisor: {lab.log(SUPERVISOR)}")
    return not is_running


def stop(lab: Lab) -> None:
    """End the supervisor, which ends the others, and then whatever a crash of it left."""
    _end(lab, [SUPERVISOR])
    folder = lab.run_dir / "pids"
    _end(lab, sorted(path.name for path in folder.glob("[!.]*")) if folder.is_dir() else [])


def spawn(lab: Lab, name: str, argv: list[str]) -> "subprocess.Popen[bytes]":
    """Start a process marked as this lab's, in a session of its own, its output appended to its log."""
    with lab.log(name).open("ab") as log:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=REPOSITORY,
            env={**os.environ, **_environment(lab, name)},
            start_new_session=True,
        )


def record(lab: Lab, name: str, pid: int) -> None:
    path = lab.run_dir / "pids" / name
    fresh = path.with_name(f".{name}.new")
    fresh.write_text(f"{pid}\n", encoding="ascii")
    fresh.replace(path)


def _environment(lab: Lab, name: str) -> Mapping[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {MARK: f"{lab.run_dir}:{name}", "PATH": path, "PYTHONUNBUFFERED": "1"}


def _is_ours(lab: Lab, name: str, pid: int) -> bool:
    """A zombie has no environment any more: it counts as ended."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{MARK}={lab.run_dir}:{name}".encode() in environment


def _end(lab: Lab, names: list[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for name in names:
            if pid := find(lab, name):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        with suppress(LabError):
            wait_until(lambda: not any(find(lab, name) for name in names), STOP_SECONDS, f"the end of {names}")
            return
    raise LabError(f"still running after SIGKILL: {[name for name in names if find(lab, name)]}")
