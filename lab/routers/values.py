"""What every router of the lab has in common: which nodes it peers with, and what it lets in from them."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

from lab.command import LabError
from lab.topology import NODES, Lab

POOLS: Final = IPv4Network("10.112.0.0/12")
POOLS_V6: Final = IPv6Network("fd00:100::/24")
ROUTES_MOST: Final = 20000
"""Of one session; a router closes it beyond that."""
PATHS_MOST: Final = 8
PEERS: Final = tuple(str(node.address) for node in NODES)
PEERS_V6: Final = tuple(str(node.address_v6) for node in NODES)

DEFAULT_LOCAL_PREF: Final = 100
Rib = Mapping[str, Mapping[str, int]]
"""LOCAL_PREF of every path, by prefix and by the peer's address; 0 is one that drains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """`since` tells one session from the next with the same peer: equal twice means that none was lost between."""

    is_established: bool
    since: str


def write(lab: Lab, files: Mapping[str, str], *, owner: str = "", programs: tuple[Path, ...], package: str) -> None:
    """The configurations into the router's folder, which becomes the owner's with all that it has."""
    for program in programs:
        if not program.exists():
            raise LabError(f"{program} is missing: install the package {package}")
    lab.tor_dir.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (lab.tor_dir / name).write_text(text, encoding="utf-8")
        if owner:
            shutil.chown(lab.tor_dir / name, owner, owner)
    if owner:
        shutil.chown(lab.tor_dir, owner, owner)
