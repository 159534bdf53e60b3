"""What a plan can detect is said before anyone meets the candidate, and agrees with what then happens."""

from typing import Any

import numpy as np
import pytest
import yaml
from places import ROOT
from traffic_of import plan_of

from configs.checks import Check
from configs.errors import SlipwayError
from configs.judge import Judge
from configs.rollout import RolloutPlan, Stage
from delivery.checks.forecast import CheckOutlook, look_ahead, reach, refuse_blind, refuse_empty
from delivery.checks.forecast_traffic import Assumed, effects, outcomes
from delivery.traffic.assignment import bucket

TUTOR = ROOT / "configs" / "tutor" / "rollout.yaml"
CANARY = Stage(kind="canary", share_bp=1000, min_requests=20, max_duration_s=600)
EVERY = (
    Check(metric="error_rate", max=0.1),
    Check(metric="error_rate", max_increase=0.05),
    Check(metric="latency_p95_s", max=9.0),
    Check(metric="latency_p95_s", max_ratio=1.5),
    Check(metric="latency_typical_s", max_ratio=1.5),
    Check(metric="completion_tokens_typical", max=100),
)


def outlook(*checks: Check, requests_per_s: float, stage: Stage = CANARY):
    plan = plan_of(*checks, stages=(stage,))
    return look_ahead(plan, requests_per_s, runs=60).stages[0]


def test_more_traffic_detects_smaller_effects_and_passes_sooner() -> None:
    few, many = (outlook(Check(metric="error_rate", max=0.1), requests_per_s=rate) for rate in (2, 50))
    assert few.checks[0].smallest_effect is not None
    assert many.checks[0].smallest_effect is not None
    assert many.checks[0].smallest_effect < few.checks[0].smallest_effect
    assert many.seconds_to_pass is not None
    assert few.seconds_to_pass is not None
    assert many.seconds_to_pass < few.seconds_to_pass


def test_an_equal_candidate_is_rarely_rolled_back_by_any_kind_of_check() -> None:
    found = outlook(*EVERY, requests_per_s=20)
    assert found.false_rollback <= 0.05
    assert found.pass_probability > 0.9
    assert all(check.smallest_effect is not None for check in found.checks)


@pytest.mark.parametrize("check", EVERY)
@pytest.mark.parametrize("paired", [False, True])
def test_outcomes_are_probabilities_and_worse_effects_are_worse(check: Check, paired: bool) -> None:
    effect = effects(check, Assumed())
    assert (np.diff(effect) > 0).all()
    paired = paired and check.is_relative and check.kind != "p95"
    stable, candidate = outcomes(check, Assumed(), effect, paired=paired)
    assert np.allclose(candidate.sum(axis=1), 1)
    assert paired or np.isclose(stable.sum(), 1)


def test_a_stage_without_traffic_is_blind_and_its_plan_refused() -> None:
    plan = plan_of(EVERY[0], requests_per_s=0.0001)
    assert look_ahead(plan, runs=20).blind_stages == ("0-shadow", "1-canary", "2-full")
    with pytest.raises(SlipwayError, match="can detect nothing in 0-shadow, 1-canary"):
        refuse_blind(plan)
    refuse_blind(plan.model_copy(update={"accept_blind": True}))


def test_a_warm_up_costs_time() -> None:
    check = EVERY[0]
    cold = outlook(check, requests_per_s=10, stage=CANARY.model_copy(update={"warmup_s": 120}))
    warm = outlook(check, requests_per_s=10)
    assert cold.seconds_to_pass is not None
    assert warm.seconds_to_pass is not None
    assert cold.seconds_to_pass > warm.seconds_to_pass + 100


def test_the_shipped_plan_sees_and_passes_within_a_minute_a_stage() -> None:
    plan = RolloutPlan.model_validate(yaml.safe_load(TUTOR.read_text(encoding="utf-8")))
    found = look_ahead(plan, runs=40)
    assert found.blind_stages == ()
    for stage in found.stages:
        assert stage.pass_probability > 0.95
        assert stage.seconds_to_pass is not None
        assert stage.seconds_to_pass < 60


def test_a_candidate_that_loses_more_pairs_is_worse() -> None:
    check = Check(metric="judge", max=0.6, stages=("shadow",))
    effect = effects(check, Assumed())
    _, levels = outcomes(check, Assumed(), effect, paired=True)
    assert (levels >= 0).all()
    assert np.allclose(levels.sum(axis=1), 1)
    assert np.allclose(levels @ [0.0, 0.5, 1.0], effect)
    assert effect[0] == 0.5


def judged(stage: Stage, requests_per_s: float = 2.5, limit: float = 0.75, **settings: Any) -> CheckOutlook:
    plan = plan_of(
        Check(metric="judge", max=limit, stages=("shadow",)),
        Check(metric="error_rate", max=0.2),
        stages=(stage, CANARY),
        judge=Judge.model_validate({"base_url": "http://judge/v1", "model": "wise"} | settings),
    )
    return look_ahead(plan, requests_per_s, runs=60).stages[0].checks[0]


SHADOW = Stage(kind="shadow", mirror_bp=10_000, max_duration_s=600)


def test_a_judge_sees_smaller_differences_with_more_pairs_and_none_without() -> None:
    few, many = judged(SHADOW, pairs_per_release=60), judged(SHADOW)
    assert few.smallest_effect is not None
    assert many.smallest_effect is not None
    assert 0.75 < many.smallest_effect < few.smallest_effect <= 1
    assert judged(SHADOW, pairs_per_release=4).smallest_effect is None
    assert judged(SHADOW, share_bp=1).smallest_effect is None


def test_the_passes_of_a_judge_take_longer_where_fewer_pairs_are_asked_about() -> None:
    plenty, slow = judged(SHADOW, 20.0), judged(SHADOW, 20.0, pairs_per_tick=1)
    assert plenty.requests_to_pass is not None
    assert slow.requests_to_pass is not None
    assert slow.requests_to_pass > 3 * plenty.requests_to_pass


def test_the_shipped_plan_with_a_judge_says_what_its_comment_says() -> None:
    file = TUTOR.parent.parent / "tutor-judged" / "rollout.yaml"
    plan = RolloutPlan.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    found = look_ahead(plan, runs=60).stages[0]
    (judge,) = [check for check in found.checks if check.check.startswith("judge")]
    assert judge.requests_to_pass is not None
    assert 40 <= judge.requests_to_pass <= 60
    assert judge.smallest_effect is not None
    assert 0.8 < judge.smallest_effect < 0.9
    assert found.pass_probability > 0.95


# -- users ----------------------------------------------------------------------------------------------------------


def shares(users: int | None, *shares_bp: int) -> RolloutPlan:
    stages = [Stage(kind="canary", share_bp=share) for share in shares_bp]
    stages.append(Stage(kind="full", share_bp=9000))
    return RolloutPlan(stages=tuple(stages), checks=(Check(metric="error_rate", max=0.2),), users=users)


def test_a_share_may_reach_nobody_as_often_as_the_gateway_draws_nobody() -> None:
    needed, nobody = reach(plan := shares(10, 1000), plan.stages[0])
    assert needed == 29
    assert nobody is not None
    drawn = sum(all(bucket(f"release-{r}", f"u{i}") >= 1000 for i in range(10)) for r in range(2000)) / 2000
    assert nobody == pytest.approx(drawn, abs=0.04)


def test_a_plan_whose_canary_may_well_reach_nobody_is_refused_with_the_users_that_it_needs() -> None:
    with pytest.raises(SlipwayError, match=r"0-canary \(10 % of 10 users: nobody in 35% of releases, 29 users"):
        refuse_empty(shares(10, 1000))
    refuse_empty(shares(29, 1000))
    refuse_empty(shares(10, 2600))
    refuse_empty(shares(None, 100))  # nobody said how many there are
    refuse_empty(shares(10, 1000).model_copy(update={"accept_blind": True}))


def test_the_outlook_tells_of_users_where_they_are_assigned() -> None:
    found = look_ahead(shares(10, 1000), 10.0, runs=5)
    assert found.empty_stages == ("0-canary",)
    assert [stage.users_needed for stage in found.stages] == [29, 2]
