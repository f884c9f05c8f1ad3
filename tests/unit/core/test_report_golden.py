"""Status objects as golden texts, which `GOLDEN=write pytest ...` rewrites: what other people's tools read."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from announcer.core.allocate import allocate
from announcer.core.desired import Desired, Mode, Placement, describe_links
from announcer.core.model import (
    AdvertisedRoute,
    IfName,
    IPAddress,
    ObservedBgp,
    ObservedPeer,
    Reason,
    Route,
    ServiceKey,
)
from announcer.core.own import Cause, Entry, Move, Ownership, Phase
from announcer.core.report import Past, TimedMove, mirrors, node_status, recall, remember, writings
from tests.builders import Raw, group, group_v2, ip, kernel, metallb, net, peer, pool, raw, service, snapshot

GOLDEN = Path(__file__).parents[2] / "golden"
TOR, NET = ip("10.111.111.254"), net("10.113.113.0/24")


def report() -> Raw:
    one = {"services": ["test/local 10.111.111.100"], "mode": "local", "link": "eth0", "reason": "Holding"}
    two = {"services": ["test/tools 10.0.0.0"], "mode": "virtual", "prefix": "host", "reason": "Advertised"}
    return raw("announcer.io/v1alpha1", "NodeAnnouncement", "n1", status={"addresses": [one, two]})


def cluster() -> list[dict[str, object]]:
    found = snapshot(
        group("auto", "10.111.111.100-10.111.111.109", "10.111.111.0/24"),
        group_v2("far", "remote", [("10.113.113.0/24", "10.113.113.0/24"), ("fd00:113::/64", "fd00:113::/64")]),
        group("wrong", "10.1-1.1-10.1.1.9"),
        pool("tools", "10.0.0.0/30", avoidBuggyIPs=False),
        metallb("BGPAdvertisement", "all"),
        peer(),
        service("local", pool="auto"),
        service("both", pool="far", ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv6", "IPv4"]),
        service("tools", pool="tools", annotations={"purelb.io/unheard-of": "x"}),
        service("refused", pool="none"),
        report(),
    )
    decisions = allocate(found)
    return [
        {"object": str(w.ref), "annotations": dict(w.annotations), "labels": dict(w.labels), "status": w.status}
        for w in [*writings(found, decisions), *mirrors(found, decisions, "announcer-system")]
    ]


def node() -> dict[str, object]:
    eth0, lo = IfName("eth0"), IfName("kube-lb0")

    def placement(name: str, address: IPAddress, mode: Mode, link: IfName, **more: Any) -> Placement:
        return Placement(service=ServiceKey(f"test/{name}"), address=address, mode=mode, ifname=link, **more)

    held, foreign = ip("10.111.111.100"), ip("10.111.111.101")
    wanted = Desired(
        placements=(
            placement("held", held, Mode.LOCAL, eth0),
            placement("foreign", foreign, Mode.LOCAL, eth0),
            placement("far", ip("10.113.113.1"), Mode.VIRTUAL, lo, prefix=NET),
            placement("far-too", ip("10.113.113.2"), Mode.VIRTUAL, lo, prefix=NET),
            placement("none", ip("10.113.113.3"), Mode.VIRTUAL, lo, prefix=NET, reason=Reason.NO_ENDPOINTS),
        ),
        bgp={TOR: {NET: Route(prefix=NET)}},
    )
    entries = {
        (eth0, held): Entry(phase=Phase.HOLDING, due=0, since=0),
        (eth0, foreign): Entry(phase=Phase.WATCHING, due=0, since=0, holder="02:00:00:00:00:99"),
    }
    routes = {NET: AdvertisedRoute(route=Route(prefix=NET), since=0.0)}
    bgp = ObservedBgp(peers=(ObservedPeer(peer_address=TOR, is_established=True, routes=routes),))
    taken = Move(ifname=eth0, address=held, old="n2", new="n1", cause=Cause.NODE_DEAD, silent_seconds=0.263)
    moves = remember((), [TimedMove(move=taken, time=datetime(2026, 11, 25, 12, 0, tzinfo=UTC))], wanted.placements)
    then = datetime(2026, 11, 25, 11, 0, tzinfo=UTC)
    past = Past(moves=moves, sessions=recall((), wanted, bgp, then))
    return node_status(describe_links(kernel()), wanted, Ownership(entries=entries), bgp, ["PutRoute: no"], past)


@pytest.mark.parametrize(("name", "made"), [("status-cluster", cluster), ("status-node", node)])
def test_status_objects_are_the_golden_ones(name: str, made: Any) -> None:
    path, text = GOLDEN / f"{name}.json", json.dumps(made(), indent=1) + "\n"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")
