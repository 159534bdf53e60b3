"""`/v1/responses`, plain and streamed, without a memory: as the official client sees it, and as the records see it."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import httpx
import openai
import pyarrow.parquet as parquet
import pytest
from gateway_world import CHAT, QUICK, Running, World, all_to_new, eventually, table_for
from hypothesis import given
from hypothesis import strategies as st
from stub_responses import event, events_of, message, responds, whole
from stub_upstream import Gate, answers, hangs, refuses, says, sends

from configs.routing import Policy, Variant
from configs.traffic_log import TrafficLog
from delivery.gateway.openai.endpoints.responses.requests import as_messages, for_vllm
from delivery.traffic.records import Record

ASKED = {"model": "tutor", "input": "What is 2 + 2?"}
USER = {"role": "user", "content": "Hello"}
PROMPT = "You are a tutor."
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": False}


def ask(running: Running, **more: Any) -> httpx.Response:
    return running.http.post("/v1/responses", json=ASKED | more)


@pytest.fixture
def official() -> Iterator[Any]:
    opened: list[openai.OpenAI] = []

    def client(running: Running) -> openai.OpenAI:
        opened.append(openai.OpenAI(base_url=running.url + "/v1", api_key="sk-ada", max_retries=0))
        return opened[-1]

    yield client
    for one in opened:
        one.close()


def test_a_plain_answer_shows_the_route_and_the_clients_own_words_alone(world: World, official: Any) -> None:
    stub = world.upstream(**{"old-model": responds("What do ", "you think?")})
    variants = {"old": {"system_prompt": PROMPT, "temperature": 0.3, "max_tokens": 50}}
    answer = official(world.gateway(table_for(stub.url, variants=variants))).responses.create(**ASKED, store=True)
    assert (answer.output_text, answer.model, answer.status) == ("What do you think?", "tutor", "completed")
    assert (answer.instructions, answer.store, answer.usage.output_tokens) == (None, False, 3)
    assert "secret" not in answer.to_json()
    assert stub.seen[0].path == "/v1/responses"
    assert stub.seen[0].body == {
        "model": "old-model",
        "input": ASKED["input"],
        "instructions": PROMPT,
        "store": False,
        "temperature": 0.3,
        "max_output_tokens": 50,
    } | {"input": [{"role": "user", "content": ASKED["input"]}]}


def test_a_stream_has_the_official_events_in_their_order(world: World, official: Any) -> None:
    stub = world.upstream(**{"old-model": responds("What do ", "you think?")})
    running = world.gateway(table_for(stub.url, variants={"old": {"system_prompt": PROMPT}}))
    events = list(official(running).responses.create(**ASKED, stream=True))
    assert [one.type.removeprefix("response.") for one in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [one.sequence_number for one in events] == list(range(10))
    shown = [one.response for one in events if hasattr(one, "response")]
    assert {(one.model, one.instructions, one.store) for one in shown} == {("tutor", None, False)}
    assert shown[-1].usage.input_tokens == 11
    assert "stream_options" not in stub.seen[0].body
    raw = ask(running, stream=True).text
    assert raw.startswith("event: response.created\ndata: ")
    assert "[DONE]" not in raw
    assert PROMPT not in raw


def test_the_official_helper_follows_a_stream_to_its_end(world: World, official: Any) -> None:
    running = world.gateway(table_for(world.upstream(**{"old-model": responds("fo", "ur")}).url))
    with official(running).responses.stream(**ASKED) as stream:
        assert stream.get_final_response().output_text == "four"


def test_an_answer_that_its_limit_cut_is_called_incomplete(world: World, official: Any) -> None:
    running = world.gateway(table_for(world.upstream(**{"old-model": responds("fo", status="incomplete")}).url))
    *_, last = official(running).responses.create(**ASKED, stream=True)
    assert (last.type, last.response.incomplete_details.reason) == ("response.incomplete", "max_output_tokens")
    assert running.wait_for_records(1)[0].finish_reason == "length"


def test_a_tool_is_called_plain_and_streamed(world: World, official: Any) -> None:
    stub = world.upstream(**{"old-model": responds('{"city"', ': "Rome"}', calls="weather")})
    running = world.gateway(table_for(stub.url))
    client = official(running)
    answer = client.responses.create(**ASKED, tools=[TOOL])
    assert (answer.output[0].name, answer.output[0].arguments) == ("weather", '{"city": "Rome"}')
    with client.responses.stream(**ASKED, tools=[TOOL]) as stream:
        assert stream.get_final_response().output[0].arguments == '{"city": "Rome"}'
    result = {"type": "function_call_output", "call_id": "call-1", "output": "sunny"}
    client.responses.create(model="tutor", input=[USER, answer.output[0].to_dict(), result], tools=[TOOL])
    assert [item.get("type") for item in stub.seen[-1].body["input"]] == [None, "function_call", "function_call_output"]
    assert {record.finish_reason for record in running.wait_for_records(3)} == {"tool_calls"}


# -- what needs a memory, and what a policy says ----------------------------------------------------------------------

MEMORY: dict[str, dict[str, Any]] = {
    "previous_response_id": {"previous_response_id": "resp_1"},
    "conversation": {"conversation": {"id": "conv_1"}},
    "background": {"background": True},
    "prompt": {"prompt": {"id": "pmpt_1"}},
    "input[0]": {"input": [{"type": "item_reference", "id": "msg_1"}]},
}


@pytest.mark.parametrize(("param", "asked"), MEMORY.items(), ids=MEMORY)
def test_what_needs_a_memory_is_refused_and_told_what_to_do(world: World, param: str, asked: Any) -> None:
    stub = world.upstream()
    response = ask(world.gateway(table_for(stub.url)), **asked)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["source"]) == (400, param, "gateway")
    assert "send" in error["message"] or "leave" in error["message"]
    assert not stub.seen


def test_what_says_that_nothing_is_remembered_is_taken(world: World) -> None:
    stub = world.upstream(**{"old-model": responds("four")})
    running = world.gateway(table_for(stub.url))
    nothing = dict.fromkeys(("previous_response_id", "conversation", "prompt", "tools", "service_tier"))
    assert ask(running, background=False, store=None, **nothing).status_code == 200
    assert stub.seen[0].body.keys() == {"model", "input", "store", "max_output_tokens"}


def test_no_answer_can_be_fetched_later(world: World) -> None:
    response = world.gateway(table_for(world.upstream().url)).http.get("/v1/responses/resp_1")
    assert (response.status_code, response.json()["error"]["message"]) == (
        404,
        "There is no such path here: no answers are stored.",
    )


IMAGE = {"type": "input_image", "image_url": "http://169.254.169.254/x"}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a long answer": ({}, {"max_output_tokens": 5_000}, "max_output_tokens"),
    "a limit of one's own": ({"refused_parameters": ["max_tokens"]}, {"max_output_tokens": 5}, "max_output_tokens"),
    "a fixed temperature": ({"refused_parameters": ["temperature"]}, {"temperature": 0}, "temperature"),
    "a form, by chat's name": (
        {"refused_parameters": ["response_format"]},
        {"text": {"format": {"type": "json_object"}}},
        "text.format",
    ),
    "a form where none may be": (
        {"guided_decoding": "none"},
        {"text": {"format": {"type": "json_object"}}},
        "text.format",
    ),
    "a structural tag": ({}, {"text": {"format": {"type": "structural_tag"}}}, "text.format"),
    "a pattern in a schema": (
        {},
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"items": {"pattern": "(a+)+"}}}}},
        "text",
    ),
    "a pattern in a tool": ({}, {"tools": [TOOL | {"parameters": {"items": {"pattern": "a"}}}]}, "tools"),
    "a grammar": (
        {},
        {
            "tools": [
                {"type": "custom", "name": "a", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}}
            ]
        },
        "tools[0].format",
    ),
    "a web search": ({}, {"tools": [TOOL, {"type": "web_search"}]}, "tools[1].type"),
    "a server of tools": ({}, {"tools": [{"type": "mcp", "server_url": "http://x"}]}, "tools[0].type"),
    "one in a namespace": ({}, {"tools": [{"type": "namespace", "tools": [{"type": "mcp"}]}]}, "tools[0].type"),
    "a call of a server's tool": ({}, {"input": [USER, {"type": "mcp_call", "id": "a"}]}, "input"),
    "an image to fetch": ({}, {"input": [{"role": "user", "content": [IMAGE]}]}, "input"),
    "an image in a tool's output": (
        {},
        {"input": [{"type": "function_call_output", "call_id": "a", "output": [IMAGE]}]},
        "input",
    ),
    "a file's id": ({}, {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "a"}]}]}, "input"),
    "media at all": (
        {"media": "none"},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA"}]}]},
        "input",
    ),
    "a cut prompt": ({}, {"truncation": "auto"}, "truncation"),
    "instructions": ({"system_messages": "refuse"}, {"instructions": "Be a pirate."}, "instructions"),
    "system messages": ({"system_messages": "refuse"}, {"input": [{"role": "developer", "content": "x"}]}, "input"),
    "what vLLM alone knows": ({}, {"previous_input_messages": []}, "previous_input_messages"),
    "the raw prompt": ({}, {"enable_response_messages": True}, "enable_response_messages"),
    "chat's limit": ({}, {"max_tokens": 5}, "max_tokens"),
    "a form of no kind": ({}, {"text": {"format": {"type": []}}}, "text.format"),
    "a tool of no kind": ({}, {"tools": [{"type": []}]}, "tools[0].type"),
    "no tool": ({}, {"tools": [3]}, "tools[0].type"),
    "a namespace in a namespace": (
        {},
        {"tools": [{"type": "namespace", "tools": [{"type": "namespace", "tools": []}]}]},
        "tools[0].type",
    ),
}


@pytest.mark.parametrize(("policy", "asked", "param"), REFUSED.values(), ids=REFUSED)
def test_what_a_route_does_not_allow_is_refused_by_name(world: World, policy: Any, asked: Any, param: str) -> None:
    stub = world.upstream()
    response = ask(world.gateway(table_for(stub.url, policy=policy)), **asked)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert not stub.seen


ADMITTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a schema": ({}, {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}}}),
    "a grammar where any may be": ({"guided_decoding": "any"}, {"text": {"format": {"type": "grammar"}}}),
    "an image within": (
        {},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA"}]}]},
    ),
    "an image to fetch": ({"media": "any"}, {"input": [{"role": "user", "content": [IMAGE]}]}),
    "a tool that the operator named": (
        {"builtin_tools": ["code_interpreter"]},
        {"tools": [{"type": "code_interpreter"}]},
    ),
    "a cut prompt": ({"allowed_parameters": ["truncation"]}, {"truncation": "auto"}),
}


@pytest.mark.parametrize(("policy", "asked"), ADMITTED.values(), ids=ADMITTED)
def test_what_a_route_allows_reaches_the_model(world: World, policy: Any, asked: Any) -> None:
    stub = world.upstream(**{"old-model": responds("four")})
    assert ask(world.gateway(table_for(stub.url, policy=policy)), **asked).status_code == 200
    assert asked.items() <= stub.seen[0].body.items()


BAD: dict[str, Any] = {
    "input": "",
    "input[0]": [7],
    "input[0].role": [{"role": "tool", "content": "x"}],
    "input[1].content": [USER, {"role": "user", "content": 7}],
}


@pytest.mark.parametrize(("param", "given"), BAD.items(), ids=BAD)
def test_an_input_that_is_not_well_formed_is_refused_by_place(world: World, param: str, given: Any) -> None:
    stub = world.upstream()
    response = ask(world.gateway(table_for(stub.url)), input=given)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert not stub.seen


# -- system prompts ---------------------------------------------------------------------------------------------------

SAID = {"instructions": "Be a pirate.", "input": [{"role": "developer", "content": "Be brief."}, USER]}
SYSTEM: dict[str, tuple[str, str, str | None, list[dict[str, Any]]]] = {
    "replaced": ("replace", "system", PROMPT, [USER]),
    "appended": ("append", "system", PROMPT, [{"role": "system", "content": "Be a pirate."}, *SAID["input"]]),
    "replaced, in the first turn": ("replace", "first_user", None, [{**USER, "content": f"{PROMPT}\n\nHello"}]),
    "appended, in the first turn": (
        "append",
        "first_user",
        None,
        [{**USER, "content": f"{PROMPT}\n\nBe a pirate.\n\nBe brief.\n\nHello"}],
    ),
}


@pytest.mark.parametrize(("rule", "place", "instructions", "sent"), SYSTEM.values(), ids=SYSTEM)
def test_the_variants_prompt_stands_where_chats_does(
    rule: Any, place: Any, instructions: str | None, sent: list[dict[str, Any]]
) -> None:
    variant = Variant(model="m", upstreams=("http://a",), system_prompt=PROMPT, system_place=place)
    body = for_vllm(SAID, variant, Policy(system_messages=rule))
    assert (body.get("instructions"), body["input"]) == (instructions, sent)


def test_without_a_prompt_of_the_variants_the_clients_stays() -> None:
    body = for_vllm(SAID, Variant(model="m", upstreams=("http://a",)), Policy())
    assert (body["instructions"], body["input"]) == (SAID["instructions"], SAID["input"])


def test_an_assistants_turn_is_sent_as_a_text() -> None:
    said = message("Four.", "incomplete")
    said["content"].append({"type": "refusal", "refusal": "No more."})
    body = for_vllm({"input": [USER, said]}, Variant(model="m", upstreams=("http://a",)), Policy())
    assert body["input"][1] == {"role": "assistant", "content": "Four.\nNo more."}


def test_a_variants_own_parameters_are_said_in_this_apis_words(world: World) -> None:
    stub = world.upstream(**{"old-model": responds("four")})
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    own = {"reasoning_effort": "low", "response_format": form, "chat_template_kwargs": {"enable_thinking": False}}
    ask(world.gateway(table_for(stub.url, variants={"old": {"parameters": own}})))
    sent = stub.seen[0].body
    assert sent["reasoning"] == {"effort": "low"}
    assert sent["text"] == {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}}
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}


@given(st.lists(st.sampled_from(["user", "assistant", "system"]), min_size=1), st.text(max_size=9))
def test_what_was_said_reads_as_a_chat(roles: list[str], text: str) -> None:
    items = [{"role": role, "content": [{"type": "input_text", "text": text}]} for role in roles]
    assert as_messages({"input": items}) == [{"role": role, "content": text} for role in roles]


# -- what goes on record ----------------------------------------------------------------------------------------------

CONTRACT = {"detectors": {"format": {"kind": "form", "max_words": 2}}}
UNLIKE = {"request_id", "seq", "started_at", "duration_s", "ttft_s"}


def measured(record: Record) -> dict[str, Any]:
    """All of a record that two requests for the same thing have in common."""
    found = {name: value for name, value in asdict(record).items() if name not in UNLIKE}
    return found | {"has_first_content": record.ttft_s is not None}


@pytest.mark.parametrize("stream", [False, True])
def test_everything_is_measured_as_it_is_of_a_chat(world: World, stream: bool) -> None:
    """A release whose users ask here alone is judged by the same records."""
    stub = world.upstream(
        **{"old-model": says("one two three"), "new-model": refuses(500), "former-model": says("one two")}
    )
    route = all_to_new(contract=CONTRACT, testers={"bob": "former"})
    running = world.gateway(table_for(stub.url, **route))
    for user in ("ada", "bob"):
        running.ask(user, stream=stream)
    chats = running.wait_for_records(3)
    stub.behaviours |= {"old-model": responds("one two three"), "former-model": responds("one two")}
    for user in ("ada", "bob"):
        running.http.post("/v1/responses", json=ASKED | {"stream": stream}, headers={"x-slipway-user": user})
    others = running.wait_for_records(6)[3:]
    assert [measured(record) for record in others] == [measured(record) for record in chats]
    assert [record.verdicts.get("format") for record in others] == [None, True, False]
    assert {record.prompt_tokens for record in others} == {None, 11}


FAILS: dict[str, Any] = {
    "500": refuses(500),
    "404": refuses(404),
    "an error instead of events": sends(event({"type": "error", "message": "no"})),
    "a failed response": sends(event({"type": "response.failed", "response": {"error": {"message": "no"}}})),
    "nothing said": responds(),
    "it hangs": hangs,
    "the end before the first word": responds("one", keeps=4),
}


@pytest.mark.parametrize("behaviour", FAILS.values(), ids=FAILS)
def test_stable_takes_over_before_the_first_content(world: World, official: Any, behaviour: Any) -> None:
    stub = world.upstream(**{"new-model": behaviour, "old-model": responds("four")})
    running = world.gateway(table_for(stub.url, **all_to_new()), **QUICK)
    with official(running).responses.stream(**ASKED) as stream:
        assert stream.get_final_response().output_text == "four"
    records = {record.role: record for record in running.wait_for_records(2)}
    assert (records["served"].ok, records["failover"].ok) == (False, True)


@pytest.mark.parametrize("then", ["end", "cut"])
def test_a_stream_that_breaks_off_says_so_to_the_official_client(world: World, official: Any, then: str) -> None:
    whole_stream: list[bytes] = []

    async def breaks(http: Any, body: dict[str, Any]) -> Any:
        whole_stream[:] = events_of(body, message("one two"), ["one ", "two"], "completed")
        return await sends(*whole_stream[:5], then=then)(http, body)

    running = world.gateway(table_for(world.upstream(**{"old-model": breaks}).url))
    said: list[Any] = []
    stream = official(running).responses.create(**ASKED, stream=True)
    with pytest.raises(openai.APIError, match="broke off"):
        said.extend(stream)
    assert [one.delta for one in said if one.type == "response.output_text.delta"] == ["one "]
    raw = ask(running, stream=True).text.split("\n\n")[-2]
    assert raw.startswith("event: error\n")
    assert '"sequence_number":5' in raw
    assert [record.error for record in running.wait_for_records(2)] == ["midstream", "midstream"]


def test_a_refusal_after_the_first_comment_comes_as_an_event(world: World) -> None:
    gate = Gate()

    async def late(http: Any, body: dict[str, Any]) -> Any:
        await gate.wait()
        return await refuses(400, "too long")(http, body)

    running = world.gateway(table_for(world.upstream(**{"old-model": late}).url), keep_alive_s=0.05)
    with running.http.stream("POST", "/v1/responses", json=ASKED | {"stream": True}) as answer:
        pieces = answer.iter_text()
        first = next(pieces)
        gate.open(world.loop)
        rest = first + "".join(pieces)
    assert "event: error\n" in rest
    assert "too long" in rest


def test_a_client_that_goes_away_takes_its_request_with_it(world: World, official: Any) -> None:
    stub = world.upstream(**{"old-model": responds("one ", Gate(), "two")})
    running = world.gateway(table_for(stub.url))
    with official(running).responses.create(**ASKED, stream=True) as stream:
        assert any(one.type == "response.output_text.delta" for one in stream)
    eventually(lambda: stub.abandoned == 1)
    assert running.wait_for_records(1)[0].error == "client_closed"


@pytest.mark.parametrize("stream", [False, True])
def test_a_copy_is_judged_and_both_answers_are_kept_with_what_was_said(world: World, stream: bool) -> None:
    stub = world.upstream(**{"old-model": responds("I am old"), "new-model": responds("I am new")})
    captured = {"variant": "new", "mirror_bp": 10_000, "capture_bp": 10_000}
    running = world.gateway(table_for(stub.url, contract=CONTRACT, candidate=captured))
    ask(running, stream=stream, instructions="Be kind.", input=[USER])
    records = {record.role: record for record in running.wait_for_records(2)}
    assert records["mirror"].verdicts == records["served"].verdicts == {"format": True}
    eventually(lambda: len(running.admin.pairs(0).pairs) == 1)
    (pair,) = running.admin.pairs(0).pairs
    assert (pair.stable, pair.candidate) == ("I am old", "I am new")
    assert pair.asked == [{"role": "system", "content": "Be kind."}, USER]


def test_the_traffic_log_holds_what_was_said_redacted(world: World, tmp_path: Any) -> None:
    stub = world.upstream(**{"old-model": responds("Write to bob@example.org")})
    running = world.gateway(table_for(stub.url), traffic_log=TrafficLog(folder=tmp_path, text=True))
    ask(running, input="I am ada@example.org")
    running.wait_for_records(1)
    world.do(world.stack.aclose())
    (row,) = [row for file in tmp_path.glob("*.parquet") for row in parquet.read_table(file).to_pylist()]
    assert "@example.org" not in row["prompt"] + row["answer"]
    assert row["prompt"].startswith('[{"role":"user","content":"I am ')


def test_an_answer_that_the_clients_limit_cut_short_is_no_variants_fault(world: World) -> None:
    running = world.gateway(table_for(world.upstream(**{"old-model": responds(status="incomplete")}).url))
    assert ask(running, max_output_tokens=1).status_code == 200
    (record,) = running.wait_for_records(1)
    assert (record.forced, record.ok, record.finish_reason) == (True, True, "length")


def test_many_tools_before_the_first_word_are_no_failure(world: World) -> None:
    """What comes first repeats the request twice."""
    running = world.gateway(table_for(world.upstream(**{"old-model": responds("four")}).url))
    tools = [TOOL | {"description": "x" * 900_000}]
    assert "response.completed" in ask(running, tools=tools, stream=True).text


def test_a_plain_answer_that_failed_is_the_variants_failure(world: World) -> None:
    failed = whole({"model": "new-model"}, [], "failed", error={"code": "server_error", "message": "no"})
    stub = world.upstream(**{"new-model": answers(failed), "old-model": responds("four")})
    running = world.gateway(table_for(stub.url, **all_to_new()))
    assert ask(running).json()["output"][0]["content"][0]["text"] == "four"


def test_chat_goes_on_as_before(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url))
    assert running.http.post("/v1/chat/completions", json=CHAT).json()["model"] == "tutor"
    assert "store" not in stub.seen[0].body
