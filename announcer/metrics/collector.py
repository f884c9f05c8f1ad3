"""Values of daemons → Prometheus' metric families, and those → the text of a scrape.

docs/metrics.md has them all; a test compares both. Labels have values of closed sets, or names that the cluster bounds
(pools, links, peers).
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from announcer.metrics.values import ClusterState, NodeState, ProcessState

FRAMES = {
    "received": "Frames read",
    "repeated": "Frames read that said what another one of the same batch had said",
    "ignored": "Frames read that were malformed or about nothing that is listened for",
    "dropped": "Frames lost because the socket was full",
    "receive_errors": "Failures of the socket",
    "sent": "Frames sent",
    "send_waits": "Frames that had to wait for room",
    "send_errors": "Frames that were not sent",
}
"""Fields of `wire.Counters`."""
Samples = Iterable[tuple[Sequence[str], float]]


class _Collector(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked for when it is registered: the daemon doesn't run yet."""
        return ()


def exposition(collect: Callable[[], Iterable[Metric]]) -> Callable[[], tuple[bytes, str]]:
    """What answers a scrape: text and content type. Always the text format, which every Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_Collector(collect))
    ProcessCollector(registry=registry)
    return lambda: (generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4)


def node_metrics(state: NodeState) -> Iterator[Metric]:
    """Of `announcer agent`."""
    yield from _process(state.process)
    yield _gauge("services", "Services by what this node does for them", state.services, "state")
    yield _labelled(
        GaugeMetricFamily,
        "addresses",
        "Addresses of Services on this node, by mode and by what becomes of them (Reason)",
        ("mode", "reason"),
        state.addresses.items(),
    )
    yield _gauge("action_failures", "Actions that failed in the last pass", state.failed_actions, "action")
    yield _counter("report_failures", "Reports (NodeAnnouncement) that could not be written", state.report_failures)
    yield _labelled(
        CounterMetricFamily,
        "ownership_changes",
        "Local addresses that this node began or ceased to hold",
        ("reason",),
        (((cause,), count) for cause, count in state.moves.items()),
    )
    yield _counter("ownership_late_beats", "Beats of ownership that came more than half an interval late", state.late)
    yield _one("ownership_held", "Local addresses that this node holds", state.held)
    yield from _exabgp(state)
    yield from _bfd(state)
    for name, text in FRAMES.items():
        samples = [((link,), float(counters[name])) for link, counters in state.frames.items()]
        yield _labelled(CounterMetricFamily, f"wire_{name}", f"{text}, since the link was opened", ("link",), samples)


def cluster_metrics(state: ClusterState) -> Iterator[Metric]:
    """Of `announcer allocator`."""
    yield from _process(state.process)
    yield _one("allocator_is_leader", "Whether this allocator leads", state.is_leader)
    yield _gauge("allocator_services", "Services by whether they have what they ask for", state.services, "state")
    yield _labelled(
        GaugeMetricFamily,
        "pool_addresses",
        "Addresses of pools, as the leader counts them",
        ("pool", "family", "state"),
        state.pools.items(),
    )


def _process(state: ProcessState) -> Iterator[Metric]:
    built = {"version": version("announcer"), "python": platform.python_version()}
    yield InfoMetricFamily("announcer_build", "What runs here", value=built)
    yield _one("ready", "Whether /readyz says that everything is proven or explained", not state.unready)
    yield _one("store_synced", "Whether everything has been read once", state.store.is_synced)
    yield _one("store_held", "Whether a list is doubted, so that what was there before stays", state.store.is_held)
    yield _one("store_away_seconds", "For how long the source has not answered", state.store.away_seconds)
    yield _counter("passes", "Passes that ended well", state.passes.buckets[-1][1])
    yield _counter("pass_failures", "Passes that failed", state.passes.failures)
    yield HistogramMetricFamily(
        "announcer_pass_duration_seconds",
        "Of passes that ended well",
        buckets=list(state.passes.buckets),
        sum_value=state.passes.seconds,
    )


def _exabgp(state: NodeState) -> Iterator[Metric]:
    yield _one("exabgp_known", "Whether ExaBGP has said what it advertises", state.peers is not None)
    yield _gauge("exabgp_peers", "BGP peers by state of their sessions", state.peers or {}, "state")
    yield _gauge("exabgp_routes", "Routes, once per peer, by whether they are proven", state.routes or {}, "state")
    yield _gauge("exabgp_session_established", "Whether the session with a peer is", state.sessions, "peer")
    routes = state.session_routes.items()
    text = "Routes to a peer by whether they are proven"
    yield _labelled(GaugeMetricFamily, "exabgp_session_routes", text, ("peer", "state"), routes)
    ends = (((peer,), count) for peer, count in state.sessions_ended.items())
    text = "Established sessions that were seen to end"
    yield _labelled(CounterMetricFamily, "exabgp_sessions_ended", text, ("peer",), ends)


def _bfd(state: NodeState) -> Iterator[Metric]:
    yield _one("bfd_known", "Whether bfdd has said which sessions it has", state.bfd is not None)
    yield _gauge("bfd_sessions", "BFD sessions by state", state.bfd or {}, "state")


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"announcer_{name}", text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"announcer_{name}", text, value=float(value))


def _gauge(name: str, text: str, values: Mapping[str, int], label: str) -> Metric:
    return _labelled(GaugeMetricFamily, name, text, (label,), (((key,), value) for key, value in values.items()))


def _labelled(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    text: str,
    labels: Sequence[str],
    samples: Samples,
) -> Metric:
    family = kind(f"announcer_{name}", text, labels=labels)
    for values, number in samples:
        family.add_metric(list(values), number)
    return family
