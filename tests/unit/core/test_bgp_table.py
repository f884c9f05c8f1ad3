"""docs/bgp.md against the dialects: every field of the BGP objects stands there, and what the code says of it."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from announcer.core.dialects import metallb_bgp, purelb_bgp
from tests.unit.deploy.schemas import leaves, schemas

PAGE = Path(__file__).parents[3] / "docs" / "bgp.md"
BEGIN, END = "<!-- fields -->", "<!-- end of fields -->"
KINDS = {
    "BGPPeer": "metallb.io/v1beta2",
    "BGPAdvertisement": "metallb.io/v1beta1",
    "Community": "metallb.io/v1beta1",
    "BFDProfile": "metallb.io/v1beta1",
    "BGPConfiguration": "bgp.purelb.io/v1",
}
TABLES: Mapping[str, tuple[tuple[str, Mapping[str, str], str], ...]] = {
    "BGPPeer": (("", metallb_bgp.PEER, "no"), ("", metallb_bgp.PEER_IDLE, "no effect")),
    "BGPConfiguration": (
        ("", purelb_bgp.SPEC, "no"),
        ("", purelb_bgp.SPEC_IDLE, "no effect"),
        ("global.", purelb_bgp.GLOBAL, "no"),
        ("global.", purelb_bgp.GLOBAL_IDLE, "no effect"),
        ("neighbors.config.", purelb_bgp.CONFIG, "no"),
        ("neighbors.config.", purelb_bgp.CONFIG_IDLE, "no effect"),
        ("neighbors.timers.config.", purelb_bgp.TIMERS_IDLE, "no effect"),
        ("neighbors.transport.", purelb_bgp.TRANSPORT, "no"),
        ("neighbors.afiSafis.", purelb_bgp.AFI_SAFI_IDLE, "no effect"),
        ("neighbors.", purelb_bgp.NEIGHBOR_IDLE, "no effect"),
    ),
}
BY_HAND = {
    ("BGPPeer", "dynamicASN"): ("`internal`", "ExaBGP has to know the AS of an external peer"),
    ("BGPPeer", "keepaliveTime"): ("a third of holdTime", "another value has no effect, and the status says so"),
    ("BGPConfiguration", "global.confederation"): ("no", "ExaBGP has no confederations"),
    ("BGPConfiguration", "global.gracefulRestart"): ("no", metallb_bgp.NO_GRACEFUL_RESTART),
    ("BGPConfiguration", "global.applyPolicy"): ("no", purelb_bgp.POLICY),
    ("BGPConfiguration", "netlinkExport"): ("no", purelb_bgp.TAKES_NO_ROUTES),
    ("BGPConfiguration", "netlinkImport.vrf"): ("no", metallb_bgp.NO_VRF),
    ("BGPConfiguration", "netlinkImport"): ("on or off", "routes are those of virtual addresses, not of links"),
    ("BGPConfiguration", "neighbors.config.sendCommunity"): ("`both`", "communities go to all peers"),
    ("BGPConfiguration", "neighbors.applyPolicy"): ("no", purelb_bgp.POLICY),
    ("BGPPeer", "bfdProfile"): (
        "yes",
        "by the bfdd beside an agent; without one the session has no BFD, and the report says so",
    ),
    ("BFDProfile", "echoMode"): ("IPv4, one hop", "else the peer that names the profile is refused"),
    ("BFDProfile", "minimumTtl"): ("yes", "over several hops, where alone it means anything"),
    ("BGPConfiguration", "neighbors.bfd.port"): ("3784", "RFC 5881 has no other"),
    ("BGPConfiguration", "neighbors.gracefulRestart"): ("no", metallb_bgp.NO_GRACEFUL_RESTART),
    ("BGPConfiguration", "peerGroups"): ("as neighbors", "a neighbor is laid over its group"),
}


def rows(kind: str) -> list[str]:
    """One row for each field, or for a whole part of the object that fares alike."""
    known = {
        (kind, f"{at}{name}"): (what, why) for at, table, what in TABLES.get(kind, ()) for name, why in table.items()
    }
    known |= {key: value for key, value in BY_HAND.items() if key[0] == kind}
    found: dict[str, tuple[str, str]] = {}
    for path, _ in leaves(schemas()[KINDS[kind], kind]["properties"]["spec"]):
        parts = path.split(".")
        parents = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
        name = next((p for p in parents if (kind, p) in known), path)
        if ".match" not in name:
            found[name] = known.get((kind, name), ("yes", ""))
    return [f"| `{name}` | {what} | {why} |" for name, (what, why) in found.items()]


def table() -> str:
    parts = []
    for kind, version in KINDS.items():
        parts += [f"\n### {kind} ({version})\n", "| field | honored | why, or how |", "|---|---|---|", *rows(kind)]
    return "\n".join(parts) + "\n\n"


def test_page_has_every_field_as_the_code_has_it() -> None:
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    shown, _, after = rest.partition(END)
    if os.environ.get("GOLDEN") == "write":
        PAGE.write_text(f"{before}{BEGIN}\n{table()}{END}{after}", "utf-8")
        return
    assert shown == "\n" + table()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_by_hand_are_of_fields_that_exist(kind: str) -> None:
    shown = "\n".join(rows(kind))
    assert all(f"| `{name}` |" in shown for k, name in BY_HAND if k == kind)
