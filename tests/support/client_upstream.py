"""An upstream in vLLM's shapes for real clients: it calls tools, answers in JSON, talks, and stops half-way."""

import asyncio
import json
from typing import Any

from aiohttp import web
from stub_responses import responds
from stub_upstream import DONE, USAGE, Behaviour, Gate, frame, send

SAID = "two and two is four"
CITY = '{"city": "Rome"}'
JSON = '{"answer": 4}'


async def acts(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """As the last thing said asks for."""
    is_response = http.path == "/v1/responses"
    return await (_response(body) if is_response else _chat(body))(http, body)


def _wanted(body: dict[str, Any], said: list[dict[str, Any]]) -> str:
    last = said[-1]
    if "halfway" in json.dumps(last):
        return "halfway"
    if last.get("role") == "tool" or last.get("type") == "function_call_output":
        return "text"
    if body.get("tools"):
        return "tool"
    form = body.get("response_format") or (body.get("text") or {}).get("format") or {}
    return "json" if form.get("type") == "json_schema" else "text"


def _response(body: dict[str, Any]) -> Behaviour:
    given = body["input"]
    wanted = _wanted(body, given if isinstance(given, list) else [{"role": "user", "content": given}])
    if wanted == "tool":
        return responds(CITY[:8], CITY[8:], calls="weather")
    if wanted == "json":
        return responds(JSON[:5], JSON[5:])
    if wanted == "halfway":
        return responds("two ", Gate(), "and two")
    return responds(*(f"{word} " for word in SAID.split()[:-1]), SAID.split()[-1])


def _chat(body: dict[str, Any]) -> Behaviour:
    wanted = _wanted(body, body["messages"])
    if wanted == "tool":
        return _calls
    if wanted == "halfway":
        return _halfway
    return _talks(JSON if wanted == "json" else SAID)


def _said(part: str, said: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, part: said, "logprobs": None, "finish_reason": finish, "stop_reason": None}
    kind = "chat.completion" if part == "message" else "chat.completion.chunk"
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "old-model", "choices": [choice]}


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return frame(_said("delta", delta, finish))


START = _chunk({"role": "assistant", "content": ""})
COUNTED = frame(_said("delta", {}) | {"choices": [], "usage": USAGE})


def _talks(text: str) -> Behaviour:
    async def behave(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if not body.get("stream"):
            message = {"role": "assistant", "content": text, "tool_calls": []}
            return web.json_response(_said("message", message, "stop") | {"usage": USAGE})
        words = [_chunk({"content": text[at : at + 4]}) for at in range(0, len(text), 4)]
        return await send(http, [START, *words, _chunk({}, "stop"), COUNTED, DONE])

    return behave


async def _calls(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    call = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": CITY}}
    if not body.get("stream"):
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return web.json_response(_said("message", message, "tool_calls") | {"usage": USAGE})
    start = {"index": 0, "id": "call-1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    parts = [start, *({"index": 0, "function": {"arguments": part}} for part in (CITY[:8], CITY[8:]))]
    told = [_chunk({"tool_calls": [part]}) for part in parts]
    tail = [_chunk({}, "tool_calls"), COUNTED, DONE]
    return await send(http, [START, *told, *tail])


async def _halfway(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    if not body.get("stream"):
        await asyncio.Event().wait()
    return await send(http, [START, _chunk({"content": "two "}), Gate(), DONE])
