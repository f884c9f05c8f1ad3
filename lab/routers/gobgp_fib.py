"""Carries GoBGP's routes into the kernel: `gobgp_fib.py PATHS_MOST`, in the namespace where gobgpd runs.

GoBGP writes no kernel routes. It can tell FRR's zebra, but GoBGP 3.10 knows zebra's protocol up to FRR 8.1 and dies of
the first interface that a zebra of 8.4 describes. So this asks gobgpd for its table whenever gobgpd tells of a change,
and once a second. Paths that are as good as the best one share the traffic, as GoBGP's own `use-multiple-paths` has it.
A gobgpd that isn't there has no routes. Ours are those with the protocol `bgp` (RTPROT_BGP).
"""

import json
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any

POLL_SECONDS = 1.0
ASK_SECONDS = 10.0
FAMILIES = {"ipv4": "-4", "ipv6": "-6"}
ORIGIN, AS_PATH, NEXT_HOP, MED, LOCAL_PREF, MP_REACH = 1, 2, 3, 4, 5, 14  # IANA's numbers of path attributes
Table = Mapping[str, tuple[str, ...]]
"""Next hops, sorted, by prefix."""


def wanted(most: int) -> Table:
    found: dict[str, tuple[str, ...]] = {}
    for family in FAMILIES:
        text = run("gobgp", "--json", "global", "rib", "--address-family", family)
        for prefix, paths in json.loads(text or "{}").items():
            ranked = sorted((rank(path), next_hop(path)) for path in paths)
            found[prefix] = tuple(hop for order, hop in ranked if order == ranked[0][0])[:most]
    return found


def rank(path: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """RFC 4271 §9.1.2.2 as far as it tells two nodes apart: the smaller, the better."""
    values = attributes(path)
    segments = values.get(AS_PATH, {}).get("as_paths", ())
    length = sum(len(segment["asns"]) for segment in segments)
    pref, origin, med = (values.get(kind, {}) for kind in (LOCAL_PREF, ORIGIN, MED))
    return -pref.get("value", 100), length, origin.get("value", 0), med.get("metric", 0)


def next_hop(path: Mapping[str, Any]) -> str:
    values = attributes(path)
    return str((values.get(NEXT_HOP) or values[MP_REACH])["nexthop"])


def attributes(path: Mapping[str, Any]) -> dict[int, Any]:
    return {attribute["type"]: attribute for attribute in path["attrs"]}


def installed() -> Table:
    found = {}
    for family in FAMILIES.values():
        for route in json.loads(run("ip", "-j", family, "route", "show", "proto", "bgp") or "[]"):
            hops = route.get("nexthops", [route])
            found[str(ip_network(route["dst"]))] = tuple(sorted(hop["gateway"] for hop in hops))
    return found


def follow(desired: Table) -> None:
    there = installed()
    lines = [f"route delete {prefix} proto bgp" for prefix in there.keys() - desired.keys()]
    for prefix, hops in desired.items():
        if there.get(prefix) != hops:
            lines.append(f"route replace {prefix} proto bgp {' '.join(f'nexthop via {hop}' for hop in hops)}")
    if lines:
        run("ip", "-force", "-batch", "-", stdin="\n".join(lines) + "\n")


def run(*argv: str, stdin: str = "") -> str:
    """Empty where it fails: gobgpd may not be there."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=ASK_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


@contextmanager
def news() -> Iterator[subprocess.Popen[bytes]]:
    """A line for every change of a path that gobgpd has got."""
    argv = ["gobgp", "--json", "monitor", "adj-in"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
    try:
        yield process
    finally:
        process.kill()
        process.wait(5)


def main(most: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while True:
            with news() as process:
                assert process.stdout is not None
                while process.poll() is None:
                    follow(wanted(most))
                    if select.select([process.stdout], [], [], POLL_SECONDS)[0]:
                        process.stdout.read(1 << 20)
            follow({})
            signal.sigtimedwait([], POLL_SECONDS)
    finally:
        follow({})


if __name__ == "__main__":
    main(int(sys.argv[1]))
