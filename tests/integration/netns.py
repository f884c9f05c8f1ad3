"""Network namespaces for tests: made with a name of the test's own, gone afterwards, also after a kill.

A name is `PREFIX-PID-NUMBER`; whoever makes the next one removes those of processes that don't run any more.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

NUMBERS = count(1)
PREFIX = "ann-t"
CLONE_NEWNET = 0x40000000


class Namespace:
    def __init__(self, name: str) -> None:
        self.name = name

    def exec(self, *argv: str) -> str:
        """The output of a command inside; a failure is raised with what it said."""
        done = subprocess.run(["ip", "netns", "exec", self.name, *argv], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{argv}: {done.stderr}{done.stdout}"
        return done.stdout

    def ip(self, *argv: str) -> str:
        done = subprocess.run(["ip", "-n", self.name, *argv], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"ip {argv}: {done.stderr}"
        return done.stdout

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in the namespace; sockets that it makes stay there."""
        home, here = (os.open(path, os.O_RDONLY) for path in ("/proc/self/ns/net", f"/run/netns/{self.name}"))
        _setns(here)
        try:
            yield
        finally:
            _setns(home)
            os.close(home)
            os.close(here)


@contextmanager
def namespace() -> Iterator[Namespace]:
    _sweep()
    name = f"{PREFIX}-{os.getpid()}-{next(NUMBERS)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        made = Namespace(name)
        made.ip("link", "set", "lo", "up")
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def cable(one: Namespace, one_name: str, other: Namespace, other_name: str) -> None:
    """A veth pair between two namespaces, both ends up."""
    one.ip("link", "add", one_name, "type", "veth", "peer", "name", other_name, "netns", other.name)
    one.ip("link", "set", one_name, "up")
    other.ip("link", "set", other_name, "up")


def _setns(descriptor: int) -> None:
    """setns(2); os.setns came with Python 3.12 only."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _sweep() -> None:
    for path in Path("/run/netns").glob(f"{PREFIX}-*"):
        pid = path.name.split("-")[2]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            subprocess.run(["ip", "netns", "del", path.name], check=False, capture_output=True)
