"""Which users a candidate gets, for how long without a word from the controller, and when it gets none."""

from typing import Any

import pytest
from gateway_world import CHAT, Clock, Running, World, all_to_new, eventually, table_for
from stub_upstream import refuses

from configs.routing import RoutingTable
from delivery.traffic.assignment import bucket

USERS = [f"user-{number}" for number in range(40)]


def variants_of(running: Running, users: list[str] = USERS) -> dict[str, str]:
    return {user: running.ask(user=user).headers["x-slipway-variant"] for user in users}


def half(revision: int = 1, share_bp: int = 5000, **more: Any) -> dict[str, Any]:
    return {"revision": revision, "candidate": {"variant": "new", "share_bp": share_bp}} | more


def test_users_get_the_variant_of_their_bucket_each_time(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, **half()))
    expected = {user: "new" if bucket("pepper", user) < 5000 else "old" for user in USERS}
    assert variants_of(running) == variants_of(running) == expected
    assert set(expected.values()) == {"new", "old"}


def test_a_holdback_keeps_the_users_of_the_highest_buckets(world: World) -> None:
    table = table_for(world.upstream().url, holdback={"variant": "former", "share_bp": 3000})
    expected = {user: "former" if bucket("pepper", user) >= 7000 else "old" for user in USERS}
    assert variants_of(world.gateway(table)) == expected


def test_a_growing_share_keeps_every_user_it_had(world: World) -> None:
    url = world.upstream().url
    running = world.gateway(table_for(url, **half(1, 2000)))
    before = variants_of(running)
    running.admin.put_table(table_for(url, **half(2, 6000)))
    after = variants_of(running)
    assert all(after[user] == "new" for user in USERS if before[user] == "new")
    assert list(after.values()).count("new") > list(before.values()).count("new")


def test_the_header_names_the_user_before_the_body_and_the_body_before_the_key(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))

    def pseudonym(headers: dict[str, str], **body: Any) -> str:
        running.http.post("/v1/chat/completions", json=CHAT | body, headers=headers)
        return running.records()[-1].user

    key = {"Authorization": "Bearer ada"}
    assert pseudonym({"x-slipway-user": "ada"}) == pseudonym({}, user="ada") == pseudonym(key) != ""
    assert pseudonym({"x-slipway-user": "ada", "Authorization": "Bearer bob"}, user="eve") == pseudonym({}, user="ada")
    assert pseudonym(key, user="eve") == pseudonym({}, user="eve")
    assert pseudonym({}) == pseudonym({"Authorization": "Basic ada"}) == ""


def test_without_a_user_each_request_is_dealt_anew(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, **half()))
    assert {running.ask().headers["x-slipway-variant"] for _ in range(40)} == {"old", "new"}


def test_a_request_under_way_keeps_the_epoch_it_started_in(world: World) -> None:
    url = world.upstream().url
    running = world.gateway(table_for(url))
    running.ask()
    running.admin.put_table(table_for(url, revision=2, epoch="e2"))
    running.ask()
    assert [record.epoch for record in running.records()] == ["e1", "e2"]


def test_stable_gets_everything_when_the_controller_falls_silent(world: World) -> None:
    table = table_for(world.upstream().url, lease_s=15.0, **half(share_bp=10_000))
    running = world.gateway(table)
    running.clock.now += 14.9
    assert set(variants_of(running).values()) == {"new"}
    running.clock.now += 0.2
    assert set(variants_of(running).values()) == {"old"}
    assert running.admin.records(0).lease_remaining_s == 0


def test_a_holdback_ends_with_the_lease_as_well(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, holdback={"variant": "former", "share_bp": 10_000}))
    assert running.said() == "I am former-model"
    running.clock.now += 15
    assert running.said() == "I am old-model"


@pytest.mark.parametrize("how", ["renewed", "put again"])
def test_a_lease_that_is(world: World, how: str) -> None:
    table = table_for(world.upstream().url, **all_to_new())
    running = world.gateway(table)
    for _ in range(4):
        running.clock.now += 10
        running.admin.renew(1) if how == "renewed" else running.admin.put_table(table)
    assert running.said() == "I am new-model"
    assert running.admin.records(0).lease_remaining_s == pytest.approx(15)


def test_a_table_without_shares_needs_no_lease(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, candidate={"variant": "new", "share_bp": 0}))
    running.clock.now += 1e6
    assert running.said() == "I am old-model"
    assert running.admin.records(0).lease_remaining_s is None


def broken(world: World, **more: Any) -> tuple[Running, Any, RoutingTable]:
    stub = world.upstream(**{"new-model": refuses(500)})
    table = table_for(stub.url, **all_to_new(trip={"failures": 3}, **more))
    return world.gateway(table), stub, table


def test_a_candidate_that_always_fails_is_asked_no_more_and_the_records_say_so(world: World) -> None:
    running, stub, _ = broken(world)
    assert {running.said(user=user) for user in USERS} == {"I am old-model"}
    eventually(lambda: len(stub.asked("new-model")) == 4)  # the fourth is a copy that asks whether it is better
    errors = [record.error for record in running.records() if record.variant == "new" and record.role == "served"]
    assert errors == ["status"] * 3 + ["tripped"] * (len(USERS) - 3)
    assert all(not record.ok for record in running.records() if record.error == "tripped")
    assert {record.role for record in running.records() if record.variant == "old"} == {"failover"}
    assert 'slipway_variant_tripped{route="tutor",variant="new"} 1.0' in running.metrics()


def test_a_trip_is_there_for_the_controller_to_see_until_it_heals(world: World) -> None:
    running, stub, _ = broken(world)
    for user in USERS[:3]:
        running.ask(user=user)
    (trip,) = running.admin.records(0).tripped
    assert (trip.variant, trip.epoch, trip.failures, trip.users, trip.error) == ("new", "e1", 3, 3, "status")
    assert trip.answered_elsewhere == 3  # stable took over each of them
    del stub.behaviours["new-model"]
    running.ask(user="ada")
    eventually(lambda: running.admin.records(0).tripped == ())


def test_one_users_failures_do_not_trip_a_candidate(world: World) -> None:
    running, stub, _ = broken(world)
    for _ in range(6):
        running.ask(user="ada")
    assert len(stub.asked("new-model")) == 6
    assert running.admin.records(0).tripped == ()


def test_one_success_in_between_keeps_a_candidate_its_users(world: World) -> None:
    running, stub, _ = broken(world)
    running.ask()
    running.ask()
    failing = stub.behaviours.pop("new-model")
    running.ask()
    stub.behaviours["new-model"] = failing
    running.ask()
    running.ask()
    assert len(stub.asked("new-model")) == 5
    assert "tripped" not in {record.error for record in running.records()}


def test_a_tripped_candidate_that_answers_a_copy_gets_its_users_back(world: World) -> None:
    running, stub, _ = broken(world)
    for _ in range(4):
        running.ask()
    eventually(lambda: running.gateway.attempts.last_seq == 9)
    del stub.behaviours["new-model"]
    running.clock.now += 6
    assert running.said() == "I am old-model"
    eventually(lambda: running.records()[-1].role == "mirror")
    assert running.said() == "I am new-model"


def test_a_new_epoch_gives_a_tripped_candidate_a_fresh_start(world: World) -> None:
    running, stub, _ = broken(world)
    for _ in range(4):
        running.ask()
    running.admin.put_table(table_for(stub.url, revision=2, epoch="e2", **all_to_new()))
    running.ask()
    assert running.records()[-2].error == "status"


def test_requests_that_the_model_declines_do_not_trip_it(world: World) -> None:
    stub = world.upstream(**{"new-model": refuses(400)})
    running = world.gateway(table_for(stub.url, **all_to_new(trip={"failures": 2})))
    assert [running.ask().status_code for _ in range(5)] == [400] * 5


def test_a_clock_that_was_set_back_never_makes_a_lease_longer(world: World, tmp_path: Any) -> None:
    clock = Clock(5000.0)
    state = tmp_path / "table.json"
    world.gateway(table_for(world.upstream().url, **all_to_new()), table_state=state, clock=clock)
    assert world.gateway(table_state=state, clock=Clock(4999.0)).said() == "I am old-model"
    assert world.gateway(table_state=state, clock=Clock(5014.0)).said() == "I am new-model"
    assert world.gateway(table_state=state, clock=Clock(5016.0)).said() == "I am old-model"


def test_a_lease_that_a_restart_kept_ends_when_it_would_have_ended(world: World, tmp_path: Any) -> None:
    state = tmp_path / "table.json"
    world.gateway(table_for(world.upstream().url, **all_to_new()), table_state=state, clock=Clock(5000.0))
    restarted = world.gateway(table_state=state, clock=Clock(5010.0))
    assert restarted.admin.records(0).lease_remaining_s == pytest.approx(5)
    restarted.clock.now += 5
    assert restarted.said() == "I am old-model"
    restarted.admin.renew(1)
    assert restarted.said() == "I am new-model"
