"""What the streams of the test laboratory wait for."""

import pytest

from lab.topology import Lab
from tests.e2e import laboratory


class Slow:
    """Two looks at it are needed until enough packets are answered."""

    def __init__(self, *_: object) -> None:
        self.count = laboratory.AFTERWARDS

    def answers(self) -> int:
        return self.count

    def has_answers(self, count: int) -> bool:
        self.count += laboratory.AFTERWARDS // 2
        return self.count >= count

    def stop(self) -> tuple[int, list[int]]:
        return self.count, []


def test_stream_goes_on_until_enough_more_packets_are_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(laboratory, "Stream", Slow)
    with laboratory.stream(Lab(prefix="x"), "192.0.2.1", "192.0.2.2"):
        pass
    answered = 2 * laboratory.AFTERWARDS
    assert capsys.readouterr().out.splitlines() == [f"192.0.2.{n}: {answered} packets answered, 0 lost" for n in (1, 2)]
