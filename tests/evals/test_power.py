"""What a gate over so many samples can show, against what the gate then does."""

import pytest

from evals.power import samples_for, smallest_drop, told
from evals.summaries import paired_difference


@pytest.mark.parametrize("n", [5, 40, 60, 400])
def test_the_smallest_drop_is_what_the_gate_excludes_for_an_equal_candidate(n: int) -> None:
    equal = [1.0] * n
    assert paired_difference(equal, equal).low == pytest.approx(-smallest_drop(n))


def test_forty_pairs_that_agree_say_no_more_than_within_nine_points() -> None:
    assert smallest_drop(40) == pytest.approx(0.0876, abs=0.001)
    assert smallest_drop(40, disagreeing=0.1) > smallest_drop(40)
    assert smallest_drop(40, confidence=0.8) < smallest_drop(40)


@pytest.mark.parametrize(("margin", "disagreeing"), [(0.1, 0.0), (0.02, 0.0), (0.05, 0.1)])
def test_as_many_samples_as_are_needed(margin: float, disagreeing: float) -> None:
    n = samples_for(margin, disagreeing=disagreeing)
    assert smallest_drop(n, disagreeing=disagreeing) <= margin < smallest_drop(n - 1, disagreeing=disagreeing) + 0.01


def test_a_margin_that_nobody_can_pass_is_told_with_both_ways_out() -> None:
    (said,) = told("s", 40, 0.05)
    assert said.startswith("s: with 40 samples no candidate can pass max_drop 0.05: the smallest drop that can be")
    assert "it takes 73 samples, or a max_drop of 0.088" in said
    (said,) = told("s", 100, 0.05)
    assert "one in ten differs" in said
    assert list(told("s", 100, 0.2)) == []
