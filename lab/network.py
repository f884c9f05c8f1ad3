"""The lab's network: namespaces, switches, cables, addresses and routes, made, repaired and taken away with `ip`.

`build` may run at any time: what is there stays, what is missing is added. Only namespaces with the lab's prefix are
ever touched, and `remove` is complete once they are gone.
"""

import time

from lab.command import LabError, inside, run, run_json
from lab.topology import CONTROL_PLANE, HOSTS, NODES, SUBNET_2, SWITCHES, Cable, End, Lab, cables, routes, sysctls

OURS = "201"
"""Protocol of the routes that announcer's agents put, as `ip` shows it."""
HAND_OVER_SECONDS = 10.0


def build(lab: Lab) -> list[str]:
    """Make the network as `topology` has it. Returns what had to be made, nothing if it stood already."""
    for host in {*HOSTS, CONTROL_PLANE} - set(lab.hosts):  # of a lab with another store
        _remove_namespace(lab, host)
    made = [_add_namespace(lab, host) for host in lab.hosts if not _is_usable(lab.namespace(host))]
    for host in lab.hosts:
        settings = [f"{name}={value}" for name, value in sysctls(lab, host).items()]
        run(inside(lab.namespace(host), ["sysctl", "-q", "-w", *settings]))
    present = {(host, ifname) for host in lab.hosts for ifname in _ifnames(lab.namespace(host))}
    net = lab.namespace("net")
    for switch in (s for s in SWITCHES if ("net", s) not in present):
        settings = ["forward_delay", "0", "stp_state", "0", "mcast_snooping", "0"]
        run(["ip", "-n", net, "link", "add", switch, "type", "bridge", *settings])
        run(["ip", "-n", net, "link", "set", switch, "addrgenmode", "none"])
        made.append(switch)
    for cable in cables(lab):
        missing = [e for e in (cable.left, cable.right) if (e.host, e.ifname) not in present]
        if missing:
            made.append(_add_cable(lab, cable, remains=len(missing) == 1))
    for host in lab.hosts:
        run(["ip", "-n", lab.namespace(host), "-batch", "-"], stdin="\n".join(_settings(lab, host)) + "\n")
    return made


def remove(lab: Lab) -> None:
    for host in (*HOSTS, CONTROL_PLANE):
        _remove_namespace(lab, host)


def namespaces() -> frozenset[str]:
    return frozenset(line.split()[0] for line in run(["ip", "netns", "list"]).splitlines() if line.strip())


def set_return_routes(lab: Lab, *, present: bool) -> None:
    """The step that the customer's document does by hand for MetalLB: `ip route add 10.112.112.0/24 dev eth1` on nodes.

    A route that an agent put there for an earlier set of manifests is left to the agent to remove, for a while.
    """
    for node in NODES:
        namespace = lab.namespace(node.short)
        deadline = time.monotonic() + HAND_OVER_SECONDS
        while present and OURS in _return_routes(namespace) and time.monotonic() < deadline:
            time.sleep(0.1)
        if present:
            run(["ip", "-n", namespace, "route", "replace", str(SUBNET_2), "dev", "eth1"])
        elif "boot" in _return_routes(namespace):
            run(["ip", "-n", namespace, "route", "delete", str(SUBNET_2), "dev", "eth1", "proto", "boot"])


def _return_routes(namespace: str) -> set[str]:
    """The protocols of the routes to subnet-2 on eth1."""
    shown = run_json(["ip", "-j", "-n", namespace, "route", "show", str(SUBNET_2), "dev", "eth1"])
    return {str(route.get("protocol", "boot")) for route in shown}


def _is_usable(namespace: str) -> bool:
    """A name can outlive its namespace where the mount below /run/netns was lost."""
    if namespace not in namespaces():
        return False
    try:
        run(inside(namespace, ["true"]))
    except LabError:
        run(["ip", "netns", "delete", namespace])
        return False
    return True


def _remove_namespace(lab: Lab, host: str) -> None:
    """Somebody else may be at the same leftovers."""
    name = lab.namespace(host)
    if name not in namespaces():
        return
    try:
        run(["ip", "netns", "delete", name])
    except LabError:
        if name in namespaces():
            raise


def _add_namespace(lab: Lab, host: str) -> str:
    run(["ip", "netns", "add", lab.namespace(host)])
    return lab.namespace(host)


def _ifnames(namespace: str) -> list[str]:
    return [str(link["ifname"]) for link in run_json(["ip", "-j", "-n", namespace, "link", "show"])]


def _add_cable(lab: Lab, cable: Cable, *, remains: bool) -> str:
    left, right = cable.left, cable.right
    if remains:
        raise LabError(
            f"{left.host} {left.ifname} or {right.host} {right.ifname} was renamed: run `make lab-down` first"
        )
    address = ["address", left.lladdr] if left.lladdr else []
    here, there = ["netns", lab.namespace(left.host)], ["netns", lab.namespace(right.host)]
    run(["ip", "link", "add", left.ifname, *address, *here, "type", "veth", "peer", "name", right.ifname, *there])
    return f"{left.host} {left.ifname}"


def _settings(lab: Lab, host: str) -> list[str]:
    """Commands of `ip -batch` that are right to repeat."""
    lines = ["link set dev lo up"]
    if host == "net":
        lines += [f"link set dev {switch} up" for switch in SWITCHES]
    for end in (e for cable in cables(lab) for e in (cable.left, cable.right) if e.host == host):
        lines += _end_settings(end)
    return lines + [f"route replace {route}" for route in routes(lab).get(host, ())]


def _end_settings(end: End) -> list[str]:
    if end.switch:
        return [f"link set dev {end.ifname} master {end.switch} addrgenmode none", f"link set dev {end.ifname} up"]
    addresses = [f"{address}{' nodad' if ':' in address else ''}" for address in end.addresses]
    return [f"link set dev {end.ifname} up", *(f"address replace {a} dev {end.ifname}" for a in addresses)]
