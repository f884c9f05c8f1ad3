"""purelb.io/v1 and /v2: ServiceGroup and LBNodeAgent.

v1 knows `spec.local` only and leaves local or virtual to the address; v2 says `local` or `remote`. Array fields come
first, the singular one last, and the `subnet`/`pool` pair of v1 where the family has no other range (PureLB's order).
"""

import re
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_interface

from announcer.core.dialects.annotations import annotated
from announcer.core.dialects.fields import Fields, range_hint, read_network, read_range
from announcer.core.model import (
    VIRTUAL_IFNAME,
    AddressRange,
    Admission,
    Announce,
    Fence,
    IfName,
    NodeAgentConfig,
    ObjectRef,
    Pool,
    Selector,
)

LATER = "not built yet"
DEFAULT_GROUP = "default"
"""The ServiceGroup of Services that name none."""
V2_ONLY = "a field of v2"
GROUP_V1 = {"netbox": "Netbox IPAM", "enforceNamespaces": V2_ONLY, "namespaceDefault": V2_ONLY}
"""PureLB's definition of v2 has defaults, which come into objects of v1 when somebody labels them."""
GROUP_V2 = {"external": "external IPAM"}
AGENT = {
    "garpConfig": "announcements follow RFC 5227",
    "addressConfig": "lifetimes are the fence's",
    "interfaces": LATER,
    "addressGuard": LATER,
}


def read_group_v1(top: Fields, ref: ObjectRef, created: str) -> Pool:
    spec = top.mapping("spec")
    local = spec.mapping("local")
    ranges = _read_pools(local)
    if local.has("pool"):
        legacy = _read_pool(local)
        if legacy and legacy.first.version not in {r.first.version for r in ranges}:
            ranges = (*ranges, legacy)
        elif legacy:
            local.refuse("pool", None, "is ignored where the family has other pools", "remove it or the others")
    _refuse_empty(local, ranges)
    local.close()
    spec.close(GROUP_V1)
    pool = Pool(ref=ref, ranges=ranges, announce=Announce.AUTO, auto_assign=ref.name == DEFAULT_GROUP, created=created)
    return annotated(pool, top)


def read_group_v2(top: Fields, ref: ObjectRef, created: str) -> Pool:
    spec = top.mapping("spec")
    given = [name for name in ("local", "remote") if spec.has(name)]
    if len(given) != 1:
        spec.refuse("", None, "must have exactly one of local and remote")
    kind = given[0] if given else "local"
    body = spec.mapping(kind)
    body.flag("skipIPv6DAD")  # addresses are always put without DAD; a probe comes before every claim instead
    ranges = _read_pools(body)
    _refuse_empty(body, ranges)
    takes_all, balances = body.flag("multiPool"), body.flag("balancePools")
    if takes_all and balances:
        body.refuse("balancePools", "true", "excludes multiPool", "keep one of both")
    admission = _read_admission(spec)
    body.close()
    spec.close(GROUP_V2)
    pool = Pool(
        ref=ref,
        ranges=ranges,
        announce=Announce(kind),
        auto_assign=ref.name == DEFAULT_GROUP,
        created=created,
        admission=admission,
        takes_from_every_range=takes_all,
        balances_ranges=balances,
    )
    return annotated(pool, top)


def _read_admission(spec: Fields) -> Admission | None:
    """Namespaces are an eligibility list; with enforceNamespaces they are a fence, for those on it as well."""
    namespaces = frozenset(spec.texts("namespaces"))
    is_fence, is_default = spec.flag("enforceNamespaces"), spec.flag("namespaceDefault")
    if (is_fence or is_default) and not namespaces:
        name = "enforceNamespaces" if is_fence else "namespaceDefault"
        spec.refuse(name, "true", "needs namespaces", "list them, or remove the field")
    if not namespaces:
        return None
    fence = Fence.BOTH_WAYS if is_fence else Fence.NONE
    return Admission(namespaces=namespaces, fence=fence, is_default=is_default)


def read_agent_v1(top: Fields, ref: ObjectRef, _created: str) -> NodeAgentConfig:
    spec = top.mapping("spec")
    local = spec.mapping("local")
    local.flag("sendgarp")  # accepted: RFC 5227 announcements are part of taking over and always sent
    config = _agent(local, ref, "localint", "extlbint", Selector())
    local.close(AGENT)
    spec.close({"nodeSelector": V2_ONLY})
    return config


def read_agent_v2(top: Fields, ref: ObjectRef, _created: str) -> NodeAgentConfig:
    spec = top.mapping("spec")
    selector = spec.mapping("nodeSelector").selector()
    local = spec.mapping("local")
    config = _agent(local, ref, "localInterface", "dummyInterface", selector)
    local.close(AGENT)
    spec.close()
    return config


KINDS: dict[tuple[str, str], Callable[[Fields, ObjectRef, str], Pool | NodeAgentConfig]] = {
    ("purelb.io/v1", "ServiceGroup"): read_group_v1,
    ("purelb.io/v2", "ServiceGroup"): read_group_v2,
    ("purelb.io/v1", "LBNodeAgent"): read_agent_v1,
    ("purelb.io/v2", "LBNodeAgent"): read_agent_v2,
}


def _agent(local: Fields, ref: ObjectRef, localint: str, extlbint: str, selector: Selector) -> NodeAgentConfig:
    pattern = local.text(localint, "default")
    try:
        re.compile(pattern)
    except re.error as error:
        local.refuse(localint, pattern, f"is neither `default` nor a regular expression: {error}")
    external = local.text(extlbint, VIRTUAL_IFNAME)
    if not re.fullmatch(r"[^\s/:]{1,15}", external):  # dev_valid_name() of the kernel
        local.refuse(extlbint, external, "is not a link name", "at most 15 characters without blanks, `/` and `:`")
    return NodeAgentConfig(ref=ref, local_link=pattern, external_link=IfName(external), node_selector=selector)


def _read_pools(local: Fields) -> tuple[AddressRange, ...]:
    found: list[AddressRange | None] = []
    for family, arrays, single in ((4, "v4pools", "v4pool"), (6, "v6pools", "v6pool")):
        items = local.mappings(arrays) + ([local.mapping(single)] if local.has(single) else [])
        local.get(single)
        for item in items:
            found.append(_read_pool(item, family))
            item.close()
    return tuple(r for r in found if r)


def _read_pool(item: Fields, family: int | None = None) -> AddressRange | None:
    text, subnet_text, aggregation = item.required("pool"), item.required("subnet"), item.text("aggregation", "default")
    if not text or not subnet_text:
        return None
    subnet, found = read_network(subnet_text), read_range(text)
    if subnet is None:
        item.refuse("subnet", subnet_text, "is not a subnet", "write it as 192.0.2.0/24")
    if isinstance(found, str):
        item.refuse("pool", text, found, range_hint(text))
    if subnet is None or isinstance(found, str):
        return None
    if "/" in text:  # PureLB gives addresses from the one that is written: 10.0.0.100/24 spares those below
        found = replace(found, first=ip_interface(text).ip)
    if family and found.first.version != family:
        item.refuse("pool", text, f"is not IPv{family}")
        return None
    if found.first not in subnet or found.last not in subnet:
        item.refuse("pool", text, f"does not lie in the subnet {subnet}")
        return None
    length = subnet.prefixlen if aggregation == "default" else _length(aggregation, subnet.max_prefixlen)
    if length is None:
        item.refuse("aggregation", aggregation, "must be `default` or a prefix length such as /24")
    return AddressRange(first=found.first, last=found.last, subnet=subnet, aggregation=length)


def _length(text: str, most: int) -> int | None:
    digits = text.removeprefix("/")
    return int(digits) if digits.isdecimal() and 8 <= int(digits) <= most else None


def _refuse_empty(local: Fields, ranges: tuple[AddressRange, ...]) -> None:
    if not ranges and not local.problems:
        local.refuse("", None, "has no pool of addresses", "add v4pools or v6pools")
