#!/usr/bin/env python3
"""The helper process of ExaBGP: carries lines between its pipes and one client on a Unix socket.

`bridge.py SOCKET [STUCK_SECONDS]`, started by the line `run` of ExaBGP's configuration. Standard library only, Python
3.9 or later, as it runs with whatever Python ExaBGP's image has.

- stdin is always drained, and a client that takes nothing for 5 s is dropped: ExaBGP writes to its helpers with a
  blocking write.
- It ends only with ExaBGP, never because of a client: more than 5 deaths of a helper within 64 s shut ExaBGP down.
- The newest client wins: an agent that hangs must not keep its successor out.
- Only whole lines of the forms in COMMAND get through: a byte beyond ASCII makes ExaBGP kill its helper, and it finds
  command words such as `shutdown` anywhere in a line.
- Answers carry no id: they belong to the commands in their order. Those owed to a former client are swallowed, or the
  next one would take them for its own.
- Of the configuration that ExaBGP shows, the descriptions alone get through: there are passwords in it.
- One command at a time: ExaBGP 5.0 looks at its helper only between naps of `exabgp.reactor.speed` / 100 seconds, but
  wakes at once where something is to be read. What is given ahead it works off in naps. A command that is not
  answered for a second holds the next one up for no longer.
- ExaBGP 5.0 reads its configuration again on SIGUSR1, and after one with a mistake takes no other any more: its parser
  keeps half of it. So on the command `bridge reload` a new one is first read by another ExaBGP (`exabgp validate`), and
  takes the old one's place, with the signal, only where that takes it.

Lines of the bridge itself are JSON objects with the key `bridge`: `hello` on connect, `reload` after the signal,
`rejected` with an `error` and the candidate's description, empty where that can't be read, `refused` for a line not
passed on.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

STUCK_SECONDS = 5.0
WAITING_MOST = 200
ANSWER_SECONDS = 1.0
COMMAND_BYTES = 64 * 1024
EVENT_BYTES = 8 * 1024 * 1024
TO_CLIENT_BYTES = 16 * 1024 * 1024
READ_BYTES = 256 * 1024
CHECK_SECONDS, END_SECONDS, ERROR_CHARACTERS = 30.0, 1.0, 300
CONFIGURATION, CANDIDATE, CHECKED = "exabgp.conf", "exabgp.next", "exabgp.checked"
"""What ExaBGP runs, what it is to run, and the latter while it is checked."""
DESCRIPTION = re.compile(r"description ([A-Za-z0-9-]+);")

_ADDRESS = "[0-9A-Fa-f:.]{2,45}"
_PREFIX = _ADDRESS + "/[0-9]{1,3}"
_COMMUNITY = "[0-9]{1,5}:[0-9]{1,5}"
_LARGE_COMMUNITY = "[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}"


def _many(item: str) -> str:
    return item + "(?: " + item + ")*"


COMMAND = re.compile(
    (
        "show neighbor (?:json|configuration)|neighbor " + _ADDRESS + " (?:"
        "flush adj-rib out"
        "|announce eor ipv[46] unicast"
        "|teardown 10"
        "|(?:announce|withdraw) attributes next-hop (?:self|" + _ADDRESS + ") origin igp"
        "(?: local-preference [0-9]{1,10})?"
        r"(?: community \[" + _many(_COMMUNITY) + r"\])?"
        r"(?: large-community \[" + _many(_LARGE_COMMUNITY) + r"\])?"
        r"(?: extended-community \[0x[0-9A-F]{16}\])?"
        " nlri " + _many(_PREFIX) + ")"
    ).encode("ascii")
)
RELOAD = b"bridge reload"
ANSWERS = (b"done", b"error")
EVENT = b'{ "exabgp"'
SHOWN = re.compile(rb'[\[{].*|\s*description "[^"]*";')


class Gone(Exception):  # noqa: N818 - not an error: how another process says goodbye
    """It has closed, sends lines without end, or can't be started."""


class Lines:
    """Whole lines out of what was read; the rest waits for more."""

    def __init__(self, most: int) -> None:
        self._most, self._rest = most, b""

    def feed(self, data: bytes) -> list[bytes]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self._most or any(len(line) > self._most for line in whole):
            raise Gone("line too long")
        return whole


class Client:
    """One connection: its commands that wait, what it has yet to take, and since when it takes nothing."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.lines = Lines(COMMAND_BYTES)
        self.commands: deque[bytes] = deque()
        self.outbox = bytearray()
        self.taken_at = time.monotonic()

    def put(self, line: bytes) -> None:
        if not self.outbox:
            self.taken_at = time.monotonic()
        self.outbox += line + b"\n"
        if len(self.outbox) > TO_CLIENT_BYTES:
            raise Gone("takes too little")

    def flush(self) -> None:
        """Give it what it takes without waiting."""
        try:
            count = self.connection.send(self.outbox)
        except (BlockingIOError, InterruptedError):
            return
        del self.outbox[:count]
        self.taken_at = time.monotonic()

    def is_stuck(self, seconds: float) -> bool:
        return bool(self.outbox) and time.monotonic() - self.taken_at > seconds


class Check:
    """Another ExaBGP reads the candidate, which nobody can change meanwhile. `output` ends with it."""

    def __init__(self, directory: Path) -> None:
        """FileNotFoundError where there is no candidate; Gone, with why and its description, where no check can be."""
        self._directory = directory
        try:
            (directory / CANDIDATE).replace(directory / CHECKED)
            found = DESCRIPTION.search((directory / CHECKED).read_text("ascii", "replace"))
        except FileNotFoundError:
            raise
        except OSError as error:
            clear(directory)
            raise Gone(f"{error.filename}: {error.strerror}", "") from error
        self.description = found[1] if found else ""
        argv = [os.environ.get("EXABGP", "exabgp"), "validate", str(directory / CHECKED)]
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(argv, stdin=none, stdout=pipe, stderr=subprocess.STDOUT)
        except OSError as error:
            clear(directory)
            raise Gone(f"{argv[0]} can't be run: {error.strerror}", self.description) from error
        self._until = time.monotonic() + CHECK_SECONDS
        self._said = b""
        assert self._process.stdout is not None
        self.output = self._process.stdout

    def read(self) -> bool:
        """True once it has said everything."""
        data = os.read(self.output.fileno(), READ_BYTES)
        self._said = (self._said + data)[-READ_BYTES:]
        return not data

    def is_late(self) -> bool:
        return time.monotonic() > self._until

    def end(self) -> str:
        """What is wrong with the candidate; where nothing is, it has become the configuration."""
        try:
            code = self._process.wait(0 if self.is_late() else END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self.output.close()
        try:
            if code == 0:
                (self._directory / CHECKED).replace(self._directory / CONFIGURATION)
                return ""
            (self._directory / CHECKED).unlink()
        except OSError as error:
            clear(self._directory)
            return f"{error.filename}: {error.strerror}"
        return told(self._said) or f"exabgp validate ended with {code}"

    def abandon(self) -> None:
        self._process.kill()
        self.end()


def clear(directory: Path) -> None:
    """Take away what a bridge that died was checking: the agent would take it for the newest; passwords are in it."""
    with suppress(OSError):
        (directory / CHECKED).unlink()


def told(output: bytes) -> str:
    """What ExaBGP says of a mistake, in one line, and nothing of a password."""
    lines = output.decode("ascii", "replace").replace("\ufffd", "?").splitlines()
    words = " ".join(line.removeprefix("configuration").strip() for line in lines if "password" not in line)
    return " ".join(words.split())[:ERROR_CHARACTERS]


def take(directory: Path) -> str:
    """Make a candidate the configuration, where there is one, and say what is wrong with it."""
    try:
        check = Check(directory)
    except FileNotFoundError:
        return ""
    except Gone as gone:
        return str(gone.args[0])
    with selectors.PollSelector() as selector:
        selector.register(check.output, selectors.EVENT_READ)
        while not check.is_late():
            if selector.select(timeout=1.0) and check.read():
                break
    return check.end()


class Bridge:
    def __init__(self, path: Path, stuck_seconds: float) -> None:
        self._directory = path.parent
        clear(self._directory)
        self._check: Check | None = None
        self._stuck_seconds = stuck_seconds
        self._exabgp = os.getppid()
        self._started = time.time()
        self._server = listen(path)
        self._client: Client | None = None
        self._owed: deque[Client | None] = deque()
        self._asked_at = 0.0
        self._events = Lines(EVENT_BYTES)
        self._outbox = bytearray()
        for descriptor in (0, 1):
            os.set_blocking(descriptor, False)

    def run(self) -> None:
        """Until ExaBGP ends."""
        try:
            self._run()
        finally:
            if self._check is not None:
                self._check.abandon()

    def _run(self) -> None:
        while True:
            ready = self._wait()
            self._checked(ready)
            try:
                self._serve_exabgp(ready)
            except (Gone, BrokenPipeError):
                return
            try:
                self._serve_client(ready)
            except (Gone, OSError):
                self._drop()
            if self._server in ready:
                self._accept()
            try:
                self._ask()
            except BrokenPipeError:
                return

    def _wait(self) -> dict[object, int]:
        read, write = selectors.EVENT_READ, selectors.EVENT_WRITE
        with selectors.PollSelector() as selector:
            selector.register(0, read)
            selector.register(self._server, read)
            if self._outbox:
                selector.register(1, write)
            if self._check is not None:
                selector.register(self._check.output, read)
            if self._client is not None:
                is_free = len(self._client.commands) < WAITING_MOST
                wanted = (read if is_free else 0) | (write if self._client.outbox else 0)
                if wanted:
                    selector.register(self._client.connection, wanted)
            return {key.fileobj: mask for key, mask in selector.select(timeout=1.0)}

    def _serve_exabgp(self, ready: dict[object, int]) -> None:
        if 0 in ready:
            data = os.read(0, READ_BYTES)
            if not data:
                raise Gone("ExaBGP ended")
            for line in self._events.feed(data):
                self._from_exabgp(line)
        if 1 in ready:
            self._give()

    def _from_exabgp(self, line: bytes) -> None:
        """An event is for whoever is connected; an answer and what comes before it, for the one who asked."""
        receiver = self._client
        if line in ANSWERS:
            receiver = self._owed.popleft() if self._owed else None
        elif not line.startswith(EVENT):
            receiver = self._owed[0] if self._owed and SHOWN.fullmatch(line) else None
        if receiver is None or receiver is not self._client:
            return
        try:
            receiver.put(line)
        except Gone:
            self._drop()

    def _serve_client(self, ready: dict[object, int]) -> None:
        client = self._client
        if client is None:
            return
        mask = ready.get(client.connection, 0)
        if mask & selectors.EVENT_READ:
            data = client.connection.recv(COMMAND_BYTES)
            if not data:
                raise Gone("closed")
            for line in client.lines.feed(data):
                self._from_client(client, line)
        if client.outbox:
            client.flush()
        if client.is_stuck(self._stuck_seconds):
            raise Gone("stuck")

    def _from_client(self, client: Client, line: bytes) -> None:
        if line == RELOAD:
            self._reload()
        elif COMMAND.fullmatch(line):
            client.commands.append(line)
        else:
            client.put(own(bridge="refused", line=line[:200].decode("ascii", "replace")))

    def _reload(self) -> None:
        """Asked for while a candidate is being checked, it is answered with that."""
        if self._check is not None:
            return
        try:
            self._check = Check(self._directory)
        except FileNotFoundError:
            if (self._directory / CONFIGURATION).exists():
                self._signal()
        except Gone as gone:
            error, description = gone.args
            self._put(own(bridge="rejected", description=description, error=error))

    def _checked(self, ready: dict[object, int]) -> None:
        check = self._check
        if check is not None and ((check.output in ready and check.read()) or check.is_late()):
            self._check = None
            if error := check.end():
                self._put(own(bridge="rejected", description=check.description, error=error))
            else:
                self._signal()

    def _signal(self) -> None:
        """Only with a file: without one ExaBGP would end its helpers, and never start them again."""
        os.kill(self._exabgp, signal.SIGUSR1)
        self._put(own(bridge="reload"))

    def _put(self, line: bytes) -> None:
        try:
            if self._client is not None:
                self._client.put(line)
        except Gone:
            self._drop()

    def _ask(self) -> None:
        """Give ExaBGP the next command where it owes no answer any more."""
        is_late = time.monotonic() - self._asked_at > ANSWER_SECONDS
        if self._client is None or not self._client.commands or self._outbox or (self._owed and not is_late):
            return
        self._outbox += self._client.commands.popleft() + b"\n"
        self._owed.append(self._client)
        self._asked_at = time.monotonic()
        self._give()

    def _give(self) -> None:
        with suppress(BlockingIOError):
            del self._outbox[: os.write(1, self._outbox)]

    def _accept(self) -> None:
        try:
            connection, _ = self._server.accept()
        except OSError:  # it went away again, or there are no descriptors left: the next one may be luckier
            return
        self._drop()
        self._client = Client(connection)
        pids = {"exabgp_pid": self._exabgp, "bridge_pid": os.getpid()}
        self._client.put(own(bridge="hello", started=self._started, **pids))

    def _drop(self) -> None:
        if self._client is not None:
            self._client.connection.close()
            self._owed = deque(None for _ in self._owed)
            self._client = None


def own(**values: object) -> bytes:
    return json.dumps(values).encode("ascii")


def listen(path: Path) -> socket.socket:
    """A listening socket in place of whatever a former bridge left there, never open to others than owner and group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o117)
    try:
        server.bind(str(fresh))
    finally:
        os.umask(umask)
    server.listen(4)
    server.setblocking(False)
    fresh.replace(path)
    return server


if __name__ == "__main__":
    socket_path = sys.argv[1] if len(sys.argv) > 1 else "/run/announcer/bridge.sock"
    Bridge(Path(socket_path), float(sys.argv[2]) if len(sys.argv) > 2 else STUCK_SECONDS).run()
