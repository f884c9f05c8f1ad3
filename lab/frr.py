"""The top-of-rack router: FRR's zebra and bgpd in a directory of the lab, beside any FRR that the machine runs.

It is configured as a customer's router would be: eBGP with every node, multipath, and nothing that knows of announcer.
"""

import shutil
from pathlib import Path
from typing import Final

from lab.command import LabError
from lab.topology import NODE_ASN, NODES, TOR, TOR_ASN, Lab

DAEMONS: Final = Path("/usr/lib/frr")
USER: Final = "frr"

# FRR 8.4 keeps stale next-hop groups after a link flap, unless it doesn't use kernel nexthop objects.
ZEBRA_CONF: Final = "hostname ann-tor\nno zebra nexthop kernel enable\n"


def bgpd_conf() -> str:
    v4, v6 = [str(node.address) for node in NODES], [str(node.address_v6) for node in NODES]
    lines = [
        "hostname ann-tor",
        f"router bgp {TOR_ASN}",
        f" bgp router-id {TOR}",
        " no bgp ebgp-requires-policy",
        " bgp bestpath as-path multipath-relax",
        " timers bgp 3 9",
    ]
    for peer in v4 + v6:
        lines += [f" neighbor {peer} remote-as {NODE_ASN}", f" neighbor {peer} timers connect 1"]
    for family, ours, others in (("ipv4", v4, v6), ("ipv6", v6, v4)):
        lines.append(f" address-family {family} unicast")
        lines += [f"  neighbor {peer} activate" for peer in ours] + [
            f"  no neighbor {peer} activate" for peer in others
        ]
        lines += ["  maximum-paths 8", " exit-address-family"]
    return "\n".join(lines) + "\n"


def prepare(lab: Lab) -> None:
    """Write the configuration. The daemons leave root for the user of FRR's package, so the directory is theirs."""
    if not (DAEMONS / "bgpd").exists():
        raise LabError(f"{DAEMONS}/bgpd is missing: install the package frr")
    lab.tor_dir.mkdir(parents=True, exist_ok=True)
    for name, text in (("zebra.conf", ZEBRA_CONF), ("bgpd.conf", bgpd_conf())):
        (lab.tor_dir / name).write_text(text, encoding="utf-8")
        shutil.chown(lab.tor_dir / name, USER, USER)
    shutil.chown(lab.tor_dir, USER, USER)


def argv(lab: Lab, daemon: str) -> list[str]:
    folder = lab.tor_dir
    files = ["-f", f"{folder}/{daemon}.conf", "-i", f"{folder}/{daemon}.pid", "-z", f"{folder}/zserv.api"]
    return [str(DAEMONS / daemon), *files, "--vty_socket", str(folder), "-P", "0", "--log", "stdout"]
