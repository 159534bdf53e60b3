"""What two runs of one variant differ by, and how that widens what a comparison says."""

import random

import pytest

from configs.evals import Gate
from delivery.build.gate import judge
from delivery.build.pairs import RunNoise, noise_of
from evals.estimate import Estimate
from evals.report import EvalReport, SampleScore, SuiteResult
from evals.summaries import paired_difference, summarise


def suite(scores: list[float | None]) -> SuiteResult:
    return summarise("suite", "v1", "behaviour", [SampleScore(id=f"s{n:03}", score=s) for n, s in enumerate(scores)])


def report(scores: list[float | None]) -> EvalReport:
    suites = {"suite": suite(scores)}
    return EvalReport(subject="x", model="x", system_prompt=None, prompt_tokens_mean=None, suites=suites)


def test_changes_both_ways_do_not_cancel_out() -> None:
    noise = noise_of(suite([1, 0, 1, 1, None]), suite([0, 1, 1, 1, 1]))
    assert (noise.n, noise.changed) == (4, 2)
    assert noise.spread == pytest.approx(2**0.5 / 4)
    assert noise_of(suite([1, 0]), suite([1, 0])) == RunNoise(2, 0, 0.0)


def test_without_noise_an_interval_stays_what_it_was() -> None:
    found = Estimate(-0.1, -0.3, 0.1, 40)
    same = RunNoise(40, 0, 0.0).widen(found, 0.95)
    assert (same.low, same.high) == (pytest.approx(-0.3), pytest.approx(0.1))
    wider = RunNoise(40, 2, 0.1).widen(found, 0.95)
    assert wider.low < -0.3
    assert wider.high > 0.1
    assert wider.value == -0.1


def test_what_the_stack_changes_by_itself_can_keep_a_candidate_from_passing() -> None:
    gate = Gate(suite="suite", max_drop=0.1)
    good = report([1.0] * 40)
    assert judge([gate], good, good).passed
    assert judge([gate], good, good, again=good).passed
    noisy = judge([gate], good, good, again=report([0.0] * 3 + [1.0] * 37))
    assert not noisy.passed
    assert "asked twice, production scores otherwise on 3 of 40" in noisy.findings[0].sentence


def test_a_run_that_shifts_as_a_whole_is_covered_where_the_plain_interval_is_not() -> None:
    """Each run moves all answers of a kind together, as a batch of another size does: pairs alone cannot see that."""
    draw, plain, widened, n = random.Random(3), 0, 0, 100

    def run() -> list[float]:
        flipped = draw.random() < 0.5
        return [float(not (flipped and k < 8)) for k in range(n)]

    for _ in range(100):
        one, other, first, again = run(), run(), run(), run()
        found = paired_difference(one, other)
        plain += found.low <= 0 <= found.high
        wider = noise_of(suite(list(first)), suite(list(again))).widen(found, 0.95)
        widened += wider.low <= 0 <= wider.high
    assert widened > plain + 10
