"""BIRD and GoBGP keep the promises of the lab too, also after a drain, a reset, and the end of ExaBGP or router."""

from collections.abc import Iterator

import pytest

from lab import processes, routers
from lab.checks import VIP_3, VIP_3_V6
from lab.topology import Lab
from tests.e2e.laboratory import hops, keeps_promises, kill, laboratory, put, restarted, row, sessions, stream, until

pytestmark = [pytest.mark.long, pytest.mark.e2e, pytest.mark.netns, pytest.mark.timeout(300)]
HOSTNAME = "kubernetes.io/hostname: ann-n1"
EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers: ''"


@pytest.fixture(scope="module", params=["bird", "gobgp"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with laboratory("purelb", router=request.param) as made:
        yield made


def test_drained_node_is_left_by_traffic_without_loss(lab: Lab) -> None:
    nodes = lab.manifests / "nodes.yaml"
    text, before = nodes.read_text("utf-8"), sessions(lab)
    with stream(lab, VIP_3, VIP_3_V6):
        put(lab, nodes.name, text.replace(HOSTNAME, f"{HOSTNAME}\n    {EXCLUDE}"))
        until(lambda: hops(lab) == (2, 2), what="two next hops")
        until(lambda: "ann-n1" not in row(lab, "test/test-nginx-3")["nodes"], what="the withdrawal")
        put(lab, nodes.name, text)
        until(lambda: hops(lab) == (3, 3), what="three next hops again")
    assert sessions(lab) == before


def test_sessions_that_are_reset_come_back_with_their_routes(lab: Lab) -> None:
    before = sessions(lab)
    routers.of(lab).clear(lab)
    until(lambda: not before.items() & sessions(lab).items(), seconds=50, what="new sessions")  # GoBGP lets 30 s pass
    keeps_promises(lab)


def test_exabgp_that_dies_takes_its_node_out_and_comes_back(lab: Lab) -> None:
    old = kill(lab, "exabgp-ann-n1")
    until(lambda: hops(lab) == (2, 2), what="two next hops")
    until(lambda: restarted(lab, "exabgp-ann-n1", old), what="ExaBGP again")
    until(lambda: hops(lab) == (3, 3), what="three next hops again")


def test_router_that_dies_has_all_routes_again(lab: Lab) -> None:
    name = next(iter(routers.of(lab).argvs(lab)))
    old = kill(lab, name)
    until(lambda: restarted(lab, name, old) and processes.find(lab, name), what="the router again")
    keeps_promises(lab)
