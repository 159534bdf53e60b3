"""A release plan that could never work is refused while it is read, with everything that is wrong with it."""

from typing import Any

import pytest
from pydantic import ValidationError

from configs.rollout import RolloutPlan

CANARY = {"kind": "canary", "share_bp": 500}
FULL = {"kind": "full", "share_bp": 9500}
ERRORS = {"metric": "error_rate", "max": 0.05}


def plan(*stages: dict[str, Any], checks: tuple[dict[str, Any], ...] = (ERRORS,), **more: Any) -> RolloutPlan:
    return RolloutPlan.model_validate({"stages": stages, "checks": checks, **more})


def refused(*stages: dict[str, Any], checks: tuple[dict[str, Any], ...] = (ERRORS,), **more: Any) -> str:
    with pytest.raises(ValidationError) as error:
        plan(*stages, checks=checks, **more)
    return str(error.value)


def wrong_check(**check: Any) -> str:
    return refused(CANARY, FULL, checks=(ERRORS, check))


def test_a_plan_needs_a_canary_and_one_full_stage_in_order() -> None:
    assert plan(CANARY, FULL).stages[1].share_bp == 9500
    assert "at least one canary" in refused(FULL)
    assert "in the order" in refused(FULL, CANARY)
    assert "must grow" in refused({"kind": "canary", "share_bp": 9600}, FULL)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    said = refused(FULL, {"kind": "shadow"}, checks=(ERRORS, ERRORS, {"metric": "cost_typical", "max": 3}))
    for part in ("in the order", "at least one canary", "mirror_bp above 0", "is there twice", "needs prices"):
        assert part in said


def test_a_relative_check_needs_users_left_on_stable() -> None:
    relative = {"metric": "latency_p95_s", "max_ratio": 1.5}
    everybody = {"kind": "full", "share_bp": 10_000}
    assert "lower the share_bp of full" in refused(CANARY, everybody, checks=(ERRORS, relative))
    assert plan(CANARY, FULL, checks=(ERRORS, relative))
    assert plan(CANARY, everybody, checks=(ERRORS, relative | {"stages": ["canary"]}))
    assert plan(CANARY, everybody, checks=(ERRORS, relative | {"on_fail": "warn"}))


def test_a_limit_that_no_evidence_can_meet_is_refused_with_its_cure() -> None:
    assert "greater than 0" in wrong_check(metric="error_rate", max=0)
    assert "no rate exceeds 1" in wrong_check(metric="escalation", max=1.0)
    assert "add a margin (max_ratio: 1.2" in wrong_check(metric="latency_p95_s", max_ratio=1.0)
    assert "add a max_increase, e.g. 0.02" in wrong_check(metric="contract:refusal", max_ratio=1.5)
    assert "on_fail: warn" in wrong_check(metric="error_rate", max_increase=0)


def test_a_limit_at_stables_own_value_may_warn() -> None:
    assert plan(CANARY, FULL, checks=(ERRORS, {"metric": "latency_p95_s", "max_ratio": 1.0, "on_fail": "warn"}))


def test_every_stage_has_a_check_that_can_take_the_release_back() -> None:
    assert "covers full" in refused(CANARY, FULL, checks=(ERRORS | {"stages": ["canary"]},))
    assert "covers canary" in refused(CANARY, FULL, checks=(ERRORS | {"on_fail": "pause"},))


def test_a_check_has_one_kind_of_limit_and_a_metric_that_exists() -> None:
    assert "keep one kind of limit" in wrong_check(metric="error_rate", max=0.1, max_ratio=2)
    assert "keep one kind of limit" in wrong_check(metric="error_rate")
    assert "take one of error_rate, feedback_negative" in wrong_check(metric="contract:", max=0.1)
    assert "covers no stage of this plan" in wrong_check(metric="escalation", max=0.1, stages=["shadow"])


def test_costs_are_compared_by_the_plans_prices() -> None:
    cost = {"metric": "cost_typical", "max_ratio": 1.2}
    prices = {"prompt_per_million": 0.1, "completion_per_million": 0.4}
    assert plan(CANARY, FULL, checks=(ERRORS, cost), prices=prices).checks[1].reads.name == "cost"


def test_a_warm_up_ends_before_its_stage_does() -> None:
    assert "warmup_s leaves nothing" in refused(CANARY | {"warmup_s": 60, "max_duration_s": 60}, FULL)


JUDGED = {"metric": "judge", "max": 0.6, "stages": ["shadow"]}
SHADOW = {"kind": "shadow", "mirror_bp": 1000}
JUDGE = {"base_url": "http://127.0.0.1:9000/v1/", "model": "wise"}


def test_preferences_are_judged_in_shadow_against_a_share_above_one_half() -> None:
    found = plan(SHADOW, CANARY, FULL, checks=(ERRORS, JUDGED), judge=JUDGE)
    assert (found.checks[1].kind, found.checks[1].is_relative) == ("preference", True)
    assert found.judge is not None
    assert found.judge.base_url == "http://127.0.0.1:9000/v1"
    assert "stages: [shadow]" in wrong_check(metric="judge", max=0.6)
    assert "give a max below 1" in wrong_check(metric="judge", max_increase=0.1, stages=["shadow"])
    assert "give a max below 1" in wrong_check(metric="judge", max=1.0, stages=["shadow"])
    assert "add a margin, e.g. 0.6" in wrong_check(**JUDGED | {"max": 0.5})
    assert "add a margin, e.g. 0.6" in wrong_check(**JUDGED | {"max": 0.4, "on_fail": "warn"})
    even = JUDGED | {"max": 0.5, "on_fail": "warn"}
    assert plan(SHADOW, CANARY, FULL, checks=(ERRORS, even), judge=JUDGE)


def test_a_judge_and_its_check_need_each_other() -> None:
    assert "give its base_url and model" in refused(SHADOW, CANARY, FULL, checks=(ERRORS, JUDGED))
    assert "paid for nothing" in refused(SHADOW, CANARY, FULL, judge=JUDGE)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"base_url": "localhost:9000"}, "e.g. http://127.0.0.1:9000/v1"),
        ({"base_url": "https://me:secret@judge.example/v1"}, "name its environment variable in api_key_env"),
        ({"api_key": "sk-1"}, "Extra inputs are not permitted"),
        ({"api_key_env": "sk-1"}, "should match pattern"),
        ({"parameters": {"model": "other", "stream": True}}, "model, stream cannot be set here"),
    ],
)
def test_a_judge_that_cannot_work_or_holds_a_secret_is_refused(setting: dict[str, Any], message: str) -> None:
    assert message in refused(SHADOW, CANARY, FULL, checks=(ERRORS, JUDGED), judge=JUDGE | setting)
