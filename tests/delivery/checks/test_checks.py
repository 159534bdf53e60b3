"""What the checks say: failures may come early, a pass is evidence, silence passes nothing, all in words."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic_of import CANARY, ERRORS, NOTHING, SHADOW, Canary, page, plan_of, record, running

from configs.checks import Check
from configs.metrics import METRICS
from configs.rollout import RolloutPlan, Stage
from delivery.checks.findings import Finding
from delivery.checks.fold import fold
from delivery.checks.verdicts import CheckResult, Judgement, conclude, judge
from delivery.traffic.records import Tripped

GOOD: dict[str, Any] = {}
BAD: dict[str, Any] = {"ok": False, "error": "status"}


def judged(
    candidate: list[dict[str, Any]],
    stable: list[dict[str, Any]] | None = None,
    *checks: Check,
    past: list[dict[str, Any]] | None = None,
    **more: Any,
) -> Judgement:
    """After two ticks: stable alone (`past`), then both, by default with forty good requests of stable each."""
    plan = plan_of(*(checks or (ERRORS,)), **more)
    canary = Canary(plan).tick(stable=[GOOD] * 40 if past is None else past).tick()
    canary.tick(candidate, [GOOD] * 40 if stable is None else stable)
    return judge(plan, CANARY, canary.evidence)


def of(judgement: Judgement, check: Check) -> CheckResult:
    return next(result for result in judgement.results if result.check == check.name)


def verdict(check: Check, candidate: list[dict[str, Any]], stable: list[dict[str, Any]] | None = None) -> str:
    return of(judged(candidate, stable, check), check).verdict


# -- pass, fail, and neither ----------------------------------------------------------------------------------------


EVERY = (*(metric.name for metric in METRICS if metric.kind != "preference"), "contract:format")


@pytest.mark.parametrize("metric", EVERY)
@pytest.mark.parametrize("stage", [SHADOW, CANARY])
def test_no_data_is_no_pass(metric: str, stage: Stage) -> None:
    checks = (Check(metric=metric, max=0.9), Check(metric=metric, max_ratio=2.0, max_increase=0.5))
    plan = plan_of(*checks, prices={"prompt_per_million": 1, "completion_per_million": 1})
    result = judge(plan, stage, Canary(plan, stage).tick().evidence)
    assert {r.verdict for r in result.results} == {"inconclusive"}
    assert result.verdict == "inconclusive"


def test_without_an_answer_the_words_name_no_values_and_no_evidence() -> None:
    relative = Check(metric="error_rate", max_increase=0.2)
    assert of(judged([], [], ERRORS), ERRORS).sentence == (
        "inconclusive: error rate: no answer of the candidate yet, limit 20 %"
    )
    assert of(judged([], [], relative, past=[]), relative).sentence == (
        "inconclusive: error rate: no answer of the candidate yet, no limit before stable has one"
    )


def test_five_failures_out_of_five_are_enough_long_before_the_minimum() -> None:
    result = judged([BAD] * 5)
    assert (result.verdict, result.blame) == ("fail", "rollback")
    assert result.first_bad_at == pytest.approx(300.0, abs=0.01)
    assert "error rate 100 % (5 of 5), limit 20 %" in result.reason


def test_one_failure_alone_proves_nothing() -> None:
    assert verdict(ERRORS, [BAD]) == "inconclusive"
    assert verdict(ERRORS, [BAD, *[GOOD] * 5]) == "inconclusive"


def test_a_rate_passes_when_the_evidence_that_it_is_within_its_limit_suffices() -> None:
    assert verdict(ERRORS, [GOOD] * 16) == "inconclusive"
    assert verdict(ERRORS, [GOOD] * 20) == "pass"
    assert "of 20 that it is within" in of(judged([GOOD] * 16), ERRORS).sentence


def test_a_relative_limit_needs_requests_on_both_sides() -> None:
    check = Check(metric="error_rate", max_increase=0.2)
    assert of(judged([GOOD] * 100, [], check, past=[]), check).verdict == "inconclusive"
    assert verdict(check, [GOOD] * 100, [GOOD] * 100) == "pass"
    assert verdict(check, [*[BAD] * 40, *[GOOD] * 10], [GOOD] * 100) == "fail"
    half = [*[BAD] * 40, *[GOOD] * 60]
    assert verdict(check.model_copy(update={"max_increase": 0.02}), half, half) == "inconclusive"


def test_a_p95_is_a_rate_of_slow_requests_and_a_hung_one_is_slow_already() -> None:
    check = Check(metric="latency_p95_s", max=1.0)
    assert verdict(check, [{"duration_s": 0.5}] * 60) == "inconclusive"
    assert verdict(check, [{"duration_s": 0.5}] * 80) == "pass"
    assert verdict(check, [{"duration_s": 1.5}] * 5) == "fail"
    canary = Canary(plan_of(check)).tick(in_flight=[running(started_at=110 + n) for n in range(5)])
    result = of(judge(canary.plan, CANARY, canary.evidence), check)
    assert (result.verdict, result.first_bad_at) == ("fail", 110.0)


@pytest.mark.parametrize("metric", ["latency_p95_s", "ttft_p95_s", "latency_typical_s"])
def test_durations_relative_to_stable_follow_stable(metric: str) -> None:
    generator = random.Random(1)

    def taking(factor: float, count: int) -> list[dict[str, Any]]:
        values = [factor * generator.uniform(0.5, 1.0) for _ in range(count)]
        return [{"duration_s": value, "ttft_s": value / 2} for value in values]

    check = Check(metric=metric, max_ratio=1.5)
    for candidate, expected in (((1, 600), "pass"), ((3, 60), "fail"), ((1, 5), "inconclusive")):
        result = judged(taking(*candidate), taking(1, 600), check, past=taking(1, 100))
        assert of(result, check).verdict == expected


@pytest.mark.parametrize("metric", ["completion_tokens_typical", "cost_typical"])
def test_longer_and_dearer_answers_are_seen(metric: str) -> None:
    check = Check(metric=metric, max_ratio=1.3)
    prices = {"prompt_per_million": 0.1, "completion_per_million": 0.4}
    for tokens, expected in ((60, "fail"), (20, "pass")):
        result = judged([{"completion_tokens": tokens, "prompt_tokens": 5 * tokens}] * 40, None, check, prices=prices)
        assert of(result, check).verdict == expected


def test_a_broken_contract_is_a_rate_of_its_own() -> None:
    check = Check(metric="contract:refusal", max_increase=0.1)
    breaks, keeps = {"verdicts": {"refusal": True}}, {"verdicts": {"refusal": False}}
    assert verdict(check, [breaks] * 20, [keeps] * 100) == "fail"
    assert verdict(check, [keeps] * 60, [keeps] * 100) == "pass"


def test_in_shadow_answers_are_compared_in_pairs() -> None:
    check = Check(metric="contract:format", max_increase=0.2)
    plan = plan_of(check)
    records = []
    for n in range(30):
        answers = {"request_id": f"q{n}", "user": f"u{n}", "epoch": "r/0-shadow"}
        records += [
            record(2 * n + 1, "old", verdicts={"format": n % 2 == 0}, **answers),
            record(2 * n + 2, role="mirror", verdicts={"format": n % 2 == 0}, **answers),
        ]
    start = NOTHING.restarted("r/0-shadow", "mirror")
    found = fold(start, plan, SHADOW, "r", {"gw": [page(*records)]})
    result = of(judge(plan, SHADOW, found), check)
    assert result.verdict == "pass"  # where both fail half the time, two separate samples of 30 would not do
    assert "in pairs" in result.sentence
    assert "pairs of answers" in result.counted


# -- what is not the candidate's fault, and what cannot be measured --------------------------------------------------


def test_an_incident_that_hits_stable_too_pauses() -> None:
    shared = judged([BAD] * 20, [*[BAD] * 20, *[GOOD] * 5])
    assert (shared.verdict, shared.blame) == ("fail", "pause")
    assert "a shared incident" in shared.reason
    relative = Check(metric="error_rate", max_increase=0.2)
    worse = judged([BAD] * 60, [*[BAD] * 40, *[GOOD] * 60], ERRORS, relative)
    assert worse.blame == "rollback"  # it is worse than stable all the same


def test_a_metric_that_is_absent_is_an_error_not_a_pass() -> None:
    check = Check(metric="ttft_p95_s", max=1.0)
    assert verdict(check, [{"ttft_s": None}] * 60) == "error"
    assert verdict(Check(metric="contract:format", max=0.5), [GOOD] * 60) == "error"
    result = judged([{"ttft_s": None}] * 60, None, ERRORS, check)
    assert result.verdict == "error"
    assert "60 of 60 requests have no such value" in result.reason


def test_far_fewer_candidate_requests_than_its_share_are_no_pass() -> None:
    missing = judged([GOOD] * 19, [GOOD] * 200)
    assert missing.verdict == "error"
    assert "19 candidate requests came where its share should have brought about 130" in missing.reason
    assert judged([GOOD] * 100, [GOOD] * 100).verdict == "pass"
    waiting = Canary(plan_of(ERRORS)).tick(
        stable=[GOOD] * 200, in_flight=[running(started_at=100 + n) for n in range(200)]
    )
    assert judge(waiting.plan, CANARY, waiting.evidence).verdict == "inconclusive"  # they came, and are slow


def test_a_trip_of_the_gateway_proves_nothing_and_holds_until_the_checks_know() -> None:
    plan = plan_of(ERRORS)
    trip = Tripped(
        route="tutor",
        epoch="e",
        variant="new",
        since=7.0,
        failures=5,
        users=2,
        error="status",
        answered_elsewhere=3,
    )
    result = judge(plan, CANARY, Canary(plan).tick().evidence, trip)
    assert (result.verdict, result.blame) == ("inconclusive", "")
    assert "5 attempts in a row failed (users: 2, the last with status)" in result.reason
    good = Canary(plan).tick([GOOD] * 40, [GOOD] * 40).evidence
    assert (judge(plan, CANARY, good).verdict, judge(plan, CANARY, good, trip).verdict) == ("pass", "inconclusive")
    failed = judge(plan, CANARY, Canary(plan).tick([BAD] * 8, [GOOD] * 40).evidence, trip)
    assert (failed.verdict, failed.blame, failed.first_bad_at) == ("fail", "rollback", 7.0)


def test_a_tripped_candidate_is_judged_by_the_copies_that_ask_it_not_by_the_requests_kept_from_it() -> None:
    passed_over = {"ok": False, "error": "tripped"}
    canary = Canary(plan_of(ERRORS)).tick([passed_over] * 200, [GOOD] * 200)
    result = judge(canary.plan, CANARY, canary.evidence)
    assert (result.verdict, result.facts.candidate_requests, result.facts.candidate_left_out) == (
        "inconclusive",
        0,
        200,
    )
    assert "should have brought" not in result.reason
    canary.tick([BAD | {"role": "mirror"}] * 8, [GOOD] * 10)
    assert judge(canary.plan, CANARY, canary.evidence).blame == "rollback"


# -- blame goes where the fault is ----------------------------------------------------------------------------------


def test_a_failure_that_stable_repeats_at_the_same_request_is_not_held_against_the_candidate() -> None:
    plan, ids = plan_of(ERRORS), [f"same{n}" for n in range(60)]
    empty = {"ok": False, "error": "empty"}
    canary = Canary(plan)
    canary.tick(
        [empty | {"request_id": one} for one in ids],
        [*[GOOD] * 60, *(empty | {"request_id": one, "role": "failover"} for one in ids)],
    )
    result = judge(plan, CANARY, canary.evidence)
    assert result.blame == ""
    assert result.verdict == "inconclusive"  # nor does it speak for the candidate
    other_way = Canary(plan).tick(
        [empty | {"request_id": one} for one in ids],
        [*[GOOD] * 60, *({"ok": False, "error": "status", "request_id": one, "role": "failover"} for one in ids)],
    )
    assert judge(plan, CANARY, other_way.evidence).blame == "rollback"  # it failed in another way


def test_what_a_client_forces_counts_for_no_check_and_against_no_variant() -> None:
    forced = {"forced": True, "verdicts": {"format": True}, "duration_s": 99.0}
    checks = (ERRORS, Check(metric="contract:format", max=0.1), Check(metric="latency_p95_s", max=1.0))
    plan = plan_of(*checks)
    canary = Canary(plan).tick([forced | BAD] * 50 + [forced] * 50, [GOOD | {"verdicts": {"format": False}}] * 100)
    result = judge(plan, CANARY, canary.evidence)
    assert (result.blame, result.facts.candidate_requests, result.facts.candidate_left_out) == ("", 0, 100)
    assert [one.e_worse for one in result.results] == [pytest.approx(1.0)] * 3


def test_users_for_whom_nobody_vouches_are_one_user_whatever_they_call_themselves() -> None:
    made_up, plan = {"vouched": False}, plan_of(ERRORS)
    alone = Canary(plan).tick([made_up | BAD] * 500, [GOOD] * 100)
    result = judge(plan, CANARY, alone.evidence)
    assert (result.blame, of(result, ERRORS).candidate_requests) == ("", 1)
    assert "500 requests came without an API key" in result.reason
    among_others = Canary(plan).tick([*[made_up | BAD] * 500, *[GOOD] * 60], [GOOD] * 100)
    assert of(judge(plan, CANARY, among_others.evidence), ERRORS).verdict == "pass"


# -- together -------------------------------------------------------------------------------------------------------


def test_a_stage_passes_only_when_every_gating_check_passes_on_enough_requests() -> None:
    slow = Check(metric="latency_p95_s", max=0.001, on_fail="warn")
    assert judged([GOOD] * 30, None, ERRORS, slow).verdict == "pass"
    plan, few = plan_of(ERRORS), CANARY.model_copy(update={"min_requests": 31})
    assert judge(plan, few, Canary(plan).tick([GOOD] * 30).evidence).verdict == "inconclusive"
    for on_fail in ("rollback", "pause"):
        gating = slow.model_copy(update={"on_fail": on_fail})
        assert judged([GOOD] * 30, [], ERRORS, gating, past=[]).blame == on_fail


def test_checks_share_one_budget_and_may_fail_together() -> None:
    """Two checks that each have half of what they need alone: their mean is what counts."""
    check = Check(metric="error_rate", max=0.25)
    one = of(judged([BAD] * 3, None, check), check)
    findings = [Finding.model_validate({k: getattr(one, k) for k in Finding.model_fields}) for _ in range(2)]
    assert 20 <= one.e_worse < 40
    facts = judged([GOOD], [], past=[]).facts
    lonely = conclude([findings[0], _silent(findings[1])], facts)
    assert lonely.verdict == "inconclusive"
    both = conclude([findings[0], findings[1].model_copy(update={"check": "the other"})], facts)
    assert both.verdict == "fail"
    assert f"all checks together {both.e_value:.3g}, 20 suffice" in both.reason


def _silent(finding: Finding) -> Finding:
    nothing = finding.worse.model_copy(update={"wealth": (0.0,) * 5, "blocks": 0})
    return finding.model_copy(update={"check": "silent", "worse": nothing})


def test_a_stage_without_a_check_of_its_own_does_not_pass() -> None:
    elsewhere = ERRORS.model_copy(update={"stages": ("full",)})
    plan = plan_of(elsewhere, ERRORS.model_copy(update={"max": 0.3, "stages": ("shadow", "canary")}))
    without = RolloutPlan.model_construct(**{**dict(plan), "checks": (elsewhere,)})
    assert judge(without, CANARY, Canary(plan).tick([GOOD] * 100).evidence).verdict == "inconclusive"


@given(
    requests=st.integers(0, 300),
    share=st.floats(0, 1),
    stable_requests=st.integers(0, 300),
    stable_share=st.floats(0, 1),
    limit=st.floats(0.01, 0.99),
    relative=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_verdict_never_contradicts_the_plain_comparison(
    requests: int, share: float, stable_requests: int, stable_share: float, limit: float, relative: bool
) -> None:
    def some(count: int, share: float) -> list[dict[str, Any]]:
        return [BAD] * int(count * share) + [GOOD] * (count - int(count * share))

    check = Check(metric="error_rate", **({"max_increase": limit} if relative else {"max": limit}))
    result = of(judged(some(requests, share), some(stable_requests, stable_share), check), check)
    if result.verdict in ("pass", "fail"):
        assert result.candidate is not None
        assert result.limit is not None
        assert (result.candidate > result.limit) == (result.verdict == "fail")


def test_the_same_findings_give_the_same_judgement_again() -> None:
    relative = Check(metric="error_rate", max_increase=0.1)
    first = judged([*[BAD] * 7, *[GOOD] * 30], None, ERRORS, relative)
    again = conclude(
        [Finding.model_validate({k: getattr(r, k) for k in Finding.model_fields}) for r in first.results], first.facts
    )
    assert again == first
