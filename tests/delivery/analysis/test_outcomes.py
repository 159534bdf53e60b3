"""Who counts in a block, when, and how often."""

from hypothesis import given
from hypothesis import strategies as st

from delivery.analysis.outcomes import (
    YOUNG_KEPT,
    Cohorts,
    RiskSet,
    Timed,
    Trial,
    block_of,
    exceedances,
    first_of_users,
    settle,
)
from delivery.analysis.two_sample import counts


def trial(arm, user, hit, at=10.0):
    return Trial(arm, user, at, hit)


def test_a_user_who_failed_leaves_the_risk_set_of_both_arms():
    block, risk = block_of([trial("candidate", "ann", True), trial("stable", "bob", False)], RiskSet())
    assert block == counts(1, 0, 1, 1)
    again = [trial("candidate", "ann", True), trial("stable", "ann", True), trial("stable", "bob", True)]
    block, risk = block_of(again, risk)
    assert block == counts(1, 1, 0, 0)
    assert "ann" in risk.opened()
    assert "bob" in risk.opened()
    assert "eve" not in risk.opened()


def test_a_user_counts_once_per_block_whatever_the_number_of_requests():
    many = [trial("candidate", "ann", hit) for hit in (False, True, True, False)]
    assert block_of(many, RiskSet())[0] == counts(0, 0, 1, 1)


def test_requests_without_a_user_count_one_by_one():
    block, risk = block_of([trial("stable", "", hit) for hit in (True, False, True)], RiskSet())
    assert block == counts(3, 2, 0, 0)
    assert risk == RiskSet()


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=30), st.integers(1, 5))
def test_no_user_is_ever_hit_twice(requests, size):
    risk, hits = RiskSet(), 0
    for start in range(0, len(requests), size):
        trials = [trial("candidate", user, hit) for user, hit in requests[start : start + size]]
        block, risk = block_of(trials, risk)
        hits += block.candidate[1]
    assert hits == len({user for user, hit in requests if hit})


def timed(arm, at, lasted):
    return Timed(arm=arm, user="", started_at=at, value=lasted)


def test_a_request_is_judged_when_it_is_old_enough_ended_or_not():
    quick, hung = timed("stable", 100.0, 0.1), timed("candidate", 100.5, 2.5)
    due, cohorts = settle(Cohorts(settled_until=100.0), [quick], [], horizon_s=2.0, now=101.0)
    assert due == []
    due, cohorts = settle(cohorts, [], [hung], horizon_s=2.0, now=103.0)
    assert due == [quick, hung]
    assert [t.hit for t in exceedances(due, 1.0, 2.0)] == [False, True]
    late = hung._replace(value=9.0)
    due, cohorts = settle(cohorts, [late], [], horizon_s=2.0, now=110.0)
    assert due == []  # counted when it was in flight


def test_a_horizon_that_moves_judges_no_request_twice_and_forgets_none():
    requests = [timed("stable", float(t), 1.0) for t in range(20)]
    cohorts, judged = Cohorts(settled_until=0.0), []
    for now in range(1, 40):
        ended = [item for item in requests if now - 1 < item.started_at + item.value <= now]
        due, cohorts = settle(cohorts, ended, [], horizon_s=3.0 + now % 4, now=float(now))
        judged += due
    assert judged == requests


def test_of_values_each_user_gives_one():
    items = [Timed(arm="stable", user=user, started_at=at, value=at) for user, at in (("b", 2), ("a", 1), ("a", 3))]
    first, seen = first_of_users(items, RiskSet())
    assert [item.value for item in first] == [1, 2]
    assert first_of_users(items, seen)[0] == []


def test_a_risk_set_stays_small_however_many_leave_it():
    many = [trial("candidate", f"user-{number}", True) for number in range(200_000)]
    risk = block_of(many, RiskSet())[1]
    assert len(risk.bitmap) < 24_000
    assert block_of(many[:100], risk)[0] == counts(0, 0, 0, 0)


def test_too_many_young_requests_are_thinned_alike_in_both_arms_whatever_became_of_them():
    ended = [timed("stable", 100 + number / 1000, 0.1) for number in range(3 * YOUNG_KEPT)]
    cohorts = settle(Cohorts(settled_until=0.0), ended, [], horizon_s=60.0, now=112.0)[1]
    assert len(cohorts.young) <= YOUNG_KEPT
    running = [timed("candidate", 100 + number / 1000, 61.0) for number in range(3 * YOUNG_KEPT)]
    due, _ = settle(cohorts, [], running, horizon_s=60.0, now=180.0)
    judged = {arm: {item.started_at for item in due if item.arm == arm} for arm in ("stable", "candidate")}
    assert judged["stable"] == judged["candidate"]
    assert len(judged["stable"]) == len(cohorts.young)
