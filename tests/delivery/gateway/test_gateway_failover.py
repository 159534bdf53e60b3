"""A variant that fails before its first word costs the user nothing; after it, the user is told."""

import json

import httpx
import openai
import pytest
from aiohttp import web
from gateway_world import CHAT, QUICK, World, all_to_new, eventually, frames, table_for
from stub_upstream import DONE, ROLE, Behaviour, Gate, answers, chunk, frame, hangs, hangs_up, refuses, says, sends

from delivery.clients.processes.ports import free_ports

ERROR = {"error": {"message": "new-model is broken", "type": "InternalServerError", "code": 500}}
EMPTY = {"choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]}
END = frame(chunk({}, "stop"))
SO = frame(chunk({"content": "So "}))


def free_port() -> int:
    return free_ports(1)[0]


PLAIN: dict[str, tuple[Behaviour, str, int]] = {
    "a server error": (refuses(500), "status", 500),
    "being overloaded": (refuses(503), "status", 503),
    "an unknown adapter": (refuses(404), "status", 404),
    "a redirect": (refuses(302, headers={"Location": "http://127.0.0.1:1/"}), "status", 302),
    "hanging up": (hangs_up, "connect", 0),
    "silence": (hangs, "first_byte_timeout", 0),
    "an error with status 200": (answers(ERROR), "first_frame", 200),
    "an empty answer": (answers(EMPTY), "empty", 200),
    "no choices": (answers({"choices": []}), "empty", 200),
    "something that is no JSON": (answers(b"<html>"), "malformed", 200),
    "a list": (answers([1]), "malformed", 200),
    "nothing": (answers(b""), "malformed", 200),
    "half an answer": (sends(b'{"choices": [', then="cut"), "disconnected", 200),
}
STREAMED: dict[str, tuple[Behaviour, str, int]] = {
    "a server error": (refuses(500), "status", 500),
    "an unknown adapter": (refuses(404), "status", 404),
    "hanging up": (hangs_up, "connect", 0),
    "silence": (hangs, "first_byte_timeout", 0),
    "silence after the role": (sends(ROLE, then="silence"), "first_byte_timeout", 200),
    "silence after headers": (sends(then="silence"), "first_byte_timeout", 200),
    "an error in the first frame": (sends(frame(ERROR), DONE), "first_frame", 200),
    "an error after the role": (sends(ROLE, frame(ERROR), DONE), "first_frame", 200),
    "vLLM's former error frame": (sends(frame({"object": "error", "message": "x", "code": 500})), "first_frame", 200),
    "an error that came along with the first word": (sends(ROLE + SO + frame(ERROR)), "first_frame", 200),
    "an empty stream": (sends(), "empty", 200),
    "nothing but the end": (sends(DONE), "empty", 200),
    "a role and the end": (sends(ROLE, END, DONE), "empty", 200),
    "a cut after the role": (sends(ROLE, then="cut"), "disconnected", 200),
    "something that is no JSON": (sends(frame(b"{oops")), "malformed", 200),
}


@pytest.mark.parametrize(("behaviour", "error", "status"), PLAIN.values(), ids=PLAIN.keys())
def test_stable_takes_over_a_plain_request_from(world: World, behaviour: Behaviour, error: str, status: int) -> None:
    stub = world.upstream(**{"new-model": behaviour})
    running = world.gateway(table_for(stub.url, **all_to_new()), **QUICK)
    response = running.ask(user="ada")
    assert response.json()["choices"][0]["message"]["content"] == "I am old-model"
    assert response.headers["x-slipway-variant"] == "old"
    failed, taken = sorted(running.records(), key=lambda record: record.role == "failover")
    assert (failed.variant, failed.role, failed.ok, failed.error, failed.status) == (
        "new",
        "served",
        False,
        error,
        status,
    )
    assert (taken.variant, taken.role, taken.ok) == ("old", "failover", True)
    assert failed.request_id == taken.request_id
    assert failed.user_ok
    assert taken.user_ok


@pytest.mark.parametrize(("behaviour", "error", "status"), STREAMED.values(), ids=STREAMED.keys())
def test_stable_takes_over_a_stream_from(world: World, behaviour: Behaviour, error: str, status: int) -> None:
    stub = world.upstream(**{"new-model": behaviour})
    running = world.gateway(table_for(stub.url, **all_to_new()), **QUICK)
    assert running.said(user="ada", stream=True) == "I am old-model "
    failed, taken = sorted(running.wait_for_records(2), key=lambda record: record.role == "failover")
    assert (failed.variant, failed.role, failed.ok, failed.error, failed.status) == (
        "new",
        "served",
        False,
        error,
        status,
    )
    assert (taken.variant, taken.role, taken.ok, taken.user_ok) == ("old", "failover", True, True)


@pytest.mark.parametrize("stream", [False, True])
def test_stable_takes_over_from_an_upstream_that_is_not_there(world: World, stream: bool) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    table = table_for(world.upstream().url, **all_to_new(variants={"new": {"upstreams": [dead]}}))
    running = world.gateway(table)
    assert running.said(stream=stream).strip() == "I am old-model"
    failed, _ = running.wait_for_records(2)
    assert (failed.error, failed.status, failed.ttft_s) == ("connect", 0, None)


def test_a_holdback_is_covered_too(world: World) -> None:
    table = table_for(
        world.upstream(**{"former-model": refuses(500)}).url, holdback={"variant": "former", "share_bp": 10_000}
    )
    assert world.gateway(table).said() == "I am old-model"


def test_the_users_stream_starts_with_stables_own_role_chunk_only(world: World) -> None:
    stub = world.upstream(**{"new-model": sends(ROLE, ROLE, frame(ERROR))})
    response = world.gateway(table_for(stub.url, **all_to_new())).ask(stream=True)
    assert sum("role" in choice["delta"] for f in frames(response) for choice in f["choices"]) == 1


@pytest.mark.parametrize(
    "delta", [{"tool_calls": [{"index": 0}]}, {"reasoning": "Hm"}, {"reasoning_content": "Hm"}, {"refusal": "No"}]
)
def test_whatever_a_model_says_first_counts_as_content(world: World, delta: dict[str, object]) -> None:
    stub = world.upstream(**{"new-model": sends(ROLE, frame(chunk(delta)), END, DONE)})
    running = world.gateway(table_for(stub.url, **all_to_new()))
    assert len(frames(running.ask(stream=True))) == 3
    assert [record.variant for record in running.wait_for_records(1)] == ["new"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_of_no_text_that_its_token_limit_cut_is_no_failure(world: World, stream: bool) -> None:
    plain = answers({"choices": [{"message": {"content": ""}, "finish_reason": "length"}]})
    streamed = sends(ROLE, frame(chunk({"content": ""}, "length")), DONE)
    running = world.gateway(
        table_for(world.upstream(**{"new-model": streamed if stream else plain}).url, **all_to_new())
    )
    assert running.ask(stream=stream).status_code == 200
    assert [record.ok for record in running.wait_for_records(1)] == [True]


@pytest.mark.parametrize("code", [400, 422])
def test_an_error_in_the_first_frame_that_blames_the_request_is_the_users_to_read(world: World, code: int) -> None:
    blame = {"error": {"message": "bad grammar", "type": "BadRequestError", "code": code}}
    running = world.gateway(table_for(world.upstream(**{"new-model": sends(frame(blame), DONE)}).url, **all_to_new()))
    response = running.ask(stream=True)
    assert response.status_code == code
    assert response.json()["error"]["source"] == "model"


MIDSTREAM: dict[str, tuple[list[bytes], str, str]] = {
    "an error frame": ([frame(ERROR), DONE], "end", "midstream"),
    "a cut": ([], "cut", "midstream"),
    "silence": ([], "silence", "idle_timeout"),
    "an end without a reason": ([], "end", "midstream"),
    "garbage": ([frame(b"{oops")], "end", "malformed"),
}


@pytest.mark.parametrize(("rest", "then", "error"), MIDSTREAM.values(), ids=MIDSTREAM.keys())
def test_after_the_first_word_nothing_is_retried_and_the_user_is_told_of(
    world: World, rest: list[bytes], then: str, error: str
) -> None:
    gate = Gate()
    stub = world.upstream(**{"new-model": sends(ROLE, SO, gate, *rest, then=then)})
    running = world.gateway(table_for(stub.url, **all_to_new()), **QUICK)
    with running.http.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        lines = response.iter_lines()
        assert '"So "' in next(line for line in lines if "So" in line)
        gate.open(world.loop)
        rest_of_it = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert rest_of_it[-1]["error"]["code"] == error
    assert "new-model" not in str(rest_of_it)
    (record,) = running.wait_for_records(1)
    assert (record.error, record.ok, record.user_ok) == (error, False, False)
    assert record.ttft_s is not None
    assert stub.asked("old-model") == []


def test_the_official_client_sees_a_broken_stream_as_an_error(world: World) -> None:
    gate = Gate()
    stub = world.upstream(**{"old-model": sends(ROLE, SO, gate, frame(ERROR), DONE)})
    running = world.gateway(table_for(stub.url))
    client = openai.OpenAI(base_url=running.url + "/v1", api_key="x", max_retries=0)
    stream = client.chat.completions.create(model="tutor", messages=[{"role": "user", "content": "Hi"}], stream=True)
    next(stream)
    gate.open(world.loop)
    with pytest.raises(openai.APIError, match="broke off"):
        list(stream)


def test_a_stream_that_ends_properly_but_for_done_is_whole(world: World) -> None:
    stub = world.upstream(**{"old-model": says("fine", done=False)})
    running = world.gateway(table_for(stub.url))
    assert running.said(stream=True) == "fine "
    assert [record.ok for record in running.wait_for_records(1)] == [True]


def test_a_stream_may_be_cut_into_bytes_anywhere(world: World) -> None:
    whole = ROLE + SO.replace(b"So ", "Só ".encode()) + b": a comment\n\n" + END.replace(b"\n", b"\r\n") + DONE
    pieces = [whole[at : at + 1] for at in range(len(whole))]
    running = world.gateway(table_for(world.upstream(**{"old-model": sends(*pieces)}).url))
    assert running.said(stream=True) == "Só "


OUTAGES: dict[str, tuple[Behaviour, int]] = {
    "errors": (refuses(500), 502),
    "an unknown model": (refuses(404, "old-model does not exist"), 502),
    "hanging up": (hangs_up, 502),
    "silence": (hangs, 504),
    "overload": (refuses(429), 429),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("behaviour", "status"), OUTAGES.values(), ids=OUTAGES.keys())
def test_when_stable_fails_too_the_user_gets_an_honest_error(
    world: World, behaviour: Behaviour, status: int, stream: bool
) -> None:
    stub = world.upstream(**{"old-model": behaviour, "new-model": refuses(500)})
    running = world.gateway(table_for(stub.url, **all_to_new()), **QUICK)
    response = running.ask(stream=stream)
    assert response.status_code == status
    assert response.json()["error"]["source"] == "gateway"
    assert response.headers.get("retry-after") == ("1" if status == 429 else None)
    assert "-model" not in response.text
    assert [(r.role, r.ok, r.user_ok) for r in running.records()] == [
        ("served", False, True),
        ("failover", False, False),
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_an_empty_answer_of_stable_is_passed_on_and_counted(world: World, stream: bool) -> None:
    empty = sends(ROLE, END, DONE) if stream else answers(EMPTY)
    running = world.gateway(table_for(world.upstream(**{"old-model": empty}).url))
    assert running.said(stream=stream) == ""
    (record,) = running.wait_for_records(1)
    assert (record.ok, record.error, record.user_ok) == (False, "empty", True)


def test_another_replica_is_asked_when_one_does_not_take_the_connection(world: World) -> None:
    dead, alive = f"http://127.0.0.1:{free_port()}", world.upstream()
    running = world.gateway(table_for(dead, alive.url))
    assert {running.said() for _ in range(4)} == {"I am old-model"}
    assert all(record.ok for record in running.records())


def test_replicas_take_turns(world: World) -> None:
    one, other = world.upstream(), world.upstream()
    running = world.gateway(table_for(one.url, other.url))
    for _ in range(10):
        running.ask()
    assert (len(one.seen), len(other.seen)) == (5, 5)


def test_a_connection_that_upstream_closed_meanwhile_is_nobodys_failure(world: World) -> None:
    calls = []

    async def hangs_up_once(http: web.Request, body: dict[str, object]) -> web.StreamResponse:
        calls.append(body)
        return await (hangs_up if len(calls) == 2 else says("back"))(http, body)

    running = world.gateway(table_for(world.upstream(**{"old-model": hangs_up_once}).url))
    assert [running.said(), running.said()] == ["back", "back"]  # the second one on the first one's connection
    assert len(calls) == 3
    assert [record.ok for record in running.records()] == [True, True]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_answer_cancels_it_upstream(world: World, stream: bool) -> None:
    stub = world.upstream(**{"new-model": hangs})
    running = world.gateway(table_for(stub.url, **all_to_new()))
    with pytest.raises(httpx.ReadTimeout):
        running.http.post("/v1/chat/completions", json=CHAT | {"stream": stream}, timeout=0.1)
    eventually(lambda: stub.abandoned == 1)
    (record,) = running.wait_for_records(1)
    assert (record.error, record.ok) == ("client_closed", True)
    assert stub.asked("old-model") == []


def test_a_client_that_leaves_in_the_middle_of_a_stream_cancels_it_upstream(world: World) -> None:
    stub = world.upstream(**{"old-model": sends(ROLE, SO, then="silence")})
    running = world.gateway(table_for(stub.url))
    with running.http.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        next(response.iter_lines())
    eventually(lambda: stub.abandoned == 1)
    (record,) = running.wait_for_records(1)
    assert (record.error, record.ok) == ("client_closed", True)
