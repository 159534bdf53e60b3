"""A release plan that could never work is refused while it is read."""

from typing import Any

import pytest
from pydantic import ValidationError

from configs.rollout import RolloutPlan

CANARY = {"kind": "canary", "share_bp": 500}
FULL = {"kind": "full", "share_bp": 9500}
ERRORS = {"metric": "error_rate", "max": 0.05}


def plan(*stages: dict[str, Any], checks: tuple[dict[str, Any], ...] = (ERRORS,)) -> RolloutPlan:
    return RolloutPlan.model_validate({"stages": stages, "checks": checks})


def refused(*stages: dict[str, Any], checks: tuple[dict[str, Any], ...] = (ERRORS,)) -> str:
    with pytest.raises(ValidationError) as error:
        plan(*stages, checks=checks)
    return str(error.value)


def test_a_plan_needs_a_canary_and_one_full_stage_in_order() -> None:
    assert plan(CANARY, FULL).stages[1].share_bp == 9500
    assert "at least one canary" in refused(FULL)
    assert "in the order" in refused(FULL, CANARY)
    assert "must grow" in refused({"kind": "canary", "share_bp": 9600}, FULL)


def test_a_relative_check_needs_users_left_on_stable() -> None:
    relative = {"metric": "latency_p95_s", "max_ratio": 1.5}
    everybody = {"kind": "full", "share_bp": 10_000}
    assert "lower the share_bp of full" in refused(CANARY, everybody, checks=(ERRORS, relative))
    assert plan(CANARY, FULL, checks=(ERRORS, relative))
    assert plan(CANARY, everybody, checks=(ERRORS, relative | {"stages": ["canary"]}))
    assert plan(CANARY, everybody, checks=(ERRORS, relative | {"on_fail": "warn"}))


def test_a_limit_that_no_evidence_can_meet_is_refused() -> None:
    assert "no number of requests" in refused(CANARY, FULL, checks=({"metric": "error_rate", "max": 0},))


def test_every_stage_has_a_check_that_can_take_the_release_back() -> None:
    assert "covers full" in refused(CANARY, FULL, checks=(ERRORS | {"stages": ["canary"]},))
    assert "covers canary" in refused(CANARY, FULL, checks=(ERRORS | {"on_fail": "pause"},))


def test_a_check_has_one_kind_of_limit() -> None:
    assert "keep one kind of limit" in refused(CANARY, FULL, checks=(ERRORS | {"max_ratio": 2},))
    assert "keep one kind of limit" in refused(CANARY, FULL, checks=({"metric": "error_rate"},))
