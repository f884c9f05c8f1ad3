"""What BGP objects mean beside each other: names of communities, and those that quarrel.

| objects | quarrel when | who is refused |
|---|---|---|
| two Community objects | both name one alias | the second by name |
| two peers | both are at one address on one node | the second by name |
| a peer and a BFDProfile | there is none of that name, or its echo mode can't work on such a session | the peer |
| two advertisements | of one pool, length, peer and node have two values of localPref | the later |
| an advertisement and a pool | its aggregate is wider than the pool's addresses (MetalLB) or subnet (PureLB) | it |
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from ipaddress import summarize_address_range

from announcer.core.dialects.sessions import WELL_KNOWN
from announcer.core.model import (
    AddressRange,
    BfdProfile,
    CommunityAliases,
    IPAddress,
    LocalAdvertisement,
    Node,
    ObjectRef,
    Peer,
    Pool,
    Problem,
    Reason,
    RouteAdvertisement,
    Selector,
    selects,
)


def settle_aliases(objects: Iterable[CommunityAliases]) -> tuple[dict[str, str], set[Problem]]:
    values: dict[str, str] = {}
    homes: dict[str, ObjectRef] = {}
    problems: set[Problem] = set()
    for one in objects:
        for name, value in one.values.items():
            home = homes.setdefault(name, one.ref)
            if home is one.ref:
                values[name] = value
            else:
                message = f"is a name in {home} too, and that one counts"
                problems.add(
                    Problem(
                        ref=one.ref,
                        field="spec.communities",
                        value=name,
                        message=message,
                        remedy="rename one of both",
                        reason=Reason.DUPLICATE_ALIAS,
                    )
                )
    return WELL_KNOWN | values, problems


def settle_peers(peers: Iterable[Peer], nodes: Sequence[Node]) -> tuple[tuple[Peer, ...], set[Problem]]:
    """One session for an address on a node; the first by name stays (MetalLB refuses the second too)."""
    kept: dict[IPAddress, list[Peer]] = {}
    problems: set[Problem] = set()
    for peer in sorted(peers, key=lambda p: (p.ref, p.name)):
        others = kept.setdefault(peer.peer_address, [])
        twin = next((p for p in others if _meet(p.node_selectors, peer.node_selectors, nodes)), None)
        if twin is None:
            others.append(peer)
        else:
            message = f"is the address of {twin.ref} on the same nodes too"
            problems.add(
                Problem(
                    ref=peer.ref,
                    field="spec.peerAddress",
                    value=str(peer.peer_address),
                    message=message,
                    reason=Reason.DUPLICATE_PEER,
                )
            )
    found = (peer for peers in kept.values() for peer in peers)
    return tuple(sorted(found, key=lambda p: (p.ref, p.name))), problems


def settle_bfd(peers: Iterable[Peer], profiles: Iterable[BfdProfile]) -> tuple[tuple[Peer, ...], set[Problem]]:
    """Peers with the settings of the profile that they name."""
    known = {profile.ref.name: profile for profile in profiles}
    kept: list[Peer] = []
    problems: set[Problem] = set()
    for peer in peers:
        profile = known.get(peer.bfd_profile)
        problem = _wrong_profile(peer, profile, sorted(known)) if peer.bfd_profile else None
        if problem is not None:
            problems.add(problem)
        else:
            kept.append(replace(peer, bfd=profile.settings) if profile else peer)
    return tuple(kept), problems


def _wrong_profile(peer: Peer, profile: BfdProfile | None, names: Sequence[str]) -> Problem | None:
    if profile is None:
        close = get_close_matches(peer.bfd_profile, names, n=1)
        message, reason = "is the name of no BFDProfile that is in use", Reason.UNKNOWN_PROFILE
        remedy = f"did you mean {close[0]}?" if close else "make one, or remove the field"
    elif profile.settings.is_echoing and peer.peer_address.version == 6:
        message, reason = "has echoMode, which bfdd can't do over IPv6 with other makers' routers", Reason.INVALID_VALUE
        remedy = "name a profile without it"
    elif profile.settings.is_echoing and peer.multihop_ttl and not peer.is_ibgp:
        message, reason = "has echoMode, which there is none of over several hops (RFC 5883 §3)", Reason.INVALID_VALUE
        remedy = "name a profile without it"
    else:
        return None
    return Problem(
        ref=peer.ref, field="spec.bfdProfile", value=peer.bfd_profile, message=message, remedy=remedy, reason=reason
    )


def settle_advertisements(
    ads: Iterable[RouteAdvertisement],
    aliases: Mapping[str, str],
    pools: Sequence[Pool],
    peers: Sequence[Peer],
    nodes: Sequence[Node],
) -> tuple[tuple[RouteAdvertisement, ...], set[Problem]]:
    """Those that may be used, with communities in place of their names."""
    kept: list[RouteAdvertisement] = []
    problems: set[Problem] = set()
    for ad in ads:
        wrong = [*_unknown_aliases(ad, aliases), *_too_wide(ad, pools)]
        wrong += [_conflict(ad, other) for other in kept if _conflicts(ad, other, pools, peers, nodes)]
        problems.update(wrong)
        if not wrong:
            kept.append(replace(ad, communities=frozenset(aliases.get(text, text) for text in ad.communities)))
    return tuple(kept), problems


def selects_pool(ad: LocalAdvertisement | RouteAdvertisement, pool: Pool) -> bool:
    if not ad.pools and not ad.pool_selectors:
        return True
    return pool.name in ad.pools or any(s.selects(pool.labels) for s in ad.pool_selectors)


def _meet(one: tuple[Selector, ...], other: tuple[Selector, ...], nodes: Sequence[Node]) -> bool:
    """Whether some node is selected by both; where no node is known, whether they are the same."""
    if not nodes:
        return one == other or not one or not other
    return any(selects(one, node.labels) and selects(other, node.labels) for node in nodes)


def _unknown_aliases(ad: RouteAdvertisement, aliases: Mapping[str, str]) -> list[Problem]:
    found = []
    for text in sorted(text for text in ad.communities if ":" not in text and text not in aliases):
        close = get_close_matches(text, sorted(aliases), n=1)
        hint = f"did you mean {close[0]}?" if close else "write it as a:b or large:a:b:c, or make a Community"
        found.append(
            Problem(
                ref=ad.ref,
                field="spec.communities",
                value=text,
                message="is no name in any Community",
                remedy=hint,
                reason=Reason.UNKNOWN_ALIAS,
            )
        )
    return found


def _too_wide(ad: RouteAdvertisement, pools: Sequence[Pool]) -> list[Problem]:
    found = []
    for pool in pools:
        for r in pool.ranges if selects_pool(ad, pool) else ():
            length = ad.length(r.first.version)
            most = length if length == r.first.max_prefixlen else widest(r)
            if length < most and (r.subnet is None or pool.name in ad.pools):
                name = "aggregationLength" if r.first.version == 4 else "aggregationLengthV6"
                message = f"is wider than {r.first}-{r.last} of {pool.ref}: it would draw in what is not of the pool"
                found.append(
                    Problem(
                        ref=ad.ref,
                        field=f"spec.{name}",
                        value=str(length),
                        message=message,
                        remedy=f"at least {most}, or a wider range",
                        reason=Reason.AGGREGATION_TOO_WIDE,
                    )
                )
    return found


def widest(found: AddressRange) -> int:
    """The shortest prefix length that an aggregate of the range may have."""
    if found.subnet is not None:
        return found.subnet.prefixlen
    return min(network.prefixlen for network in summarize_address_range(found.first, found.last))


def _conflicts(
    one: RouteAdvertisement,
    other: RouteAdvertisement,
    pools: Sequence[Pool],
    peers: Sequence[Peer],
    nodes: Sequence[Node],
) -> bool:
    if one.local_pref == other.local_pref or one.service_selectors or other.service_selectors:
        return False
    named = [p for p in peers if one.is_for(p.name) and other.is_for(p.name)]
    is_peer_shared = bool(named) if peers else not one.peers or not other.peers or bool(one.peers & other.peers)
    if not is_peer_shared or not _meet(one.node_selectors, other.node_selectors, nodes):
        return False
    return any(
        one.length(r.first.version) == other.length(r.first.version)
        for pool in pools
        if selects_pool(one, pool) and selects_pool(other, pool)
        for r in pool.ranges
    )


def _conflict(ad: RouteAdvertisement, other: RouteAdvertisement) -> Problem:
    message = f"differs from {other.local_pref or 'none'} of {other.ref} for the same routes"
    return Problem(
        ref=ad.ref,
        field="spec.localPref",
        value=str(ad.local_pref or ""),
        message=message,
        remedy="give both one value, or other pools, peers, nodes or lengths",
        reason=Reason.CONFLICTING_ADVERTISEMENT,
    )
