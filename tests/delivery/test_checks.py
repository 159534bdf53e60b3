"""What a check says about counts: failures may come early, passes need their minimum, silence passes nothing."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.rollout import Check, Stage
from delivery import bounds
from delivery.checks import CheckResult, evaluate, judge
from delivery.evidence import Arm, Evidence, Histogram, Moments, Open, bucket_of

CANARY = Stage(kind="canary", share_bp=500, min_requests=20)


def evidence(candidate: Arm | None = None, stable: Arm | None = None, **more: object) -> Evidence:
    base = Evidence(
        epoch="r/0-canary",
        candidate_variant="new",
        stable_variant="old",
        candidate_role="served",
        candidate=candidate or Arm(),
        stable=stable or Arm(),
    )
    return base.model_copy(update=more)


def counted(requests: int, errors: int = 0) -> Arm:
    return Arm(requests=requests, errors=errors, first_error_at=7.0 if errors else None)


def timed(*seconds: float) -> Arm:
    counts: dict[int, int] = {}
    for value in seconds:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    first = {index: 5.0 for index in counts}
    histogram = Histogram(counts=counts, first_at=first)
    return Arm(requests=len(seconds), latency=histogram, ttft=histogram)


def worded(*values: float) -> Arm:
    moments = Moments(n=len(values), total=sum(values), squares=sum(v * v for v in values))
    return Arm(requests=len(values), completion_tokens=moments)


def verdict(check: Check, found: Evidence) -> str:
    return evaluate(check, found).verdict


ERRORS = Check(metric="error_rate", max=0.05, min_requests=20)


def test_no_data_is_no_pass() -> None:
    for metric in ("error_rate", "latency_p95_s", "ttft_p95_s", "completion_tokens_mean"):
        assert verdict(Check(metric=metric, max=1000.0), evidence()) == "inconclusive"
        assert verdict(Check(metric=metric, max_ratio=2.0), evidence()) == "inconclusive"


def test_five_failures_out_of_five_are_enough_long_before_the_minimum() -> None:
    result = evaluate(ERRORS, evidence(counted(5, 5)))
    assert result.verdict == "fail"
    assert result.first_bad_at == 7.0
    assert "100 % (5 of 5)" in result.sentence
    assert "limit 5 %" in result.sentence


def test_one_failure_alone_proves_nothing() -> None:
    assert verdict(ERRORS, evidence(counted(1, 1))) == "inconclusive"
    assert verdict(ERRORS, evidence(counted(40, 1))) == "inconclusive"


def test_an_error_rate_passes_when_its_upper_bound_is_within_the_limit() -> None:
    assert verdict(ERRORS, evidence(counted(58))) == "inconclusive"
    assert verdict(ERRORS, evidence(counted(59))) == "pass"
    assert "at least 59" in evaluate(ERRORS, evidence(counted(30))).sentence


def test_no_number_of_requests_below_the_minimum_passes() -> None:
    patient = ERRORS.model_copy(update={"min_requests": 100})
    assert verdict(patient, evidence(counted(99))) == "inconclusive"
    assert verdict(patient, evidence(counted(100))) == "pass"


def test_a_relative_limit_needs_requests_on_both_sides() -> None:
    check = Check(metric="error_rate", max_increase=0.2, min_requests=20)
    assert verdict(check, evidence(counted(100), counted(19))) == "inconclusive"
    assert verdict(check, evidence(counted(100), counted(100))) == "pass"
    assert verdict(check, evidence(counted(50, 40), counted(100))) == "fail"
    close = check.model_copy(update={"max_increase": 0.02})
    assert verdict(close, evidence(counted(100, 40), counted(100, 40))) == "inconclusive"


def test_an_incident_that_hits_stable_too_is_not_the_candidates_fault() -> None:
    shared = evaluate(ERRORS, evidence(counted(30, 10), counted(100, 33)))
    assert (shared.verdict, shared.shared_incident) == ("fail", True)
    worse = evaluate(ERRORS, evidence(counted(60, 58), counted(100, 33)))
    assert (worse.verdict, worse.shared_incident) == ("fail", False)
    assert judge([ERRORS], evidence(counted(30, 10), counted(100, 33)), CANARY).blame == "pause"
    assert judge([ERRORS], evidence(counted(60, 58), counted(100, 33)), CANARY).blame == "rollback"


def test_a_p95_is_a_rate_of_slow_requests() -> None:
    check = Check(metric="latency_p95_s", max=1.0)
    assert verdict(check, evidence(timed(*[0.5] * 58))) == "inconclusive"
    assert verdict(check, evidence(timed(*[0.5] * 59))) == "pass"
    assert verdict(check, evidence(timed(*[1.5] * 2))) == "fail"
    assert verdict(check, evidence(timed(*[0.5] * 95, *[1.5] * 5))) == "inconclusive"


def test_a_request_in_flight_for_longer_than_the_limit_is_slow_already() -> None:
    hanging = tuple(Open(variant="new", age_s=30.0, started_at=3.0) for _ in range(4))
    young = tuple(Open(variant="new", age_s=0.2, started_at=9.0) for _ in range(50))
    check = Check(metric="latency_p95_s", max=1.0)
    result = evaluate(check, evidence(open={"gw": hanging}))
    assert result.verdict == "fail"
    assert result.first_bad_at == 3.0
    assert verdict(check, evidence(open={"gw": young})) == "inconclusive"


def test_a_relative_p95_follows_stable() -> None:
    check = Check(metric="latency_p95_s", max_ratio=1.5)
    generator = random.Random(1)
    stable = timed(*[generator.uniform(0.5, 1.0) for _ in range(300)])
    same = timed(*[generator.uniform(0.5, 1.0) for _ in range(120)])
    slow = timed(*[3 * generator.uniform(0.5, 1.0) for _ in range(40)])
    assert verdict(check, evidence(same, stable)) == "pass"
    assert verdict(check, evidence(slow, stable)) == "fail"
    assert verdict(check, evidence(same, timed(0.7))) == "inconclusive"


def test_a_metric_that_is_absent_is_an_error_not_a_pass() -> None:
    many = counted(200)
    assert verdict(Check(metric="ttft_p95_s", max=1.0), evidence(many, many)) == "error"
    assert verdict(Check(metric="completion_tokens_mean", max=50.0), evidence(many, many)) == "error"


def test_means_compare_with_their_uncertainty() -> None:
    check = Check(metric="completion_tokens_mean", max_ratio=1.2)
    stable = worded(*[30.0, 34.0] * 50)
    assert verdict(check, evidence(worded(*[30.0, 34.0] * 20), stable)) == "pass"
    assert verdict(check, evidence(worded(*[90.0, 96.0] * 20), stable)) == "fail"
    assert verdict(check, evidence(worded(*[10.0, 66.0] * 12), stable)) == "inconclusive"
    assert verdict(check, evidence(worded(90.0, 96.0), stable)) == "inconclusive"


def test_a_stage_passes_only_when_every_gating_check_passes_on_enough_requests() -> None:
    warn = Check(metric="latency_p95_s", max=0.001, on_fail="warn")
    found = evidence(timed(*[0.5] * 80), timed(*[0.0005] * 80))
    assert judge([ERRORS, warn], found, CANARY).verdict == "pass"
    assert judge([ERRORS, warn], found, CANARY.model_copy(update={"min_requests": 81})).verdict == "inconclusive"
    assert judge([ERRORS, warn.model_copy(update={"on_fail": "rollback"})], found, CANARY).blame == "rollback"
    assert judge([ERRORS, warn.model_copy(update={"on_fail": "pause"})], found, CANARY).blame == "pause"


def test_a_stage_without_a_check_of_its_own_does_not_pass() -> None:
    elsewhere = ERRORS.model_copy(update={"stages": ("full",)})
    assert judge([elsewhere], evidence(counted(1000), counted(1000)), CANARY).verdict == "inconclusive"


def test_an_unmeasurable_check_outranks_an_undecided_one() -> None:
    ttft = Check(metric="ttft_p95_s", max=1.0)
    assert judge([ERRORS, ttft], evidence(counted(30), counted(30)), CANARY).verdict == "error"


@given(
    requests=st.integers(0, 400),
    share=st.floats(0, 1),
    stable_requests=st.integers(0, 400),
    stable_share=st.floats(0, 1),
    limit=st.floats(0.001, 1),
    relative=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_verdict_never_contradicts_the_plain_comparison(
    requests: int, share: float, stable_requests: int, stable_share: float, limit: float, relative: bool
) -> None:
    ours, theirs = (
        counted(requests, int(requests * share)),
        counted(stable_requests, int(stable_requests * stable_share)),
    )
    check = Check(metric="error_rate", **({"max_increase": limit} if relative else {"max": limit}))
    result: CheckResult = evaluate(check, evidence(ours, theirs))
    if result.verdict in ("pass", "fail") and requests:
        rate = ours.errors / requests
        assert result.limit is not None
        assert (rate > result.limit) == (result.verdict == "fail") or math.isclose(rate, result.limit)
    if result.verdict == "pass":
        assert requests >= check.min_requests


def test_looking_after_every_request_rarely_condemns_a_candidate_at_its_limit() -> None:
    """At the limit itself, over 300 looks; a bound for one look would fail about a third of these."""
    generator, condemned, runs = random.Random(7), 0, 300
    for _ in range(runs):
        errors = 0
        for n in range(1, 301):
            hit = generator.random() < 0.05
            errors += hit
            if hit and bounds.rate_low_anytime(errors, n, 0.05) > 0.05:
                condemned += 1
                break
    assert condemned / runs <= 0.05


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (1, 500)])
def test_bounds_enclose_the_observed_rate(hits: int, n: int) -> None:
    for low, high in (
        (bounds.rate_low(hits, n, 0.05), bounds.rate_high(hits, n, 0.05)),
        (bounds.rate_low_anytime(hits, n, 0.05), bounds.rate_high_anytime(hits, n, 0.05)),
    ):
        assert 0 <= low <= hits / n <= high <= 1


def test_a_quantiles_lower_bound_is_the_exact_order_statistic() -> None:
    # P(Bin(100, 0.95) <= 90) = 0.028, P(... <= 91) = 0.063
    assert bounds.quantile_low_rank(100, 0.95, 0.05) == 91
    assert bounds.quantile_low_rank(0, 0.95, 0.05) == 0
