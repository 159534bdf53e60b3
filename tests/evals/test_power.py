"""What a gate over so many samples can show, against what the gate then does."""

from typing import Any

import pytest

from configs.evals import Gate
from evals.power import Reach, reach, samples_for, smallest_drop
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


def said(n: int, **limits: Any) -> list[Reach]:
    return list(reach(Gate(suite="s", **limits), n))


def test_a_margin_that_nobody_can_pass_is_told_with_both_ways_out() -> None:
    (found,) = said(40, max_drop=0.05)
    assert found.is_blind
    assert found.sentence.startswith("s: with 40 samples a candidate as good as production cannot pass max_drop 0.05")
    assert "it takes 73 samples, or a max_drop of 0.088" in found.sentence
    (found,) = said(100, max_drop=0.05)
    assert not found.is_blind
    assert "one in ten differs from production either way an equal candidate needs" in found.sentence
    (found,) = said(100, max_drop=0.2)
    assert "excluded where all agree, of 0.070 where one in ten differs from production" in found.sentence


def test_a_drop_of_nothing_at_all_can_never_be_excluded() -> None:
    (found,) = said(1000, max_drop=0)
    assert found.is_blind
    assert "it takes a max_drop of 0.004" in found.sentence


def test_of_a_score_it_is_told_what_a_pass_excludes_and_what_it_takes() -> None:
    (found,) = said(40, min_score=0.9)
    assert found.sentence == (
        "s: with 40 samples min_score 0.9 takes at least 36; that many exclude a true score below 0.77"
    )
    (found,) = said(40, min_score=0.9, strict=True)
    assert "takes at least 40; that many exclude a true score below 0.91" in found.sentence
    (found,) = said(40, max_score=0.1)
    assert "takes at most 4; that many exclude a true score above 0.23" in found.sentence
    (blind,) = said(40, min_score=0.95, strict=True)
    assert blind.is_blind
    (blind,) = said(40, max_score=0.05, strict=True)
    assert blind.is_blind


def test_a_gain_that_no_candidate_can_show_is_told() -> None:
    assert [one.is_blind for one in said(40, min_gain=0.5)] == [False]
    assert [one.is_blind for one in said(4, min_gain=0.9)] == [True]
