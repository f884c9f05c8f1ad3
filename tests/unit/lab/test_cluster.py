"""What the lab with kubelets needs to agree about, in files that don't know of each other."""

import re
import tomllib
from ipaddress import ip_network
from pathlib import Path

import pytest

from lab import images, nodes
from lab.apiserver import ApiServer
from lab.topology import NODES, SUBNET_2, SUBNET_3, SUBNET_3_V6, Lab, routes, sysctls

VERSION = tomllib.loads((nodes.CLUSTER.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]["version"]
CLUSTER = Lab(store="cluster")


def services() -> list[str]:
    """What kube-proxy takes for ClusterIPs, and drops packets to where there is none."""
    argv = ApiServer(folder=Path("/api"), programs=Path("/programs")).argv()
    (found,) = (one for one in argv if one.startswith("--service-cluster-ip-range="))
    return found.partition("=")[2].split(",")


@pytest.mark.parametrize("network", ["10.111.111.0/24", SUBNET_2, SUBNET_3, "fd00:111::/64", SUBNET_3_V6])
def test_ranges_of_services_and_pods_leave_the_labs_networks_alone(network: object) -> None:
    given = ip_network(str(network))
    taken = [*services(), *nodes.POD_RANGES.split(",")]
    assert [one for one in taken if given.version == ip_network(one).version and given.overlaps(ip_network(one))] == []


def test_pods_of_every_node_are_in_the_range_that_kube_proxy_has_for_them_and_routed() -> None:
    ranges = [ip_network(one) for one in nodes.POD_RANGES.split(",")]
    for node in NODES:
        assert any(node.pods.overlaps(one) for one in ranges)
        assert any(node.pods_v6.overlaps(one) for one in ranges)
        for host in {"cp", *(one.short for one in NODES)} - {node.short}:
            assert f"{node.pods} via {node.address} dev eth0" in routes(CLUSTER)[host]
        assert sysctls(CLUSTER, node.short)["net.ipv4.ip_forward"] == 1


@pytest.mark.parametrize("file", ["test-nginx.yaml", "containerd.toml"])
def test_image_of_the_labs_pods_is_the_one_that_is_built(file: str) -> None:
    text = (nodes.CLUSTER / file).read_text("utf-8")
    assert re.findall(r"(announcer[a-z-]*):(\S+?)\"?\n", text) == [("announcer-lab", VERSION)]
    assert "announcer-lab" in images.FILES
