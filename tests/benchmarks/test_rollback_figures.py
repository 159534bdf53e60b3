"""What the rollback benchmark makes of its runs."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks.rollback.__main__ import figures
from benchmarks.rollback.blame import Surroundings, equal_misbehaviour, release_in, without_traffic
from benchmarks.rollback.histories import repeated_rollbacks
from benchmarks.rollback.run import CASES, RollbackRun
from delivery.release.take_back import Meant, PastRelease


def run(case: str, seconds: float) -> RollbackRun:
    return RollbackRun(
        case=case,
        outcome="bad",
        bad_answers=5,
        bad_to_last_asked_s=seconds,
        bad_to_stable_s=seconds + 1,
        decision_to_stable_s=seconds / 2,
        failed_user_requests=0,
    )


@pytest.mark.parametrize(("slowest_s", "met"), [(0.5, True), (30.0, False)])
def test_one_slow_run_in_thirty_misses_a_target_of_the_99th_percentile(slowest_s: float, met: bool) -> None:
    runs = [run(case.name, s) for case in CASES for s in [0.1] * 29 + [slowest_s]]
    found = {(figure.case, figure.what): figure for figure in figures(runs)}
    outright = found["fails outright", "first bad answer to last asked, s"]
    assert outright.p50 == 0.1
    assert outright.met is met
    assert found["every third answer fails", "first bad answer to last asked, s"].met is None
    assert {figure.met for figure in found.values()} == ({True, None} if met else {False, None})


def live_or_under_way(releases: Sequence[PastRelease], live: str, named: str = "") -> Meant:
    """What a rollback meant before it had a name: whatever is under way, or else live."""
    for past in releases:
        if past.phase not in ("live", "rolled_back") or (past.phase == "live" and past.bundle == live):
            return Meant(standing="take_back", release_id=past.release_id)
    return Meant(standing="nothing")


def test_random_histories_take_back_nothing_that_nobody_meant_and_would_show_it() -> None:
    found = repeated_rollbacks(100)
    assert found.unmeant == 0
    assert found.repeated > 100
    assert repeated_rollbacks(100, rule=live_or_under_way).unmeant > 5


def test_made_up_releases_that_deserve_no_blame_get_none() -> None:
    assert without_traffic(12).blamed == equal_misbehaviour(4).blamed == 0


def test_a_candidate_that_is_worse_is_blamed_in_the_same_simulation() -> None:
    around = Surroundings(users=500, requests_per_s=20.0, bad_rate=0.5)
    spared = replace(around, stable_bad_rate=0.0)
    ends = [release_in(one, seed=3)[1] for one in (around, spared)]
    assert ends == [False, True]
