"""ShareGPT's rows: `conversations` of from and value, as Vicuna, Axolotl and LLaMA-Factory write them."""

from collections.abc import Mapping
from typing import Any

from delivery.build.layouts.messages import conversation, with_context
from delivery.build.layouts.row import Layout, Reading, Unusable, from_json, kind_of, text_of

KEY = "conversations"
SPEAKERS = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model"), "assistant"),
    "system": "system",
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
    "function_call": "function_call",
}


def _fits(data: Mapping[str, Any]) -> bool:
    items = from_json(data.get(KEY))
    return isinstance(items, list | tuple) and bool(items) and isinstance(items[0], dict) and "from" in items[0]


def _read(data: Mapping[str, Any]) -> Reading:
    found = from_json(data.get(KEY))
    if not isinstance(found, list | tuple):
        raise Unusable("wrong-shape", f"`{KEY}` must be a list, found {kind_of(data, KEY)}")
    turns = [_turn(item, f"{KEY}.{index}") for index, item in enumerate(found)]
    messages, changes = conversation({KEY: turns}, KEY)
    return with_context(messages, changes, data, KEY)


def _turn(item: Any, where: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise Unusable("wrong-shape", f"{where} must be an object, found {type(item).__name__}")
    speaker, text = text_of(item, "from", f"{where}."), text_of(item, "value", f"{where}.")
    if speaker not in SPEAKERS:
        raise Unusable("wrong-roles", f"{where} is from {speaker!r}, known are {', '.join(SPEAKERS)}")
    more = {key: value for key, value in item.items() if key not in ("from", "value")}
    if SPEAKERS[speaker] == "function_call":
        calls = from_json(text)
        functions = [{"type": "function", "function": call} for call in (calls if isinstance(calls, list) else [calls])]
        return {**more, "role": "assistant", "content": None, "tool_calls": functions}
    return {**more, "role": SPEAKERS[speaker], "content": text}


LAYOUT = Layout(_fits, _read)
