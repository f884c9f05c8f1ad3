"""Every metric is in docs/metrics.md with its type and labels, and nothing else is."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from announcer.metrics import (
    ClusterState,
    NodeState,
    PassState,
    ProcessState,
    StoreState,
    cluster_metrics,
    exposition,
    node_metrics,
)

PROCESS = ProcessState(
    store=StoreState(is_synced=True, is_held=False, away_seconds=0.0),
    passes=PassState(failures=1, seconds=0.5, buckets=(("0.1", 2), ("+Inf", 3))),
)
NODE = NodeState(
    process=PROCESS,
    services={"announced": 1},
    addresses={("local", "Holding"): 2},
    failed_actions={"PutRoute": 1},
    moves={"node-dead": 4},
    held=2,
    peers={"established": 1, "down": 0},
    routes={"proven": 1, "pending": 0, "refused": 0},
    sessions={"10.0.0.1": 1},
    session_routes={("10.0.0.1", "proven"): 1},
    sessions_ended={"10.0.0.1": 2},
    bfd={"up": 1},
    frames={
        "eth0": dict.fromkeys(
            ("received", "repeated", "ignored", "dropped", "receive_errors", "sent", "send_waits", "send_errors"), 1
        )
    },
)
CLUSTER = ClusterState(
    process=PROCESS, is_leader=True, services={"assigned": 1}, pools={("web", "ipv4", "available"): 9}
)
ROW = re.compile(r"\| `(announcer_\w+)(?:\{([\w, ]+)\})?` \| (\w+) \| (agent|allocator|both) \|")


def documented(process: str) -> dict[str, tuple[str, frozenset[str]]]:
    text = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    return {
        name: (kind, frozenset(filter(None, labels.replace(" ", "").split(","))))
        for name, labels, kind, who in ROW.findall(text)
        if who in {process, "both"}
    }


def told(found: Iterable[Metric]) -> dict[str, tuple[str, frozenset[str]]]:
    """As people see them in Prometheus: counters end in _total, an info in _info."""
    out = {}
    for one in found:
        suffix = {"counter": "_total", "info": "_info"}.get(one.type, "")
        labels = frozenset(label for sample in one.samples for label in sample.labels) - {"le"}
        out[one.name + suffix] = (one.type, labels)
    return out


@pytest.mark.parametrize(("process", "found"), [("agent", node_metrics(NODE)), ("allocator", cluster_metrics(CLUSTER))])
def test_documentation_has_exactly_these_metrics(process: str, found: Iterable[Metric]) -> None:
    assert told(found) == documented(process)


def test_scrape_is_read_by_prometheus_own_parser() -> None:
    text, content_type = exposition(lambda: node_metrics(NODE))()
    found = {one.name: one for one in text_string_to_metric_families(text.decode())}
    assert content_type.startswith("text/plain; version=0.0.4")
    changes = found["announcer_ownership_changes"].samples
    assert [(s.name, s.labels, s.value) for s in changes] == [
        ("announcer_ownership_changes_total", {"reason": "node-dead"}, 4.0)
    ]
    assert found["announcer_passes"].samples[0].value == 3.0
    assert "process_resident_memory_bytes" in found


def test_what_is_not_known_of_exabgp_is_not_zero() -> None:
    found = {one.name: one for one in node_metrics(NodeState(process=PROCESS))}
    assert found["announcer_exabgp_known"].samples[0].value == 0
    assert not found["announcer_exabgp_peers"].samples
    assert not found["announcer_exabgp_routes"].samples
