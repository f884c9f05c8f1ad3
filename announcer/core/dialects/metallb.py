"""metallb.io, what is not BGP: IPAddressPool, L2Advertisement, and status objects of ours.

Fields of theirs that are not honored are refused by name; see the tables beside each reader.
"""

from collections.abc import Callable

from announcer.core.dialects.annotations import annotated
from announcer.core.dialects.fields import Fields, range_hint, read_range
from announcer.core.model import (
    MANAGED_BY,
    MANAGER,
    AddressRange,
    Admission,
    Announce,
    IfName,
    LocalAdvertisement,
    Mirror,
    ModelObject,
    ObjectRef,
    Pool,
    Preference,
    ServiceKey,
)

LATER = "not built yet"


def read_pool(top: Fields, ref: ObjectRef, created: str) -> Pool:
    spec = top.mapping("spec")
    texts = spec.texts("addresses")
    ranges: list[AddressRange] = []
    for i, text in enumerate(texts):
        found = read_range(text)
        if isinstance(found, str):
            spec.refuse(f"addresses[{i}]", text, found, range_hint(text))
        else:
            ranges.append(found)
    if not texts:
        spec.refuse("addresses", None, "is required and empty")
    pool = Pool(
        ref=ref,
        ranges=tuple(ranges),
        announce=Announce.ADVERTISEMENTS,
        auto_assign=spec.flag("autoAssign", default=True),
        avoid_buggy_addresses=spec.flag("avoidBuggyIPs"),
        labels=top.mapping("metadata").labels("labels"),
        created=created,
        admission=_read_admission(spec.mapping("serviceAllocation")) if spec.has("serviceAllocation") else None,
    )
    spec.close()
    return annotated(pool, top)


def _read_admission(item: Fields) -> Admission:
    admission = Admission(
        namespaces=frozenset(item.texts("namespaces")),
        namespace_selectors=item.selectors("namespaceSelectors"),
        service_selectors=item.selectors("serviceSelectors"),
        priority=item.number("priority", 0, low=0, high=2**31 - 1),
    )
    item.close()
    return admission


def read_local_advertisement(top: Fields, ref: ObjectRef, _created: str) -> LocalAdvertisement:
    spec = top.mapping("spec")
    advertisement = LocalAdvertisement(
        ref=ref,
        pools=frozenset(spec.texts("ipAddressPools")),
        pool_selectors=spec.selectors("ipAddressPoolSelectors"),
        node_selectors=spec.selectors("nodeSelectors"),
        links=frozenset(IfName(name) for name in spec.texts("interfaces")),
        preferences=tuple(_read_preference(item) for item in spec.mappings("preferredNodeSelectors")),
    )
    spec.close({"serviceSelectors": LATER})
    return advertisement


def _read_preference(item: Fields) -> Preference:
    """The shape of a PreferredSchedulingTerm; an empty `preference` selects every node."""
    for name in ("weight", "preference"):
        if not item.has(name):
            item.refuse(name, None, "is required and missing")
    weight = item.number("weight", 1, low=1, high=100)
    preference = Preference(weight=weight, selector=item.mapping("preference").selector())
    item.close()
    return preference


def read_mirror(top: Fields, ref: ObjectRef, _created: str) -> Mirror:
    """A status object for tools: nothing of it is an input, only who made it and for which Service."""
    labels = top.mapping("metadata").labels("labels")
    service = f"{labels.get('metallb.io/service-namespace', '')}/{labels.get('metallb.io/service-name', '')}"
    return Mirror(ref=ref, is_ours=labels.get(MANAGED_BY) == MANAGER, service=ServiceKey(service))


KINDS: dict[tuple[str, str], Callable[[Fields, ObjectRef, str], ModelObject]] = {
    ("metallb.io/v1beta1", "IPAddressPool"): read_pool,
    ("metallb.io/v1beta1", "L2Advertisement"): read_local_advertisement,
    ("metallb.io/v1beta1", "ServiceL2Status"): read_mirror,
    ("metallb.io/v1beta1", "ServiceBGPStatus"): read_mirror,
}
