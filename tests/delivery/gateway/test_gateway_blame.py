"""Whose failure it was: a variant's, the request's, or the client's who forced it."""

from typing import Any

import pytest
from gateway_world import World, all_to_new, eventually, table_for
from stub_upstream import DONE, ROLE, Behaviour, answers, chunk, frame, refuses, says, sends

from delivery.gateway.openai.forced import UNSAID, are_deciding, is_end_forced
from delivery.traffic.records import Record

TRIP = {"failures": 3, "users": 2}


def ends(finish: str = "stop", text: str = "", **more: Any) -> Behaviour:
    """A plain answer that ends as vLLM says it."""
    message = {"role": "assistant", "content": text}
    return answers({"choices": [{"index": 0, "message": message, "finish_reason": finish, **more}]})


def nothing(stream: bool) -> Behaviour:
    return sends(ROLE, frame(chunk({}, "stop")), DONE) if stream else ends()


def by_role(records: tuple[Record, ...]) -> list[tuple[str, str, bool, str, bool]]:
    return sorted((r.role, r.variant, r.ok, r.error, r.forced) for r in records)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "asked", [{"stop": ["\n"]}, {"allowed_token_ids": [2]}, {"logit_bias": {"2": 100}}, {"stop_token_ids": [2]}]
)
def test_an_empty_answer_that_its_client_forced_is_an_answer(world: World, stream: bool, asked: dict[str, Any]) -> None:
    """What made-up users did to take a candidate's users away."""
    stub = world.upstream(**{"new-model": nothing(stream)})
    running = world.gateway(table_for(stub.url, trip=TRIP, **all_to_new()))
    for user in range(8):
        assert running.said(user=f"made-up-{user}", stream=stream, **asked) == ""
    assert len(running.wait_for_records(8)) == 8
    assert {(r.role, r.variant, r.ok, r.error, r.forced) for r in running.records()} == {
        ("served", "new", True, "", True)
    }
    assert stub.asked("old-model") == []
    assert running.admin.records(0).tripped == ()


@pytest.mark.parametrize("stream", [False, True])
def test_where_stable_has_nothing_to_say_either_the_candidate_keeps_its_users(world: World, stream: bool) -> None:
    stub = world.upstream(**{"new-model": nothing(stream), "old-model": nothing(stream)})
    running = world.gateway(table_for(stub.url, trip=TRIP, **all_to_new()))
    for user in range(8):
        assert running.said(user=str(user), stream=stream) == ""
    assert by_role(running.wait_for_records(16)[-2:]) == [
        ("failover", "old", False, "empty", False),
        ("served", "new", False, "empty", False),
    ]
    page = running.admin.records(0)
    assert ({trip.variant for trip in page.tripped}, page.in_flight) == ({"old"}, ())


def test_where_stable_fails_in_the_candidates_place_too_the_candidate_is_not_tripped(world: World) -> None:
    running = world.gateway(
        table_for(
            world.upstream(**{"new-model": refuses(500), "old-model": refuses(500)}).url, trip=TRIP, **all_to_new()
        )
    )
    for user in range(8):
        assert running.ask(user=str(user)).status_code == 502
    assert {trip.variant for trip in running.admin.records(0).tripped} == {"old"}


def test_a_candidate_that_alone_has_nothing_to_say_is_tripped(world: World) -> None:
    stub = world.upstream(**{"new-model": ends()})
    running = world.gateway(table_for(stub.url, trip=TRIP, **all_to_new()))
    for user in range(4):
        assert running.said(user=str(user)) == "I am old-model"
    (trip,) = running.admin.records(0).tripped
    assert (trip.failures >= 3, trip.error) == (True, "empty")


def test_why_an_answer_ended_is_on_record(world: World) -> None:
    stub = world.upstream(**{"old-model": says("one two", finish="length")})
    running = world.gateway(table_for(stub.url))
    for stream in (False, True):
        running.ask(stream=stream)
        running.ask(stream=stream, max_tokens=2)
    eventually(lambda: len(running.records()) == 4)
    assert [(r.finish_reason, r.forced) for r in running.records()] == [("length", False), ("length", True)] * 2


@pytest.mark.parametrize(
    ("body", "finish", "stopped_by", "has_content", "forced"),
    [
        ({}, "stop", None, False, False),
        ({"stop": "."}, "stop", ".", True, True),
        ({"stop": "."}, "stop", None, False, False),  # vLLM says that the model ended by itself
        ({"stop": "."}, "stop", UNSAID, False, True),
        ({"stop": "."}, "stop", UNSAID, True, False),
        ({"stop": "."}, "stop", 151643, False, False),  # a token that the model's own settings name
        ({"stop_token_ids": [7]}, "stop", 7, False, True),
        ({"max_tokens": 1}, "length", None, True, True),
        ({"max_completion_tokens": 1}, "length", None, True, True),
        ({"max_tokens": 1000}, "length", None, True, False),  # it had room, and rambled
        ({}, "length", None, True, False),
        ({"stop": "."}, "tool_calls", None, True, False),
    ],
)
def test_an_end_is_forced_where_the_client_put_it(
    body: dict[str, Any], finish: str, stopped_by: Any, has_content: bool, forced: bool
) -> None:
    assert is_end_forced(body, finish, stopped_by, has_content=has_content) is forced


def test_parameters_that_ask_for_nothing_decide_nothing() -> None:
    for calm in ({}, {"n": 1}, {"logit_bias": {}, "bad_words": []}, {"ignore_eos": False}, {"temperature": 2}):
        assert not are_deciding(calm)
    for deciding in ({"n": 16}, {"logit_bias": {"2": 1}}, {"structured_outputs": {"regex": "x"}}, {"ignore_eos": True}):
        assert are_deciding(deciding)


@pytest.mark.parametrize(
    ("settings", "vouched"),
    [
        ({}, True),  # only this machine reaches it
        ({"trust_user_names": False}, False),
        ({"host": "0.0.0.0"}, False),
        ({"host": "0.0.0.0", "trust_user_names": True}, True),
    ],
)
def test_who_vouches_for_users_that_name_themselves(
    world: World, settings: dict[str, Any], vouched: bool, caplog: pytest.LogCaptureFixture
) -> None:
    running = world.gateway(table_for(world.upstream().url), **settings)
    running.ask(user="made-up")
    (record,) = running.wait_for_records(1)
    assert record.vouched is vouched
    assert any("count as one" in message for message in caplog.messages) is not vouched
