"""What objects of the peers' API groups can't say in a field: annotations of ours on pools and BGP peers.

Others are none of our business. One of ours that nobody knows refuses its object, as an unknown field does.
"""

from dataclasses import replace
from typing import Final

from announcer.core.dialects.fields import Fields
from announcer.core.model import BandwidthKind, Pool

OURS: Final = "announcer.io/"
MAX_NEXT_HOPS: Final = f"{OURS}max-next-hops"
NEXT_HOPS_MOST: Final = 1024
WEIGHT_BY: Final = f"{OURS}weight-by"
ENDPOINTS: Final = "endpoints"
LINK_BANDWIDTH: Final = f"{OURS}link-bandwidth"


def annotated(pool: Pool, top: Fields) -> Pool:
    notes = _ours(top)
    bound = _read_max_next_hops(notes)
    is_weighted = notes.has(WEIGHT_BY) and notes.choice(WEIGHT_BY, [ENDPOINTS], "") == ENDPOINTS
    notes.close()
    return replace(pool, max_next_hops=bound, is_weighted=is_weighted)


def read_link_bandwidth(top: Fields) -> BandwidthKind:
    notes = _ours(top)
    default = BandwidthKind.TRANSITIVE
    kind = notes.choice(LINK_BANDWIDTH, [kind.value for kind in BandwidthKind], default.value)
    notes.close()
    return BandwidthKind(kind)


def _ours(top: Fields) -> Fields:
    found = top.mapping("metadata").labels("annotations")
    mine = {name: text for name, text in found.items() if name.startswith(OURS)}
    return Fields(mine, ref=top.ref, path="metadata.annotations", problems=top.problems)


def _read_max_next_hops(notes: Fields) -> int | None:
    """None where nothing is said, or a mistake."""
    text = notes.text(MAX_NEXT_HOPS)
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= NEXT_HOPS_MOST:
        return int(text)
    notes.refuse(MAX_NEXT_HOPS, text, f"must be a whole number from 1 to {NEXT_HOPS_MOST}", 'such as "8"')
    return None
