"""BIRD 2: one daemon, which writes the kernel's routes itself."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lab.command import run
from lab.routers.values import PATHS_MOST, PEERS, PEERS_V6, POOLS, POOLS_V6, ROUTES_MOST, Peer, Rib, write
from lab.topology import NODE_ASN, TOR, TOR_ASN, TOR_V6, Lab

BIRD: Final = Path("/usr/sbin/bird")
CONF: Final = f"""\
log stderr all;
router id {TOR};
timeformat protocol iso long;

# RFC 8326: a path that drains loses against every other one, and is used while there is no other.
function drains()
{{
    if (65535, 0) ~ bgp_community then bgp_local_pref = 0;
}}

filter pools {{
    if net !~ [ {POOLS}+ ] then reject;
    drains();
    accept;
}}

filter pools_v6 {{
    if net !~ [ {POOLS_V6}+ ] then reject;
    drains();
    accept;
}}

protocol device {{ scan time 2; }}
protocol bfd {{ interface "eth0" {{ interval 100 ms; multiplier 3; }}; }}
protocol kernel {{
    ipv4 {{ export all; }};
    merge paths on limit {PATHS_MOST};
}}
protocol kernel {{
    ipv6 {{ export all; }};
    merge paths on limit {PATHS_MOST};
}}

template bgp node {{
    passive;
    hold time 9;
    keepalive time 3;
    error wait time 1, 2;
    bfd on;
}}
template bgp node_v4 from node {{
    local {TOR} as {TOR_ASN};
    ipv4 {{ import filter pools; export none; import limit {ROUTES_MOST} action restart; }};
}}
template bgp node_v6 from node {{
    local {TOR_V6} as {TOR_ASN};
    ipv6 {{ import filter pools_v6; export none; import limit {ROUTES_MOST} action restart; }};
}}
"""
ROW: Final = re.compile(r"^(?P<name>n\d+_v[46])\s+BGP\s+\S+\s+\S+\s+(?P<since>\S+ \S+)(?P<info>.*)$", re.MULTILINE)
PATH: Final = re.compile(r"^(?P<prefix>[0-9a-f.:]+/\d+)?\s+unicast \[(?P<name>\S+) ")
LOCAL_PREF: Final = re.compile(r"^\s+BGP\.local_pref: (\d+)")


def configurations() -> Mapping[str, str]:
    sessions = [
        f"protocol bgp {name} from node_{name.rpartition('_')[2]} {{ neighbor {address} as {NODE_ASN}; }}"
        for name, address in _names().items()
    ]
    return {"bird.conf": CONF + "\n" + "\n".join(sessions) + "\n"}


def _names() -> Mapping[str, str]:
    return {f"n{i}_{v}": a for v, found in (("v4", PEERS), ("v6", PEERS_V6)) for i, a in enumerate(found, start=1)}


def prepare(lab: Lab) -> None:
    write(lab, configurations(), programs=(BIRD,), package="bird2")


def argvs(lab: Lab) -> Mapping[str, list[str]]:
    return {"bird": [str(BIRD), "-f", "-c", f"{lab.tor_dir}/bird.conf", "-s", _socket(lab), "-P", f"{lab.tor_dir}/pid"]}


def birdc(lab: Lab, command: str) -> str:
    return run(["birdc", "-s", _socket(lab), *command.split()])


def _socket(lab: Lab) -> str:
    return f"{lab.tor_dir}/bird.ctl"


def peers(lab: Lab) -> Mapping[str, Peer]:
    rows = {row["name"]: row for row in ROW.finditer(birdc(lab, "show protocols"))}
    return {
        address: Peer(is_established="Established" in rows[name]["info"], since=rows[name]["since"])
        for name, address in _names().items()
        if name in rows
    }


def rib(lab: Lab) -> Rib:
    found: dict[str, dict[str, int]] = {}
    names, prefix, peer = _names(), "", ""
    for line in birdc(lab, "show route all").splitlines():
        if path := PATH.match(line):
            prefix, peer = path["prefix"] or prefix, names.get(path["name"], "")
        elif peer and (pref := LOCAL_PREF.match(line)):
            found.setdefault(prefix, {})[peer] = int(pref[1])
    return found


def clear(lab: Lab) -> None:
    birdc(lab, "restart all")
