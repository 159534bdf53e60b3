"""Every path that reaches a model, through the official client; and what a route's policy leaves to its clients."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from gateway_world import QUICK, Running, World, all_to_new, eventually, table_for
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from stub_upstream import DONE, ROLE, USAGE, answers, chunk, frame, hangs, refuses, sends

EVERYWHERE = {"endpoints": ["chat", "completions", "embeddings"]}
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the weather in Rome?"}]
TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
]
CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
LOGPROBS = {"content": [{"token": "So", "logprob": -0.5, "bytes": [83, 111], "top_logprobs": []}]}


def text(said: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c", "model": "secret", "choices": [{"index": 0, "text": said, "finish_reason": finish}], **more}


@pytest.fixture
def clients() -> Iterator[Any]:
    opened: list[openai.OpenAI] = []

    def client(running: Running, key: str = "sk-ada") -> openai.OpenAI:
        opened.append(openai.OpenAI(base_url=running.url + "/v1", api_key=key, max_retries=0))
        return opened[-1]

    yield client
    for one in opened:
        one.close()


def test_a_completion_plain_and_streamed(world: World, clients: Any) -> None:
    stub = world.upstream(**{"old-model": answers(text("four", "stop", usage=USAGE))})
    client = clients(world.gateway(table_for(stub.url, policy=EVERYWHERE)))
    answer = client.completions.create(model="tutor", prompt="2 + 2 =")
    assert (answer.choices[0].text, answer.model, answer.usage.completion_tokens) == ("four", "tutor", 3)
    assert (stub.seen[0].path, stub.seen[0].body["prompt"]) == ("/v1/completions", "2 + 2 =")
    words = [frame(text("fo")), frame(text("ur", "stop")), frame({"choices": [], "usage": USAGE}), DONE]
    stub.behaviours["old-model"] = sends(*words)
    chunks = list(client.completions.create(model="tutor", prompt="2 + 2 =", stream=True))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "four"
    assert {chunk.model for chunk in chunks} == {"tutor"}


def test_embeddings(world: World, clients: Any) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}]
    said = {"object": "list", "model": "secret", "data": data, "usage": {"prompt_tokens": 4, "total_tokens": 4}}
    stub = world.upstream(**{"old-model": answers(said)})
    running = world.gateway(table_for(stub.url, policy=EVERYWHERE, variants={"old": {"system_prompt": "Tutor."}}))
    answer = clients(running).embeddings.create(model="tutor", input=["a", "b"], encoding_format="float")
    assert (answer.data[0].embedding, answer.model) == ([0.5, -0.25], "tutor")
    assert stub.seen[0].path == "/v1/embeddings"
    assert stub.seen[0].body == {"model": "old-model", "input": ["a", "b"], "encoding_format": "float"}
    (record,) = running.records()
    assert (record.prompt_tokens, record.completion_tokens) == (4, 0)


def test_a_candidate_that_fails_at_an_embedding_or_a_completion_is_replaced_by_stable(
    world: World, clients: Any
) -> None:
    said = {"data": [{"index": 0, "embedding": [1.0], "object": "embedding"}], "model": "x", "object": "list"}
    stub = world.upstream(**{"new-model": answers({"data": [], "choices": []}), "old-model": answers(said)})
    running = world.gateway(table_for(stub.url, policy=EVERYWHERE, **all_to_new()))
    assert clients(running).embeddings.create(model="tutor", input="a", encoding_format="float").data[0].index == 0
    stub.behaviours["old-model"] = answers(text("four", "stop"))
    assert clients(running).completions.create(model="tutor", prompt="2 + 2").choices[0].text == "four"
    assert [(r.variant, r.error) for r in running.records()] == [("old", ""), ("new", "empty")] * 2


def test_a_tool_is_called_plain_and_streamed(world: World, clients: Any) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    stub = world.upstream(**{"old-model": answers({"id": "c", "choices": [choice], "usage": USAGE})})
    client = clients(world.gateway(table_for(stub.url)))
    answer = client.chat.completions.create(model="tutor", messages=MESSAGES, tools=TOOLS, tool_choice="auto")
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"city": "Rome"}'
    assert (stub.seen[0].body["tools"], stub.seen[0].body["tool_choice"]) == (TOOLS, "auto")
    start = {"index": 0, "id": "call-1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    parts = [{"index": 0, "function": {"arguments": part}} for part in ('{"city"', ': "Rome"}')]
    calls = [frame(chunk({"tool_calls": [part]})) for part in (start, *parts)]
    stub.behaviours["old-model"] = sends(ROLE, *calls, frame(chunk({}, "tool_calls")), DONE)
    got = [
        delta.tool_calls[0]
        for answered in client.chat.completions.create(model="tutor", messages=MESSAGES, tools=TOOLS, stream=True)
        if (delta := answered.choices[0].delta).tool_calls
    ]
    assert (got[0].id, got[0].function.name) == ("call-1", "weather")
    assert "".join(part.function.arguments for part in got) == '{"city": "Rome"}'


def test_the_log_probabilities_and_token_counts_of_a_stream_arrive(world: World, clients: Any) -> None:
    said = chunk({"content": "So"}, "stop")
    said["choices"][0]["logprobs"] = LOGPROBS
    stub = world.upstream(**{"old-model": sends(ROLE, frame(said), frame({"choices": [], "usage": USAGE}), DONE)})
    client = clients(world.gateway(table_for(stub.url)))
    chunks = list(
        client.chat.completions.create(
            model="tutor",
            messages=MESSAGES,
            logprobs=True,
            top_logprobs=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    found = [c.choices[0].logprobs.content[0].logprob for c in chunks if c.choices and c.choices[0].logprobs]
    assert found == [-0.5]
    assert chunks[-1].usage.total_tokens == 14
    assert stub.seen[0].body["logprobs"] is True


def test_the_official_client_can_tell_whether_the_gateway_or_the_model_refused(world: World, clients: Any) -> None:
    stub = world.upstream(**{"old-model": refuses(400, "old-model reads at most 9 tokens")})
    client = clients(world.gateway(table_for(stub.url), **QUICK))
    with pytest.raises(openai.BadRequestError) as by_model:
        client.chat.completions.create(model="tutor", messages=MESSAGES)
    assert isinstance(by_model.value.body, dict)
    assert (by_model.value.body["source"], by_model.value.body["message"]) == ("model", "tutor reads at most 9 tokens")
    with pytest.raises(openai.BadRequestError) as by_gateway:
        client.chat.completions.create(model="tutor", messages=[])
    assert isinstance(by_gateway.value.body, dict)
    assert by_gateway.value.body["source"] == "gateway"
    stub.behaviours["old-model"] = hangs
    with pytest.raises(openai.InternalServerError) as late:
        client.chat.completions.create(model="tutor", messages=MESSAGES)
    assert (late.value.status_code, late.value.code) == (504, "first_byte_timeout")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), [("completions", {"prompt": "So"}), ("embeddings", {"input": "So"})])
def test_a_client_that_goes_away_takes_its_request_with_it(
    world: World, path: str, body: dict[str, Any], stream: bool
) -> None:
    stub = world.upstream(**{"old-model": hangs})
    running = world.gateway(table_for(stub.url, policy=EVERYWHERE))
    if path == "completions":
        body = body | {"stream": stream}
    with pytest.raises(httpx.ReadTimeout):
        running.http.post(f"/v1/{path}", json={"model": "tutor"} | body, timeout=0.2)
    eventually(lambda: stub.abandoned == 1)
    assert running.wait_for_records(1)[0].error == "client_closed"


BAD = [
    ("completions", {}, "prompt"),
    ("completions", {"prompt": ""}, "prompt"),
    ("completions", {"prompt": {"a": 1}}, "prompt"),
    ("completions", {"prompt": "a", "messages": []}, "messages"),
    ("completions", {"prompt": "a", "prompt_logprobs": 1}, "prompt_logprobs"),
    ("embeddings", {"input": []}, "input"),
    ("embeddings", {"input": "a", "stream": True}, "stream"),
    ("embeddings", {"input": "a", "truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),
]


@pytest.mark.parametrize(("path", "body", "named"), BAD)
def test_a_body_that_its_path_does_not_take_is_refused_by_name(
    world: World, path: str, body: dict[str, Any], named: str
) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url, policy=EVERYWHERE))
    response = running.http.post(f"/v1/{path}", json={"model": "tutor"} | body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, named)
    assert not stub.seen


@pytest.mark.parametrize(("path", "body"), [("completions", {"prompt": "a"}), ("embeddings", {"input": "a"})])
def test_a_route_serves_chat_alone_unless_its_policy_says_more(world: World, path: str, body: dict[str, Any]) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url))
    response = running.http.post(f"/v1/{path}", json={"model": "tutor"} | body)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "endpoint_not_served")
    assert not stub.seen


POLICIES: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "a fixed temperature": ({"refused_parameters": ["temperature"]}, {"temperature": 0}, "temperature"),
    "no temperature sent": ({"refused_parameters": ["temperature"]}, {"temperature": None}, None),
    "no limit of one's own": ({"refused_parameters": ["max_tokens"]}, {"max_completion_tokens": 5}, "max_tokens"),
    "within the limit": ({"max_tokens": 50}, {"max_tokens": 50}, None),
    "beyond the limit": ({"max_tokens": 50}, {"max_tokens": 51}, "max_tokens"),
    "beyond it by the other name": ({"max_tokens": 50}, {"max_completion_tokens": 51}, "max_completion_tokens"),
    "a limit that is text": ({"max_tokens": 50}, {"max_tokens": "5000"}, "max_tokens"),
    "a limit that is a fraction": ({"max_tokens": 50}, {"max_tokens": 1e9}, "max_tokens"),
    "too many choices": ({"max_choices": 1}, {"n": 2}, "n"),
}


@pytest.mark.parametrize(("policy", "asked", "refused"), POLICIES.values(), ids=POLICIES.keys())
def test_what_a_client_may_override_is_the_routes_policy(
    world: World, policy: dict[str, Any], asked: dict[str, Any], refused: str | None
) -> None:
    stub = world.upstream()
    response = world.gateway(table_for(stub.url, policy=policy)).ask(**asked)
    if refused is None:
        assert response.status_code == 200
    else:
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (400, "parameter_not_allowed", refused)
        assert not stub.seen


def test_the_policys_limit_holds_where_nobody_names_one(world: World) -> None:
    stub = world.upstream()
    world.gateway(table_for(stub.url, policy={"max_tokens": 50})).ask()
    assert stub.seen[0].body["max_tokens"] == 50


SYSTEM = {"role": "system", "content": "You are a pirate."}
USER = {"role": "user", "content": "Hello"}
PROMPT = {"role": "system", "content": "You are a tutor."}


@pytest.mark.parametrize(("rule", "sent"), [("replace", [PROMPT, USER]), ("append", [PROMPT, SYSTEM, USER])])
def test_the_policy_says_what_becomes_of_the_clients_system_messages(
    world: World, rule: str, sent: list[dict[str, str]]
) -> None:
    stub = world.upstream()
    variants = {"old": {"system_prompt": PROMPT["content"]}}
    world.gateway(table_for(stub.url, variants=variants, policy={"system_messages": rule})).ask(messages=[SYSTEM, USER])
    assert stub.seen[0].body["messages"] == sent


def test_a_route_may_refuse_system_messages(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url, policy={"system_messages": "refuse"}))
    assert running.ask(messages=[SYSTEM, USER]).json()["error"]["param"] == "messages"
    assert running.ask(messages=[USER]).status_code == 200
