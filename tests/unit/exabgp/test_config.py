"""The configuration file as golden texts, which `GOLDEN=write pytest ...` rewrites, and its fingerprint."""

import os
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from announcer.core.model import DesiredPeer
from announcer.exabgp.config import blocks_of, configuration, fingerprint
from announcer.exabgp.text import ExabgpError
from tests.builders import ip

GOLDEN = Path(__file__).parents[2] / "golden"
BRIDGE = ("/run/announcer/bridge", "/run/announcer/bridge.sock")
TOR = DesiredPeer(
    name="tor",
    my_asn=64512,
    peer_asn=64513,
    peer_address=ip("10.111.111.254"),
    local_address=ip("10.111.111.2"),
    router_id=IPv4Address("10.111.111.2"),
    hold_time_seconds=9,
)
REFLECTOR = DesiredPeer(
    name="reflector",
    my_asn=64512,
    peer_asn=64512,
    peer_address=ip("fd00:111::fe"),
    local_address=ip("fd00:111::2"),
    router_id=IPv4Address("10.111.111.2"),
    peer_port=1790,
    multihop_ttl=255,
    families=frozenset({6}),
)
FAR = replace(TOR, name="far", peer_address=ip("192.0.2.9"), multihop_ttl=3, password='pass "word"; }é')


@pytest.mark.parametrize(
    ("name", "peers"),
    [("exabgp-empty.conf", ()), ("exabgp-one.conf", (TOR,)), ("exabgp-three.conf", (REFLECTOR, FAR, TOR))],
)
def test_configuration_reads_as_reviewed(name: str, peers: tuple[DesiredPeer, ...]) -> None:
    text = configuration(peers, BRIDGE)
    if os.environ.get("GOLDEN") == "write":
        (GOLDEN / name).write_text(text, encoding="ascii")
    assert text == (GOLDEN / name).read_text(encoding="ascii")


def test_configuration_is_the_same_in_any_order() -> None:
    assert configuration((TOR, REFLECTOR, FAR), BRIDGE) == configuration((FAR, TOR, REFLECTOR), BRIDGE)


def test_configuration_begins_with_the_process() -> None:
    assert configuration((TOR,), BRIDGE).startswith("process announcer {")


def test_configuration_refuses_a_path_that_is_no_word() -> None:
    with pytest.raises(ExabgpError):
        configuration((), ("/run/announcer/bridge; run /bin/sh",))


@pytest.mark.parametrize(
    "other",
    [
        replace(TOR, hold_time_seconds=3),
        replace(TOR, peer_port=1790),
        replace(TOR, multihop_ttl=255),
        replace(TOR, password="x"),
        replace(TOR, families=frozenset({4})),
    ],
)
def test_fingerprint_changes_with_each_setting(other: DesiredPeer) -> None:
    assert fingerprint((other,)) != fingerprint((TOR,))


def test_fingerprint_does_not_depend_on_the_name_that_people_gave() -> None:
    assert fingerprint((replace(TOR, name="other"),)) == fingerprint((TOR,))


def test_configuration_keeps_others_as_they_are() -> None:
    former = configuration((TOR, REFLECTOR, FAR), BRIDGE)
    edited = replace(TOR, hold_time_seconds=3)
    kept = configuration((edited,), BRIDGE, blocks_of(former))
    assert blocks_of(kept) == {**blocks_of(former), **blocks_of(configuration((edited,), BRIDGE))}
    assert kept.count(fingerprint((edited,), blocks_of(former))) == 3
    assert configuration((FAR,), BRIDGE, blocks_of(former)) == former


def test_text_of_somebody_else_has_no_blocks() -> None:
    assert blocks_of("") == blocks_of("neighbor 10.0.0.1 { local-as 1; }\nprocess x { run /bin/cat; }\n") == {}


def test_password_is_in_the_file_only() -> None:
    assert "pass" not in configuration((FAR,), BRIDGE).replace("md5-password", "")
    assert "pass" not in repr(FAR).replace("password", "")
