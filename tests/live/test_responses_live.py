"""`/v1/responses` on real vLLM, through the official client: the same prompt and measures as in chat completions."""

import asyncio
import json
import threading
from collections.abc import Iterator

import openai
import pytest
from conftest import LiveVllm
from gateway_world import Running, World, eventually

from configs.routing import RoutingTable

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

PROMPT = "You are a tutor. Answer with one short question."
QUESTION = "A box holds 12 eggs. How many eggs are in 7 boxes?"
SCHEMA = {
    "type": "object",
    "properties": {"eggs": {"type": "integer"}},
    "required": ["eggs"],
    "additionalProperties": False,
}
HISTORY = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello! What shall we count?"},
    {"role": "user", "content": QUESTION},
]


@pytest.fixture
def running(vllm: LiveVllm) -> Iterator[Running]:
    """A gateway in front of the session's vLLM."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    world = World(loop)
    variant = {"model": "base", "upstreams": [vllm.url], "system_prompt": PROMPT, "temperature": 0, "max_tokens": 24}
    contract = {"detectors": {"format": {"kind": "form", "max_words": 1}}}
    route = {"salt": "pepper", "stable": "stable", "variants": {"stable": variant}, "contract": contract}
    table = RoutingTable.model_validate({"revision": 1, "routes": {"tutor": route}})
    yield world.gateway(table, first_byte_timeout_s=120, answer_timeout_s=120, idle_timeout_s=120)
    world.do(world.stack.aclose())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)


@pytest.fixture
def official(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.url + "/v1", api_key="sk-ada", max_retries=0, timeout=120) as client:
        yield client


def test_a_conversation_is_the_same_one_as_in_chat(running: Running, official: openai.OpenAI) -> None:
    chat = official.chat.completions.create(model="tutor", messages=HISTORY)
    plain = official.responses.create(model="tutor", input=HISTORY)
    with official.responses.stream(model="tutor", input=HISTORY) as stream:
        kinds = [event.type for event in stream]
    assert plain.output_text
    assert (plain.model, plain.store, plain.instructions) == ("tutor", False, None)
    assert PROMPT not in plain.to_json()
    assert kinds[0] == "response.created"
    assert kinds[-1] == ("response.incomplete" if plain.status == "incomplete" else "response.completed")
    records = running.wait_for_records(3)
    assert {record.prompt_tokens for record in records} == {chat.usage.prompt_tokens}
    assert {record.finish_reason for record in records} == {chat.choices[0].finish_reason}
    assert [record.verdicts for record in records] == [{"format": True}] * 3
    assert all(record.ok and record.ttft_s is not None and record.completion_tokens for record in records)


def test_a_schema_is_kept_to(official: openai.OpenAI) -> None:
    form = {"format": {"type": "json_schema", "name": "eggs", "schema": SCHEMA, "strict": True}}
    answer = official.responses.create(model="tutor", input=QUESTION, text=form, max_output_tokens=48)
    assert isinstance(json.loads(answer.output_text)["eggs"], int)


def test_vllms_own_refusal_is_the_clients_under_the_routes_name(running: Running, official: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        official.responses.create(model="tutor", input="egg " * 3000)
    assert refused.value.body["source"] == "model"
    assert PROMPT not in str(refused.value.body)
    assert running.wait_for_records(1)[0].error == "declined"


def test_a_client_that_leaves_ends_its_request(running: Running, official: openai.OpenAI) -> None:
    asked = official.responses.create(model="tutor", input=QUESTION, stream=True, max_output_tokens=900)
    with asked as stream:
        assert next(event for event in stream if event.type == "response.output_text.delta").delta
    eventually(lambda: running.gateway.attempts.last_seq == 1)
    assert running.records()[0].error == "client_closed"
