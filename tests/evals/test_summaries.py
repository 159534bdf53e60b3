"""Means, differences and intervals: against published values, exact coverage and a general-purpose implementation."""

from itertools import product
from math import comb, isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evals.report import SampleScore
from evals.summaries import mean, paired_difference, summarise

BITS = st.sampled_from([0.0, 1.0])


def pairs(gained: int, lost: int, n: int) -> tuple[list[float], list[float]]:
    first = [1.0] * gained + [0.0] * lost + [1.0] * (n - gained - lost)
    second = [0.0] * gained + [1.0] * lost + [1.0] * (n - gained - lost)
    return first, second


@given(st.lists(BITS, min_size=1, max_size=60), st.sampled_from([0.8, 0.95, 0.99]))
def test_zero_one_scores_get_wilsons_interval(scores: list[float], confidence: float) -> None:
    ours = mean(scores, confidence)
    theirs = stats.binomtest(int(sum(scores)), len(scores)).proportion_ci(confidence, method="wilson")
    assert ours.n == len(scores)
    assert isclose(ours.low, theirs.low, abs_tol=1e-9)
    assert isclose(ours.high, theirs.high, abs_tol=1e-9)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


def test_other_scores_get_students_interval() -> None:
    ours = mean([0.2, 0.5, 0.9])
    low, high = stats.t.interval(0.95, 2, loc=1.6 / 3, scale=stats.sem([0.2, 0.5, 0.9]))
    assert (ours.low, ours.high) == (pytest.approx(low), pytest.approx(high))


def test_one_score_between_zero_and_one_says_nothing_about_the_spread() -> None:
    assert (mean([0.5]).low, mean([0.5]).high) == (-0.5, 1.5)


@pytest.mark.parametrize(
    ("gained", "lost", "n", "low", "high"),
    [
        (12, 2, 50, 0.0611, 0.3447),  # Newcombe, Statistics in Medicine 17 (1998), example with a score interval
        (0, 0, 40, -0.0876, 0.0876),  # z^2 / (n + z^2)
        (0, 0, 120, -0.0310, 0.0310),
        (40, 0, 40, 0.8248, 1.0),
    ],
)
def test_paired_zero_one_scores_get_tangos_interval(gained: int, lost: int, n: int, low: float, high: float) -> None:
    found = paired_difference(*pairs(gained, lost, n))
    assert found.value == (gained - lost) / n
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@pytest.mark.parametrize(("gain", "loss"), [(0.1, 0.1), (0.3, 0.05), (0.02, 0.02), (0.6, 0.1), (0.9, 0.02)])
def test_the_paired_interval_covers_the_truth_as_often_as_it_says(gain: float, loss: float) -> None:
    n, covered = 20, 0.0
    for gained, lost in product(range(n + 1), repeat=2):
        if gained + lost <= n:
            same = n - gained - lost
            chance = comb(n, gained) * comb(n - gained, lost) * gain**gained * loss**lost * (1 - gain - loss) ** same
            found = paired_difference(*pairs(gained, lost, n))
            covered += chance * (found.low <= gain - loss <= found.high)
    assert covered >= 0.94


@given(st.lists(st.tuples(BITS, BITS), min_size=1, max_size=50))
def test_a_paired_interval_holds_its_value_and_turns_with_its_sides(values: list[tuple[float, float]]) -> None:
    first, second = zip(*values, strict=True)
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert -1 <= there.low <= there.value <= there.high <= 1
    assert isclose(there.low, -back.high, abs_tol=1e-9)


def test_other_pairs_get_students_interval() -> None:
    found = paired_difference([0.5, 0.7, 0.9], [0.4, 0.7, 0.5])
    low, high = stats.t.interval(0.95, 2, loc=0.5 / 3, scale=stats.sem([0.1, 0.0, 0.4]))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_samples_that_could_not_be_judged_are_counted_and_not_averaged() -> None:
    scores = [SampleScore(id=str(n), score=score) for n, score in enumerate([1.0, None, 0.0, 1.0])]
    result = summarise("s", "v", "behaviour", scores)
    assert (result.score, result.n, result.unjudged) == (2 / 3, 3, 1)


def test_a_suite_without_a_judged_sample_has_no_score() -> None:
    result = summarise("s", "v", "behaviour", [SampleScore(id="a", score=None)])
    assert (result.score, result.low, result.high, result.n, result.unjudged) == (None, None, None, 0, 1)
