"""ServiceL2Status and ServiceBGPStatus (metallb.io/v1beta1): which node announces what, for tools made for MetalLB.

| object | one for each | where |
|---|---|---|
| ServiceL2Status | Service and node that holds an address of it | `interfaces` are the links |
| ServiceBGPStatus | Service and node that is to advertise it | `peers` are the BGPPeers meant, not sessions |

Only Services with an address from an IPAddressPool have any. Their names follow from what they are about, so that two
leaders make the same ones; what carries our mark and isn't wanted any more is `surplus`, unless that can't be known.
"""

import hashlib
from collections.abc import Mapping

from announcer.core.allocate import Assignment, Decision, is_unsure, lost_pools
from announcer.core.desired import Mode
from announcer.core.desired.view import selects, selects_pool
from announcer.core.model import (
    MANAGED_BY,
    MANAGER,
    Homes,
    Node,
    ObjectRef,
    Pool,
    Reason,
    ServiceKey,
    Snapshot,
)
from announcer.core.report.cluster import Writing

MIRRORS_MOST = 20_000
"""In all; ServiceBGPStatus goes short first: Services times nodes is more than an API server should keep."""
MEANT = frozenset({Reason.ADVERTISED, Reason.ROUTE_PENDING, Reason.ROUTE_REFUSED, Reason.PEER_NOT_ESTABLISHED})
"""A session that comes and goes makes and deletes nothing."""
Place = tuple[ServiceKey, str]
"""A Service and a node."""


def mirrors(snapshot: Snapshot, decisions: Mapping[ServiceKey, Decision], namespace: str) -> list[Writing]:
    """Those of local addresses first, each kind in the order of Service and node."""
    pools = {pool.name: pool for pool in snapshot.pools if pool.ref.kind == "IPAddressPool"}
    homes = {k: pools[d.pool] for k, d in decisions.items() if isinstance(d, Assignment) and d.pool in pools}
    links: dict[Place, set[str]] = {}
    peers: dict[Place, tuple[str, ...]] = {}
    nodes = {node.name: node for node in snapshot.nodes}
    for report in snapshot.reports if homes else ():
        names: dict[tuple[str, int], tuple[str, ...]] = {}
        for one in report.addresses:
            home = homes.get(one.service)
            if home is None:
                continue
            if one.mode == Mode.LOCAL.value and one.reason == Reason.HOLDING:
                links.setdefault((one.service, report.node), set()).add(one.link)
            elif one.mode == Mode.VIRTUAL.value and one.reason in MEANT:
                kind = (home.name, 6 if ":" in one.address else 4)
                if kind not in names:
                    names[kind] = _peers(snapshot, home, nodes.get(report.node), kind[1])
                place = (one.service, report.node)
                peers[place] = tuple(sorted({*peers.get(place, ()), *names[kind]}))
    made = [
        _mirror("ServiceL2Status", place, namespace, {"interfaces": [{"name": n} for n in sorted(links[place])]})
        for place in sorted(links)
    ]
    made += [_mirror("ServiceBGPStatus", p, namespace, {"peers": list(peers[p])}) for p in sorted(peers) if peers[p]]
    return made[:MIRRORS_MOST]


def surplus(snapshot: Snapshot, wanted: list[Writing]) -> list[ObjectRef]:
    keep, unsure = {writing.ref for writing in wanted}, _unsure(snapshot)
    return [m.ref for m in snapshot.mirrors if m.is_ours and m.ref not in keep and m.service not in unsure]


def _unsure(snapshot: Snapshot) -> set[str]:
    """Services of which nobody can say whether they have any: they or their pools can't be understood."""
    lost, homes = lost_pools(snapshot), Homes(snapshot.pools)
    refused = {f"{ref.namespace}/{ref.name}" for ref in snapshot.refused if ref.kind == "Service"}
    return refused | {service.key for service in snapshot.services if is_unsure(service, lost, homes)}


def _peers(snapshot: Snapshot, pool: Pool, node: Node | None, version: int) -> tuple[str, ...]:
    """Names of the peers that a node is to advertise addresses of a pool to."""
    labels = node.labels if node is not None else {}
    ads = [a for a in snapshot.route_advertisements if selects_pool(a, pool) and selects(a.node_selectors, labels)]
    return tuple(
        peer.name
        for peer in snapshot.peers
        if version in peer.families and selects(peer.node_selectors, labels)
        if any(ad.is_for(peer.name) for ad in ads)
    )


def _mirror(kind: str, place: Place, namespace: str, what: dict[str, object]) -> Writing:
    service, node = place
    service_namespace, _, name = service.partition("/")
    digest = hashlib.sha256(f"{node} {service}".encode()).hexdigest()[:20]
    ref = ObjectRef(kind=kind, namespace=namespace, name=f"{'l2' if kind == 'ServiceL2Status' else 'bgp'}-{digest}")
    labels = {"metallb.io/service-name": name, "metallb.io/service-namespace": service_namespace}
    if len(node) <= 63:  # a label's value can't be longer, a node's name can
        labels["metallb.io/node"] = node
    status = {"node": node, "serviceName": name, "serviceNamespace": service_namespace, **what}
    return Writing(ref=ref, status=status, labels={MANAGED_BY: MANAGER, **labels})
