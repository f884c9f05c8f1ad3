"""The bridge as a process, with this test as the ExaBGP on its pipes and as its clients. No ExaBGP, no root."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from announcer.core.model import LinkBandwidth, Route
from announcer.exabgp import lines
from tests.builders import ip, net

BRIDGE = Path(__file__).parents[2] / "exabgp" / "bridge.py"
RUN = BRIDGE.with_name("run")
SECONDS = 10.0
ADVERTISE = "neighbor 10.9.0.1 announce attributes next-hop self origin igp nlri 10.1.0.1/32"
EVENT = '{ "exabgp": "5.0.0", "type": "update" }'


GOOD, BAD, SLOW = (f"neighbor 10.9.0.1 {{\n    description announcer-{word};\n}}\n" for word in ("good", "bad", "slow"))
VALIDATE = f"""#!{sys.executable}
\"\"\"What ExaBGP's own `validate` says and does, of texts that say how it should fare.\"\"\"
import sys, time
from pathlib import Path
assert sys.argv[1] == "validate"
path = Path(sys.argv[2])
while "slow" in path.read_text():
    time.sleep(0.01)
if "bad" in path.read_text():
    print("configuration   line 2: description bad ;")
    sys.exit("error: md5-password aHVzaA== is none\\nline 2: no such thing")
"""


class Bridge:
    """A running bridge, seen from ExaBGP."""

    def __init__(self, path: Path, stuck_seconds: float = 5.0) -> None:
        self.path = path
        self.folder = path.parent
        self.folder.mkdir(exist_ok=True)
        program = self.folder / "validate"
        program.write_text(VALIDATE, "ascii")
        program.chmod(0o755)
        argv = [sys.executable, str(BRIDGE), str(path), str(stuck_seconds)]
        env = {**os.environ, "EXABGP": str(program)}
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=env)
        wait_until(path.exists)

    def say(self, *lines: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines).encode("ascii"))

    def read_line(self) -> str:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], SECONDS)[0], "the bridge passed nothing on"
        return self.process.stdout.readline().decode("ascii").rstrip("\n")

    def is_quiet(self, *, seconds: float) -> bool:
        assert self.process.stdout is not None
        return not select.select([self.process.stdout], [], [], seconds)[0]

    def end(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait(SECONDS)


class Client:
    """A connection, past the hello."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SECONDS)
        self.socket.connect(str(path))
        self._lines = self.socket.makefile("r", encoding="ascii")
        self.hello = json.loads(self.read_line())

    def say(self, *lines: str) -> None:
        self.socket.sendall("".join(f"{line}\n" for line in lines).encode("utf-8"))

    def read_line(self) -> str:
        return self._lines.readline().rstrip("\n")

    def close(self) -> None:
        self._lines.close()
        self.socket.close()


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    running = Bridge(tmp_path / "run" / "bridge.sock")
    yield running
    running.end()


@pytest.fixture
def client(bridge: Bridge) -> Iterator[Client]:
    connected = Client(bridge.path)
    yield connected
    connected.close()


def wait_until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_bridge_says_who_it_is(bridge: Bridge, client: Client) -> None:
    expected = {"bridge": "hello", "exabgp_pid": os.getpid(), "bridge_pid": bridge.process.pid}
    assert client.hello == expected | {"started": client.hello["started"]}
    assert bridge.path.stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize("name", ["10.1.0.1", "fd00::1"])
def test_bridge_passes_every_attribute_that_routes_have(bridge: Bridge, client: Client, name: str) -> None:
    route = Route(
        prefix=net(f"{name}/{128 if ':' in name else 32}"),
        next_hop=ip(name),
        local_pref=2**32 - 1,
        communities=frozenset({"65535:0", "large:1:2:3"}),
        link_bandwidth=LinkBandwidth(asn=64512, bytes_per_second=250_000, is_transitive=False),
    )
    (change,) = lines.advertise(ip(name), [route])
    client.say(change.line)
    assert bridge.read_line() == change.line


def test_bridge_passes_commands_answers_and_events(bridge: Bridge, client: Client) -> None:
    client.say(ADVERTISE, "show neighbor json")
    assert bridge.read_line() == ADVERTISE
    bridge.say("done")
    assert bridge.read_line() == "show neighbor json"
    bridge.say(EVENT, "[]", "done")
    assert [client.read_line() for _ in range(4)] == ["done", EVENT, "[]", "done"]


def test_bridge_passes_the_end_of_a_session_for_bfd(bridge: Bridge, client: Client) -> None:
    client.say(lines.tear_down(ip("10.9.0.1")))
    assert bridge.read_line() == "neighbor 10.9.0.1 teardown 10"


def test_bridge_shows_nothing_of_the_configuration_but_descriptions(bridge: Bridge, client: Client) -> None:
    client.say("show neighbor configuration")
    assert bridge.read_line() == "show neighbor configuration"
    bridge.say("neighbor 10.9.0.1 {", '\tdescription "x-1";', '\tmd5-password "aHVzaA==";', "}", "done")
    assert [client.read_line() for _ in range(2)] == ['\tdescription "x-1";', "done"]


def test_bridge_gives_the_next_command_once_the_first_is_answered(bridge: Bridge, client: Client) -> None:
    """In one piece: what ExaBGP reads ahead it works off in naps."""
    client.say(ADVERTISE, ADVERTISE)
    assert bridge.read_line() == ADVERTISE
    assert bridge.is_quiet(seconds=0.3)
    bridge.say("done")
    assert bridge.read_line() == ADVERTISE


def test_bridge_waits_for_no_answer_for_ever(bridge: Bridge, client: Client) -> None:
    client.say(ADVERTISE, "show neighbor json")
    assert [bridge.read_line(), bridge.read_line()] == [ADVERTISE, "show neighbor json"]


@pytest.mark.parametrize(
    "line",
    [
        "shutdown",
        "restart",
        "reload",
        "reset",
        "crash",
        "silence-ack",
        "disable-ack",
        "enable-ack",
        "help",
        "",
        "neighbor 10.9.0.1 teardown 2",
        "neighbor * flush adj-rib out",
        "neighbor 10.9.0.1 announce route 10.0.0.0/8 next-hop self",
        ADVERTISE + " shutdown",
        ADVERTISE + " # restart ",
        ADVERTISE.replace("igp", "igp community [graceful-shutdown]"),
        ADVERTISE.replace("igp", "igp as-path [1 2]"),
        ADVERTISE + ";",
        ADVERTISE + "\r",
        ADVERTISE + " \N{LATIN SMALL LETTER E WITH ACUTE}",
        ADVERTISE + "\x00",
        "x" * 300,
    ],
)
def test_bridge_refuses_every_other_line_and_goes_on(bridge: Bridge, client: Client, line: str) -> None:
    client.say(line, ADVERTISE)
    assert json.loads(client.read_line())["bridge"] == "refused"
    assert bridge.read_line() == ADVERTISE


def test_bridge_drops_a_client_that_sends_a_line_without_end(bridge: Bridge, client: Client) -> None:
    client.say("x" * 70_000)
    assert client.read_line() == ""
    other = Client(bridge.path)
    other.say(ADVERTISE)
    assert bridge.read_line() == ADVERTISE
    other.close()


def test_bridge_swallows_answers_owed_to_a_former_client(bridge: Bridge, client: Client) -> None:
    client.say("show neighbor json", ADVERTISE)
    assert [bridge.read_line(), bridge.read_line()] == ["show neighbor json", ADVERTISE]
    newest = Client(bridge.path)
    assert client.read_line() == "", "the newest client wins"
    newest.say("show neighbor configuration")
    assert bridge.read_line() == "show neighbor configuration"
    bridge.say("[1]", "done", "error", EVENT, "[2]", "done", "done")
    assert [newest.read_line() for _ in range(3)] == [EVENT, "[2]", "done"]
    newest.close()


def test_bridge_never_stops_draining_and_drops_a_stuck_client(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path / "bridge.sock", stuck_seconds=0.2)
    stuck = Client(bridge.path)
    for _ in range(400):  # 8 MB, far beyond what the pipe and the socket hold
        bridge.say(EVENT + " " * 20_000)
    newest = Client(bridge.path)
    bridge.say(EVENT)
    assert newest.read_line() == EVENT
    stuck.close()
    newest.close()
    bridge.end()


def test_bridge_drops_a_stuck_client_though_nobody_else_comes(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path / "bridge.sock", stuck_seconds=0.2)
    stuck = Client(bridge.path)
    for _ in range(100):
        bridge.say(EVENT + " " * 20_000)
    wait_until(lambda: is_cut(stuck))
    stuck.close()
    bridge.end()


def is_cut(client: Client) -> bool:
    """Whether the other end is closed, without taking anything from it."""
    poller = select.poll()
    poller.register(client.socket, select.POLLHUP)
    return bool(poller.poll(0))


@pytest.fixture
def signals() -> Iterator[list[int]]:
    """Those that ExaBGP would get."""
    got: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: got.append(number))
    yield got
    signal.signal(signal.SIGUSR1, before)


def test_bridge_sends_the_signal_for_a_reload(bridge: Bridge, client: Client, signals: list[int]) -> None:
    (bridge.folder / "exabgp.conf").write_text(GOOD, "ascii")
    client.say("bridge reload")
    assert client.read_line() == '{"bridge": "reload"}'
    wait_until(lambda: signals == [signal.SIGUSR1])


def test_bridge_puts_a_candidate_that_exabgp_takes_in_place_first(
    bridge: Bridge, client: Client, signals: list[int]
) -> None:
    (bridge.folder / "exabgp.conf").write_text("old", "ascii")
    (bridge.folder / "exabgp.next").write_text(GOOD, "ascii")
    client.say("bridge reload")
    assert client.read_line() == '{"bridge": "reload"}'
    assert {path.name for path in bridge.folder.glob("exabgp.*")} == {"exabgp.conf"}
    assert (bridge.folder / "exabgp.conf").read_text("ascii") == GOOD
    wait_until(lambda: signals == [signal.SIGUSR1])


def test_bridge_tells_why_a_candidate_is_not_taken_and_leaves_exabgp_alone(
    bridge: Bridge, client: Client, signals: list[int]
) -> None:
    (bridge.folder / "exabgp.conf").write_text(GOOD, "ascii")
    (bridge.folder / "exabgp.next").write_text(BAD, "ascii")
    client.say("bridge reload", ADVERTISE)
    assert bridge.read_line() == ADVERTISE
    said = json.loads(client.read_line())
    assert said["error"].split(" line 2: ")[-1] == "no such thing"
    assert "aHVzaA==" not in said["error"]
    assert (said["bridge"], said["description"]) == ("rejected", "announcer-bad")
    assert {path.name for path in bridge.folder.glob("exabgp.*")} == {"exabgp.conf"}
    assert (signals, (bridge.folder / "exabgp.conf").read_text("ascii")) == ([], GOOD)


def test_bridge_goes_on_while_a_candidate_is_checked_and_answers_once(
    bridge: Bridge, client: Client, signals: list[int]
) -> None:
    (bridge.folder / "exabgp.next").write_text(SLOW, "ascii")
    client.say("bridge reload", "bridge reload", ADVERTISE)
    assert bridge.read_line() == ADVERTISE
    bridge.say("done")
    assert client.read_line() == "done"
    (bridge.folder / "exabgp.checked").write_text(GOOD, "ascii")
    assert client.read_line() == '{"bridge": "reload"}'
    bridge.say(EVENT)
    assert client.read_line() == EVENT
    wait_until(lambda: signals == [signal.SIGUSR1])


def test_bridge_sends_no_signal_without_a_configuration(bridge: Bridge, client: Client, signals: list[int]) -> None:
    client.say("bridge reload", ADVERTISE)
    assert bridge.read_line() == ADVERTISE
    assert signals == []


def test_bridge_outlives_a_check_that_cannot_be_made(bridge: Bridge, client: Client, signals: list[int]) -> None:
    (bridge.folder / "validate").unlink()
    (bridge.folder / "exabgp.next").write_text(GOOD, "ascii")
    client.say("bridge reload", ADVERTISE)
    said = json.loads(client.read_line())
    assert "can't be run" in said["error"]
    assert said["description"] == "announcer-good"
    assert bridge.read_line() == ADVERTISE
    assert signals == []


def test_bridge_refuses_by_name_what_it_cannot_move_and_keeps_its_client(
    bridge: Bridge, client: Client, signals: list[int]
) -> None:
    (bridge.folder / "exabgp.checked").mkdir()
    (bridge.folder / "exabgp.next").write_text(GOOD, "ascii")
    client.say("bridge reload", ADVERTISE)
    error = f"{bridge.folder / 'exabgp.next'}: Is a directory"
    assert json.loads(client.read_line()) == {"bridge": "rejected", "description": "", "error": error}
    assert bridge.read_line() == ADVERTISE
    assert signals == []


def test_bridge_refuses_by_name_what_it_cannot_put_in_place(bridge: Bridge, client: Client) -> None:
    (bridge.folder / "exabgp.conf").mkdir()
    (bridge.folder / "exabgp.next").write_text(GOOD, "ascii")
    client.say("bridge reload")
    said = json.loads(client.read_line())
    assert (said["description"], said["error"].split(": ")[-1]) == ("announcer-good", "Is a directory")
    assert not (bridge.folder / "exabgp.checked").exists()


def test_exabgp_starts_with_what_it_has_where_a_candidate_cannot_be_moved(tmp_path: Path) -> None:
    (tmp_path / "exabgp.checked").mkdir()
    for name in ("exabgp.next", "exabgp.conf"):
        (tmp_path / name).write_text(GOOD, "ascii")
    done = start(tmp_path)
    assert done.stdout == "runs\n"
    assert f"{tmp_path / 'exabgp.next'}: Is a directory" in done.stderr


def test_folder_that_nothing_can_be_written_to_is_named() -> None:
    done = subprocess.run([RUN, "/sys", "1"], capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == os.EX_CANTCREAT
    assert done.stderr.startswith("can't write to /sys: ")


def start(folder: Path) -> subprocess.CompletedProcess[str]:
    """`exabgp/run`, with an ExaBGP that prints the configuration that it would run."""
    program = folder / "exabgp"
    text = VALIDATE.replace('assert sys.argv[1] == "validate"', 'if sys.argv[1] == "server":\n    print("runs")')
    program.write_text(text, "ascii")
    program.chmod(0o755)
    env = {**os.environ, "EXABGP": str(program)}
    return subprocess.run([RUN, folder, "1"], capture_output=True, text=True, check=False, env=env, timeout=SECONDS)


def test_what_a_bridge_that_died_was_checking_is_taken_away(tmp_path: Path) -> None:
    checked = tmp_path / "exabgp.checked"
    checked.write_text(GOOD, "ascii")
    bridge = Bridge(tmp_path / "bridge.sock")
    assert not checked.exists()
    bridge.end()
    checked.write_text(GOOD, "ascii")
    (tmp_path / "exabgp.conf").write_text(GOOD, "ascii")
    assert (start(tmp_path).stdout, checked.exists()) == ("runs\n", False)


def test_bridge_outlives_clients_and_ends_with_exabgp(bridge: Bridge) -> None:
    for _ in range(20):
        Client(bridge.path).close()
    assert bridge.process.poll() is None
    bridge.end()
    assert bridge.process.returncode == 0


def test_bridge_takes_the_place_of_one_that_was_killed(tmp_path: Path) -> None:
    first = Bridge(tmp_path / "bridge.sock")
    first.process.kill()
    first.end()
    inode = first.path.stat().st_ino
    second = Bridge(first.path)
    wait_until(lambda: first.path.stat().st_ino != inode)
    Client(second.path).close()
    second.end()
