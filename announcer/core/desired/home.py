"""A virtual address with what its objects say of it: which routes every node gives it, and to whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from announcer.core.desired.view import selects
from announcer.core.model import (
    AddressRange,
    IPAddress,
    IPNetwork,
    ObjectRef,
    Pool,
    RouteAdvertisement,
    Service,
    TrafficPolicy,
    network_of,
)

OF_THE_POOL = RouteAdvertisement(ref=ObjectRef(kind="", name=""))
"""What a PureLB pool asks for without an advertisement: its own aggregation, every peer, nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """`ads` are for the Service, on any node. With `needs_one`, a node that none of them selects advertises nothing."""

    service: Service
    address: IPAddress
    pool: Pool
    found: AddressRange
    ads: Sequence[RouteAdvertisement]
    needs_one: bool

    def ads_on(self, labels: Mapping[str, str]) -> Sequence[RouteAdvertisement]:
        """Those that count on a node with these labels."""
        mine = [ad for ad in self.ads if selects(ad.node_selectors, labels)]
        return mine or ([] if self.needs_one else [OF_THE_POOL])

    def prefix(self, ad: RouteAdvertisement) -> IPNetwork:
        """What an advertisement makes of the address. An aggregate of policy Local would draw traffic to nodes without
        endpoints.
        """
        length = ad.length(self.address.version)
        if length == self.address.max_prefixlen and self.found.aggregation is not None:
            length = self.found.aggregation
        if self.service.traffic_policy is TrafficPolicy.LOCAL:
            length = self.address.max_prefixlen
        return network_of(self.address, length)
