"""`make bench-failover`: what a client sees of every fault and every planned change of local addresses.

    python -m bench.failover [--runs 30] [--store manifests|kubernetes] [--load 2] [--api-away] [CASE...]

A lab of its own, real kernels, a client outside that sends every millisecond (every 100 ms to each of 1,000 addresses),
two busy processes beside it. Each case is done `runs` times; the table has what the client saw, the bound, and in how
many runs it held. The exit status is 0 only if all did. Needs root; with all cases and 30 runs, well over an hour.

With --api-away the API server is down in every run; where agents were started anew it is up between two of them.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack

from bench.faults import CASES, Case, Seen
from bench.scene import MANY, Scene
from lab.command import LabError
from lab.topology import REPOSITORY
from tests.e2e.laboratory import laboratory, stop_api

LOGS = REPOSITORY / "build" / "failover"
"""Logs of the agents in runs that did not hold."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all where none is named")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--store", default="manifests", choices=["manifests", "kubernetes"])
    parser.add_argument("--load", type=int, default=2, help="busy processes")
    parser.add_argument("--api-away", action="store_true", help="the API server is down (only with --store kubernetes)")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"{', '.join(sorted(unknown))}: no such case; there are {', '.join(CASES)}")
    if arguments.api_away and arguments.store != "kubernetes":
        parser.error("--api-away: only --store kubernetes has an API server that could be away")
    chosen = [CASES[name] for name in arguments.cases or CASES]
    if arguments.api_away:
        chosen = [case for case in chosen if not case.needs_api]
    with ExitStack() as stack:
        lab = stack.enter_context(laboratory("purelb", arguments.store))
        scene = Scene(lab)
        scene.prepare(many=len(MANY) if any(case.name == "thousand" for case in chosen) else 0)
        if arguments.api_away:
            stop_api(lab)
        stack.enter_context(scene.busy(arguments.load))
        say(f"| case | bound | runs | min | median | max | held |\n|{'---|' * 7}")
        between = scene.learn_again if arguments.api_away else None
        results = [measure(scene, case, arguments.runs, between if case.forgets else None) for case in chosen]
    return 0 if all(results) else 1


def measure(scene: Scene, case: Case, runs: int, between: Callable[[], None] | None) -> bool:
    seen: list[Seen] = []
    for number in range(min(runs, case.most)):
        try:
            seen.append(case.run(scene))
        except LabError as error:
            seen.append(Seen(value=float("inf"), ok=False, text=str(error)))
        if not seen[-1].ok:
            sys.stderr.write(f"{case.name}, run {number + 1}: {seen[-1].value:.3f} {seen[-1].text}\n")
            scene.keep_logs(f"{case.name}-{number + 1}", LOGS)
        if between is not None:
            between()
    values = [one.value for one in seen]
    held = sum(one.ok for one in seen)
    shown = " | ".join(case.show(v) for v in (min(values), statistics.median(values), max(values)))
    say(f"| {case.title} | {case.bound} | {len(seen)} | {shown} | {held} of {len(seen)} |")
    return held == len(seen) and case.holds(values)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
