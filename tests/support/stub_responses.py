"""vLLM's `/v1/responses` as an upstream of tests speaks it: whole answers, and the events of a stream."""

import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from stub_upstream import Behaviour, Gate, send

COUNTED = {
    "input_tokens": 11,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 0, "tool_output_tokens": 0},
    "total_tokens": 14,
}
ECHOED = ("instructions", "metadata", "max_tool_calls", "reasoning", "text", "user")
TEXT_PART = {"type": "output_text", "annotations": [], "logprobs": []}


def message(text: str, status: str = "completed") -> dict[str, Any]:
    content = [{**TEXT_PART, "text": text}] if text else []
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content}


def call_of(name: str, arguments: str, status: str = "completed") -> dict[str, Any]:
    return {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call-1",
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def whole(body: dict[str, Any], output: Sequence[Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    """A response to this request."""
    details = {"reason": "max_output_tokens"} if status == "incomplete" else None
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": body["model"],
        "status": status,
        "incomplete_details": details,
        "output": list(output),
        "parallel_tool_calls": True,
        "temperature": 0.0,
        "top_p": 1.0,
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "background": False,
        "max_output_tokens": body.get("max_output_tokens", 100),
        "previous_response_id": None,
        "prompt": None,
        "service_tier": "auto",
        "top_logprobs": None,
        "truncation": "disabled",
        "usage": COUNTED if status in ("completed", "incomplete") else None,
        "kv_transfer_params": None,
        "input_messages": [{"role": "system", "content": "secret"}],
        **{name: body.get(name) for name in ECHOED},
        **more,
    }


def events_of(body: dict[str, Any], item: dict[str, Any], parts: Sequence[Any], status: str) -> list[bytes | Gate]:
    """The stream of one message or one call, a part a delta; a Gate among the parts holds it up there."""
    is_call = item["type"] == "function_call"
    empty = {**item, "status": "in_progress"} | ({"arguments": ""} if is_call else {"content": []})
    at = {"item_id": item["id"], "output_index": 0}
    content = at | {"content_index": 0}
    text = "".join(part for part in parts if isinstance(part, str))
    started = whole(body, [], "in_progress")
    head = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": empty},
    ]
    part = {**TEXT_PART, "text": text}
    if is_call:
        kind = "response.function_call_arguments"
        deltas: list[Any] = [_delta(piece, f"{kind}.delta", at) for piece in parts]
        tail = [{"type": f"{kind}.done", "arguments": text, "name": item["name"], **at}]
    else:
        head += [{"type": "response.content_part.added", **content, "part": {**TEXT_PART, "text": ""}}]
        deltas = [_delta(piece, "response.output_text.delta", content | {"logprobs": []}) for piece in parts]
        tail = [
            {"type": "response.output_text.done", **content, "text": text, "logprobs": []},
            {"type": "response.content_part.done", **content, "part": part},
        ]
    tail += [
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole(body, [item], status)},  # vLLM's word, whatever the status
    ]
    listed = [*head, *deltas, *tail]
    return [one if isinstance(one, Gate) else event(one, number) for number, one in enumerate(listed)]


def _delta(piece: Any, kind: str, at: dict[str, Any]) -> Any:
    return piece if isinstance(piece, Gate) else {"type": kind, **at, "delta": piece}


def event(value: dict[str, Any], number: int = 0) -> bytes:
    data = json.dumps(value | {"sequence_number": number})
    return f"event: {value['type']}\ndata: {data}\n\n".encode()


def responds(*parts: Any, calls: str = "", status: str = "completed", keeps: int | None = None) -> Behaviour:
    """These parts of a text (of a call's arguments), plain or streamed; `keeps`: only so many events, then the end."""

    async def behave(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        text = "".join(part for part in parts if isinstance(part, str))
        item = call_of(calls, text) if calls else message(text)
        if not body.get("stream"):
            for gate in parts:
                if isinstance(gate, Gate):
                    await gate.wait()
            return web.json_response(whole(body, [item] if text or calls else [], status))
        return await send(http, events_of(body, item, parts, status)[:keeps])

    return behave
