"""`make chaos SEED= MINUTES=`: in a lab things break and change by a seed; do the routers have what is desired?

    python -m tests.e2e.chaos [--seed 1] [--minutes 10]

A round: some faults and some edits of manifests, at random moments and over each other; then every fault ends. At every
proven moment, a router must have what the node says (judge). After a round every node must say, for three seconds on
end, that what it should advertise is proven; and then the tables of both routers, FRR and BIRD, must be what follows
from the manifests, session by session: no route less, none more, none that drains. Needs root.
"""

import argparse
import sys

from lab.topology import MANIFEST_SETS, NODES, Lab
from tests.e2e.chaos.acts import ACTS
from tests.e2e.chaos.judge import Violation
from tests.e2e.chaos.running import Chaos
from tests.e2e.laboratory import laboratory

TOLD_MOST, LOG_MOST = 80, 400_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    with laboratory("purelb") as lab:
        chaos = Chaos(lab, arguments.seed, ACTS)
        try:
            chaos.run(arguments.minutes * 60)
        except Violation as violation:
            print("\n".join(chaos.told[-TOLD_MOST:]))
            print(f"seed {arguments.seed}: {violation}\n{summary(chaos)}")
            keep(lab, chaos)
            return 1
    print(f"seed {arguments.seed}: the routers had what was proven, and in the end what was desired")
    print(summary(chaos))
    return 0


def summary(chaos: Chaos) -> str:
    judge, acts = chaos.judge, ", ".join(f"{count} {name}" for name, count in chaos.done.most_common())
    first = f"{judge.compared} comparisons of a session at {judge.moments} proven moments, {judge.late} of them late"
    return f"{first}; {chaos.checks} of all sessions after a round; {chaos.done.total()} acts: {acts}"


def keep(lab: Lab, chaos: Chaos) -> None:
    """Logs of what went wrong, before the lab goes."""
    folder = MANIFEST_SETS.parents[1] / "build" / f"chaos-{chaos.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "told.txt").write_text("\n".join(chaos.told) + "\n", "utf-8")
    for log in (lab.run_dir / "log").glob("*.log"):
        (folder / log.name).write_text(log.read_text("utf-8")[-LOG_MOST:], "utf-8")
    for report in (lab.manifests / ".status" / "nodeannouncement").rglob("*.json"):
        (folder / report.name).write_text(report.read_text("utf-8"), "utf-8")
    for node in NODES:
        text = (lab.exabgp_dir(node) / "exabgp.conf").read_text("utf-8")
        (folder / f"{node.name}.conf").write_text(text, "utf-8")
    print(f"logs are in {folder}")


if __name__ == "__main__":
    sys.exit(main())
