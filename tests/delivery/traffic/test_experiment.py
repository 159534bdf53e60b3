"""An experiment's arms, and how far its intervals can be trusted."""

import numpy as np
import pytest
from pydantic import ValidationError

from configs.routing import FULL_BP, Route
from delivery.traffic.assignment import assign
from delivery.traffic.experiment import report
from delivery.traffic.records import Feedback, Record, checked

VARIANTS = {name: {"model": name, "upstreams": ["http://u"]} for name in ("old", "new", "warm", "terse")}


def route_with(arms: dict[str, int], name: str = "tone", **more: object) -> Route:
    fields = {"salt": "s", "epoch": "e", "stable": "old", "variants": VARIANTS}
    return Route.model_validate(fields | {"experiment": {"name": name, "arms": arms}} | more)


def record(variant: str, user: str, seq: int = 1, ok: bool = True, tokens: int = 10, **more: object) -> Record:
    fields = {"seq": seq, "request_id": f"r{seq}", "route": "tutor", "epoch": "e", "variant": variant, "role": "served"}
    fields |= {"user": user, "started_at": 0.0, "duration_s": 1.0, "ttft_s": 0.1, "status": 200, "ok": ok}
    fields |= {"error": "" if ok else "status", "prompt_tokens": 5, "completion_tokens": tokens}
    return checked(Record, fields | more)


# -- who gets which arm ---------------------------------------------------------------------------------------------


def test_a_user_keeps_his_arm_and_the_arms_get_their_shares() -> None:
    route = route_with({"warm": 2000, "terse": 3000})
    dealt = [assign(route, f"user-{n}", True) for n in range(20_000)]
    assert dealt == [assign(route, f"user-{n}", True) for n in range(20_000)]
    for name, share in (("warm", 0.2), ("terse", 0.3), ("old", 0.5)):
        assert abs(dealt.count(name) / 20_000 - share) < 0.015


def test_another_experiment_deals_the_users_anew_and_apart_from_the_candidates_share() -> None:
    users = [f"user-{n}" for n in range(10_000)]
    one, other = (route_with({"warm": 5000}, name=name) for name in ("tone", "length"))
    both = sum(assign(one, user, True) == "warm" and assign(other, user, True) == "warm" for user in users)
    assert abs(both / 10_000 - 0.25) < 0.02
    released = route_with({"warm": 5000}, candidate={"variant": "new", "share_bp": 4000})
    dealt = [assign(released, user, True) for user in users]
    assert abs(dealt.count("new") / 10_000 - 0.4) < 0.02
    assert abs(dealt.count("warm") / dealt.count("old") - 1) < 0.1


def test_without_a_lease_everybody_gets_stable() -> None:
    assert {assign(route_with({"warm": 9000}), f"user-{n}", False) for n in range(50)} == {"old"}


@pytest.mark.parametrize(
    ("arms", "more", "said"),
    [
        ({"wram": 1}, {}, "not in variants"),
        ({"old": 1}, {}, "cannot be an arm"),
        ({"new": 1}, {"candidate": {"variant": "new"}}, "cannot be an arm"),
        ({"warm": 0}, {}, "give it some"),
        ({"warm": 6000, "terse": FULL_BP - 6000}, {}, "no user for the control"),
    ],
)
def test_an_experiment_that_cannot_be_one_is_refused(arms: dict[str, int], more: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        route_with(arms, **more)


# -- what it has shown ----------------------------------------------------------------------------------------------


def test_the_arms_are_compared_with_the_control_in_everything_that_was_measured() -> None:
    records = [record("old", f"a{n}", n, tokens=20, verdicts={"gives_answer_away": n % 2 == 0}) for n in range(40)]
    records += [
        record("warm", f"b{n}", 100 + n, tokens=10 + n % 3, ok=n % 4 > 0, verdicts={"gives_answer_away": False})
        for n in range(40)
    ]
    thumbs_down = Feedback(
        seq=200, request_id="r101", route="tutor", epoch="e", variant="warm", role="served", user="b1", started_at=0.0,
        at=1.0, rating=-1,
    )  # fmt: skip
    control, warm = report(route_with({"warm": 5000}), records, [thumbs_down])
    assert (control.variant, control.share_bp, control.users, control.differences) == ("old", 5000, 40, {})
    assert (warm.variant, warm.users, warm.requests) == ("warm", 40, 40)
    errors, away = warm.metrics["error_rate"], warm.differences["contract:gives_answer_away"]
    assert errors is not None
    assert away is not None
    assert (errors.value, errors.low < 0.25 < errors.high) == (0.25, True)
    assert away.value == -0.5
    assert away.high < 0
    tokens, negative = warm.differences["completion_tokens"], warm.metrics["feedback_negative"]
    assert tokens is not None
    assert negative is not None
    assert tokens.high < -8
    assert negative.value == pytest.approx(1 / 40)


def test_only_what_was_dealt_under_the_routes_epoch_counts() -> None:
    good = [record(name, f"{name}{n}", n) for name in ("old", "warm") for n in range(3)]
    others = [
        record("warm", "x", epoch="before", ok=False),
        record("warm", "x", role="tester", ok=False),
        record("warm", "x", role="mirror", ok=False),
        record("old", "x", role="failover", ok=False),
        record("new", "x", ok=False),
    ]
    for arm in report(route_with({"warm": 5000}), good + others):
        rate = arm.metrics["error_rate"]
        assert rate is not None
        assert (arm.requests, rate.value) == (3, 0)


def test_one_users_many_requests_are_one_user() -> None:
    loud = [record("warm", "loud", n, ok=False) for n in range(200)]
    quiet = [record("warm", f"q{n}", 300 + n) for n in range(20)]
    (_, warm) = report(route_with({"warm": 5000}), [*loud, *quiet, record("old", "a"), record("old", "b")])
    rate = warm.metrics["error_rate"]
    assert rate is not None
    assert rate.high - rate.low > 0.3


def test_with_fewer_than_two_users_nothing_is_claimed() -> None:
    control, warm = report(route_with({"warm": 5000}), [record("old", "a"), record("old", "b"), record("warm", "c")])
    assert control.metrics["error_rate"] is not None
    assert warm.metrics["error_rate"] is None
    assert warm.differences["latency_s"] is None


def test_a_rate_of_nothing_is_known_only_as_well_as_there_are_users() -> None:
    records = [record(name, f"{name}{n}", n) for name in ("old", "warm") for n in range(100)]
    _, warm = report(route_with({"warm": 5000}), records)
    rate, difference = warm.metrics["error_rate"], warm.differences["error_rate"]
    assert rate is not None
    assert difference is not None
    assert (rate.low, round(rate.high, 3)) == (0, 0.037)
    assert (round(difference.low, 3), round(difference.high, 3)) == (-0.037, 0.037)


def test_the_intervals_cover_the_truth_as_often_as_they_say_though_users_differ() -> None:
    """Users have error rates of their own (beta, mean 0.2) and 1 to 12 requests; 300 experiments of 2 x 60 users."""
    rng, covered = np.random.default_rng(1), {"error_rate": 0, "completion_tokens": 0}
    for _ in range(300):
        records = []
        for name in ("old", "warm"):
            for user in range(60):
                rate, length = rng.beta(1, 4), rng.lognormal(3, 0.5)
                records += [
                    record(name, f"{name}{user}", len(records), ok=bool(rng.random() > rate), tokens=int(length))
                    for _ in range(rng.integers(1, 13))
                ]
        _, warm = report(route_with({"warm": 5000}), records)
        for metric in covered:
            found = warm.differences[metric]
            assert found is not None
            covered[metric] += found.low <= 0 <= found.high
    assert {metric: 0.92 <= hits / 300 <= 0.985 for metric, hits in covered.items()} == dict.fromkeys(covered, True)
