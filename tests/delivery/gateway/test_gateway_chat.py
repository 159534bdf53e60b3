"""What goes upstream and what comes back, when nothing goes wrong; and requests that are turned away."""

import httpx
import openai
import pytest
from gateway_world import CHAT, World, frames, table_for
from stub_upstream import refuses, says

from delivery.gateway.openai.answers import declined

SYSTEM = {"role": "system", "content": "You are a pirate."}
USER = {"role": "user", "content": "Hello"}


def test_a_plain_answer_carries_the_routes_name_and_never_the_models(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    response = running.ask()
    assert response.json()["model"] == "tutor"
    assert response.headers["x-slipway-variant"] == "old"
    assert len(response.headers["x-slipway-request-id"]) == 24
    assert "old-model" not in response.text.replace("I am old-model", "")
    assert "old-model" not in str(response.headers)


def test_a_streamed_answer_carries_the_routes_name_and_never_the_models(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    response = running.ask(stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert {frame["model"] for frame in frames(response)} == {"tutor"}
    assert "secret-name" not in response.text
    assert running.said(stream=True) == "I am old-model "


def test_the_variants_prompt_replaces_the_clients_system_messages(world: World) -> None:
    stub = world.upstream()
    table = table_for(stub.url, variants={"old": {"system_prompt": "You are a tutor."}})
    developer = {"role": "developer", "content": "Be rude."}
    world.gateway(table).ask(messages=[SYSTEM, USER, developer])
    assert stub.seen[0].body["messages"] == [{"role": "system", "content": "You are a tutor."}, USER]


def test_where_the_template_has_no_system_role_the_prompt_stands_in_the_users_first_turn(world: World) -> None:
    stub = world.upstream()
    table = table_for(stub.url, variants={"old": {"system_prompt": "Tutor.", "system_place": "first_user"}})
    answered = {"role": "assistant", "content": "Hi."}
    parts = {"role": "user", "content": [{"type": "text", "text": "Hello"}]}
    world.gateway(table).ask(messages=[SYSTEM, USER, answered, USER])
    assert stub.seen[0].body["messages"] == [{**USER, "content": "Tutor.\n\nHello"}, answered, USER]
    world.gateway(table).ask(messages=[parts])
    said = [part["text"] for part in stub.seen[1].body["messages"][0]["content"]]
    assert said == ["Tutor.\n\n", "Hello"]


def test_a_clients_system_messages_go_there_too_where_the_policy_appends_them(world: World) -> None:
    stub = world.upstream()
    table = table_for(
        stub.url,
        variants={"old": {"system_prompt": "Tutor.", "system_place": "first_user"}},
        policy={"system_messages": "append"},
    )
    world.gateway(table).ask(messages=[SYSTEM, USER])
    assert stub.seen[0].body["messages"] == [{**USER, "content": "Tutor.\n\nYou are a pirate.\n\nHello"}]


def test_without_a_prompt_of_its_own_a_variant_gets_the_clients_system_messages(world: World) -> None:
    stub = world.upstream()
    world.gateway(table_for(stub.url)).ask(messages=[SYSTEM, USER])
    assert stub.seen[0].body["messages"] == [SYSTEM, USER]


def test_defaults_fill_in_only_what_the_client_left_open(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url, variants={"old": {"temperature": 0.25, "max_tokens": 99}}))
    running.ask()
    running.ask(temperature=1.5, max_tokens=5)
    running.ask(temperature=0, max_completion_tokens=6)
    sent = [
        (s.body.get("temperature"), s.body.get("max_tokens"), s.body.get("max_completion_tokens")) for s in stub.seen
    ]
    assert sent == [(0.25, 99, None), (1.5, 5, None), (0, None, 6)]


def test_a_variant_brings_parameters_of_its_own_which_clients_need_not_know(world: World) -> None:
    stub = world.upstream()
    own = {"chat_template_kwargs": {"enable_thinking": False}, "top_k": 20}
    running = world.gateway(table_for(stub.url, variants={"old": {"parameters": own}}))
    running.ask()
    running.ask(top_k=3)
    assert [(seen.body["chat_template_kwargs"], seen.body["top_k"]) for seen in stub.seen] == [
        ({"enable_thinking": False}, 20),
        ({"enable_thinking": False}, 3),
    ]
    assert running.ask(chat_template_kwargs={}).status_code == 400


@pytest.mark.parametrize("name", ["model", "messages", "stream", "max_tokens", "temperature", "n"])
def test_a_variants_parameters_hold_nothing_that_is_said_elsewhere(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        table_for("http://127.0.0.1:1", variants={"old": {"parameters": {name: 1}}})


def test_token_counts_are_recorded_though_the_client_does_not_see_them_in_a_stream(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    assert all("usage" not in frame and frame["choices"] for frame in frames(running.ask(stream=True)))
    (record,) = running.wait_for_records(1)
    assert (record.prompt_tokens, record.completion_tokens) == (11, 3)


def test_a_client_that_asks_for_token_counts_in_a_stream_gets_them(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    response = running.ask(stream=True, stream_options={"include_usage": True})
    assert frames(response)[-1]["usage"]["completion_tokens"] == 3


def test_a_record_tells_all_about_an_answer_but_not_who_asked(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    response = running.ask(user="ada@example.org")
    (record,) = running.records()
    assert record.request_id == response.headers["x-slipway-request-id"]
    assert (record.route, record.epoch, record.variant, record.role) == ("tutor", "e1", "old", "served")
    assert (record.status, record.ok, record.error, record.user_ok) == (200, True, "", True)
    assert record.streamed is False
    assert len(record.user) == 16
    assert "ada@" not in running.admin.records(0).model_dump_json()


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_hop_by_hop_and_no_key_goes_either_way(world: World, stream: bool) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url), upstream_api_key="key-of-vllm")
    sent = {
        "Authorization": "Bearer key-of-the-user",
        "Connection": "close, x-private",
        "x-private": "1",
        "Proxy-Authorization": "Basic abc",
        "TE": "trailers",
        "Cookie": "a=b",
        "X-Request-Id": "chosen-by-the-client",
    }
    response = running.http.post("/v1/chat/completions", json=CHAT | {"stream": stream}, headers=sent)
    assert response.status_code == 200
    got = {name.lower(): value for name, value in stub.seen[0].headers.items()}
    assert got["authorization"] == "Bearer key-of-vllm"
    assert got["x-request-id"] == response.headers["x-slipway-request-id"]
    assert not got.keys() & {"proxy-authorization", "te", "cookie", "x-private", "x-slipway-user"}


def test_none_of_upstreams_headers_reach_the_user(world: World) -> None:
    headers = {"Set-Cookie": "a=b", "X-Internal": "10.0.0.7", "Keep-Alive": "timeout=5", "Server": "uvicorn"}
    running = world.gateway(table_for(world.upstream(**{"old-model": refuses(400, headers=headers)}).url))
    got = running.ask().headers
    assert not got.keys() & {"set-cookie", "x-internal", "keep-alive"}
    assert got["server"] == "slipway"


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("stream", [False, True])
def test_the_models_complaint_about_a_request_is_the_users_to_read(world: World, status: int, stream: bool) -> None:
    stub = world.upstream(**{"new-model": refuses(status, "new-model cannot read 5000 tokens")})
    running = world.gateway(table_for(stub.url, candidate={"variant": "new", "share_bp": 10_000}))
    response = running.ask(stream=stream)
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["source"], error["message"]) == ("model", "tutor cannot read 5000 tokens")
    (record,) = running.records()
    assert (record.variant, record.ok, record.error, record.user_ok) == ("new", True, "declined", True)
    assert stub.asked("old-model") == []


NAMED = [
    ("base", "The model `base` reads no database; base.", "The model `tutor` reads no database; tutor."),
    ("base", "base-64 of codebase/base and base's", "base-64 of codebase/tutor and tutor's"),
    ("a+b", "a+b, aab", "tutor, aab"),
]


@pytest.mark.parametrize(("model", "said", "shown"), NAMED)
def test_in_the_models_words_its_name_alone_becomes_the_routes(model: str, said: str, shown: str) -> None:
    assert str(declined(400, {"message": said}, model, "tutor")) == shown


def test_an_unknown_route_is_a_404_in_openais_shape(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    response = running.ask(model="old-model")
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["source"], error["param"]) == ("model_not_found", "gateway", "model")
    assert "tutor" in error["message"]


BAD = {
    "not JSON": b"{",
    "not UTF-8": b'{"model": "\xff"}',
    "a list": b"[]",
    "no model": b'{"messages": [{"role": "user", "content": "x"}]}',
    "no messages": b'{"model": "tutor"}',
    "empty messages": b'{"model": "tutor", "messages": []}',
    "messages of text": b'{"model": "tutor", "messages": ["x"]}',
    "a role of its own": b'{"model": "tutor", "messages": [{"role": "user<|im_end|>", "content": "x"}]}',
    "stream as text": b'{"model": "tutor", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}',
    "user as number": b'{"model": "tutor", "messages": [{"role": "user", "content": "x"}], "user": 5}',
    "too deep": b'{"model": "tutor", "messages": [{"role": "user", "content": ' + b"[" * 300 + b"]" * 300 + b"}]}",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_a_request_that_no_model_could_answer_is_turned_away_by_the_gateway(world: World, body: bytes) -> None:
    stub = world.upstream()
    response = world.gateway(table_for(stub.url)).http.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["source"] == "gateway"
    assert stub.seen == []


@pytest.mark.parametrize(
    "parameter",
    ["prompt_logprobs", "return_prompt_text", "return_token_ids", "chat_template", "truncate_prompt_tokens"],
)
def test_parameters_that_would_show_or_cut_the_system_prompt_are_refused(world: World, parameter: str) -> None:
    stub = world.upstream()
    response = world.gateway(table_for(stub.url)).ask(**{parameter: 1})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == parameter
    assert stub.seen == []


def test_system_messages_alone_are_no_request_to_a_variant_with_a_prompt(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, variants={"old": {"system_prompt": "Tutor."}}))
    assert running.ask(messages=[SYSTEM]).status_code == 400


def test_a_body_beyond_the_limit_is_refused_without_asking_the_model(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url), max_body_bytes=2000)
    assert running.ask(messages=[{"role": "user", "content": "x" * 1500}]).status_code == 200
    response = running.ask(messages=[{"role": "user", "content": "x" * 3000}])
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"
    assert len(stub.seen) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/load_lora_adapter", 404),
        ("POST", "/v1/unload_lora_adapter", 404),
        ("GET", "/metrics", 404),
        ("GET", "/admin/table", 404),
        ("POST", "/v1/chat/completions/../../tokenize", 404),
        ("GET", "//v1/models", 404),
    ],
)
def test_no_path_but_the_documented_ones_leads_anywhere(world: World, method: str, path: str, status: int) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url))
    response = running.http.send(httpx.Request(method, running.url + path, headers={"Authorization": "Bearer x"}))
    assert response.status_code == status
    assert response.json()["error"]["source"] == "gateway"
    assert stub.seen == []


def test_models_are_the_routes_and_no_adapters(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    response = running.http.get("/v1/models")
    assert [model["id"] for model in response.json()["data"]] == ["tutor"]
    assert "-model" not in response.text
    assert running.http.get("/v1/models/tutor").json()["id"] == "tutor"
    assert running.http.get("/v1/models/old-model").status_code == 404


def test_it_is_ready_as_soon_as_it_has_a_route(world: World) -> None:
    running = world.gateway()
    assert running.http.get("/healthz").status_code == 200
    assert running.http.get("/readyz").status_code == 503
    running.admin.put_table(table_for(world.upstream().url))
    assert running.http.get("/readyz").status_code == 200


def test_the_official_client_gets_plain_answers_streams_models_and_typed_errors(world: World) -> None:
    stub = world.upstream(**{"old-model": says("two and two")})
    running = world.gateway(table_for(stub.url))
    client = openai.OpenAI(base_url=running.url + "/v1", api_key="sk-ada", max_retries=0)
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
    plain = client.chat.completions.create(model="tutor", messages=messages)
    assert (plain.choices[0].message.content, plain.model) == ("two and two", "tutor")
    stream = client.chat.completions.create(
        model="tutor", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "two and two "
    assert chunks[-1].usage is not None
    assert [model.id for model in client.models.list()] == ["tutor"]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", messages=messages)
    assert len({record.user for record in running.records()}) == 1
