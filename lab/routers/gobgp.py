"""GoBGP, with FRR's zebra for the kernel's routes, which GoBGP doesn't write itself: it speaks zebra's protocol."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lab.command import inside, run, run_json
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
from lab.topology import NODE_ASN, REPOSITORY, TOR, TOR_ASN, Lab

GOBGPD: Final = Path("/usr/bin/gobgpd")
ESTABLISHED: Final = 6
"""Of GoBGP's own numbers for the states of RFC 4271 §8.2.2."""
LOCAL_PREF: Final = 5
"""Type of the path attribute, RFC 4271 §5."""
GLOBAL: Final = f"""\
[global.config]
  as = {TOR_ASN}
  router-id = "{TOR}"
[global.use-multiple-paths.config]
  enabled = true
[global.apply-policy.config]
  import-policy-list = ["from-nodes"]
  default-import-policy = "reject-route"
  default-export-policy = "reject-route"

[[defined-sets.prefix-sets]]
  prefix-set-name = "pools"
  [[defined-sets.prefix-sets.prefix-list]]
    ip-prefix = "{POOLS}"
    masklength-range = "{POOLS.prefixlen}..32"
[[defined-sets.prefix-sets]]
  prefix-set-name = "pools-v6"
  [[defined-sets.prefix-sets.prefix-list]]
    ip-prefix = "{POOLS_V6}"
    masklength-range = "{POOLS_V6.prefixlen}..128"
[[defined-sets.bgp-defined-sets.community-sets]]
  community-set-name = "graceful-shutdown"
  community-list = ["65535:0"]

# RFC 8326: a path that drains loses against every other one, and is used while there is no other.
[[policy-definitions]]
  name = "from-nodes"
"""
NEIGHBOR: Final = f"""
[[neighbors]]
  [neighbors.config]
    neighbor-address = "{{address}}"
    peer-as = {NODE_ASN}
  [neighbors.timers.config]
    hold-time = 9
    keepalive-interval = 3
  [neighbors.transport.config]
    passive-mode = true
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "{{family}}"
    [neighbors.afi-safis.prefix-limit.config]
      max-prefixes = {ROUTES_MOST}"""


def configurations() -> Mapping[str, str]:
    return {"gobgpd.toml": "\n".join(_conf()) + "\n"}


def _conf() -> Iterator[str]:
    yield GLOBAL.rstrip()
    for pools in ("pools", "pools-v6"):
        yield _statement(pools, is_draining=True)
        yield _statement(pools, is_draining=False)
    for family, addresses in (("ipv4-unicast", PEERS), ("ipv6-unicast", PEERS_V6)):
        for address in addresses:
            yield NEIGHBOR.format(address=address, family=family)


def _statement(pools: str, *, is_draining: bool) -> str:
    prefix = "policy-definitions.statements"
    lines = [
        f"  [[{prefix}]]",
        f'    name = "{pools}{"-draining" if is_draining else ""}"',
        f"    [{prefix}.conditions.match-prefix-set]",
        f'      prefix-set = "{pools}"',
    ]
    if is_draining:
        lines += [f"    [{prefix}.conditions.bgp-conditions.match-community-set]"]
        lines += ['      community-set = "graceful-shutdown"']
    lines += [f"    [{prefix}.actions]", '      route-disposition = "accept-route"']
    if is_draining:
        lines += [f"    [{prefix}.actions.bgp-actions]", "      set-local-pref = 0"]
    return "\n".join(lines)


def prepare(lab: Lab) -> None:
    write(lab, configurations(), programs=(GOBGPD,), package="gobgpd")


def argvs(lab: Lab) -> Mapping[str, list[str]]:
    conf = f"{lab.tor_dir}/gobgpd.toml"
    return {
        "gobgpd": [str(GOBGPD), "-f", conf, "--api-hosts=127.0.0.1:50051", "--pprof-disable"],
        "gobgp-fib": [sys.executable, str(REPOSITORY / "lab" / "routers" / "gobgp_fib.py"), str(PATHS_MOST)],
    }


def gobgp(lab: Lab, *words: str) -> list[str]:
    return inside(lab.namespace("tor"), ["gobgp", *words])


def peers(lab: Lab) -> Mapping[str, Peer]:
    return {
        peer["state"]["neighbor_address"]: Peer(
            is_established=peer["state"].get("session_state") == ESTABLISHED,
            since=json.dumps(peer["timers"]["state"].get("uptime")),
        )
        for peer in run_json(gobgp(lab, "neighbor", "-j"))
    }


def rib(lab: Lab) -> Rib:
    found = [run_json(gobgp(lab, "-j", "global", "rib", "-a", family)) for family in ("ipv4", "ipv6")]
    return {
        prefix: {path["neighbor-ip"]: _local_pref(path["attrs"]) for path in paths}
        for table in found
        if table
        for prefix, paths in table.items()
    }


def _local_pref(attributes: Sequence[Mapping[str, Any]]) -> int:
    return next((a["value"] for a in attributes if a["type"] == LOCAL_PREF), DEFAULT_LOCAL_PREF)


def clear(lab: Lab) -> None:
    for address in (*PEERS, *PEERS_V6):
        run(gobgp(lab, "neighbor", address, "reset"))
