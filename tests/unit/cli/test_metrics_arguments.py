"""Options of TLS for metrics: which go together, and what is said where they don't."""

from pathlib import Path

import pytest

from announcer.cli import _parser, _tls, main
from announcer.metrics import TlsFiles

CERT, KEY, CA = "--metrics-cert=/c", "--metrics-key=/k", "--metrics-client-ca=/a"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((CERT,), "--metrics-key"),
        ((KEY,), "--metrics-cert"),
        ((CA,), "--metrics-cert"),
        ((CERT, KEY, "--metrics-address="), "--metrics-address"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    given: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["allocator", "--manifests=/m", *given])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("process", ["agent --node=n1", "allocator"])
def test_options_are_files(process: str) -> None:
    found = _tls(_parser().parse_args([*process.split(), CERT, KEY, CA]))
    assert found == TlsFiles(certificate=Path("/c"), key=Path("/k"), client_ca=Path("/a"))
    assert _tls(_parser().parse_args(process.split())) is None
