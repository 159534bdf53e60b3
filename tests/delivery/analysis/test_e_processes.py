"""What every process promises: nothing without data, no gain on average under its null, the same after a restart."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from delivery.analysis import one_sample, quantiles, ranks, two_sample
from delivery.analysis.family import TestProcess, core
from delivery.analysis.one_sample import Limit, OneSample
from delivery.analysis.two_sample import Block, Comparison, Standing, TwoSample, advance, counts
from delivery.analysis.wealth import MOST, e_values, grow, unspent

COMPARISONS = [
    Comparison(),
    Comparison(increase=0.01),
    Comparison(ratio=1.5),
    Comparison(claim="better", increase=0.02),
    Comparison(claim="better", ratio=1.3, increase=0.01),
]
LIMITS = [Limit(limit=0.05), Limit(limit=0.05, claim="better")]


def e_value(process: TestProcess) -> float:
    inner = core(process)
    return float(e_values(np.array(inner.wealth), inner.blocks))


def chance(n, hits, rate):
    return math.comb(n, hits) * rate**hits * (1 - rate) ** (n - hits)


def mean_after(process, n_s, n_c, u_s, u_c):
    """The exact mean of the E-value after one more block, over all of its outcomes."""
    return sum(
        chance(n_s, k_s, u_s) * chance(n_c, k_c, u_c) * e_value(update(process, counts(n_s, k_s, n_c, k_c)))
        for k_s, k_c in product(range(n_s + 1), range(n_c + 1))
    )


def update(process, block):
    return two_sample.update(process, block) if isinstance(process, TwoSample) else one_sample.update(process, block)


def blocks_of_at_least(n):
    return st.lists(st.tuples(st.integers(n, 8), st.integers(n, 4), st.integers(0, 8), st.integers(0, 4)), max_size=4)


histories = blocks_of_at_least(0)


def played(process, history):
    for n_s, n_c, k_s, k_c in history:
        process = update(process, counts(n_s, min(k_s, n_s), n_c, min(k_c, n_c)))
    return process


@pytest.mark.parametrize("test", COMPARISONS)
@given(history=blocks_of_at_least(1), n_s=st.integers(1, 5), n_c=st.integers(1, 2), u_s=st.floats(0.001, 0.6))
@settings(max_examples=12, deadline=None)
def test_on_the_border_of_the_null_the_mean_never_grows_whatever_came_before(test, history, n_s, n_c, u_s):
    process = played(TwoSample(test=test), history)
    u_c = min(1.0, test.ratio * u_s + test.increase)
    assert mean_after(process, n_s, n_c, u_s, u_c) <= e_value(process) * (1 + 1e-9)


@pytest.mark.parametrize("test", LIMITS)
@given(history=histories, n_c=st.integers(1, 5))
@settings(max_examples=12, deadline=None)
def test_a_candidate_at_an_absolute_limit_gains_nothing_on_average(test, history, n_c):
    process = played(OneSample(test=test), history)
    assert mean_after(process, 0, n_c, 0.0, test.limit) <= e_value(process) * (1 + 1e-9)


def test_data_that_wait_are_part_of_their_blocks_mean():
    test, u = Comparison(), 0.3
    waited = sum(
        chance(2, k, u) * mean_after(update(TwoSample(test=test), counts(2, k, 0, 0)), 1, 1, u, u) for k in range(3)
    )
    assert waited <= 1 + 1e-9


def test_inside_the_null_the_mean_shrinks_and_outside_it_grows():
    process = played(TwoSample(), [(19, 1, 0, 0)] * 3)
    assert mean_after(process, 19, 1, 0.05, 0.01) < e_value(process) < mean_after(process, 19, 1, 0.05, 0.3)


def test_rates_that_differ_within_a_block_are_fine_as_long_as_their_mean_obeys_the_null():
    process = played(TwoSample(), [(8, 2, 1, 0)] * 3)
    uneven = [0.0, 0.4]  # two requests of the candidate; stable's rate is their mean

    def weighed(k_s, outcomes):
        likelihood = math.prod(p if hit else 1 - p for p, hit in zip(uneven, outcomes, strict=True))
        after = update(process, counts(8, k_s, 2, sum(outcomes)))
        return chance(8, k_s, 0.2) * likelihood * e_value(after)

    mean = sum(weighed(k_s, outcomes) for k_s in range(9) for outcomes in product((0, 1), repeat=2))
    assert mean <= e_value(process) * (1 + 1e-9)


def test_graded_outcomes_gain_nothing_when_their_means_are_equal():
    test = Comparison(levels=(0.25, 0.5, 0.75), guess=0.5)
    process = two_sample.update(TwoSample(test=test), Block(stable=(2, 1, 0), candidate=(0, 1, 0)))
    spread, narrow = (0.5, 0.0, 0.5), (0.0, 1.0, 0.0)  # of candidate and stable, both of mean 0.5
    outcomes = {i: tuple(int(j == i) for j in range(3)) for i in range(3)}
    mean = sum(
        spread[i] * narrow[j] * e_value(two_sample.update(process, Block(stable=outcomes[j], candidate=outcomes[i])))
        for i, j in product(range(3), range(3))
    )
    assert mean <= e_value(process) * (1 + 1e-9)


@pytest.mark.parametrize("process", [TwoSample(), OneSample(test=LIMITS[0])])
def test_no_data_leaves_the_e_value_at_one(process):
    for _ in range(50):
        process = update(process, counts(0, 0, 0, 0))
    assert e_value(process) == 1.0


def test_without_the_other_arm_nothing_is_shown():
    alone = played(TwoSample(), [(0, 4, 0, 4)] * 50)
    assert e_value(alone) == 1.0
    assert e_value(played(TwoSample(), [(8, 0, 8, 0)] * 50)) == 1.0


def test_ticks_without_the_candidate_wait_and_then_count_in_its_block():
    apart = played(TwoSample(), [(5, 0, 1, 0), (6, 0, 0, 0), (2, 1, 0, 1)])
    together = played(TwoSample(), [(13, 1, 1, 1)])
    assert e_value(apart) == pytest.approx(e_value(together))
    assert apart.blocks == 1


def test_what_has_waited_too_long_is_no_longer_compared_but_known():
    process = played(TwoSample(), [(8, 0, 0, 0)] * 51)
    assert process.known_n == 408
    assert sum(process.waiting_stable) == 0


def test_stables_earlier_rate_can_be_learned_and_is_compared_with_nothing():
    process = two_sample.learn(TwoSample(), counts(1000, 10, 0, 0))
    assert (process.known_n, process.known_total, e_value(process)) == (1000, 10, 1.0)


def test_all_weight_is_spent_in_the_end_and_most_of_it_at_once():
    later = unspent(np.array([0, 1, 2, 10, 10**6, 10**12]))
    assert later[0] == 1
    assert later[1] == pytest.approx(0.2)
    assert (np.diff(later) < 0).all()


def test_breakage_that_begins_late_is_caught():
    quiet = played(TwoSample(), [(19, 1, 0, 0), (19, 1, 1, 0)] * 300)
    assert e_value(quiet) < 0.1
    assert e_value(played(quiet, [(19, 1, 0, 1)] * 6)) > 1000


def test_wealth_stays_finite():
    process = played(TwoSample(), [(8, 4, 0, 4)] * 400)
    assert math.isfinite(e_value(process))
    assert e_value(process) <= 5 * MOST + 1


def test_where_nothing_can_be_worse_no_bet_is_made():
    process = played(TwoSample(test=Comparison(ratio=3.0)), [(8, 4, 8, 4)] * 20)
    assert e_value(process) <= 1.0
    assert e_value(played(TwoSample(test=Comparison(increase=1.0)), [(8, 4, 0, 4)] * 20)) <= 1.0


@given(history=histories)
@settings(max_examples=30, deadline=None)
def test_a_process_that_was_stored_goes_on_as_if_it_had_not_been(history):
    adapter = TypeAdapter(TestProcess)
    for process in (TwoSample(test=COMPARISONS[1]), OneSample(test=LIMITS[0])):
        stored = process
        for step in history:
            stored = adapter.validate_json(adapter.dump_json(played(stored, [step])))
        assert stored == played(process, history)


def test_one_process_and_many_at_once_are_the_same():
    rng, test = np.random.default_rng(3), Comparison(increase=0.01)
    n_c = rng.binomial(20, 0.05, (60, 7))
    hits_s, hits_c = rng.binomial(20 - n_c, 0.1), rng.binomial(n_c, 0.3)
    standing = Standing.new(test, 7)
    for t in range(60):
        stable = np.stack([20 - n_c[t] - hits_s[t], hits_s[t]], axis=-1)
        standing = advance(test, standing, stable, np.stack([n_c[t] - hits_c[t], hits_c[t]], axis=-1))
    for run in range(7):
        process = TwoSample(test=test)
        for t in range(60):
            block = counts(20 - n_c[t, run], hits_s[t, run], n_c[t, run], hits_c[t, run])
            process = two_sample.update(process, block)
        assert e_value(process) == pytest.approx(standing.e[run], rel=1e-9)


def test_growth_multiplies_what_was_there_and_what_is_new():
    grown = grow(np.array([2.0, 0.0]), np.array(0), np.log(np.array([3.0, 5.0])))
    assert grown == pytest.approx([(2.0 + 0.4) * 3, 0.4 * 5])
    assert e_values(grown, 1) == pytest.approx(grown.sum() + 0.2)


@pytest.mark.parametrize("block", [(5, 6, 1, 0), (5, 0, 1, 2), (-1, 0, 0, 0)])
def test_impossible_counts_are_refused(block):
    with pytest.raises(ValidationError, match="not two arms' counts"):
        counts(*block)


def test_a_block_of_other_levels_is_refused():
    with pytest.raises(ValueError, match="a block of 3 levels, expected 2"):
        two_sample.update(TwoSample(), Block(stable=(1, 2, 3), candidate=(0, 0, 0)))


def test_a_quantile_is_judged_by_a_limit_from_the_past_alone():
    process = quantiles.relative_quantile(0.95, ratio=1.2)
    assert quantiles.limits(process) is None
    empty = counts(0, 0, 0, 0)
    process = quantiles.update(process, empty, tuple(float(i) for i in range(1, 101)))
    stable_s, candidate_s = quantiles.limits(process) or (0.0, 0.0)
    assert stable_s == pytest.approx(95, rel=0.011)
    assert candidate_s == pytest.approx(1.2 * stable_s)
    for _ in range(12):
        process = quantiles.update(process, counts(19, 1, 1, 1), ())
    assert quantiles.e_value(process) > 200


def test_exceedances_before_there_is_a_limit_are_refused():
    with pytest.raises(ValueError, match="before there is a limit"):
        quantiles.update(quantiles.relative_quantile(), counts(19, 1, 1, 1), ())


def test_typical_latency_finds_a_slower_candidate_and_forgives_its_margin():
    rng = np.random.default_rng(5)
    slow, allowed = ranks.typical(ratio=1.0), ranks.typical(ratio=1.6)
    for _ in range(150):
        stable = tuple(rng.lognormal(0, 0.8, 19).tolist())
        candidate = tuple((1.5 * rng.lognormal(0, 0.8, 1)).tolist())
        slow, allowed = ranks.update(slow, stable, candidate), ranks.update(allowed, stable, candidate)
    assert ranks.e_value(slow) > 200
    assert ranks.e_value(allowed) < 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_what_is_no_duration_is_refused(value):
    with pytest.raises(ValueError, match="no value that can be ranked"):
        ranks.update(ranks.typical(), (value,), ())
