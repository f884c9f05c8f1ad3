"""lab/announcer.clab.yml is the lab of lab/topology.py, and what is deployed without containerlab is the whole file."""

import re
import tomllib
from pathlib import Path

import pytest

from lab import clab, containers
from lab.command import LabError
from lab.routers import frr
from lab.topology import NODES, REPOSITORY, Cable, End, Lab, LabNode, cables, routes, sysctls

LAB = Lab()
TOPOLOGY = clab.read()
CONTAINERS = {container.name: container for container in TOPOLOGY.containers}
MACHINES = [*(node.short for node in NODES), "tor", "host"]


def as_containers(end: End) -> tuple[str, str, str]:
    """Each switch is a container of its own."""
    host = end.switch if end.host == "net" else end.host
    return f"ann-{host}", end.ifname, end.lladdr


def links(found: list[Cable]) -> set[tuple[tuple[str, str, str], ...]]:
    return {(as_containers(cable.left), as_containers(cable.right)) for cable in found}


def test_links_are_the_labs() -> None:
    found = {
        tuple((end.host, end.ifname, end.lladdr) for end in (cable.left, cable.right)) for cable, _ in TOPOLOGY.links
    }
    assert found == links(list(cables(LAB)))


@pytest.mark.parametrize("host", MACHINES)
def test_addresses_and_routes_are_the_labs(host: str) -> None:
    ends = [end for cable in cables(LAB) for end in (cable.left, cable.right) if end.host == host]
    wanted = {
        f"ip address add {address} dev {end.ifname}{' nodad' if ':' in address else ''}"
        for end in ends
        for address in end.addresses
    }
    wanted |= {f"ip route replace {route}" for route in routes(LAB).get(host, ())}
    assert {" ".join(argv) for argv in CONTAINERS[f"ann-{host}"].execs} == wanted


@pytest.mark.parametrize("host", MACHINES)
def test_settings_are_the_labs(host: str) -> None:
    assert CONTAINERS[f"ann-{host}"].sysctls == {name: str(value) for name, value in sysctls(LAB, host).items()}


@pytest.mark.parametrize("switch", ["switch-a", "switch-b"])
def test_every_link_of_a_switch_is_a_port_of_its_bridge(switch: str) -> None:
    ends = [end for cable, _ in TOPOLOGY.links for end in (cable.left, cable.right) if end.host == f"ann-{switch}"]
    ports = {f"ip link set {end.ifname} master {switch} addrgenmode none" for end in ends}
    ran = [" ".join(argv) for argv in CONTAINERS[f"ann-{switch}"].execs]
    assert ports == {line for line in ran if " master " in line}


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_processes_of_a_node_are_in_its_network_and_share_its_folders(node: LabNode) -> None:
    name = node.name
    sharing = {one.name: one for one in TOPOLOGY.containers if one.network == f"container:{name}"}
    assert sharing.keys() == {f"{name}-{process}" for process in ("agent", "exabgp", "bfdd")}
    said = {process: " ".join(one.argv) for process, one in sharing.items()}
    assert all(f"/run/announcer-lab/{name}/exabgp" in said[f"{name}-{process}"] for process in ("agent", "exabgp"))
    assert all(f"/run/announcer-lab/{name}/bfd" in said[f"{name}-{process}"] for process in ("agent", "bfdd"))
    assert f"--node {name} " in said[f"{name}-agent"]


def test_router_has_the_configuration_of_the_labs() -> None:
    text = (REPOSITORY / "lab" / "routers" / "frr.conf").read_text("utf-8")
    assert text.partition("\n")[2] == "".join(frr.configurations().values())


def test_router_has_the_daemons_of_the_labs_and_their_options() -> None:
    router = CONTAINERS["ann-tor"]
    started = (REPOSITORY / "lab" / "routers" / "daemons").read_text("utf-8")
    assert all(f"\n{daemon}=yes\n" in started and daemon in router.argv for daemon in frr.ORDER)
    [options] = re.findall(r'^zebra_options="(.*)"$', started, re.MULTILINE)
    assert frr.REPLACE_V6 in options.split()


def test_images_are_those_of_this_version() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    names = ("announcer", "announcer-exabgp", "announcer-bfd", "announcer-clab")
    assert {one.image for one in TOPOLOGY.containers} == {f"{name}:{version}" for name in names}


def test_what_is_mounted_is_there_before_anything_is_deployed() -> None:
    sources = {bind.partition(":")[0] for one in TOPOLOGY.containers for bind in one.binds}
    assert [source for source in sources if not Path(source).exists()] == []


def test_containers_that_share_a_network_come_after_those_that_have_it() -> None:
    owners = [one.name for one in TOPOLOGY.containers if one.network == "none"]
    assert [one.name for one in TOPOLOGY.containers[: len(owners)]] == owners


def test_container_is_called_as_containerlab_calls_it_and_the_checks_look_for() -> None:
    flags = containers.flags(TOPOLOGY, CONTAINERS["ann-n1-agent"])
    assert "--name=clab-announcer-ann-n1-agent" in flags
    assert f"--network=container:{containers.LAB.namespace('n1')}" in flags


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: announcer\n", "name: announcer\nmgmt: {}\n", "mgmt: not known here"),
        ("    network-mode: none\n", "    network-mode: none\n    ports: []\n", "topology.defaults: ports: not known"),
        ("kind: linux", "kind: bridge", "kind = 'bridge': only linux"),
        ("type: veth", "type: macvlan", "'macvlan': only veth"),
    ],
)
def test_what_is_not_carried_out_is_refused_by_name(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = clab.FILE.read_text("utf-8")
    assert old in text
    (tmp_path / "a.clab.yml").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(LabError, match=said):
        clab.read(tmp_path / "a.clab.yml")
