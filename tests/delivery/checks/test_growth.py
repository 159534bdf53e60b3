"""When the next pass is possible at the earliest: of everything that it needs, what comes last."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.rollout import Stage
from delivery.checks.findings import Wealth
from delivery.checks.growth import MOST_POINTS, Point, next_pass, points_of, thinned
from delivery.checks.verdicts import CheckResult, Facts

FLAT = Wealth(wealth=(0.0,) * 5, blocks=1)


def result(within: float, *, name: str = "error_rate", verdict: str = "inconclusive", on_fail: str = "rollback") -> Any:
    values = {"check": name, "metric": name, "on_fail": on_fail, "comparison": "", "worse": FLAT, "better": FLAT}
    return CheckResult.model_validate(values | {"verdict": verdict, "sentence": "", "e_worse": 1, "e_better": within})


def ask(
    results: Sequence[CheckResult],
    *,
    requests: int = 100,
    epoch_s: float = 100,
    curves: Mapping[str, Sequence[Point]] | None = None,
    **stage: Any,
) -> Any:
    facts = Facts(alpha=0.05, min_requests=stage.get("min_requests", 20), candidate_requests=requests)
    plan = Stage(kind="canary", share_bp=1000, max_duration_s=10_000, **stage)
    return next_pass(plan, facts, results, epoch_s, curves or {})


def test_with_all_its_evidence_it_waits_for_its_shortest_time_alone() -> None:
    found = ask([result(50, verdict="pass")], min_duration_s=160)
    assert (found.seconds, found.waits_for) == (60, "its shortest time")


def test_requests_that_are_missing_come_as_fast_as_those_before() -> None:
    found = ask([result(50, verdict="pass")], requests=10, min_requests=30)
    assert (found.seconds, found.waits_for) == (200, "20 more requests of the candidate")


def test_evidence_grows_on_as_it_grew_in_the_logarithm() -> None:
    found = ask([result(20**0.5)])
    assert found.seconds == pytest.approx(100)
    assert found.waits_for == "evidence for error_rate"


def test_what_was_seen_later_counts_more_than_a_slow_beginning() -> None:
    slow = [Point(at=at, n=1, worse=1, within=1) for at in range(50)]
    fast = [Point(at=50 + at, n=1, worse=1, within=20 ** (at / 100)) for at in range(51)]
    found = ask([result(20**0.5)], curves={"error_rate": [*slow, *fast]})
    assert found.seconds == pytest.approx(50, rel=0.05)


def test_the_slowest_check_decides_and_one_that_only_warns_does_not() -> None:
    found = ask([result(10), result(2, name="latency"), result(0.5, name="cost", on_fail="warn")])
    assert found.waits_for == "evidence for latency"


@pytest.mark.parametrize(("within", "verdict"), [(0.9, "inconclusive"), (5, "fail"), (5, "error")])
def test_a_check_that_gains_nothing_or_fails_lets_no_pass_come(within: float, verdict: str) -> None:
    found = ask([result(within, verdict=verdict)])
    assert found.seconds is None
    assert "error_rate" in found.waits_for


def test_without_a_request_nobody_knows() -> None:
    assert ask([result(1)], requests=0).seconds is None


@given(st.floats(1e-3, 1e6), st.integers(0, 1000), st.floats(0, 1e4))
def test_it_is_never_in_the_past(within: float, requests: int, epoch_s: float) -> None:
    found = ask([result(within)], requests=requests, epoch_s=epoch_s)
    assert found.seconds is None or found.seconds >= 0


def row(at: float, epoch: str, requests: int, *results: Mapping[str, Any]) -> dict[str, Any]:
    """As the ledger keeps a decision."""
    return {"at": at, "counts": {"epoch": epoch, "candidate": {"requests": requests}}, "results": list(results)}


def test_a_curve_is_of_one_epoch_and_skips_what_another_version_wrote() -> None:
    rows = [
        row(1.0, "r/0", 9, result(2).model_dump()),
        row(2.0, "r/1", 9, result(3).model_dump()),
        row(3.0, "r/1", 9, {"check": "error_rate", "ratio": 1}),
        row(4.0, "r/1", 9, result(4).model_dump()),
    ]
    assert [(one.at, one.within) for one in points_of(rows, "r/1")["error_rate"]] == [(2.0, 3), (4.0, 4)]


def test_a_curve_does_not_begin_with_what_the_stage_before_had_seen() -> None:
    passed = result(50).model_copy(update={"candidate_requests": 60})
    rows = [row(1.0, "r/1", 0, passed.model_dump()), row(2.0, "r/1", 0, result(1).model_dump())]
    assert [(one.at, one.within) for one in points_of(rows, "r/1")["error_rate"]] == [(2.0, 1)]


@given(st.integers(2, 3000))
def test_a_thinned_curve_keeps_its_ends_and_its_order(number: int) -> None:
    points = [Point(at=at, n=at, worse=1, within=1) for at in range(number)]
    kept = thinned(points)
    assert len(kept) == min(number, MOST_POINTS)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert [one.at for one in kept] == sorted({one.at for one in kept})
