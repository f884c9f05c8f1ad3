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

from announcer.core.model import Fence, Pool, Reason, Service, Snapshot

LAST = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class NoChoice:
    reason: Reason
    message: str


class Choice:
    """The pools of one snapshot, asked Service by Service."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.pools: Mapping[str, Pool] = {pool.name: pool for pool in snapshot.pools}
        self._labels = {namespace.ref.name: namespace.labels for namespace in snapshot.namespaces}
        self._lost_namespaces = {ref.name for ref in snapshot.refused if ref.kind == "Namespace"}
        self._limited = sorted((p for p in snapshot.pools if p.admission), key=_priority)
        self._open = [p for p in snapshot.pools if p.auto_assign and not p.admission]
        self._listing: dict[str, list[Pool]] = {}

    def steps(self, service: Service) -> list[list[Pool]] | NoChoice:
        """Lists of pools; one is turned to when those before it have nothing to give."""
        if service.requested_pool:
            return self._requested(service)
        groups = self._groups_of(service)
        if len(groups) > 1:
            groups = [p for p in groups if p.admission and p.admission.is_default]
            if len(groups) != 1:
                names = ", ".join(p.name for p in self._groups_of(service))
                return NoChoice(
                    reason=Reason.AMBIGUOUS_POOL,
                    message=f"namespace {service.ref.namespace} is served by {names}: "
                    "set namespaceDefault on exactly one of them, or name one in an annotation",
                )
        if groups:
            return [groups]
        steps = [[p for p in self._pinned_of(service) if self.admits(p, service)], self._open]
        if not any(steps):
            return NoChoice(reason=Reason.NO_POOL, message="no pool assigns addresses to it by itself; name one")
        return steps

    def admits(self, pool: Pool, service: Service) -> bool:
        """Whether the Service may have addresses of the pool at all."""
        fences = [p for p in self._groups_of(service) if p.admission and p.admission.fence is Fence.BOTH_WAYS]
        if fences and pool not in fences:
            return False
        return pool.admission is None or pool.admission.fence is Fence.NONE or self._is_on_list(pool, service)

    def may_be_listed(self, pool: Pool, service: Service) -> bool:
        """Whether the pool's list has the Service, or may have it: of a refused Namespace the labels are not known."""
        return service.ref.namespace in self._lost_namespaces or self._is_on_list(pool, service)

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

    def _groups_of(self, service: Service) -> list[Pool]:
        return [p for p in self._listing_of(service) if p.admission and p.admission.fence is not Fence.ONE_WAY]

    def _pinned_of(self, service: Service) -> list[Pool]:
        listing = [p for p in self._listing_of(service) if p.admission and p.admission.fence is Fence.ONE_WAY]
        return [p for p in listing if p.auto_assign]

    def _is_on_list(self, pool: Pool, service: Service) -> bool:
        admission = pool.admission
        return admission is not None and pool in self._listing_of(service) and admission.admits_labels(service.labels)

    def _listing_of(self, service: Service) -> list[Pool]:
        """Pools whose list has the Service's namespace."""
        name = service.ref.namespace
        if name not in self._listing:
            labels = self._labels.get(name, {})
            self._listing[name] = [
                p for p in self._limited if p.admission and p.admission.admits_namespace(name, labels)
            ]
        return self._listing[name]


def _priority(pool: Pool) -> tuple[int, str]:
    return (pool.admission and pool.admission.priority) or LAST, pool.name
