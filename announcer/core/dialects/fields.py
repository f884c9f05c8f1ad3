"""Reading one mapping of somebody's object, field by field, collecting every mistake with its path.

A reader asks for the fields that it knows; `close` then refuses what nobody asked for, so that no field is ignored
silently. Every method gives a usable default after a mistake, so that one pass finds all of them.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from typing import Any

from announcer.core.model import (
    AddressRange,
    IPAddress,
    IPNetwork,
    ObjectRef,
    Operator,
    Problem,
    Reason,
    Requirement,
    Selector,
)

_SECRET_NAME = re.compile(r"secret\w*\.(?:name|namespace)$", re.IGNORECASE)


def is_secret(text: str) -> bool:
    """Whether what this path or line says is shown to nobody, however its name is misspelled."""
    return any(word in text.lower() for word in ("pass", "secret"))


class Fields:
    """A mapping at `path` of the object `ref`; `problems` is shared by all mappings of the object."""

    def __init__(self, raw: object, *, ref: ObjectRef, path: str, problems: list[Problem]) -> None:
        self.ref, self.path, self.problems = ref, path, problems
        self._asked: set[str] = set()
        self._raw: Mapping[str, Any] = {}
        if isinstance(raw, Mapping):
            self._raw = raw
        elif raw is not None:
            self.refuse("", raw, f"must be a mapping, but is a {_kind(raw)}", _list_hint(raw))

    def refuse(
        self, name: str, value: object, message: str, remedy: str = "", reason: Reason = Reason.INVALID_VALUE
    ) -> None:
        path = ".".join(part for part in (self.path, name) if part)
        is_hidden = self.ref.kind == "Secret" or (is_secret(path) and not _SECRET_NAME.search(path))
        shown = "" if is_hidden or value is None or isinstance(value, (Mapping, list)) else str(value)
        self.problems.append(
            Problem(ref=self.ref, field=path, value=shown, message=message, remedy=remedy, reason=reason)
        )

    def has(self, name: str) -> bool:
        return self._raw.get(name) is not None

    def get(self, name: str) -> Any:
        self._asked.add(name)
        return self._raw.get(name)

    def text(self, name: str, default: str = "") -> str:
        value = self.get(name)
        if value is None or isinstance(value, str):
            return value.strip() if value else default
        self.refuse(name, value, f"must be a string, but is a {_kind(value)}")
        return default

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value and name not in {p.field.rpartition(".")[2] for p in self.problems}:
            self.refuse(name, None, "is required and missing")
        return value

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        return self._chosen(name, self.text(name, default), choices) or default

    def choices(self, name: str, choices: Sequence[str]) -> list[str]:
        return [value for text in self.texts(name) if (value := self._chosen(name, text, choices))]

    def _chosen(self, name: str, value: str, choices: Sequence[str]) -> str:
        if value in choices:
            return value
        self.refuse(name, value, f"must be one of {', '.join(choices)}", _did_you_mean(value, choices))
        return ""

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = self.get(name)
        if isinstance(value, bool):
            return value
        if value is not None:
            self.refuse(name, value, "must be true or false")
        return default

    def number(self, name: str, default: int, *, low: int, high: int) -> int:
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.refuse(name, value, f"must be a whole number from {low} to {high}")
        return default

    def address(self, name: str) -> IPAddress | None:
        value = self.text(name)
        found = read_address(value)
        if value and found is None:
            self.refuse(name, value, "is not an IP address")
        return found

    def mapping(self, name: str) -> "Fields":
        path = f"{self.path}.{name}" if self.path else name
        return Fields(self.get(name), ref=self.ref, path=path, problems=self.problems)

    def over(self, base: "Fields") -> "Fields":
        """This mapping laid over another: what it doesn't say is as there. Mistakes of both are shown at its path."""
        return Fields(_laid(self._raw, base._raw), ref=self.ref, path=self.path, problems=self.problems)

    def elements(self, name: str) -> list[Any]:
        value = self.get(name)
        if value is None or isinstance(value, list):
            return value or []
        self.refuse(name, value, f"must be a list, but is a {_kind(value)}", "write it as `- item` lines")
        return []

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.elements(name)
        if all(isinstance(value, str) for value in values):
            return tuple(value.strip() for value in values)
        self.refuse(name, None, "must be a list of strings")
        return ()

    def mappings(self, name: str) -> list["Fields"]:
        path = f"{self.path}.{name}" if self.path else name
        items = enumerate(self.elements(name))
        return [Fields(raw, ref=self.ref, path=f"{path}[{i}]", problems=self.problems) for i, raw in items]

    def distinct(self, name: str) -> frozenset[str]:
        """A list of strings that names nothing twice."""
        found = self.texts(name)
        for text in sorted({text for text in found if found.count(text) > 1}):
            self.refuse(name, text, "is listed twice", "remove one of both")
        return frozenset(found)

    def labels(self, name: str) -> dict[str, str]:
        return {str(k): str(v) for k, v in self.mapping(name)._raw.items()}

    def selector(self) -> Selector:
        """This mapping as a LabelSelector (meta/v1): matchLabels and matchExpressions, all of which must hold."""
        found = [
            Requirement(key=key, operator=Operator.IN, values=frozenset({value}))
            for key, value in sorted(self.labels("matchLabels").items())
        ]
        for item in self.mappings("matchExpressions"):
            operator = Operator(item.choice("operator", list(Operator), "Exists"))
            found.append(
                Requirement(key=item.required("key"), operator=operator, values=frozenset(item.texts("values")))
            )
            item.close()
        self.close()
        return Selector(requirements=tuple(found))

    def selectors(self, name: str) -> tuple[Selector, ...]:
        return tuple(item.selector() for item in self.mappings(name))

    def close(
        self,
        unsupported: Mapping[str, str] | None = None,
        no_effect: Mapping[str, str] | None = None,
        unknown: Reason = Reason.UNKNOWN_FIELD,
    ) -> None:
        """Refuse every field that was not asked for. `unsupported` says why a known one can't be honored, `no_effect`
        why it makes no difference to the rest, which is used.

        A known field that is set to nothing, false or zero asks for nothing and is let pass.
        """
        known, idle = unsupported or {}, no_effect or {}
        for name in sorted(self._raw.keys() - self._asked):
            value = self._raw[name]
            if name in idle:
                if value:
                    self.refuse(name, value, f"has no effect: {idle[name]}", "", Reason.NO_EFFECT)
            elif name not in known:
                hint = _did_you_mean(name, sorted(self._asked | known.keys() | idle.keys()))
                self.refuse(name, value, "is not a field of this object", hint, unknown)
            elif value:
                self.refuse(
                    name, value, f"is not supported: {known[name]}", "remove the field", Reason.UNSUPPORTED_FIELD
                )


def _laid(upper: Mapping[str, Any], lower: Mapping[str, Any]) -> dict[str, Any]:
    found = {**lower, **upper}
    for name in upper.keys() & lower.keys():
        if isinstance(upper[name], Mapping) and isinstance(lower[name], Mapping):
            found[name] = _laid(upper[name], lower[name])
    return found


def read_range(text: str) -> AddressRange | str:
    """`first-last` or a CIDR as an AddressRange; else what is wrong with it."""
    try:
        if "-" not in text:
            if "/" not in text:
                return "is neither a range `first-last` nor a CIDR"
            network = ip_network(text, strict=False)
            return AddressRange(first=network[0], last=network[-1])
        first, last = (ip_address(part.strip()) for part in text.split("-"))
    except ValueError as error:
        return f"is neither a range `first-last` nor a CIDR: {error}"
    if first.version != last.version:
        return "mixes IPv4 and IPv6"
    if int(first) > int(last):
        return "begins after its end"
    return AddressRange(first=first, last=last)


def range_hint(text: str) -> str:
    """A range that was probably meant: one dash is a dot, or blanks have slipped in (`10.0.0-100-10.0.0.200`)."""
    dashes = [i for i, char in enumerate(text) if char == "-"]
    tries = [text[:i] + "." + text[i + 1 :] for i in dashes] + ["".join(text.split())]
    tries += ["-".join(reversed(text.split("-")))] if len(dashes) == 1 else []
    meant = sorted({guess for guess in tries if isinstance(read_range(guess), AddressRange)})
    return f"did you mean {meant[0]}?" if meant else "write it as 192.0.2.10-192.0.2.20 or 192.0.2.0/28"


def narrow_hint(found: AddressRange) -> str:
    """For a range that covers too much: the same last byte in the first address's network (`10.1.1.1-10.9.9.9`)."""
    bits = 8 if found.first.version == 4 else 64
    meant = type(found.first)((int(found.first) >> bits << bits) | (int(found.last) & ((1 << bits) - 1)))
    return f"did you mean {found.first}-{meant}?" if int(found.first) <= int(meant) < int(found.last) else ""


def read_address(text: str) -> IPAddress | None:
    """None for one with a zone too (RFC 4007 §11), which is no address of another machine's."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


def read_network(text: str) -> IPNetwork | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _kind(value: object) -> str:
    names = {list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return "mapping" if isinstance(value, Mapping) else names.get(type(value), type(value).__name__)


def _list_hint(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], Mapping) and "port" in value[0]:
        return "put these items under `ports:`"
    return "remove the `- ` before its first field" if isinstance(value, list) else ""


def _did_you_mean(value: str, choices: Sequence[str]) -> str:
    close = get_close_matches(value, choices, n=1)
    return f"did you mean {close[0]}?" if close else ""
