"""A plan over recorded traffic: it decides what the controller would have decided, and nothing looks ahead."""

from typing import Any

import pytest

from configs.rollout import RolloutPlan
from delivery.release.replay import Replay, replay
from delivery.traffic.playback import Traffic
from delivery.traffic.records import Record, names
from flows.cli.replay import render

PLAN = RolloutPlan.model_validate(
    {
        "tick_s": 1,
        "max_hold_s": 60,
        "trip": {"failures": 1_000_000},
        "stages": [
            {"kind": "shadow", "mirror_bp": 1000, "min_requests": 20},
            {"kind": "canary", "share_bp": 1000, "min_requests": 20, "approval": True},
            {"kind": "full", "share_bp": 9000, "min_requests": 20},
        ],
        "checks": [{"metric": "error_rate", "max": 0.3}],
    }
)


def log_of(rows: list[dict[str, Any]]) -> Traffic:
    """Rows with the usual values where they name none, as the reader would sort them."""
    usual = {
        "is_feedback": False,
        "variant": "old",
        "role": "served",
        "user": "",
        "status": 200,
        "ok": True,
        "error": "",
        "ttft_s": 0.1,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "user_ok": True,
        "rating": None,
        "escalated": False,
        "verdicts": {},
    }
    full = [{"request_id": f"r{n}", "ended_at": row["started_at"] + 0.5, **usual, **row} for n, row in enumerate(rows)]
    full.sort(key=lambda row: (row["ended_at"], row["started_at"]))
    by_start = sorted(range(len(full)), key=lambda index: full[index]["started_at"])
    mine = {name for name in names(Record) if name in full[0]} if full else set()
    place = {"seq": 0, "route": "tutor", "epoch": ""}
    lengths = [row["ended_at"] - row["started_at"] for row in full]
    return Traffic(
        records=[
            Record(duration_s=length, **place, **{name: row[name] for name in mine})
            for length, row in zip(lengths, full, strict=True)
        ],
        by_start=by_start,
        **{name: [row[name] for row in full] for name in ("ended_at", "is_feedback", "rating", "escalated")},
    )


def steady(seconds: float, bad_from: float = 1e9, per_s: int = 10, **more: Any) -> list[dict[str, Any]]:
    """Requests of stable with their copies to the candidate, which fail from a moment on."""
    rows: list[dict[str, Any]] = []
    for number in range(int(seconds * per_s)):
        at = 1000.0 + number / per_s
        is_bad = at >= 1000.0 + bad_from
        failure = {"ok": False, "status": 500, "error": "status"} if is_bad else {}
        pair = {"started_at": at, "request_id": f"r{number}"}
        rows += [pair | {"variant": "old"}, pair | {"variant": "new", "role": "mirror"} | failure | more]
    return rows


def replayed(rows: list[dict[str, Any]], plan: RolloutPlan = PLAN) -> Replay:
    return replay(plan, log_of(rows), candidate="new", stable="old")


def test_a_good_candidate_goes_through_all_stages_and_the_rest_of_the_log_is_left() -> None:
    found = replayed(steady(60))
    assert found.outcome == "live"
    assert [stage.stage for stage in found.stages] == ["0-shadow", "1-canary", "2-full"]
    assert all(stage.verdict == "pass" and stage.requests >= 20 for stage in found.stages)
    assert found.rows_used < found.rows == 1200
    assert found.after_s < 60


def test_a_candidate_that_turns_bad_is_rolled_back_and_the_evidence_is_there() -> None:
    found = replayed(steady(120, bad_from=3))
    assert found.outcome == "rolled_back"
    assert "error rate" in found.reason
    assert found.first_bad_at == pytest.approx(1003.0)
    assert 3 < found.after_s < 30
    last = found.moments[-1]
    assert (last.verdict, last.results[0].verdict) == ("fail", "fail")
    assert last.candidate_requests == found.stages[-1].requests


def test_a_candidate_that_fails_outright_is_rolled_back_by_the_checks_in_seconds() -> None:
    plan = RolloutPlan.model_validate(PLAN.model_dump() | {"trip": {"failures": 5, "users": 2}})
    found = replayed(steady(60, bad_from=1), plan)
    assert found.outcome == "rolled_back"
    assert found.after_s <= 3
    assert replayed(steady(60, bad_from=1, user="ada"), plan).after_s > found.after_s  # one user's bad luck


@pytest.mark.parametrize(
    ("metric", "bad"),
    [
        ("feedback_negative", {"rating": -1}),
        ("escalation", {"escalated": True}),
        ("contract:format", {"verdicts": {"format": True}}),
    ],
)
def test_what_users_say_and_what_the_contract_says_are_judged_as_well(metric: str, bad: dict[str, Any]) -> None:
    check = {"metric": metric, "max_increase": 0.3, "stages": ["canary", "full"]}
    plan = RolloutPlan.model_validate(PLAN.model_dump() | {"checks": [{"metric": "error_rate", "max": 0.3}, check]})
    good = [row | {"rating": 1, "verdicts": {"format": False}} for row in steady(60)]
    assert replayed(good, plan).outcome == "live"
    found = replayed([row | bad if row["variant"] == "new" else row for row in good], plan)
    assert found.outcome == "rolled_back"
    assert metric.replace("_", " ") in found.reason


def test_feedback_that_comes_later_counts_for_the_stage_in_which_its_answer_began() -> None:
    check = {"metric": "escalation", "max_increase": 0.3, "stages": ["canary", "full"]}
    plan = RolloutPlan.model_validate(PLAN.model_dump() | {"checks": [{"metric": "error_rate", "max": 0.3}, check]})
    late = {"variant": "new", "is_feedback": True, "escalated": True, "ended_at": 1005.0}
    told = [late | {"started_at": 1000.0, "request_id": f"r{n}"} for n in range(200)]
    assert replayed([*steady(60), *told], plan).outcome == "live"  # all of it about answers given in shadow


def test_what_is_in_the_log_later_changes_nothing_that_was_decided_before() -> None:
    short, long = replayed(steady(120, bad_from=3)), replayed(steady(400, bad_from=3))
    assert short.moments == long.moments


def test_a_log_that_ends_too_early_leaves_the_release_unfinished() -> None:
    found = replayed(steady(1))
    assert (found.outcome, found.stages, found.rows_used) == ("unfinished", (), 20)


def test_an_empty_log_decides_nothing() -> None:
    assert replayed([]).outcome == "unfinished"


def test_a_request_counts_in_the_stage_in_which_it_started() -> None:
    """A slow failure that began in shadow and ended in canary is no evidence against the canary."""
    slow = [{"started_at": 1000.2, "ended_at": 1020.0, "variant": "new", "ok": False, "error": "midstream"}] * 40
    assert replayed([*steady(60), *slow]).outcome == "live"
    quick = [{"started_at": 1004.9, "ended_at": 1005.2, "variant": "new", "ok": False, "error": "midstream"}] * 400
    assert replayed([*steady(60), *quick]).outcome == "rolled_back"


def test_failovers_of_stable_are_no_evidence_for_stable() -> None:
    rows = [row | {"role": "failover"} if row["variant"] == "old" else row for row in steady(60)]
    assert replayed(rows).stages[0].stable_requests == 0


def test_a_hung_candidate_counts_while_its_requests_are_under_way() -> None:
    plan = RolloutPlan.model_validate(PLAN.model_dump() | {"checks": [LATENCY]})
    rows = [row | ({"ended_at": row["started_at"] + 300} if row["variant"] == "new" else {}) for row in steady(60)]
    found = replayed(rows, plan)
    assert found.outcome == "rolled_back"
    assert found.after_s < 60


LATENCY = {"metric": "latency_p95_s", "max": 3.0}


def test_silence_is_held_and_then_rolled_back_as_it_is_live() -> None:
    found = replayed([*steady(0.5), {"started_at": 2000.0}])
    assert found.outcome == "rolled_back"
    assert "held for more than 60 s" in found.reason


def test_a_log_without_mirrored_requests_leaves_shadow_out() -> None:
    found = replayed(steady(60, role="served"))
    assert (found.outcome, found.left_out) == ("live", ("shadow",))
    assert [stage.stage for stage in found.stages] == ["0-canary", "1-full"]


def test_a_log_holds_no_judgements_and_the_replay_says_that_it_goes_on_without() -> None:
    checks: list[dict[str, Any]] = [
        {"metric": "error_rate", "max": 0.3},
        {"metric": "judge", "max": 0.6, "stages": ["shadow"]},
    ]
    judge = {"base_url": "http://127.0.0.1:9000/v1", "model": "wise"}
    found = replayed(steady(60), RolloutPlan.model_validate(PLAN.model_dump() | {"checks": checks, "judge": judge}))
    assert (found.outcome, found.left_out, found.left_out_checks) == ("live", (), ("judge <= 0.6",))
    assert "left out: judge <= 0.6, since a log holds no judgements" in render(found)
    checks[0]["stages"] = ["canary", "full"]
    checks[1]["on_fail"] = "rollback"
    found = replayed(steady(60), RolloutPlan.model_validate(PLAN.model_dump() | {"checks": checks, "judge": judge}))
    assert (found.outcome, found.left_out) == ("live", ("shadow",))


def test_what_the_candidate_served_does_not_count_in_shadow() -> None:
    served = [row | {"role": "served"} for row in steady(60, bad_from=0) if row["variant"] == "new"]
    found = replayed([*steady(60), *served])
    assert found.stages[0].verdict == "pass"
    assert found.outcome == "rolled_back"


def test_a_candidate_with_a_smaller_share_than_planned_is_judged_all_the_same() -> None:
    rows = [row for n, row in enumerate(steady(300, role="served")) if row["variant"] == "old" or n % 20 == 1]
    assert replayed(rows).outcome == "live"


def test_the_first_content_of_a_request_under_way_is_known_when_it_comes_and_not_before() -> None:
    limit = {"metric": "ttft_p95_s", "max": 3.0}
    plan = RolloutPlan.model_validate(PLAN.model_dump() | {"checks": [limit]})
    slow = [row | {"ended_at": row["started_at"] + 20, "ttft_s": 0.5} for row in steady(60)]
    assert replayed(slow, plan).outcome != "rolled_back"
    silent = [row | ({"ttft_s": 15.0} if row["variant"] == "new" else {}) for row in slow]
    found = replayed(silent, plan)
    assert (found.outcome, found.after_s < 15) == ("rolled_back", True)


def test_the_order_of_the_log_does_not_matter() -> None:
    rows = steady(60, bad_from=5)
    numbered = [row | {"request_id": f"r{n}"} for n, row in enumerate(rows)]
    assert replayed(numbered).model_dump() == replayed(numbered[::-1]).model_dump()
