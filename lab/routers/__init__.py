"""The top-of-rack router of the lab: FRR, BIRD or GoBGP, each by one module of the same functions.

Each is configured as a customer's router would be, and knows nothing of announcer: eBGP with every node, multipath, the
pools and nothing else let in, GRACEFUL_SHUTDOWN (RFC 8326) honored. `docs/routers` shows these configurations.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from lab.routers import bird, frr, gobgp
from lab.routers.values import Peer as Peer
from lab.routers.values import Rib as Rib
from lab.topology import Lab


class Router(Protocol):
    """Its files and sockets are in `lab.tor_dir`, its processes in the namespace `tor`."""

    def configurations(self) -> Mapping[str, str]:
        """Text by file name."""

    def prepare(self, lab: Lab) -> None:
        """Write the configurations; raises LabError where its programs are missing."""

    def argvs(self, lab: Lab) -> Mapping[str, list[str]]:
        """Its processes by name, in the order of their start."""

    def peers(self, lab: Lab) -> Mapping[str, Peer]:
        """By address of the node; raises LabError where it can't be asked."""

    def rib(self, lab: Lab) -> Rib:
        """What the router has from its peers; raises LabError where it can't be asked."""

    def clear(self, lab: Lab) -> None:
        """Reset every session, as a person would."""


ROUTERS: Final[Mapping[str, Router]] = {"frr": frr, "bird": bird, "gobgp": gobgp}


def of(lab: Lab) -> Router:
    return ROUTERS[lab.router]
