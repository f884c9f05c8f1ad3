"""A bounded flood of ARP in a test's own namespace: `python -m tests.integration.flooder IFNAME KIND RATE SECONDS`.

| kind | frames |
|---|---|
| scan | one host asks for one address after another, as network scanners do |
| many | ever other hosts with ever other addresses, as a loop or an attacker makes them |
| same | one host says the same again and again |

Prints how many frames were sent.
"""

import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from itertools import cycle

from announcer.wire import frames
from tests.integration.netns import Namespace

MODULE = "tests.integration.flooder"
KINDS = ("scan", "many", "same")
FRAMES_MOST, SECONDS_MOST, BURST_SECONDS = 20_000, 10.0, 0.001
NETWORK = int(IPv4Address("10.200.0.0"))


@contextmanager
def flood(node: Namespace, kind: str, *, rate: int = 10_000, seconds: float = 2.0) -> Iterator[subprocess.Popen[str]]:
    """It has begun to flood when this is entered, and has ended when this is left."""
    argv = ["ip", "netns", "exec", node.name, sys.executable, "-m", MODULE, "eth0", kind, str(rate), str(seconds)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "begins\n"
            yield process
        finally:
            process.wait(timeout=SECONDS_MOST + 5)


def prepare(kind: str) -> list[bytes]:
    dice = random.Random(1)
    host = "02:aa:00:00:00:01"
    match kind:
        case "scan":
            hosts = [IPv4Address(NETWORK + n) for n in range(FRAMES_MOST)]
            return [frames.request(host, hosts[0], asks=asked) for asked in hosts]
        case "many":
            macs = [f"02:{dice.randbytes(5).hex(':')}" for _ in range(FRAMES_MOST)]
            return [frames.announcement(mac, IPv4Address(NETWORK + n)) for n, mac in enumerate(macs)]
        case _:
            return [frames.announcement(host, IPv4Address(NETWORK))]


def main() -> None:
    ifname, kind, rate, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), min(float(sys.argv[4]), SECONDS_MOST)
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender.bind((ifname, 0))
    source, sent = cycle(prepare(kind)), 0
    print("begins", flush=True)
    began = time.monotonic()
    while (now := time.monotonic()) - began < seconds:
        while sent < (now - began) * rate:
            sender.send(next(source))
            sent += 1
        time.sleep(BURST_SECONDS)
    print(sent, flush=True)


if __name__ == "__main__":
    main()
