"""What a bench promises: each figure beside its bound, and whether all of them are held."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A figure that is to be at least, or at most, `bound`."""

    what: str
    unit: str
    value: float
    bound: float
    is_least: bool = False

    @property
    def is_held(self) -> bool:
        return self.value >= self.bound if self.is_least else self.value <= self.bound

    def __str__(self) -> str:
        side = "at least" if self.is_least else "at most"
        said = "held" if self.is_held else "NOT HELD"
        return f"{said}: {self.what} {self.value:.4g} {self.unit}, {side} {self.bound:g}"


@dataclass(slots=True)
class Bounds:
    found: list[Bound] = field(default_factory=list)

    def least(self, what: str, value: float, bound: float, unit: str) -> None:
        self.found.append(Bound(what=what, unit=unit, value=value, bound=bound, is_least=True))

    def most(self, what: str, value: float, bound: float, unit: str) -> None:
        self.found.append(Bound(what=what, unit=unit, value=value, bound=bound))

    def exit_code(self) -> int:
        return 0 if all(bound.is_held for bound in self.found) else 1
