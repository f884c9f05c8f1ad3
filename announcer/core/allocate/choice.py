"""Which pools may give a Service its addresses, in which order.

| Service | pools |
|---|---|
| names a pool | that one, if the pool admits it |
| its namespace is on ServiceGroups' lists | that group; of several the one with namespaceDefault |
| otherwise | pools with serviceAllocation that admit it, by priority (0 last); then those for everybody, by name |

"Those for everybody" are IPAddressPools that assign by themselves and the ServiceGroup `default`. A group that enforces
its namespaces keeps others out, and its own in.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from announcer.core.model import Admission, Fence, Pool, Reason, Service, Snapshot

LAST = 2**31
NAME_LABEL = "kubernetes.io/metadata.name"
"""What is known of a Namespace that nobody has heard of: the API server gives each its name as a label."""
_Limited = tuple[Pool, Admission]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoChoice:
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Namespace:
    """What the pools' lists say of one namespace; pools in the order of priority and name."""

    listing: frozenset[str]
    groups: list[Pool]
    fences: frozenset[str]
    pinned: list[Pool]


class Choice:
    """The pools of one snapshot, asked Service by Service."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.pools: Mapping[str, Pool] = {pool.name: pool for pool in snapshot.pools}
        self._labels = {namespace.ref.name: namespace.labels for namespace in snapshot.namespaces}
        self._naming: dict[str, list[_Limited]] = {}
        self._selecting: list[_Limited] = []
        for pool, admission in ((p, p.admission) for p in snapshot.pools if p.admission):
            for name in admission.namespaces:
                self._naming.setdefault(name, []).append((pool, admission))
            if admission.namespace_selectors or not admission.namespaces:
                self._selecting.append((pool, admission))
        self._open = [p for p in snapshot.pools if p.auto_assign and not p.admission]
        self._namespaces: dict[str, _Namespace] = {}

    def steps(self, service: Service) -> list[list[Pool]] | NoChoice:
        """Lists of pools; one is turned to when those before it have nothing to give."""
        if service.requested_pool:
            return self._requested(service)
        here = self._namespace(service)
        groups = here.groups
        if len(groups) > 1:
            groups = [p for p in groups if p.admission and p.admission.is_default]
            if len(groups) != 1:
                names = ", ".join(p.name for p in here.groups)
                return NoChoice(
                    reason=Reason.AMBIGUOUS_POOL,
                    message=f"namespace {service.ref.namespace} is served by {names}: "
                    "set namespaceDefault on exactly one of them, or name one in an annotation",
                )
        if groups:
            return [groups]
        steps = [[p for p in here.pinned if self.admits(p, service)], self._open]
        if not any(steps):
            return NoChoice(reason=Reason.NO_POOL, message="no pool assigns addresses to it by itself; name one")
        return steps

    def admits(self, pool: Pool, service: Service) -> bool:
        """Whether the Service may have addresses of the pool at all."""
        fences = self._namespace(service).fences
        if fences and pool.name not in fences:
            return False
        return pool.admission is None or pool.admission.fence is Fence.NONE or self._is_on_list(pool, service)

    def may_be_listed(self, pool: Pool, service: Service) -> bool:
        """Whether the pool's list has the Service, or may have it: labels of a Namespace that is refused or that
        nobody has heard of are not known.
        """
        limit = pool.admission
        is_open = limit is not None and bool(limit.namespace_selectors) and limit.admits_labels(service.labels)
        return (is_open and service.ref.namespace not in self._labels) or self._is_on_list(pool, service)

    def _requested(self, service: Service) -> list[list[Pool]] | NoChoice:
        pool = self.pools.get(service.requested_pool)
        if pool is None:
            known = ", ".join(sorted(self.pools)) or "none"
            message = f"asks for pool {service.requested_pool!r}, and the usable pools are: {known}"
            return NoChoice(reason=Reason.UNKNOWN_POOL, message=message)
        if not self.admits(pool, service):
            message = f"asks for pool {pool.name!r}, which is not for Services of namespace {service.ref.namespace}"
            return NoChoice(reason=Reason.POOL_NOT_ADMITTED, message=message + " or of these labels")
        return [[pool]]

    def _is_on_list(self, pool: Pool, service: Service) -> bool:
        is_listed = pool.name in self._namespace(service).listing
        return is_listed and pool.admission is not None and pool.admission.admits_labels(service.labels)

    def _namespace(self, service: Service) -> _Namespace:
        name = service.ref.namespace
        if name not in self._namespaces:
            labels = self._labels.get(name, {NAME_LABEL: name})
            selecting = (one for one in self._selecting if name not in one[1].namespaces)
            found = [one for one in selecting if one[1].admits_namespace(name, labels)] + self._naming.get(name, [])
            found.sort(key=lambda one: (one[1].priority or LAST, one[0].name))
            self._namespaces[name] = _Namespace(
                listing=frozenset(pool.name for pool, _ in found),
                groups=[pool for pool, limit in found if limit.fence is not Fence.ONE_WAY],
                fences=frozenset(pool.name for pool, limit in found if limit.fence is Fence.BOTH_WAYS),
                pinned=[pool for pool, limit in found if limit.fence is Fence.ONE_WAY and pool.auto_assign],
            )
        return self._namespaces[name]
