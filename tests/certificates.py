"""Certificates for tests: a CA, and what it signs."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Pair:
    certificate: Path
    key: Path


def authority(folder: Path, name: str) -> Pair:
    """A CA of that name; its files are NAME.crt and NAME.key."""
    return _request(folder, name, "-addext", "basicConstraints=critical,CA:TRUE")


def signed(ca: Pair, name: str, *, host: str = "127.0.0.1") -> Pair:
    """By that CA, for that address, beside the CA's files."""
    by = ("-CA", str(ca.certificate), "-CAkey", str(ca.key))
    return _request(ca.certificate.parent, name, *by, "-addext", f"subjectAltName=IP:{host}")


def _request(folder: Path, name: str, *arguments: str) -> Pair:
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-days", "2", "-subj", f"/CN={name}", "-out", str(pair.certificate), "-keyout", str(pair.key), *arguments]
    subprocess.run(argv, check=True, capture_output=True, timeout=20)
    return pair
