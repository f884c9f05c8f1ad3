"""What becomes of the bytes of an object: fields that nobody asks for never become Python objects."""

import json

import msgspec
import pytest

from announcer.store.kubernetes.resources import Decoder, read_by_agent
from tests.builders import Raw, raw

(REPORTS,) = (resource for resource in read_by_agent("n1") if resource.kind == "NodeAnnouncement")
STATUS = {
    "links": [{"ifname": "eth0", "subnets": ["10.1.1.0/24"]}],
    "addresses": [{"services": ["a/b 10.1.1.1"]}],
    "moves": [],
}


def decoded(one: Raw) -> Raw:
    return Decoder(REPORTS, "v1alpha1")(json.dumps(one).encode())


def report(name: str) -> Raw:
    return raw("announcer.io/v1alpha1", "NodeAnnouncement", name, status=STATUS)


def test_agent_reads_the_links_alone_of_other_nodes() -> None:
    assert decoded(report("n2"))["status"] == {"links": STATUS["links"]}


def test_agent_reads_its_own_report_whole_to_compare_it_with_the_next_one() -> None:
    assert decoded(report("n1"))["status"] == STATUS


def test_report_without_status_is_one_without_links() -> None:
    assert "status" not in decoded(raw("announcer.io/v1alpha1", "NodeAnnouncement", "n2"))


def test_bytes_of_something_else_are_refused() -> None:
    with pytest.raises(msgspec.DecodeError, match="not a Kubernetes object"):
        Decoder(REPORTS, "v1alpha1")(b'{"kind": "Status"}')
