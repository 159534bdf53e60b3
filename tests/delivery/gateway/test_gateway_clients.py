"""Clients as they are: whom they name, what else they send, browsers, and those who wait for the first word."""

from typing import Any

import pytest
from gateway_world import World, frames, table_for
from openai.types import completion_create_params as completions
from openai.types import embedding_create_params as embeddings
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses
from stub_upstream import DONE, ROLE, Gate, chunk, frame, refuses, sends

from delivery.gateway.openai.endpoints.known import ENDPOINTS

HALF = {"candidate": {"variant": "new", "share_bp": 5_000}}
OFFICIAL = {
    "chat": chat.CompletionCreateParamsBase,
    "responses": responses.ResponseCreateParamsBase,
    "completions": completions.CompletionCreateParamsBase,
    "embeddings": embeddings.EmbeddingCreateParams,
}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.name)
def test_every_parameter_of_the_official_client_is_known(endpoint: Any) -> None:
    assert set(OFFICIAL[endpoint.name].__annotations__) <= endpoint.parameters


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ({}, lambda user: {"json": {"safety_identifier": user}}),
        ({"user_headers": ["x-openwebui-user-id"]}, lambda user: {"headers": {"X-OpenWebUI-User-Id": user}}),
        ({"user_fields": ["metadata.user_id"]}, lambda user: {"json": {"metadata": {"user_id": user}}}),
    ],
)
def test_users_are_told_apart_by_what_the_operator_names(world: World, policy: dict[str, Any], named: Any) -> None:
    running = world.gateway(table_for(world.upstream().url, policy=policy, **HALF))

    def variant(user: str) -> str:
        asked = named(user)
        body = {"model": "tutor", "messages": [{"role": "user", "content": "Hi"}]} | asked.get("json", {})
        headers = {"Authorization": "Bearer shared"} | asked.get("headers", {})
        answer = running.http.post("/v1/chat/completions", json=body, headers=headers)
        return answer.headers["x-slipway-variant"]

    dealt = [variant(f"user-{number}") for number in range(20)]
    assert set(dealt) == {"old", "new"}
    assert [variant(f"user-{number}") for number in range(20)] == dealt


def test_user_counts_before_safety_identifier(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, **HALF))
    running.ask(safety_identifier="x")
    running.ask(safety_identifier="y", **{"user": "ada"})
    running.ask("ada")
    first, second, third = (record.user for record in running.wait_for_records(3))
    assert first != second == third


def test_an_operator_admits_more_parameters_by_name(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url, policy={"allowed_parameters": ["chat_template_kwargs"]}))
    assert running.ask(chat_template_kwargs={"enable_thinking": False}).status_code == 200
    assert stub.seen[-1].body["chat_template_kwargs"] == {"enable_thinking": False}
    assert running.ask(thinking_token_budget=5).json()["error"]["code"] == "unknown_parameter"
    assert running.ask(thinking_token_budget=None).status_code == 200


REFUSED: dict[str, dict[str, Any]] = {
    "nine answers": {"n": 9},
    "a long answer": {"max_tokens": 5_000},
    "a grammar": {"structured_outputs": {"grammar": "root ::= x"}},
    "a form of no kind": {"response_format": {"type": []}},
    "a structural tag": {"response_format": {"type": "structural_tag"}},
    "a pattern in a schema": {
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"items": {"pattern": "(a+)+"}}}}
    },
    "an image to fetch": {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/x"}}]}
        ]
    },
    "an image without a type": {"messages": [{"role": "user", "content": [{"image_url": "file:///etc/passwd"}]}]},
    "tensors": {"messages": [{"role": "user", "content": [{"type": "image_embeds", "image_embeds": "AAAA"}]}]},
}
TAKEN: dict[str, dict[str, Any]] = {
    "a schema": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {"type": "object", "properties": {"pattern": {"type": "string"}}}},
        }
    },
    "an image within": {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}
        ]
    },
    "text parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
}


@pytest.mark.parametrize("asked", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_safe_is_allowed_by_the_routes_policy_alone(world: World, asked: dict[str, Any]) -> None:
    stub = world.upstream()
    assert world.gateway(table_for(stub.url)).ask(**asked).json()["error"]["code"] == "parameter_not_allowed"
    anything = {"max_tokens": None, "max_choices": None, "guided_decoding": "any", "media": "any"}
    assert world.gateway(table_for(stub.url, policy=anything)).ask(**asked).status_code == 200


@pytest.mark.parametrize("asked", TAKEN.values(), ids=TAKEN.keys())
def test_what_is_safe_needs_no_policy(world: World, asked: dict[str, Any]) -> None:
    assert world.gateway(table_for(world.upstream().url)).ask(**asked).status_code == 200


def test_users_do_not_see_the_variants_name_unless_the_route_says_so(world: World) -> None:
    hidden = world.gateway(table_for(world.upstream().url, policy={"show_variant": False}))
    assert "x-slipway-variant" not in hidden.ask().headers


def test_pages_of_origins_that_are_named_may_ask_from_a_browser(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url), allowed_origins=("http://localhost:5173",))
    asks = {"Origin": "http://localhost:5173", "Access-Control-Request-Method": "POST"}
    preflight = running.http.options("/v1/chat/completions", headers=asks)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, asks["Origin"])
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    body = {"model": "tutor", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    answer = running.http.post("/v1/chat/completions", json=body, headers={"Origin": asks["Origin"]})
    assert answer.headers["access-control-allow-origin"] == asks["Origin"]
    other = running.http.options("/v1/chat/completions", headers=asks | {"Origin": "http://elsewhere"})
    assert "access-control-allow-origin" not in other.headers


def test_without_a_setting_no_page_may_ask(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    asks = {"Origin": "http://localhost:5173", "Access-Control-Request-Method": "POST"}
    preflight = running.http.options("/v1/chat/completions", headers=asks)
    assert (preflight.status_code, "access-control-allow-origin" in preflight.headers) == (405, False)


def test_a_stream_is_kept_alive_until_its_first_word(world: World) -> None:
    gate = Gate()
    words = sends(gate, ROLE, frame(chunk({"content": "late "})), frame(chunk({}, "stop")), DONE)
    running = world.gateway(table_for(world.upstream(**{"old-model": words}).url), keep_alive_s=0.05)
    body = {"model": "tutor", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with running.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        pieces = answer.iter_text()
        assert next(pieces) == ": still at work\n\n"
        gate.open(world.loop)
        assert "late" in "".join(pieces)


def test_a_refusal_after_the_first_comment_comes_in_the_stream(world: World) -> None:
    gate = Gate()

    async def late(http: Any, body: dict[str, Any]) -> Any:
        await gate.wait()
        return await refuses(400, "too long")(http, body)

    running = world.gateway(table_for(world.upstream(**{"old-model": late}).url), keep_alive_s=0.05)
    body = {"model": "tutor", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with running.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        pieces = answer.iter_text()
        first = next(pieces)
        gate.open(world.loop)
        rest = first + "".join(pieces)
    assert "too long" in rest
    assert rest.endswith("data: [DONE]\n\n")


def test_a_model_shows_how_long_its_context_is(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url))
    running.gateway.replicas.of(stub.url).contexts["old-model"] = 2048
    assert running.http.get("/v1/models/tutor").json()["max_model_len"] == 2048
    running.ask()
    assert stub.seen[-1].body["max_tokens"] == 2048
    assert frames(running.ask(stream=True))
