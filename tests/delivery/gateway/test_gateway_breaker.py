"""The breaker alone: which failures count against whom."""

import itertools

from configs.routing import Route, RoutingTable
from delivery.traffic.breaker import PROBE_EVERY_S, Breaker
from delivery.traffic.records import AttemptRole, Record, Tripped

NUMBERS = itertools.count()


def route(epoch: str, users: int = 1) -> Route:
    variants = {name: {"model": name, "upstreams": ["http://u"]} for name in ("old", "new")}
    fields = {"salt": "s", "epoch": epoch, "stable": "old", "variants": variants, "candidate": {"variant": "new"}}
    return Route.model_validate(fields | {"trip": {"failures": 3, "users": users}})


def ended(
    error: str = "",
    *,
    epoch: str = "e1",
    ok: bool | None = None,
    role: AttemptRole = "served",
    variant: str = "new",
    user: str = "",
    at: float = 0.0,
    request_id: str = "",
    forced: bool = False,
) -> Record:
    return Record(
        request_id=request_id or f"r{next(NUMBERS)}",
        forced=forced,
        route="tutor",
        epoch=epoch,
        variant=variant,
        role=role,
        user=user,
        started_at=at,
        seq=1,
        duration_s=1.0,
        status=200,
        ok=not error if ok is None else ok,
        error=error,
    )


def after(*attempts: Record) -> Breaker:
    breaker = Breaker()
    breaker.keep_only(RoutingTable(revision=1, routes={"tutor": route("e1")}))
    for attempt in attempts:
        breaker.observe(attempt)
    return breaker


def test_it_trips_at_the_last_of_so_many_failures_in_a_row() -> None:
    assert not after(*[ended("status")] * 2).is_tripped("tutor", route("e1"), "new")
    assert after(*[ended("status") for _ in range(3)]).is_tripped("tutor", route("e1"), "new")
    assert not after(*[ended("status")] * 2, ended(), ended("status")).is_tripped("tutor", route("e1"), "new")


def test_a_failing_mirror_counts_as_well() -> None:
    assert after(*[ended("connect", role="mirror")] * 3).is_tripped("tutor", route("e1"), "new")


def test_what_is_nobodys_failure_neither_trips_nor_heals() -> None:
    calm = [ended("declined", ok=True), ended("client_closed", ok=True)]
    assert not after(*calm * 5).is_tripped("tutor", route("e1"), "new")
    assert after(*[ended("status") for _ in range(3)], *calm).is_tripped("tutor", route("e1"), "new")


def test_a_request_at_which_who_took_over_fails_too_counts_for_no_row_in_either_order() -> None:
    ids = [f"q{n}" for n in range(9)]
    taken = [ended("empty", variant="old", role="failover", request_id=one) for one in ids]
    both = list(zip([ended("empty", request_id=one) for one in ids], taken, strict=True))
    assert not after(*[one for pair in both for one in pair]).is_tripped("tutor", route("e1"), "new")
    assert not after(*[one for pair in both for one in reversed(pair)]).is_tripped("tutor", route("e1"), "new")
    answered = [ended(variant="old", role="failover", request_id=f"q{n}") for n in range(3)]
    assert after(*[one for pair in both[:3] for one in pair[:1]], *answered).is_tripped("tutor", route("e1"), "new")


def test_what_clients_force_neither_trips_nor_heals() -> None:
    assert not after(*[ended("status", forced=True)] * 9).is_tripped("tutor", route("e1"), "new")
    assert after(*[ended("status") for _ in range(3)], ended(forced=True)).is_tripped("tutor", route("e1"), "new")


def test_attempts_of_an_earlier_epoch_that_end_late_do_not_trip_the_new_one() -> None:
    late = [ended("status", epoch="e1")] * 3
    assert not after(*late).is_tripped("tutor", route("e2"), "new")
    assert not after(*late[:2], ended("status", epoch="e2")).is_tripped("tutor", route("e2"), "new")


def test_a_copy_probes_once_in_a_while() -> None:
    breaker = after(*[ended("status") for _ in range(3)])
    assert breaker.probe_due("tutor", "new", 100.0)
    assert not breaker.probe_due("tutor", "new", 100.0 + PROBE_EVERY_S - 0.1)
    assert breaker.probe_due("tutor", "new", 100.0 + PROBE_EVERY_S)


def test_a_table_without_the_variant_or_with_a_new_epoch_forgets_it() -> None:
    for routes in ({}, {"tutor": route("e2")}):
        breaker = after(*[ended("status") for _ in range(3)])
        assert breaker.tripped() == [("tutor", "new")]
        breaker.keep_only(RoutingTable(revision=2, routes=routes))
        assert breaker.tripped() == []


def test_one_users_failures_do_not_trip_a_variant_that_must_fail_two() -> None:
    one = [ended("status", user="ada") for _ in range(5)]
    assert not after(*one).is_tripped("tutor", route("e1", users=2), "new")
    assert after(*one, ended("status", user="bob")).is_tripped("tutor", route("e1", users=2), "new")


def test_the_page_tells_since_when_of_whom_and_whether_anything_else_answered() -> None:
    failures = [
        ended("connect", at=12.0, user="ada"),
        ended("status", at=11.0, user="bob"),
        ended("status", user="ada", at=13),
    ]
    breaker = after(*failures, ended(variant="old", role="failover"), ended(variant="old", epoch="e0"))
    (trip,) = [Tripped.model_validate(item) for item in breaker.page()]
    assert (trip.since, trip.failures, trip.users, trip.error) == (11.0, 3, 2, "status")
    assert trip.answered_elsewhere == 1
    assert after(*failures[:2]).page() == []
