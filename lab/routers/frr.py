"""FRR's zebra, bfdd and bgpd, beside any FRR that the machine runs."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lab.command import run, run_json
from lab.routers.values import (
    DEFAULT_LOCAL_PREF,
    PATHS_MOST,
    PEERS,
    PEERS_V6,
    POOLS,
    POOLS_V6,
    ROUTES_MOST,
    Peer,
    Rib,
    write,
)
from lab.topology import NODE_ASN, TOR, TOR_ASN, Lab

DAEMONS: Final = Path("/usr/lib/frr")
ZEBRA: Final = DAEMONS / "zebra"
ORDER: Final = ("zebra", "bfdd", "bgpd")
USER: Final = "frr"
REPLACE_V6: Final = "--v6-rr-semantics"
"""Without kernel nexthop objects, zebra would delete an IPv6 route and add it again whenever a path changes."""
ZEBRA_CONF: Final = """\
hostname ann-tor
! FRR 8.4 keeps stale next-hop groups after a link flap, unless it doesn't use kernel nexthop objects.
no zebra nexthop kernel enable
"""
BFDD_CONF: Final = """\
hostname ann-tor
bfd
 profile nodes
  receive-interval 100
  transmit-interval 100
"""


def configurations() -> Mapping[str, str]:
    return {"zebra.conf": ZEBRA_CONF, "bfdd.conf": BFDD_CONF, "bgpd.conf": _bgpd_conf()}


def _bgpd_conf() -> str:
    lines = [
        "hostname ann-tor",
        f"ip prefix-list pools seq 10 permit {POOLS} le 32",
        f"ipv6 prefix-list pools-v6 seq 10 permit {POOLS_V6} le 128",
        "ip prefix-list nothing seq 10 deny any",
        "ipv6 prefix-list nothing-v6 seq 10 deny any",
        f"router bgp {TOR_ASN}",
        f" bgp router-id {TOR}",
        " no bgp default ipv4-unicast",
        " bgp bestpath as-path multipath-relax",
        " timers bgp 3 9",
    ]
    groups = (("ipv4", "nodes", "", PEERS), ("ipv6", "nodes-v6", "-v6", PEERS_V6))
    for _, group, _, peers in groups:
        lines += [f" neighbor {group} peer-group", f" neighbor {group} remote-as {NODE_ASN}"]
        lines += [f" neighbor {group} bfd", f" neighbor {group} bfd profile nodes"]
        lines += [f" neighbor {group} timers connect 1", *(f" neighbor {peer} peer-group {group}" for peer in peers)]
    for family, group, suffix, _ in groups:
        lines += [
            f" address-family {family} unicast",
            f"  neighbor {group} activate",
            f"  neighbor {group} prefix-list pools{suffix} in",
            f"  neighbor {group} prefix-list nothing{suffix} out",
            f"  neighbor {group} maximum-prefix {ROUTES_MOST}",
            f"  maximum-paths {PATHS_MOST}",
            " exit-address-family",
        ]
    return "\n".join(lines) + "\n"


def prepare(lab: Lab) -> None:
    """The daemons leave root for the user of FRR's package, so the folder is theirs."""
    write(lab, configurations(), owner=USER, programs=tuple(DAEMONS / d for d in ORDER), package="frr")


def argvs(lab: Lab) -> Mapping[str, list[str]]:
    """Each once the one before it is there, as FRR's own watchfrr does: a bgpd that zebra knows before bfdd may get no
    BFD session at all (8.4, one start of ten on a busy machine).
    """
    client = {"zebra": "", "bfdd": "zebra", "bgpd": "bfdd"}
    return {daemon: _after(lab, client[daemon], daemon_argv(lab, daemon)) for daemon in ORDER}


def _after(lab: Lab, daemon: str, argv: list[str]) -> list[str]:
    if not daemon:
        return argv
    asked = f"{shlex.join(vtysh(lab, 'show zebra client summary'))} 2>&1"
    seen = {"zebra": "Name", "bfdd": "bfd"}[daemon]
    return ["sh", "-c", f"until {asked} | grep -q {seen}; do sleep 0.1; done; exec {shlex.join(argv)}"]


def daemon_argv(lab: Lab, daemon: str) -> list[str]:
    folder = lab.tor_dir
    files = ["-f", f"{folder}/{daemon}.conf", "-i", f"{folder}/{daemon}.pid", "-z", f"{folder}/zserv.api"]
    files += {"zebra": [REPLACE_V6], "bfdd": ["--bfdctl", f"{folder}/bfdd.sock"]}.get(daemon, [])
    return [str(DAEMONS / daemon), *files, "--vty_socket", str(folder), "-P", "0", "--log", "stdout"]


def vtysh(lab: Lab, command: str) -> list[str]:
    if lab.in_containers:
        return ["docker", "exec", lab.namespace("tor"), "vtysh", "-c", command]
    return ["vtysh", "--vty_socket", str(lab.tor_dir), "-c", command]


def peers(lab: Lab) -> Mapping[str, Peer]:
    """Counted, as FRR's time of establishment is computed from two clocks and flips by a second."""
    found = run_json(vtysh(lab, "show bgp neighbors json"))
    return {
        address: Peer(
            is_established=peer["bgpState"] == "Established",
            since=f"{peer.get('connectionsEstablished', 0)} up, {peer.get('connectionsDropped', 0)} down",
        )
        for address, peer in found.items()
        if isinstance(peer, dict) and "bgpState" in peer
    }


def rib(lab: Lab) -> Rib:
    found = [run_json(vtysh(lab, f"show bgp {family} unicast json")) for family in ("ipv4", "ipv6")]
    return {
        prefix: {path["peerId"]: path.get("locPrf", DEFAULT_LOCAL_PREF) for path in paths}
        for table in found
        for prefix, paths in table["routes"].items()
    }


def clear(lab: Lab) -> None:
    run(vtysh(lab, "clear bgp *"))
    run(vtysh(lab, "clear bgp ipv6 *"))
