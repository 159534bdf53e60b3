"""Who counts in a block, when, and how often."""

from hypothesis import given
from hypothesis import strategies as st

from delivery.analysis.outcomes import Cohorts, RiskSet, Timed, Trial, block_of, exceedances, first_of_users, settle
from delivery.analysis.two_sample import counts


def trial(arm, user, hit, at=10.0):
    return Trial(arm, user, at, hit)


def test_a_user_who_failed_leaves_the_risk_set_of_both_arms():
    block, risk = block_of([trial("candidate", "ann", True), trial("stable", "bob", False)], RiskSet(), since=0)
    assert block == counts(1, 0, 1, 1)
    again = [trial("candidate", "ann", True), trial("stable", "ann", True), trial("stable", "bob", True)]
    block, risk = block_of(again, risk, since=0)
    assert block == counts(1, 1, 0, 0)
    assert risk.left == ("ann", "bob")


def test_a_user_counts_once_per_block_whatever_the_number_of_requests():
    many = [trial("candidate", "ann", hit) for hit in (False, True, True, False)]
    assert block_of(many, RiskSet(), since=0)[0] == counts(0, 0, 1, 1)


def test_requests_without_a_user_count_one_by_one():
    block, risk = block_of([trial("stable", "", hit) for hit in (True, False, True)], RiskSet(), since=0)
    assert block == counts(3, 2, 0, 0)
    assert risk == RiskSet()


def test_requests_from_before_the_candidates_share_count_in_neither_arm():
    early = [trial("stable", "ann", True, at=9.0), trial("candidate", "bob", True, at=9.9)]
    assert block_of(early, RiskSet(), since=10.0) == (counts(0, 0, 0, 0), RiskSet())


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=30), st.integers(1, 5))
def test_no_user_is_ever_hit_twice(requests, size):
    risk, hits = RiskSet(), 0
    for start in range(0, len(requests), size):
        trials = [trial("candidate", user, hit) for user, hit in requests[start : start + size]]
        block, risk = block_of(trials, risk, since=0)
        hits += block.candidate[1]
    assert hits == len({user for user, hit in requests if hit})


def timed(arm, at, lasted):
    return Timed(arm=arm, user="", started_at=at, lasted_s=lasted)


def test_a_request_is_judged_when_it_is_old_enough_ended_or_not():
    quick, hung = timed("stable", 100.0, 0.1), timed("candidate", 100.5, 2.5)
    due, cohorts = settle(Cohorts(settled_until=100.0), [quick], [], horizon_s=2.0, now=101.0)
    assert due == []
    due, cohorts = settle(cohorts, [], [hung], horizon_s=2.0, now=103.0)
    assert due == [quick, hung]
    assert [t.hit for t in exceedances(due, 1.0, 2.0)] == [False, True]
    late = hung.model_copy(update={"lasted_s": 9.0})
    due, cohorts = settle(cohorts, [late], [], horizon_s=2.0, now=110.0)
    assert due == []  # counted when it was in flight


def test_a_horizon_that_moves_judges_no_request_twice_and_forgets_none():
    requests = [timed("stable", float(t), 1.0) for t in range(20)]
    cohorts, judged = Cohorts(settled_until=0.0), []
    for now in range(1, 40):
        ended = [item for item in requests if now - 1 < item.started_at + item.lasted_s <= now]
        due, cohorts = settle(cohorts, ended, [], horizon_s=3.0 + now % 4, now=float(now))
        judged += due
    assert judged == requests


def test_of_values_each_user_gives_one():
    items = [Timed(arm="stable", user=user, started_at=at, lasted_s=at) for user, at in (("b", 2), ("a", 1), ("a", 3))]
    first, seen = first_of_users(items, RiskSet())
    assert [item.lasted_s for item in first] == [1, 2]
    assert first_of_users(items, seen)[0] == []
