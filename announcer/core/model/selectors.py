"""LabelSelectors of the API (meta/v1), by which objects pick nodes, namespaces and Services."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Operator(StrEnum):
    """LabelSelectorRequirement.operator."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def is_met_by(self, labels: Mapping[str, str]) -> bool:
        if self.operator in {Operator.EXISTS, Operator.DOES_NOT_EXIST}:
            return (self.key in labels) is (self.operator is Operator.EXISTS)
        return (labels.get(self.key) in self.values) is (self.operator is Operator.IN)  # absent is "not in", as there


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """A LabelSelector: all requirements must be met; none selects everything. matchLabels are In with one value."""

    requirements: tuple[Requirement, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.is_met_by(labels) for requirement in self.requirements)


EVERYTHING = Selector()


def selects(selectors: tuple[Selector, ...], labels: Mapping[str, str]) -> bool:
    """Whether one of them does; an empty list leaves the choice open, so it does too."""
    return not selectors or any(selector.selects(labels) for selector in selectors)
