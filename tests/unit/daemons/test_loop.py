"""How much of a processor passes may take: at once, and in the long run."""

from announcer.daemons.loop import Budget, Rhythm

RHYTHM = Rhythm(at_once=0.1, rest=3.0, rest_most=1.0)


def test_some_short_passes_follow_each_other_at_once() -> None:
    budget, now = Budget(RHYTHM), 100.0
    for _ in range(8):
        now += 0.012
        budget.spend(0.012, now)
        assert budget.rest(now) == 0


def test_passes_without_end_take_a_quarter_of_a_processor() -> None:
    budget, began = Budget(RHYTHM), 100.0
    now, spent = began, 0.0
    while now < began + 60:
        now += 0.02
        budget.spend(0.02, now)
        spent += 0.02
        now += budget.rest(now)
    assert 0.24 < spent / (now - began) < 0.26


def test_long_pass_is_rested_from_for_a_second_at_most() -> None:
    budget = Budget(RHYTHM)
    budget.spend(5.0, 105.0)
    assert budget.rest(105.0) == 1.0


def test_one_rest_is_enough_after_passes_of_whatever_length() -> None:
    budget, now = Budget(RHYTHM), 100.0
    for _ in range(20):
        now += 5.0
        budget.spend(5.0, now)
        now += budget.rest(now)
    now += 1.0
    budget.spend(0.01, now)
    assert budget.rest(now) < 0.1


def test_budget_does_not_grow_beyond_what_may_be_taken_at_once() -> None:
    budget = Budget(RHYTHM)
    budget.spend(0.2, 100.0)
    budget.spend(0.2, 1000.0)
    assert budget.rest(1000.0) > 0.29
