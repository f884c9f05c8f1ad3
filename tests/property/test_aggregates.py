"""Aggregates in any order of events: withdrawn only with the last Service, ended before they draw anything in and for
as long as they do, not for policy Local, and no route without an end or an address behind it.

Services of one pool come, go and change their policy; endpoints, nodes and sessions come and go; ExaBGP is slow or
silent; every node looks when it likes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Network
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from announcer.core.model import Action, AdvertiseRoutes, RemoveRoute, Snapshot, WithdrawRoutes
from tests.builders import NODES, Raw, endpoints, group, node, peer, service, snapshot
from tests.property.aggregates import TOR, Node

POOL = IPv4Network("10.113.113.0/24")
EXCLUDED = {"node.kubernetes.io/exclude-from-external-load-balancers": ""}
SERVICES = ("a", "b")
NAMES = st.sampled_from(("n1", "n1", "n1", "n2", "n3"))  # most of what happens meets on one node
WHO = st.sampled_from(("a", "a", "b"))
POLICIES = st.tuples(st.just("policy"), WHO, st.sampled_from(["", "Cluster", "Local"]))
CHANGES = st.one_of(
    st.tuples(st.just("endpoints"), WHO, st.sampled_from([frozenset(), frozenset({"n1"}), frozenset(NODES)])),
    st.tuples(st.just("excluded"), NAMES, st.booleans()),
)
FAULTS = st.one_of(
    st.tuples(st.just("session"), NAMES, st.booleans()),
    st.tuples(st.just("slow"), NAMES, st.booleans()),
    st.tuples(st.just("silent"), NAMES, st.booleans()),
    st.tuples(st.just("prove"), NAMES, st.none()),
)
LATER = st.tuples(st.just("later"), st.sampled_from([0.1, 1.0, 31.0]), st.none())
LOOKS = st.sampled_from([("n1",), ("n1",), NODES, ("n2", "n3"), ()])
ROUNDS = st.lists(st.tuples(st.one_of(POLICIES, POLICIES, CHANGES, FAULTS, LATER), LOOKS), min_size=6, max_size=30)
"""What happens, and who looks then."""
ON, OFF, LOCAL = (("policy", "a", policy) for policy in ("Cluster", "", "Local"))
DOWN, UP, LOOK = ("session", "n1", False), ("session", "n1", True), ("n1",)


def address(name: str) -> str:
    return f"10.113.113.{100 + SERVICES.index(name)}"


@dataclass
class World:
    now: float = 0.0
    policies: dict[str, str] = field(default_factory=dict)
    places: dict[str, frozenset[str]] = field(default_factory=lambda: dict.fromkeys(SERVICES, frozenset(NODES)))
    excluded: set[str] = field(default_factory=set)
    nodes: dict[str, Node] = field(default_factory=lambda: {name: Node(name) for name in NODES})

    def cluster(self) -> Snapshot:
        services = ((name, policy, self.places[name]) for name, policy in sorted(self.policies.items()))
        return _cluster(frozenset(self.excluded), *services)

    def users(self) -> set[str]:
        """Services that the aggregate is for."""
        return {name for name, policy in self.policies.items() if policy == "Cluster" and self.places[name]}

    def happen(self, kind: str, who: Any, what: Any) -> None:
        match kind:
            case "later":
                self.now += who
                for one in self.nodes.values():
                    one.expire(self.now)
            case "policy" | "endpoints" | "excluded":
                self.change(kind, who, what)
            case _:
                self.disturb(self.nodes[who], kind, what)
        self.check()

    def change(self, kind: str, who: str, what: Any) -> None:
        """Somebody edits an object."""
        if kind == "policy":
            self.policies = {name: policy for name, policy in (self.policies | {who: what}).items() if policy}
        elif kind == "endpoints":
            self.places[who] = what
        else:
            self.excluded = self.excluded | {who} if what else self.excluded - {who}

    def disturb(self, one: Node, kind: str, what: Any) -> None:
        match kind:
            case "session":
                one.set_session(self.now, is_up=what)
            case "slow":
                one.is_slow = what
            case "silent":
                one.is_silent = what
            case "prove":
                one.prove(self.now)

    def look(self, names: Iterable[str]) -> None:
        cluster = self.cluster()
        for one in (self.nodes[name] for name in names):
            actions = one.decide(cluster, self.now)
            self.check_wanted(one)
            for action in actions:
                self.check_action(one, action)
                one.apply(action, self.now)
                check_ends(one)
            check_stale(one)
        self.check()

    def check(self) -> None:
        for one in self.nodes.values():
            check_ends(one)
            assert one.wanted is None or one.wanted.addresses <= one.addresses()

    def settle(self) -> None:
        for one in self.nodes.values():
            one.is_silent = one.is_slow = False
            one.set_session(self.now, is_up=True)
            one.prove(self.now)
        for _ in range(4):
            self.look(NODES)
            self.now += 1.0
        for one in self.nodes.values():
            one.expire(self.now + 60)

    def check_wanted(self, one: Node) -> None:
        """The aggregate is wanted for Services of policy Cluster, and by nothing else; Local has host routes."""
        assert one.wanted is not None
        prefixes = set(one.wanted.bgp[TOR])
        assert (POOL in prefixes) == (bool(self.users()) and one.name not in self.excluded)
        local = {n for n, policy in self.policies.items() if policy == "Local" and one.name in self.places[n]}
        hosts = {IPv4Network(address(n)) for n in local if one.name not in self.excluded}
        assert prefixes - {POOL} == hosts

    def check_action(self, one: Node, action: Action) -> None:
        is_used = bool(self.users()) and one.name not in self.excluded
        match action:
            case AdvertiseRoutes():
                for route in action.routes:
                    assert one.has_end(route.prefix) or route.prefix in one.stale, "attracts before it is ready"
                    assert route.prefix != POOL or not route.is_draining or not is_used
            case WithdrawRoutes():
                assert not is_used or POOL not in {route.prefix for route in action.routes}
            case RemoveRoute():
                going = {prefix for prefix, route in one.pending.items() if route is not None}
                assert action.route.destination not in (one.wire or {}).keys() | going, "an end goes before its route"
            case _:
                pass


@lru_cache(1024)
def _cluster(excluded: frozenset[str], *services: tuple[str, str, frozenset[str]]) -> Snapshot:
    """With Services of these names, policies and places."""
    objects: list[Raw] = [group(), peer(), *(node(n, **(EXCLUDED if n in excluded else {})) for n in NODES)]
    for name, policy, places in services:
        objects.append(service(name, addresses=[address(name)], externalTrafficPolicy=policy))
        objects.append(endpoints(name, sorted(places)))
    return snapshot(*objects)


def check_ends(one: Node) -> None:
    """Whatever a route draws in ends here. What ExaBGP has sent again by itself is for the next pass."""
    for prefix in (one.wire or {}).keys() - one.stale:
        assert one.has_end(prefix), f"{one.name} draws in {prefix}, which goes nowhere"


def check_stale(one: Node) -> None:
    """A pass that knows what is on the wire ends it, or is about to withdraw it."""
    if one.is_silent:
        return
    for prefix in set(one.stale):
        assert one.has_end(prefix) or prefix in one.pending
    one.stale = {prefix for prefix in one.stale if not one.has_end(prefix)}


@settings(max_examples=250, deadline=None)
@given(ROUNDS)
@example([(("slow", "n1", True), ()), (ON, LOOK), (OFF, LOOK)])  # what is on its way counts as there
@example([(ON, LOOK), (DOWN, ()), (OFF, LOOK), (UP, LOOK)])  # a new session brings a route back that nobody wants
@example([(LOCAL, LOOK), (DOWN, ()), (OFF, LOOK), (("later", 31.0, None), ()), (UP, LOOK)])
def test_no_order_of_events_makes_a_loop_or_a_black_hole(
    rounds: list[tuple[tuple[str, Any, Any], tuple[str, ...]]],
) -> None:
    world = World()
    for event, names in rounds:
        world.happen(*event)
        world.look(names)
    world.settle()
    for one in world.nodes.values():
        assert one.wanted is not None
        assert one.wire is not None
        assert {p: a.route for p, a in one.wire.items()} == dict(one.wanted.bgp[TOR])
        assert one.ends() == ({POOL} if POOL in one.wire else set())
        assert one.addresses() == set(one.wanted.addresses)
