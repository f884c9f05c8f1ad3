"""The alerts of deploy/components/prometheus by Prometheus' own promtool: when each fires, and what it says.

And that the dashboard's questions are PromQL, and the rest of it what Grafana reads.
"""

import json
from pathlib import Path

import pytest
import yaml

from lab import binaries
from lab.command import LabError, run
from tests.deploying import DEPLOY, alerts

pytestmark = [pytest.mark.long, pytest.mark.timeout(binaries.BUILD_SECONDS)]
DASHBOARD = DEPLOY / "components" / "dashboard" / "announcer.json"
NODE = 'instance="10.0.0.1:9720", job="agents", node="n1"'
LABELS = {"instance": "10.0.0.1:9720", "job": "agents", "node": "n1"}
RULES = {rule["alert"]: rule for rule in alerts()}
CASES: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "AnnouncerAgentLost": (
        {
            f'announcer_exabgp_known{{{NODE}, pod="a"}}': "1x3 stale",
            f'announcer_exabgp_known{{{NODE}, pod="b"}}': "_x4 1x4 stale",
        },
        LABELS,
        "The agent of n1 has answered within the last day and doesn't any more.",
    ),
    "AnnouncerNoLeader": (
        {"announcer_allocator_is_leader{pod='a'}": "0x60"},
        {},
        "No allocator says that it leads: new Services get no address. What is announced stays.",
    ),
    "AnnouncerNotReady": (
        {f"announcer_ready{{{NODE}}}": "0x60"},
        LABELS,
        "/readyz of n1 has been answering 503 for 5 minutes; its text says what is missing.",
    ),
    "AnnouncerStoreAway": (
        {f"announcer_store_away_seconds{{{NODE}}}": "150x60"},
        LABELS,
        "n1 has had no answer for 2m 30s. What was read last stays in force.",
    ),
    "AnnouncerStoreHeld": (
        {f"announcer_store_held{{{NODE}}}": "1x60"},
        LABELS,
        "n1 sees so much less than before that it keeps what was there.",
    ),
    "AnnouncerPassesFail": (
        {f"announcer_pass_failures_total{{{NODE}}}": "0+1x60"},
        LABELS,
        "n1 can't read what it has to know; its log says what.",
    ),
    "AnnouncerActionsFail": (
        {f'announcer_action_failures{{{NODE}, action="PutRoute"}}': "1x60"},
        LABELS | {"action": "PutRoute"},
        "PutRoute has been failing on n1; `announcer status` and the log say why.",
    ),
    "AnnouncerServicesRefused": (
        {'announcer_allocator_services{pod="a", state="refused"}': "3x60"},
        {"pod": "a", "state": "refused"},
        "3 Services don't have the addresses that they ask for; `announcer status` says why.",
    ),
    "AnnouncerPoolNearlyFull": (
        {
            'announcer_pool_addresses{pool="web", family="ipv4", state="available"}': "1x60",
            'announcer_pool_addresses{pool="web", family="ipv4", state="assigned"}': "19x60",
        },
        {"pool": "web", "family": "ipv4"},
        "Pool web has 5% of its ipv4 addresses left.",
    ),
    "AnnouncerForeignHost": (
        {f'announcer_addresses{{{NODE}, mode="local", reason="AddressHeldByForeignHost"}}': "2x60"},
        LABELS | {"mode": "local", "reason": "AddressHeldByForeignHost"},
        "As n1 sees it, 2 addresses are somebody else's; the Services say whose MAC answers.",
    ),
    "AnnouncerPeerDown": (
        {f'announcer_exabgp_session_established{{{NODE}, peer="10.0.0.254"}}': "0x60"},
        LABELS | {"peer": "10.0.0.254"},
        "n1 has no session with 10.0.0.254.",
    ),
    "AnnouncerPeerFlapping": (
        {f'announcer_exabgp_sessions_ended_total{{{NODE}, peer="10.0.0.254"}}': "0x20 1 2 3 4 5x40"},
        LABELS | {"peer": "10.0.0.254"},
        "The session of n1 with 10.0.0.254 ended 5 times in 15 minutes.",
    ),
    "AnnouncerExabgpSilent": (
        {f"announcer_exabgp_known{{{NODE}}}": "0x60"},
        LABELS,
        "The agent of n1 can change no route, and takes nothing down.",
    ),
    "AnnouncerRoutesStuck": (
        {
            f'announcer_exabgp_session_routes{{{NODE}, peer="10.0.0.254", state="refused"}}': "4x60",
            f'announcer_exabgp_session_established{{{NODE}, peer="10.0.0.254"}}': "1x60",
        },
        LABELS | {"peer": "10.0.0.254", "state": "refused"},
        "4 routes of n1 to 10.0.0.254 are refused while the session is up.",
    ),
    "AnnouncerBfdDown": (
        {f'announcer_bfd_sessions{{{NODE}, state="down"}}': "1x60"},
        LABELS | {"state": "down"},
        "1 BFD sessions of n1 are down.",
    ),
    "AnnouncerOwnershipConflicts": (
        {f'announcer_ownership_changes_total{{{NODE}, reason="conflict"}}': "0x20 1x40"},
        LABELS | {"reason": "conflict"},
        "n1 met another holder of its addresses: the segment was, or is, in two parts.",
    ),
    "AnnouncerFramesDropped": (
        {f'announcer_wire_dropped_total{{{NODE}, link="eth0"}}': "0+5x60"},
        LABELS | {"link": "eth0"},
        "n1 doesn't keep up with ARP and neighbor discovery on eth0.",
    ),
}
AT = "25m"
"""When an alert has to fire; none may at QUIET, when all is well."""
STAYS = {"AnnouncerAgentLost": ("85m", "23h")}
"""When it still has to, as nothing has changed."""
QUIET: dict[str, str] = {
    f'announcer_exabgp_known{{{NODE}, pod="a"}}': "1x20 stale",
    f'announcer_exabgp_known{{{NODE}, pod="b"}}': "_x22 1x40",
    "announcer_allocator_is_leader{pod='a'}": "1x60",
    "announcer_allocator_is_leader{pod='b'}": "0x60",
    f"announcer_ready{{{NODE}}}": "1x2 0x3 1x55",
    f"announcer_store_away_seconds{{{NODE}}}": "0x10 30x2 0x50",
    f"announcer_store_held{{{NODE}}}": "0x20 1 0x40",
    f"announcer_pass_failures_total{{{NODE}}}": "3x60",
    f'announcer_action_failures{{{NODE}, action="PutRoute"}}': "0x20 1x2 0x40",
    'announcer_allocator_services{pod="a", state="refused"}': "0x60",
    'announcer_allocator_services{pod="a", state="assigned"}': "9x60",
    'announcer_pool_addresses{pool="web", family="ipv4", state="available"}': "10x60",
    'announcer_pool_addresses{pool="web", family="ipv4", state="assigned"}': "10x60",
    f'announcer_addresses{{{NODE}, mode="local", reason="Holding"}}': "2x60",
    f'announcer_exabgp_session_established{{{NODE}, peer="10.0.0.254"}}': "1x10 0 1x50",
    f'announcer_exabgp_sessions_ended_total{{{NODE}, peer="10.0.0.254"}}': "0x10 1x51",
    f'announcer_exabgp_session_routes{{{NODE}, peer="10.0.0.254", state="proven"}}': "4x60",
    f'announcer_exabgp_session_routes{{{NODE}, peer="10.0.0.253", state="pending"}}': "4x60",
    f'announcer_bfd_sessions{{{NODE}, state="up"}}': "1x60",
    f'announcer_ownership_changes_total{{{NODE}, reason="node-dead"}}': "0x20 5x40",
    f'announcer_wire_dropped_total{{{NODE}, link="eth0"}}': "7x60",
}


def series(found: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in found.items()]


def expected(name: str) -> dict[str, object]:
    _, labels, text = CASES[name]
    notes = RULES[name]["annotations"]
    return {"exp_labels": labels | RULES[name]["labels"], "exp_annotations": notes | {"description": text}}


def test_promtool_sees_each_alert_fire_and_none_while_all_is_well(tmp_path: Path) -> None:
    promtool = str(binaries.provide_promtool())
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "announcer", "rules": alerts()}]}))
    run([promtool, "check", "rules", "--lint-fatal", str(tmp_path / "rules.yaml")], timeout=60.0)
    fires = [
        {
            "name": name,
            "input_series": series(found),
            "alert_rule_test": [
                {"eval_time": at, "alertname": name, "exp_alerts": [expected(name)]}
                for at in (AT, *STAYS.get(name, ()))
            ],
        }
        for name, (found, *_) in CASES.items()
    ]
    times = [f"{minute}m" for minute in range(0, 60, 3)]
    quiet = [{"eval_time": at, "alertname": name, "exp_alerts": []} for name in RULES for at in times]
    tests = [*fires, {"name": "all is well", "input_series": series(QUIET), "alert_rule_test": quiet}]
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(document))
    run([promtool, "test", "rules", str(tmp_path / "tests.yaml")], timeout=60.0)


def test_dashboard_asks_what_prometheus_understands(tmp_path: Path) -> None:
    """As recording rules, with what Grafana puts in place of its variables."""
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    asked = [one["expr"] for panel in dashboard["panels"] for one in panel.get("targets", ())]
    texts = [text.replace("$__rate_interval", "1m").replace("$node", "n1") for text in asked]
    assert texts
    assert not any("$" in text for text in texts)
    rules = [{"record": f"panel:{i}", "expr": text} for i, text in enumerate(texts)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run([str(binaries.provide_promtool()), "check", "rules", str(tmp_path / "rules.yaml")], timeout=60.0)


def test_dashboard_is_what_grafana_reads() -> None:
    run([str(binaries.provide_dashboard_check()), str(DASHBOARD)], timeout=60.0)


def test_mistake_in_a_dashboard_is_named(tmp_path: Path) -> None:
    file = tmp_path / "dashboard.json"
    file.write_text(DASHBOARD.read_text("utf-8").replace('"graphMode"', '"grafMode"', 1))
    with pytest.raises(LabError, match=r"panels\[0\]\.options.*unexpected field 'grafMode'"):
        run([str(binaries.provide_dashboard_check()), str(file)], timeout=60.0)


def test_each_alert_has_its_case() -> None:
    assert set(CASES) == set(RULES)
