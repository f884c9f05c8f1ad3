"""A bench fails where one of its bounds isn't held, and says which."""

import pytest

from bench.bounds import Bounds


@pytest.mark.parametrize(("a_second", "code"), [(499.0, 1), (500.0, 0), (501.0, 0)])
def test_figure_below_its_least_fails_the_bench(a_second: float, code: int) -> None:
    bounds = Bounds()
    bounds.least("Services", a_second, 500, "a second")
    assert bounds.exit_code() == code


@pytest.mark.parametrize(("seconds", "code"), [(1.9, 0), (2.0, 0), (2.1, 1)])
def test_figure_above_its_most_fails_the_bench(seconds: float, code: int) -> None:
    bounds = Bounds()
    bounds.most("decisions", seconds, 2, "s")
    assert bounds.exit_code() == code


def test_each_bound_is_named_with_its_figure_and_how_it_went() -> None:
    bounds = Bounds()
    bounds.most("RSS", 149.04, 150, "MB")
    bounds.least("Services", 400, 500, "a second")
    assert [str(one) for one in bounds.found] == [
        "held: RSS 149 MB, at most 150",
        "NOT HELD: Services 400 a second, at least 500",
    ]
