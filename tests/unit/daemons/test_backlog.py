"""What is still to be done: nothing is lost, nothing is done twice, and it is bounded by the addresses."""

import pytest

from announcer.core.model import IfName, PutAddresses, RemoveAddresses, SendAnnouncement, SendRequest
from announcer.daemons.backlog import Backlog, Change
from tests.builders import ip

ETH0, ETH1 = IfName("eth0"), IfName("eth1")
A, B, C = (ip(f"10.111.111.{i}") for i in (100, 101, 102))
GATEWAY = ip("10.111.111.254")


def put(*addresses: object, seconds: int = 10, ifname: IfName = ETH0) -> PutAddresses:
    return PutAddresses(ifname=ifname, addresses=addresses, valid_seconds=seconds)  # type: ignore[arg-type]


def remove(*addresses: object) -> RemoveAddresses:
    return RemoveAddresses(ifname=ETH0, addresses=addresses)  # type: ignore[arg-type]


def announce(*addresses: object) -> SendAnnouncement:
    return SendAnnouncement(ifname=ETH0, addresses=addresses)  # type: ignore[arg-type]


def request(*addresses: object) -> SendRequest:
    return SendRequest(ifname=ETH0, addresses=addresses, asks=(GATEWAY,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("added", "left"),
    [
        ([put(A, B), announce(A, B), request(A, B)], [put(A, B), announce(A, B), request(A, B)]),
        ([put(A), announce(A), put(B), announce(B)], [put(A), announce(A), put(B), announce(B)]),
        ([put(A), put(B)], [put(A, B)]),
        ([put(A), put(A)], [put(A)]),
        ([put(A), announce(A), put(A), announce(A)], [put(A), announce(A)]),
        ([put(A), put(A, ifname=ETH1)], [put(A), put(A, ifname=ETH1)]),
        ([put(A), put(B, seconds=300)], [put(A), put(B, seconds=300)]),
        ([put(A, B), announce(A, B), request(A, B), remove(A)], [put(B), announce(B), request(B), remove(A)]),
        ([remove(A), put(A), announce(A)], [put(A), announce(A)]),
        ([remove(A), put(B), put(A)], [put(B, A)]),
        ([put(A), announce(A, B), remove(C)], [put(A), announce(A, B), remove(C)]),
    ],
)
def test_later_word_replaces_an_earlier_one(added: list[Change], left: list[Change]) -> None:
    backlog = Backlog()
    for action in added:
        backlog.add(action, 1.0)
    assert [backlog.take()[0] for _ in range(len(left))] == left
    assert len(backlog) == 0


def test_action_is_as_old_as_its_oldest_part() -> None:
    backlog = Backlog()
    backlog.add(put(A), 1.0)
    backlog.add(put(B), 2.0)
    assert backlog.take() == (put(A, B), 1.0)


def test_edge_that_stands_still_fills_nothing() -> None:
    backlog = Backlog()
    many = tuple(A + i for i in range(50))
    for now in range(1000):
        for action in (put(*many), announce(*many[: now % 50 + 1]), request(*many[now % 50 :])):
            backlog.add(action, now)
    assert len(backlog) == 3 * len(many)
    assert backlog.take()[0] == put(*many)


def test_what_is_not_on_the_link_is_not_announced() -> None:
    backlog = Backlog()
    backlog.add(announce(A, B), 1.0)
    backlog.add(request(A), 1.0)
    backlog.unsay(ETH0, (A,))
    assert backlog.take()[0] == announce(B)
    assert len(backlog) == 0
