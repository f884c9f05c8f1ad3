"""What objects of the peers' API groups can't say in a field: annotations of ours on pools.

Others are none of our business. One of ours that nobody knows refuses its object, as an unknown field does.
"""

from typing import Final

from announcer.core.dialects.fields import Fields

OURS: Final = "announcer.io/"
MAX_NEXT_HOPS: Final = f"{OURS}max-next-hops"
NEXT_HOPS_MOST: Final = 1024


def our_annotations(top: Fields) -> Fields:
    found = top.mapping("metadata").labels("annotations")
    mine = {name: text for name, text in found.items() if name.startswith(OURS)}
    return Fields(mine, ref=top.ref, path="metadata.annotations", problems=top.problems)


def read_max_next_hops(notes: Fields) -> int | None:
    """None where nothing is said, or a mistake."""
    text = notes.text(MAX_NEXT_HOPS)
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= NEXT_HOPS_MOST:
        return int(text)
    notes.refuse(MAX_NEXT_HOPS, text, f"must be a whole number from 1 to {NEXT_HOPS_MOST}", 'such as "8"')
    return None
