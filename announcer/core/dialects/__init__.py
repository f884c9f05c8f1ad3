"""From people's objects to the model: one object to one `Parsed`, all of them to one `Snapshot`.

What an object's own text can show is judged in `parse`; what only shows beside other objects (pools that overlap, one
name twice, two peers at one address) in `assemble`. A mistake refuses the object that makes it, and no other.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from announcer.core.dialects import kubernetes, metallb, metallb_bgp, purelb, purelb_bgp, secrets
from announcer.core.dialects.beside import settle_advertisements, settle_aliases, settle_bfd, settle_peers
from announcer.core.dialects.fields import Fields, narrow_hint
from announcer.core.dialects.kubernetes import EXCLUDE_LABEL as EXCLUDE_LABEL
from announcer.core.model import (
    ACCEPTED,
    AddressRange,
    BfdProfile,
    CommunityAliases,
    EndpointSlice,
    Homes,
    LocalAdvertisement,
    Mirror,
    ModelObject,
    Namespace,
    Node,
    NodeAgentConfig,
    NodeReport,
    ObjectRef,
    Parsed,
    Peers,
    Pool,
    Problem,
    Reason,
    RouteAdvertisement,
    Secret,
    Service,
    Snapshot,
)

KINDS: Mapping[tuple[str, str], Callable[[Fields, ObjectRef, str], ModelObject]] = {
    **kubernetes.KINDS,
    **purelb.KINDS,
    **metallb.KINDS,
    **metallb_bgp.KINDS,
    **purelb_bgp.KINDS,
    **secrets.KINDS,
}
OUR_GROUPS = ("purelb.io", "bgp.purelb.io", "metallb.io", "announcer.io")
NO_EFFECT = "has no effect: not supported yet"
CLUSTER_SCOPED = kubernetes.CLUSTER_SCOPED
_Object = TypeVar("_Object", bound=ModelObject)


def parse(raw: Mapping[str, Any], source: str = "") -> Parsed:
    """Read one object in its JSON form, status included. Kinds that are not ours give no value and no problem."""
    api_version, kind = str(raw.get("apiVersion", "")), str(raw.get("kind", ""))
    problems: list[Problem] = []
    metadata = Fields(
        raw.get("metadata"), ref=ObjectRef(kind=kind, name="", source=source), path="metadata", problems=problems
    )
    namespace = "" if kind in CLUSTER_SCOPED else metadata.text("namespace", "default")
    ref = ObjectRef(kind=kind, namespace=namespace, name=metadata.required("name"), source=source)
    if problems:
        return Parsed(ref=ref, value=None, problems=tuple(problems))
    top = Fields(raw, ref=ref, path="", problems=problems)
    reader = KINDS.get((api_version, kind))
    if reader is None:
        return Parsed(ref=ref, value=None, problems=_unknown_kind(ref, api_version, kind))
    value = reader(top, ref, str(metadata.get("creationTimestamp") or ""))
    if isinstance(value, Pool):
        value = replace(value, is_accepted=_was_accepted(top))
    refused = any(problem.reason is not Reason.NO_EFFECT for problem in problems)
    if kind == "Service":
        for name in kubernetes.foreign_annotations(top):
            top.refuse(f"metadata.annotations.{name}", None, NO_EFFECT, "", Reason.UNSUPPORTED_FIELD)
    in_use = value.status_addresses if refused and isinstance(value, Service) else ()
    return Parsed(ref=ref, value=None if refused else value, problems=tuple(problems), in_use=in_use)


def assemble(objects: Iterable[Parsed]) -> Snapshot:
    """Put everything that a store knows together; the result doesn't depend on the order of `objects`."""
    parsed = sorted(objects, key=lambda p: p.ref)
    values = [p.value for p in parsed if p.value is not None]
    pools, quarrels = _settle_pools(_of(Pool, values))
    nodes = _of(Node, values)
    aliases, namesakes = settle_aliases(_of(CommunityAliases, values))
    watched, unwatched = settle_bfd((p for one in _of(Peers, values) for p in one.peers), _of(BfdProfile, values))
    peers, twins = settle_peers(watched, nodes)
    ads, rivals = settle_advertisements(_of(RouteAdvertisement, values), aliases, pools, peers, nodes)
    judged = quarrels | namesakes | unwatched | twins | rivals
    used = {p.ref for p in parsed if p.value is not None}  # a twin that is wrong doesn't refuse the one that counts
    refused = {p.ref for p in parsed if p.value is None and p.problems} - used
    return Snapshot(
        services=_of(Service, values),
        endpoint_slices=_of(EndpointSlice, values),
        nodes=nodes,
        namespaces=_of(Namespace, values),
        pools=pools,
        agents=_of(NodeAgentConfig, values),
        local_advertisements=_of(LocalAdvertisement, values),
        route_advertisements=ads,
        peers=peers,
        community_aliases=_of(CommunityAliases, values),
        bgp_configurations=_of(Peers, values),
        bfd_profiles=_of(BfdProfile, values),
        secrets=_of(Secret, values),
        reports=_of(NodeReport, values),
        mirrors=_of(Mirror, values),
        problems=tuple(sorted((*(q for p in parsed for q in p.problems), *judged), key=_problem_order)),
        refused=frozenset(refused | {q.ref for q in judged}),
        in_use=frozenset(address for p in parsed for address in p.in_use),
    )


def _was_accepted(top: Fields) -> bool:
    conditions = top.mapping("status").mappings("conditions")
    return any(c.text("type") == ACCEPTED and c.text("status") == "True" for c in conditions)


def _problem_order(problem: Problem) -> tuple[Problem, str]:
    return problem, problem.ref.source


def _of(kind: type[_Object], values: list[ModelObject]) -> tuple[_Object, ...]:
    return tuple(value for value in values if isinstance(value, kind))


def _unknown_kind(ref: ObjectRef, api_version: str, kind: str) -> tuple[Problem, ...]:
    group = api_version.partition("/")[0]
    if group not in OUR_GROUPS:
        return ()
    versions = ", ".join(sorted(version for version, known in KINDS if known == kind))
    message = f"is served as {versions}" if versions else "is not supported yet"
    text = f"{api_version} {kind}"
    return (Problem(ref=ref, field="apiVersion", value=text, message=message, reason=Reason.UNSUPPORTED_KIND),)


def _settle_pools(pools: tuple[Pool, ...]) -> tuple[tuple[Pool, ...], set[Problem]]:
    """Pools in the order of their names, and who is refused for a name or addresses that another pool has.

    A pool that was accepted before stays, then the older one; of two that came together, the smaller one: who made it
    wide most likely mistyped.
    """
    kept: dict[str, Pool] = {}
    homes = Homes()
    problems: set[Problem] = set()
    for pool in sorted(pools, key=_pool_seniority):
        quarrels = _quarrels(pool, kept, homes)
        problems.update(quarrels)
        if not quarrels:
            kept[pool.name] = pool
            for found in pool.ranges:
                homes.add(pool, found)
    return tuple(kept[name] for name in sorted(kept)), problems


def _pool_seniority(pool: Pool) -> tuple[bool, str, int, str, ObjectRef]:
    return not pool.is_accepted, pool.created, sum(r.size for r in pool.ranges), pool.name, pool.ref


def _quarrels(pool: Pool, kept: Mapping[str, Pool], homes: Homes) -> list[Problem]:
    found = []
    if pool.name in kept:
        message = f"is the name of {kept[pool.name].ref} too, and pools share one space of names"
        problem = Problem(ref=pool.ref, field="metadata.name", value=pool.name, message=message)
        found.append(replace(problem, remedy="rename one of both", reason=Reason.DUPLICATE_POOL))
    own = Homes()
    for mine in pool.ranges:
        within = own.overlapping(mine)
        found += [_overlap(pool, mine, *home) for home in (*within, *homes.overlapping(mine))]
        if not within:
            own.add(pool, mine)
    return found


def _overlap(pool: Pool, mine: AddressRange, other: Pool, theirs: AddressRange) -> Problem:
    return Problem(
        ref=pool.ref,
        field="spec",
        value=f"{mine.first}-{mine.last}",
        message=f"overlaps {theirs.first}-{theirs.last} of {other.ref}",
        remedy=narrow_hint(mine) or "give every address to one pool only",
        reason=Reason.OVERLAPPING_POOL,
    )
