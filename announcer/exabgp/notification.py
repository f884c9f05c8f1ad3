"""What a NOTIFICATION says (RFC 4271 §4.5), in one line for people."""

from typing import Final

CODES: Final = {
    1: "Message Header Error",
    2: "OPEN Message Error",
    3: "UPDATE Message Error",
    4: "Hold Timer Expired",
    5: "Finite State Machine Error",
    6: "Cease",
    7: "ROUTE-REFRESH Message Error",  # RFC 7313 §5
}
SUBCODES: Final = {
    (1, 1): "Connection Not Synchronized",
    (1, 2): "Bad Message Length",
    (1, 3): "Bad Message Type",
    (2, 1): "Unsupported Version Number",
    (2, 2): "Bad Peer AS",
    (2, 3): "Bad BGP Identifier",
    (2, 4): "Unsupported Optional Parameter",
    (2, 6): "Unacceptable Hold Time",
    (2, 7): "Unsupported Capability",  # RFC 5492 §5
    (2, 11): "Role Mismatch",  # RFC 9234 §4.2
    (3, 1): "Malformed Attribute List",
    (3, 2): "Unrecognized Well-known Attribute",
    (3, 3): "Missing Well-known Attribute",
    (3, 4): "Attribute Flags Error",
    (3, 5): "Attribute Length Error",
    (3, 6): "Invalid ORIGIN Attribute",
    (3, 8): "Invalid NEXT_HOP Attribute",
    (3, 9): "Optional Attribute Error",
    (3, 10): "Invalid Network Field",
    (3, 11): "Malformed AS_PATH",
    (5, 1): "Unexpected Message in OpenSent",  # RFC 6608 §3
    (5, 2): "Unexpected Message in OpenConfirm",
    (5, 3): "Unexpected Message in Established",
    (6, 1): "Maximum Number of Prefixes Reached",  # RFC 4486 §3
    (6, 2): "Administrative Shutdown",
    (6, 3): "Peer De-configured",
    (6, 4): "Administrative Reset",
    (6, 5): "Connection Rejected",
    (6, 6): "Other Configuration Change",
    (6, 7): "Connection Collision Resolution",
    (6, 8): "Out of Resources",
    (6, 9): "Hard Reset",  # RFC 8538 §3
    (6, 10): "BFD Down",  # RFC 9384 §3
}
WITH_TEXT: Final = frozenset({(6, 2), (6, 4)})
"""Those that carry a Shutdown Communication (RFC 9003 §2): its length, and that many bytes of UTF-8."""


def text_of(body: bytes, *, is_sent: bool) -> str:
    """Of a router's words only what can be printed; of other data nothing. A body without a code is a ValueError."""
    if len(body) < 2:
        raise ValueError("a NOTIFICATION has a code and a subcode")
    code, subcode, data = body[0], body[1], body[2:]
    names = (CODES.get(code, ""), SUBCODES.get((code, subcode), ""))
    said = _communication(data) if (code, subcode) in WITH_TEXT else ""
    words = ", ".join(filter(None, names)) + (f': "{said}"' if said else "")
    return f"NOTIFICATION {'sent' if is_sent else 'received'}: {code}/{subcode} {words}".rstrip()


def _communication(data: bytes) -> str:
    text = data[1 : 1 + data[0]].decode("utf-8", "replace") if data else ""
    return "".join(char if char.isprintable() else " " for char in text).strip()
