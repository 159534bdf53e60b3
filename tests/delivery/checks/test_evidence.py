"""What counts as evidence, for whom, and that nothing counts twice."""

import math
import random
from dataclasses import replace

import pytest
from traffic_of import CANARY, EPOCH, ERRORS, NOTHING, Canary, page, plan_of, record, running

from configs.checks import Check
from configs.rollout import RolloutPlan, Stage
from delivery.checks.evidence import Cursor, Evidence
from delivery.checks.fold import fold
from delivery.traffic.records import Feedback, RecordPage

PLAN = plan_of(ERRORS)


def folded(
    *pages: RecordPage,
    start: Evidence = NOTHING,
    plan: RolloutPlan = PLAN,
    stage: Stage = CANARY,
) -> Evidence:
    return fold(start, plan, stage, "r", {"gw": pages})


# -- reading --------------------------------------------------------------------------------------------------------


def test_a_repeated_page_counts_once() -> None:
    one = page(record(1), record(2, ok=False, error="status"))
    once, twice = folded(one), folded(one, start=folded(one))
    assert (once.candidate.requests, once.candidate.errors, once.user_requests) == (2, 1, 2)
    assert twice == once


def test_pages_that_overlap_add_only_what_is_new() -> None:
    first = folded(page(record(1), record(2), record(3)))
    assert folded(page(record(2), record(3), record(4)), start=first).candidate.requests == 4


def test_only_this_epochs_assigned_requests_are_compared() -> None:
    found = folded(
        page(
            record(1, epoch="r/0-shadow"),
            record(2, epoch="another/1-canary"),
            record(3, role="tester"),
            record(4, "old", role="failover"),
            record(5, "third"),
            record(6),
            record(7, "old"),
        )
    )
    assert (found.candidate.requests, found.stable.requests) == (1, 1)


def test_in_shadow_the_copies_count_beside_what_stable_served() -> None:
    shadow = NOTHING.model_copy(update={"candidate_role": "mirror"})
    found = folded(page(record(1, role="mirror"), record(2), record(3, "old")), start=shadow)
    assert (found.candidate.requests, found.stable.requests) == (1, 1)


def test_a_request_that_stable_answered_in_the_end_failed_no_user_but_the_candidate() -> None:
    saved = (record(1, ok=False, error="status"), record(2, "old", role="failover", request_id="q1"))
    lost = (
        record(3, ok=False, error="connect"),
        record(4, "old", role="failover", request_id="q3", ok=False, user_ok=False, error="connect"),
    )
    found = folded(page(*saved, *lost))
    assert (found.candidate.errors, found.user_requests, found.failed_user_requests) == (2, 2, 1)


def test_users_failures_are_counted_over_the_whole_release() -> None:
    first = folded(page(record(1, "old", ok=False, user_ok=False)))
    later = folded(page(record(2, "old", epoch="r/2-full", user_ok=False)), start=first.restarted("r/2-full", "served"))
    assert later.failed_user_requests == 2
    assert later.stable.requests == 1


def test_a_restarted_gateway_is_read_from_its_beginning() -> None:
    before = folded(page(record(1), record(2), record(3)))
    after = folded(page(record(1), record(2), boot="c"), start=before)
    assert (after.candidate.requests, after.restarts) == (5, 1)
    assert after.cursors["gw"] == Cursor(boot_id="c", seq=2)


def test_records_that_were_lost_are_counted() -> None:
    before = folded(page(record(1)))
    after = folded(page(record(5), dropped=3), start=before)
    assert (after.candidate.requests, after.dropped) == (2, 3)
    assert folded(page(record(5), dropped=3), start=after).dropped == 3


def test_two_gateways_have_records_of_their_own() -> None:
    both = fold(NOTHING, PLAN, CANARY, "r", {"one": [page(record(1))], "two": [page(record(1), boot="d")]})
    assert both.candidate.requests == 2
    assert set(both.cursors) == {"one", "two"}


def test_what_is_in_flight_is_what_the_last_page_says() -> None:
    hanging = (running("new"), running("old"), running("new", epoch="r/0-shadow"))
    first = folded(page(in_flight=hanging))
    assert (first.candidate.in_flight, first.stable.in_flight) == (1, 1)
    assert folded(page(now=300.0), start=first).candidate.in_flight == 0


# -- what outlives an epoch, and what does not -----------------------------------------------------------------------


def test_another_stage_starts_with_no_evidence_but_knows_stables_past() -> None:
    check = Check(metric="error_rate", max_increase=0.1)
    canary = Canary(plan_of(check)).tick(candidate=[{"ok": False}] * 9, stable=[{}] * 30)
    after = canary.evidence.restarted("r/2-full", "served")
    assert (after.candidate.requests, after.measurements, after.cursors) == (0, {}, canary.evidence.cursors)
    again = Canary(plan_of(check), start=after).tick().evidence.measurements[check.name]
    assert (again.worse.known_n, again.worse.blocks, again.tally.candidate_n) == (30, 0, 0)


def test_evidence_survives_the_ledger() -> None:
    checks = (
        Check(metric="error_rate", max_increase=0.1),
        Check(metric="latency_p95_s", max_ratio=1.5),
        Check(metric="latency_typical_s", max_ratio=1.5),
        Check(metric="completion_tokens_typical", max=400),
    )
    canary = Canary(plan_of(*checks))
    for _ in range(3):
        canary.tick(candidate=[{}] * 20, stable=[{"ok": False, "error": "status"}, *[{}] * 30], in_flight=[running()])
    assert Evidence.model_validate_json(canary.evidence.model_dump_json()) == canary.evidence


def test_evidence_stays_small_however_long_a_stage_is() -> None:
    generator = random.Random(1)
    checks = (Check(metric="error_rate", max_increase=0.1), Check(metric="latency_typical_s", max_ratio=1.5))
    canary = Canary(plan_of(*checks))

    def some(count: int) -> list[dict[str, object]]:
        return [
            {
                "ok": generator.random() > 0.3,
                "user": f"user-{generator.random()}",
                "duration_s": generator.lognormvariate(0, 1),
            }
            for _ in range(count)
        ]

    for _ in range(20):
        canary.tick(candidate=some(500), stable=some(500))
    assert len(canary.evidence.model_dump_json()) < 100_000


# -- warm-up --------------------------------------------------------------------------------------------------------


def test_the_declared_first_requests_count_in_neither_arm() -> None:
    stage = CANARY.model_copy(update={"warmup_requests": 2})
    records = (record(1, "old"), record(2), record(3, "old"), record(4, ok=False), record(5, "old"), record(6))
    found = folded(page(*records, record(7, "old")), stage=stage)
    assert (found.candidate.requests, found.candidate.errors, found.stable.requests) == (1, 0, 1)


def test_the_declared_first_seconds_count_in_neither_arm() -> None:
    stage = CANARY.model_copy(update={"warmup_s": 10.0})
    early = (record(1, started_at=100.0), record(2, "old", started_at=105.0), record(3, started_at=109.0))
    late = (record(4, "old", started_at=110.0), record(5, started_at=111.0))
    found = folded(page(*early, *late), stage=stage)
    assert (found.candidate.requests, found.stable.requests) == (1, 1)
    slow = folded(page(record(6, started_at=103.0)), start=found, stage=stage)
    assert slow.candidate.requests == 1  # it started during the warm-up, whenever it ends


# -- who is judged, and when ----------------------------------------------------------------------------------------


def test_of_a_user_the_first_failure_counts() -> None:
    canary = Canary(PLAN)
    for _ in range(4):
        canary.tick(candidate=[{"user": "ann", "ok": False}, {"user": "bob"}])
    tally = canary.evidence.measurements[ERRORS.name].tally
    assert (tally.candidate_hits, tally.candidate_n) == (1, 5)


def test_a_request_is_judged_by_its_duration_when_it_is_as_old_as_the_limit() -> None:
    check = Check(metric="latency_p95_s", max=2.0)
    canary = Canary(plan_of(check))
    canary.tick(candidate=[{"duration_s": 0.1}] * 5, step_s=1.0)
    assert canary.evidence.measurements[check.name].tally.candidate_n == 0
    canary.tick(step_s=1.5, in_flight=[running("new", started_at=100.0)])
    tally = canary.evidence.measurements[check.name].tally
    assert (tally.candidate_n, tally.candidate_hits) == (6, 1)


def test_a_quick_failure_is_no_quick_answer_and_a_timeout_is_a_slow_one() -> None:
    check = Check(metric="latency_p95_s", max=2.0)
    canary = Canary(plan_of(check)).tick(
        candidate=[
            {"ok": False, "error": "connect", "duration_s": 0.001},
            {"ok": False, "error": "first_byte_timeout", "duration_s": 60.0},
            {"error": "client_closed", "duration_s": 0.01},
        ]
    )
    tally = canary.evidence.measurements[check.name].tally
    assert (tally.candidate_n, tally.candidate_hits) == (1, 1)


def test_while_a_gateway_is_silent_nobody_is_taken_for_slow() -> None:
    check = Check(metric="latency_p95_s", max=2.0)
    plan, late = plan_of(check), [running(started_at=250.0)]
    both = fold(NOTHING, plan, CANARY, "r", {"one": [page()], "two": [page()]})
    one = fold(both, plan, CANARY, "r", {"one": [page(in_flight=late, now=300.0)]})
    assert one.measurements[check.name].tally.candidate_n == 0
    two = fold(one, plan, CANARY, "r", {"one": [page(in_flight=late, now=300.0)], "two": [page(now=300.0)]})
    assert two.measurements[check.name].tally.candidate_n == 1


def test_a_long_answers_tokens_are_not_waited_for() -> None:
    """Who is in flight for longer than twice stable's p95 counts as long; otherwise short answers come first."""
    check = Check(metric="completion_tokens_typical", max=100)
    canary = Canary(plan_of(check)).tick(stable=[{}] * 30).tick()
    canary.tick(candidate=[{}] * 3, in_flight=[running("new", started_at=300.5)])
    tally = canary.evidence.measurements[check.name].tally
    assert (tally.candidate_n, tally.candidate_hits) == (4, 1)


def test_answers_to_the_same_request_meet_by_its_id_in_whatever_order_they_end() -> None:
    check = Check(metric="contract:format", max_increase=0.1)
    shadow = NOTHING.model_copy(update={"candidate_role": "mirror"})
    copy = {"role": "mirror", "verdicts": {"format": True}}
    first = page(record(1, "old", request_id="a", verdicts={"format": False}), record(2, request_id="b", **copy))
    second = page(
        record(3, request_id="a", **copy),
        record(4, "old", request_id="b", verdicts={"format": True}),
        record(5, "old", request_id="alone", verdicts={"format": True}),
        record(6, request_id="unjudged", role="mirror"),
    )
    plan = plan_of(check)
    found = folded(second, start=folded(first, start=shadow, plan=plan), plan=plan).measurements[check.name]
    assert (found.tally.candidate_n, found.tally.candidate_hits, found.tally.stable_hits) == (2, 2, 1)
    assert list(found.waiting) == ["alone"]


def test_an_escalation_counts_when_it_comes_and_once_for_its_user() -> None:
    check = Check(metric="escalation", max=0.1)
    said = Feedback(
        seq=1,
        request_id="q",
        route="tutor",
        epoch=EPOCH,
        variant="new",
        role="served",
        user="ann",
        started_at=150.0,
        at=160.0,
        escalated=True,
    )
    canary = Canary(plan_of(check)).tick(candidate=[{"user": "ann"}, {"user": "bob"}])
    canary.tick(feedback=[said, said])
    canary.tick(feedback=[said])
    tally = canary.evidence.measurements[check.name].tally
    assert (tally.candidate_n, tally.candidate_hits) == (3, 1)


@pytest.mark.parametrize("bad", [{"duration_s": -1.0}, {"duration_s": math.nan}])
def test_a_value_that_is_no_number_is_counted_as_unusable_not_as_evidence(bad: dict[str, float]) -> None:
    """NaN is refused when a page is read; a foreign log may hold it nevertheless."""
    check = Check(metric="latency_p95_s", max=2.0)
    records = (replace(record(1), **bad), record(2))
    found = folded(page().model_copy(update={"records": records}), plan=plan_of(check)).measurements[check.name]
    assert (found.unusable, found.tally.candidate_n) == (1, 1)


def test_a_clock_that_is_set_back_only_costs_what_was_young() -> None:
    check = Check(metric="latency_p95_s", max=2.0)
    canary = Canary(plan_of(check)).tick(candidate=[{}] * 5)
    canary.now -= 10_000
    canary.tick(candidate=[{}] * 5)
    canary.tick(candidate=[{}] * 5)
    assert canary.evidence.measurements[check.name].tally.candidate_n == 10
