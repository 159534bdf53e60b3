"""What the rollback benchmark makes of its runs."""

import pytest

from benchmarks.rollback.__main__ import figures
from benchmarks.rollback.run import CASES, RollbackRun


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
