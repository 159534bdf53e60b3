"""Copies for a candidate: recorded, thrown away, and never in a user's way."""

import pytest
from gateway_world import CHAT, World, all_to_new, eventually, table_for
from stub_upstream import ROLE, Gate, chunk, frame, hangs, refuses, sends

SHADOW = {"candidate": {"variant": "new", "share_bp": 0, "mirror_bp": 10_000}}


@pytest.mark.parametrize("stream", [False, True])
def test_a_copy_goes_to_the_candidate_and_is_recorded_as_a_mirror(world: World, stream: bool) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url, **SHADOW, variants={"new": {"system_prompt": "Short."}}))
    assert running.said(user="ada", stream=stream).strip() == "I am old-model"
    records = {record.role: record for record in running.wait_for_records(2)}
    mirrored, served = records["mirror"], records["served"]
    assert (mirrored.variant, mirrored.ok, mirrored.epoch, mirrored.streamed) == ("new", True, "e1", stream)
    assert (mirrored.request_id, mirrored.user) == (served.request_id, served.user)
    assert mirrored.completion_tokens == 3
    assert stub.asked("new-model")[0]["messages"] == [{"role": "system", "content": "Short."}, *CHAT["messages"]]


def test_only_what_stable_was_to_serve_is_copied(world: World) -> None:
    stub = world.upstream(**{"new-model": refuses(500)})
    table = table_for(stub.url, candidate={"variant": "new", "share_bp": 10_000, "mirror_bp": 10_000})
    running = world.gateway(table)
    assert running.said() == "I am old-model"
    running.ask()
    assert [record.role for record in running.records()] == ["served", "failover"] * 2
    assert len(stub.asked("new-model")) == 2


def test_a_sample_is_copied_by_the_hash_of_the_request(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url, candidate={"variant": "new", "mirror_bp": 5000}))
    for _ in range(60):
        running.ask()
    eventually(lambda: not running.gateway.attempts.in_flight)
    assert 10 < len(stub.asked("new-model")) < 50


def test_a_hung_candidate_slows_nobody_and_what_does_not_fit_is_dropped_and_counted(world: World) -> None:
    stub = world.upstream(**{"new-model": hangs})
    running = world.gateway(table_for(stub.url, **SHADOW), mirror_queue=4, mirror_at_once=16)
    assert {running.said() for _ in range(30)} == {"I am old-model"}
    eventually(lambda: len(stub.asked("new-model")) == 16)
    assert [flight.role for flight in running.admin.records(0).in_flight] == ["mirror"] * 16
    assert 'slipway_mirror_dropped_total{route="tutor"} 10.0' in running.metrics()


@pytest.mark.parametrize(("stream", "error"), [(False, "status"), (True, "midstream")])
def test_a_failing_mirror_is_recorded_and_no_user_fails(world: World, stream: bool, error: str) -> None:
    broken = sends(ROLE, frame(chunk({"content": "So "}))) if stream else refuses(500)
    running = world.gateway(table_for(world.upstream(**{"new-model": broken}).url, **SHADOW))
    assert running.ask(stream=stream).status_code == 200
    (mirrored,) = [record for record in running.wait_for_records(2) if record.role == "mirror"]
    assert (mirrored.ok, mirrored.error, mirrored.user_ok) == (False, error, True)


def test_a_copy_that_waited_while_its_candidate_was_withdrawn_is_not_sent(world: World) -> None:
    gate = Gate()
    stub = world.upstream(**{"new-model": sends(gate)})
    running = world.gateway(table_for(stub.url, **SHADOW), mirror_at_once=16)
    for _ in range(20):
        running.ask()
    eventually(lambda: len(stub.asked("new-model")) == 16)
    running.admin.put_table(table_for(stub.url, revision=2))
    gate.open(world.loop)
    eventually(lambda: 'slipway_mirror_dropped_total{route="tutor"} 4.0' in running.metrics())
    assert len(stub.asked("new-model")) == 16


def test_the_mirror_ends_with_the_lease(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url, **SHADOW))
    running.clock.now += 15
    running.ask()
    assert [record.role for record in running.records()] == ["served"]
    assert stub.asked("new-model") == []


def test_a_request_that_the_copy_cannot_be_made_of_is_declined_not_failed(world: World) -> None:
    table = table_for(world.upstream().url, **SHADOW, variants={"new": {"system_prompt": "Short."}})
    running = world.gateway(table)
    assert running.ask(messages=[{"role": "system", "content": "Only this"}]).status_code == 200
    (mirrored,) = [record for record in running.wait_for_records(2) if record.role == "mirror"]
    assert (mirrored.ok, mirrored.error) == (True, "declined")


def test_in_full_release_there_is_nobody_left_to_copy(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, **all_to_new()))
    running.ask()
    assert [record.role for record in running.records()] == ["served"]
