"""Whatever a client or an upstream sends, the answer is an answer or an error in OpenAI's shape."""

import json
from typing import Any

import pytest
from gateway_world import CHAT, Running, World, all_to_new, table_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stub_responses import responds
from stub_upstream import Stub, answers, sends

from delivery.gateway.openai.answers import Frames
from delivery.gateway.openai.endpoints.chat import CHAT_COMPLETIONS, ROLES
from delivery.gateway.openai.endpoints.known import ENDPOINTS

pytestmark = pytest.mark.live

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(sorted(ROLES)) | JSON, "content": JSON}) | JSON
BODY = st.fixed_dictionaries(
    {"model": st.just("tutor") | JSON, "messages": st.lists(MESSAGE, max_size=3) | JSON},
    optional={name: JSON for name in sorted(CHAT_COMPLETIONS.parameters - {"model", "messages"})},
)
CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "index": JSON,
        "message": JSON | st.fixed_dictionaries({"content": JSON}),
        "delta": JSON | st.fixed_dictionaries({"content": JSON}),
        "finish_reason": JSON,
    },
)
ANSWER = st.fixed_dictionaries(
    {},
    optional={
        "choices": JSON | st.lists(CHOICE | JSON, max_size=3),
        "usage": JSON | st.fixed_dictionaries({"prompt_tokens": JSON, "completion_tokens": JSON}),
        "error": JSON
        | st.fixed_dictionaries({"message": JSON, "code": JSON | st.just(400), "type": JSON, "param": JSON}),
        "object": JSON | st.just("error"),
    },
)
(RESPONSES,) = [one.parameters for one in ENDPOINTS if one.name == "responses"]
NEED_MEMORY = {"background", "conversation", "previous_response_id", "prompt"}
TEXT = st.fixed_dictionaries({}, optional={"type": JSON, "text": JSON, "image_url": JSON, "refusal": JSON})
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "type": JSON | st.sampled_from(["message", "reasoning", "function_call", "function_call_output", "mcp_call"]),
        "role": JSON | st.sampled_from(["user", "assistant", "system"]),
        "content": JSON | st.text() | st.lists(TEXT | JSON, max_size=2),
        "output": JSON | st.lists(TEXT | JSON, max_size=2),
        "id": JSON,
    },
)
KIND = {"type": JSON | st.sampled_from(["function", "custom", "namespace", "mcp", "json_schema", "text"])}
RESPONSE_BODY = st.fixed_dictionaries(
    {"model": st.just("tutor"), "input": st.text(min_size=1) | st.lists(ITEM | JSON, min_size=1, max_size=3)},
    optional={
        "stream": st.booleans(),
        "text": JSON | st.fixed_dictionaries({"format": JSON | st.fixed_dictionaries(KIND)}),
        "tools": JSON | st.lists(st.fixed_dictionaries(KIND, optional={"tools": JSON, "format": JSON}), max_size=2),
        **{name: JSON for name in sorted(RESPONSES - NEED_MEMORY - {"model", "input", "stream", "text", "tools"})},
    },
)
RESPONSE = st.fixed_dictionaries(
    {},
    optional={
        "output": JSON | st.lists(ITEM | JSON, max_size=2),
        "status": JSON | st.sampled_from(["completed", "incomplete", "failed", "cancelled"]),
        "incomplete_details": JSON | st.fixed_dictionaries({"reason": JSON}),
        "usage": JSON | st.fixed_dictionaries({"input_tokens": JSON, "output_tokens": JSON}),
        "error": JSON,
    },
)
KINDS = ("created", "output_item.added", "output_text.delta", "completed", "incomplete", "failed")
EVENT = st.fixed_dictionaries(
    {"type": st.sampled_from([f"response.{kind}" for kind in KINDS]) | st.just("error") | JSON},
    optional={"response": RESPONSE | JSON, "item": ITEM | JSON, "delta": JSON, "sequence_number": JSON},
)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def between(world: World) -> tuple[Running, Stub]:
    stub = world.upstream()
    variants = {"new": {"system_prompt": "Tutor.", "max_tokens": 9}}
    table = table_for(stub.url, **all_to_new(variants=variants, trip={"failures": 1_000_000}))
    return world.gateway(table), stub


def assert_openai(running: Running, response: Any) -> None:
    """An answer, or OpenAI's error; never a bug of the gateway; and nothing stays in flight."""
    assert response.status_code in (200, 400, 404, 413, 422, 502), response.text
    if response.status_code != 200:
        error = response.json()["error"]
        assert isinstance(error["message"], str)
        assert isinstance(error["type"], str)
        assert error["source"] in ("gateway", "model")
    running.admin.records(0)


@FEW
@given(raw=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_for_a_body(between: tuple[Running, Stub], raw: bytes) -> None:
    running, _ = between
    assert_openai(running, running.http.post("/v1/chat/completions", content=raw))


@FEW
@given(body=BODY)
def test_any_values_for_the_known_parameters(between: tuple[Running, Stub], body: dict[str, Any]) -> None:
    running, _ = between
    raw = json.dumps(body).encode()
    assert_openai(running, running.http.post("/v1/chat/completions", content=raw))


@FEW
@given(headers=st.dictionaries(st.sampled_from(["x-slipway-user", "Authorization"]), st.binary(max_size=40)))
def test_any_value_for_the_users_headers(between: tuple[Running, Stub], headers: dict[str, bytes]) -> None:
    running, _ = between
    clean = {name.encode(): bytes(b for b in value if b > 31 and b != 127).strip() for name, value in headers.items()}
    response = running.http.post("/v1/chat/completions", json=CHAT, headers=list(clean.items()))
    assert_openai(running, response)


@FEW
@given(answer=ANSWER | JSON)
def test_any_json_for_an_upstreams_answer(between: tuple[Running, Stub], answer: Any) -> None:
    running, stub = between
    stub.behaviours["new-model"] = answers(answer)
    assert_openai(running, running.ask())


@FEW
@given(chunks=st.lists(ANSWER | JSON, max_size=4))
def test_any_json_for_an_upstreams_chunks(between: tuple[Running, Stub], chunks: list[Any]) -> None:
    running, stub = between
    stub.behaviours["new-model"] = sends(*(b"data: " + json.dumps(value).encode() + b"\n\n" for value in chunks))
    assert_openai(running, running.ask(stream=True))


@FEW
@given(body=RESPONSE_BODY)
def test_any_values_for_the_parameters_of_a_response(between: tuple[Running, Stub], body: dict[str, Any]) -> None:
    running, stub = between
    stub.behaviours = dict.fromkeys(("old-model", "new-model"), responds("four"))
    assert_openai(running, running.http.post("/v1/responses", content=json.dumps(body).encode()))


@FEW
@given(answer=RESPONSE)
def test_any_json_for_an_upstreams_response(between: tuple[Running, Stub], answer: Any) -> None:
    running, stub = between
    stub.behaviours |= {"new-model": answers(answer), "old-model": responds("four")}
    assert_openai(running, running.http.post("/v1/responses", json={"model": "tutor", "input": "Hi"}))


@FEW
@given(events=st.lists(EVENT, max_size=4))
def test_any_json_for_an_upstreams_events(between: tuple[Running, Stub], events: list[Any]) -> None:
    running, stub = between
    sent = [b"data: " + json.dumps(value).encode() + b"\n\n" for value in events]
    stub.behaviours |= {"new-model": sends(*sent), "old-model": responds("four")}
    body = {"model": "tutor", "input": "Hi", "stream": True}
    assert_openai(running, running.http.post("/v1/responses", json=body))


@given(events=st.lists(st.text(max_size=20).filter(lambda t: "\n" not in t and "\r" not in t)), cuts=st.data())
def test_events_are_the_same_however_their_bytes_are_cut(events: list[str], cuts: Any) -> None:
    whole = b"".join(f"data: {event}\n\n".encode() for event in events)
    frames, seen, at = Frames(), [], 0
    while at < len(whole):
        end = cuts.draw(st.integers(at + 1, len(whole)))
        seen += frames.feed(whole[at:end])
        at = end
    assert seen == [event.encode() for event in events]
