"""What breaks in the running lab, and that nobody outside notices: design §7, row by row."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import processes
from lab.checks import VIP_1, VIP_2, VIP_3, VIP_3_V6, next_hops
from lab.command import inside, run
from lab.live import apply
from lab.topology import NODES, SUBNET_3, Lab
from tests.e2e import many
from tests.e2e.laboratory import (
    addresses,
    holders,
    hops,
    keeps_promises,
    kill,
    laboratory,
    metric,
    put,
    remove_tree,
    restarted,
    routes,
    row,
    service,
    sessions,
    status,
    stream,
    until,
)

pytestmark = [pytest.mark.e2e, pytest.mark.netns, pytest.mark.timeout(300)]
AS_WRITTEN = Path(__file__).parents[2] / "lab" / "manifests" / "as-written"
AGENTS = [f"agent-{node.name}" for node in NODES]
ENDED = 'announcer_exabgp_sessions_ended_total{peer="10.111.111.254"}'


@pytest.fixture(scope="module")
def built() -> Iterator[Lab]:
    with laboratory("purelb") as made:
        yield made


@pytest.fixture
def lab(built: Lab) -> Iterator[Lab]:
    """Each test finds the lab whole and leaves it whole."""
    yield built
    keeps_promises(built)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_agents_that_end_lose_no_packet_and_keep_sessions(lab: Lab, number: signal.Signals) -> None:
    before, held = sessions(lab), [holders(lab, VIP_1, "eth0"), holders(lab, VIP_2, "eth1")]
    with stream(lab, VIP_1, VIP_2, VIP_3, VIP_3_V6):
        for name in AGENTS:
            old = kill(lab, name, number)
            until(lambda name=name, old=old: restarted(lab, name, old), what=f"{name} again")  # type: ignore[misc]
        until(lambda: row(lab, "test/test-nginx-1")["nodes"], what="the holder's report")
    assert sessions(lab) == before
    assert [holders(lab, VIP_1, "eth0"), holders(lab, VIP_2, "eth1")] == held


def test_exabgp_that_dies_takes_its_node_out_and_comes_back_without_the_agent(lab: Lab) -> None:
    agent = processes.find(lab, "agent-ann-n1")
    kill(lab, "exabgp-ann-n1")
    until(lambda: hops(lab) == (2, 2), what="two next hops")
    until(lambda: hops(lab) == (3, 3), what="three next hops again")
    assert processes.find(lab, "agent-ann-n1") == agent


def test_address_that_somebody_deletes_is_put_back(lab: Lab) -> None:
    (holder,) = holders(lab, VIP_1, "eth0")
    for ifname, address in (("eth0", VIP_1), ("kube-lb0", VIP_3)):
        run(["ip", "-n", lab.namespace(holder), "addr", "del", f"{address}/32", "dev", ifname])
        until(lambda i=ifname, a=address: str(a) in addresses(lab, holder, i), seconds=2, what=f"{address} again")  # type: ignore[misc]


def test_link_that_somebody_deletes_is_made_again(lab: Lab) -> None:
    run(["ip", "-n", lab.namespace("n2"), "link", "del", "kube-lb0"])
    wanted = {str(a) for a in (VIP_1, VIP_2, VIP_3, VIP_3_V6)}
    until(lambda: wanted <= addresses(lab, "n2", "kube-lb0"), seconds=5, what="kube-lb0 with its addresses")


def test_route_that_somebody_deletes_is_put_back(lab: Lab) -> None:
    before = routes(lab, "n1")
    assert {"10.112.112.0/24", "10.113.113.0/24"} <= before
    for route in before:
        run(["ip", "-n", lab.namespace("n1"), "route", "del", route])
    until(lambda: routes(lab, "n1") == before, seconds=5, what="our routes")


def test_service_whose_file_goes_stops_attracting_before_it_is_taken_down(lab: Lab) -> None:
    files = [lab.manifests / name for name in ("test-nginx-3-dual.yaml", "test-nginx-3-v6.yaml")]
    texts = [file.read_text() for file in files]
    with stream(lab, VIP_3_V6):
        files[0].unlink()
        until(lambda: row(lab, "test/test-nginx-3-dual") is None, what="the first of two gone")
        assert hops(lab) == (3, 3), "the aggregate stays for the other Service"
    files[1].unlink()
    until(lambda: hops(lab) == (3, 0), what="the route withdrawn")
    assert all(str(VIP_3_V6) in addresses(lab, node.short, "kube-lb0") for node in NODES)
    for file, text in zip(files, texts, strict=True):
        put(lab, file.name, text)
    until(lambda: hops(lab) == (3, 3), what="the route again")


def test_holder_that_is_excluded_hands_over_without_loss(lab: Lab) -> None:
    (holder,) = holders(lab, VIP_1, "eth0")
    nodes = lab.manifests / "nodes.yaml"
    text = nodes.read_text()
    label = "node.kubernetes.io/exclude-from-external-load-balancers: ''"
    name = f"kubernetes.io/hostname: ann-{holder}"
    assert name in text
    with stream(lab, VIP_1, VIP_3):
        put(lab, "nodes.yaml", text.replace(name, f"{name}\n    {label}"))
        until(lambda: holders(lab, VIP_1, "eth0") not in ([holder], []), what="another holder")
        until(lambda: holder not in holders(lab, VIP_1, "eth0"), what="the former holder to leave")
        until(lambda: hops(lab) == (2, 2), what="two next hops")
    put(lab, "nodes.yaml", text)
    until(lambda: hops(lab) == (3, 3), what="three next hops again")


def test_router_that_restarts_gets_everything_again(lab: Lab) -> None:
    for name in ("bgpd", "zebra"):
        kill(lab, name)
    until(lambda: hops(lab) == (3, 3), seconds=40, what="three next hops again")


@pytest.mark.parametrize("address", ["10.113.113.199", "fd00:113::dead"])
def test_address_that_nobody_has_is_refused_and_does_not_loop(lab: Lab, address: str) -> None:
    """Nodes forward, as those of Kubernetes do; without the aggregate's end they would send it back to the router."""
    for node in NODES:
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            run(inside(lab.namespace(node.short), ["sysctl", "-w", f"{key}=1"]))
    told = ping(lab, "tor", address)
    assert "nreachable" in told, told
    assert "exceeded" not in told, told


def ping(lab: Lab, host: str, address: str) -> str:
    """What three echo requests are answered with, ICMP errors among it."""
    argv = inside(lab.namespace(host), ["ping", "-n", "-c", "3", "-i", "0.3", "-W", "2", address])
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stdout


def test_next_hops_are_bounded_and_unbounded_again_without_loss(lab: Lab) -> None:
    file = lab.manifests / "servicegroups.yaml"
    text = file.read_text("utf-8")
    bounded = text
    for name in ("subnet-3", "subnet-3-dual"):  # both are of 10.113.113.0/24
        bound = "  annotations:\n    announcer.io/max-next-hops: '2'\n"
        bounded = bounded.replace(f"  name: {name}\n", f"  name: {name}\n{bound}")
    with stream(lab, VIP_3):
        put(lab, file.name, bounded)
        until(lambda: hops(lab) == (2, 3), what="two next hops")
        until(lambda: len(row(lab, "test/test-nginx-3")["nodes"]) == 2, what="two nodes in status")
        put(lab, file.name, text)
        until(lambda: hops(lab) == (3, 3), what="three next hops again")


def test_session_that_a_router_ends_says_why_and_comes_back_with_its_routes(lab: Lab) -> None:
    told = 'NOTIFICATION received: 6/2 Cease, Administrative Shutdown: "moving to rack 7"'
    router, ends = f"neighbor {NODES[0].address} shutdown", metric(lab, "n1", ENDED) or 0
    configure(lab, "router bgp 64513", f"{router} message moving to rack 7")
    until(lambda: session(lab, "ann-n1")["lastError"] == told, what="the router's words")
    lost = session(lab, "ann-n1")
    assert (lost["state"], lost["routes"]["proven"]) == ("Down", 0)
    assert lost["routes"]["pending"] > 0
    assert metric(lab, "n1", ENDED) == ends + 1
    configure(lab, "router bgp 64513", f"no {router}")
    until(lambda: session(lab, "ann-n1")["state"] == "Established", what="the session again")
    until(lambda: session(lab, "ann-n1")["routes"]["pending"] == 0, what="its routes")
    back = session(lab, "ann-n1")
    assert back["since"] > lost["since"]
    assert back["routes"]["proven"] == lost["routes"]["pending"]
    assert back["lastError"].startswith("NOTIFICATION received: ")
    kill(lab, "agent-ann-n1")
    until(lambda: metric(lab, "n1", ENDED) == 0, what="another agent, which has seen none end")
    until(lambda: session(lab, "ann-n1") == back, what="the same of a session that is the same")


def test_route_whose_services_went_while_the_session_was_down_is_not_left_behind(lab: Lab) -> None:
    """ExaBGP sends to a new session what it was told before the old one ended."""
    router = f"neighbor {NODES[0].address} shutdown"
    files = [lab.manifests / name for name in ("test-nginx-3.yaml", "test-nginx-3-dual.yaml")]
    texts = [file.read_text("utf-8") for file in files]
    configure(lab, "router bgp 64513", router)
    until(lambda: session(lab, "ann-n1")["state"] == "Down", what="the end of the session")
    for file in files:
        file.unlink()
    until(lambda: str(SUBNET_3) not in routes(lab, "n1"), what="nothing left of the aggregate on the node")
    configure(lab, "router bgp 64513", f"no {router}")
    until(lambda: session(lab, "ann-n1")["state"] == "Established", what="the session again")
    until(lambda: session(lab, "ann-n1")["routes"] == {"proven": 0, "pending": 0, "refused": 0}, what="no route")
    until(lambda: not next_hops(lab, SUBNET_3), what="no next hop in the router's kernel")
    until(lambda: str(SUBNET_3) not in routes(lab, "n1"), what="nothing left of the aggregate on the node")
    for file, text in zip(files, texts, strict=True):
        put(lab, file.name, text)
    until(lambda: hops(lab) == (3, 3), what="three next hops again")


def session(lab: Lab, node: str) -> Any:
    """The node's session over IPv4, as status has it."""
    mine = [one for one in status(lab)["sessions"] if one["node"] == node and ":" not in one["peerAddress"]]
    return mine[0] if mine else {"lastError": "", "state": ""}


def configure(lab: Lab, *commands: str) -> None:
    argv = ["vtysh", "--vty_socket", str(lab.tor_dir), "-c", "configure terminal"]
    run([*argv, *(word for command in commands for word in ("-c", command))])


def test_folder_that_vanishes_withdraws_nothing(lab: Lab) -> None:
    with stream(lab, VIP_1, VIP_2, VIP_3):
        remove_tree(lab.manifests)
        for name in AGENTS:
            old = kill(lab, name)
            until(lambda name=name, old=old: restarted(lab, name, old), what=f"{name} again")  # type: ignore[misc]
        assert hops(lab) == (3, 3)
        apply(lab, "purelb")
        until(lambda: row(lab, "test/test-nginx-1")["nodes"], what="the holder's report")


def test_document_as_written_is_answered_mistake_by_mistake(lab: Lab) -> None:
    for file in sorted(AS_WRITTEN.rglob("*.yaml")):
        put(lab, f"as-written/{file.parent.name}/{file.name}", file.read_text())
    wanted = {
        "did you mean 10.111.111.100-10.111.111.200?",
        "put a line `---` before line 24",
        "`- name: app` begins a list beside `selector:`; put `ports:` above it and indent its items",
    }
    until(lambda: wanted <= {p["remedy"] for p in status(lab)["problems"]}, what="a hint for each mistake")
    keeps_promises(lab)
    remove_tree(lab.manifests / "as-written")
    until(lambda: not status(lab)["problems"], what="no problem any more")


def test_service_that_is_added_is_reached_and_one_without_a_pool_says_why(lab: Lab) -> None:
    put(lab, "more.yaml", service("more", "subnet-3"))
    put(lab, "lost.yaml", service("lost", "nowhere"))
    until(lambda: (row(lab, "test/more") or {}).get("nodes"), what="the new Service")
    assert "asks for pool 'nowhere'" in row(lab, "test/lost")["reason"]
    for name in ("more.yaml", "lost.yaml"):
        (lab.manifests / name).unlink()
    until(lambda: row(lab, "test/more") is None, what="the Service gone")


def test_thousand_services_in_one_file_are_allocated_routed_and_reachable(lab: Lab) -> None:
    put(lab, "many-pool.yaml", many.group())
    put(lab, "many.yaml", many.services(1000))
    until(lambda: many.host_routes(lab) == 1000, seconds=60, what="1,000 routes with three next hops")
    assert many.reachable(lab, 1000) == 1000
    found = [r for r in status(lab)["services"] if r["service"].startswith("test/many-")]
    assert len({r["address"] for r in found}) == 1000
    for name in ("many.yaml", "many-pool.yaml"):
        (lab.manifests / name).unlink()
    until(lambda: many.host_routes(lab) == 0, seconds=60, what="the routes withdrawn")
