"""Two answers to the same request: what they share proves nothing, what they differ in does."""

import numpy as np
import pytest

from delivery.analysis import one_sample, pairs
from delivery.analysis.one_sample import OneSample
from delivery.analysis.two_sample import Block


def fed(test, *levels):
    none = (0,) * len(test.levels)
    return one_sample.update(OneSample(test=test), Block(stable=none, candidate=levels))


def e_value(test, *levels):
    return one_sample.e_value(fed(test, *levels))


def test_pairs_that_agree_say_nothing_without_a_margin():
    test = pairs.rates(1.0, 0.0, "worse")
    assert e_value(test, *pairs.tally_rates([(False, False)] * 500 + [(True, True)] * 300)) == pytest.approx(1.0)


def test_a_candidate_that_alone_fails_is_found_after_a_few_pairs():
    test = pairs.rates(1.0, 0.0, "worse")
    assert e_value(test, *pairs.tally_rates([(False, True)] * 8)) >= 20
    assert e_value(test, *pairs.tally_rates([(True, False)] * 8)) < 1


def test_with_a_margin_pairs_that_agree_show_that_the_candidate_is_within_it():
    test = pairs.rates(1.0, 0.25, "better")
    assert e_value(test, *pairs.tally_rates([(False, False)] * 14)) >= 20
    assert e_value(test, *pairs.tally_rates([(False, True)] * 14)) < 1


def test_values_are_compared_by_their_signs_and_ties_count_half():
    tally = pairs.tally_signs([(1.0, 2.0), (1.0, 3.5), (1.0, 3.0)], ratio=2.0, increase=1.0)
    assert tally == (1, 1, 1)
    assert e_value(pairs.signs("worse"), 0, 100, 0) == pytest.approx(1.0, abs=0.01)
    assert e_value(pairs.signs("better"), 7, 0, 0) >= 20


@pytest.mark.parametrize(("ratio", "increase"), [(1.0, 0.0), (1.0, 0.1), (1.5, 0.05)])
@pytest.mark.parametrize("claim", ["worse", "better"])
def test_a_candidate_at_its_limit_is_rarely_condemned_or_promoted(ratio, increase, claim):
    """400 pairs, looked at after each, half of stable's failures shared: at most alpha ever reach 1/alpha."""
    rng, test, runs = np.random.default_rng(5), pairs.rates(ratio, increase, claim), 2000
    stable = rng.random((runs, 400)) < 0.1
    shared = stable & (rng.random((runs, 400)) < 0.5)
    more = (ratio * 0.1 + increase - 0.05) / 0.95
    candidate = shared | (rng.random((runs, 400)) < more)
    wealth, blocks, ever = np.zeros((runs, 5)), np.zeros(runs), np.zeros(runs, dtype=bool)
    levels = 2 * stable.astype(int) + candidate
    for look in range(400):
        one = np.eye(4)[levels[:, look]]
        wealth, blocks = one_sample.advance(test, wealth, blocks, one)
        ever |= one_sample.e_values(wealth, blocks) >= 20
    assert ever.mean() <= 0.05
