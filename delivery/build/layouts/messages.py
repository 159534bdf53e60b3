"""OpenAI's chat rows: `messages` of role and content, with content parts, weights, names, tools and tool calls.

The other layouts of whole conversations turn their turns into these messages, so that one place judges them all.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from delivery.build.layouts.row import (
    Layout,
    Message,
    Reading,
    Unusable,
    from_json,
    kind_of,
    rest_of,
    text_of,
)

KEYS = ("messages", "conversations")  # the second one with roles; with from and value it is ShareGPT
ROLES = ("system", "user", "assistant", "tool")
ALLOWED = {
    "system": frozenset({"role", "content", "name"}),
    "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset({"role", "content", "name", "weight", "tool_calls"}),
    "tool": frozenset({"role", "content", "name", "tool_call_id"}),
}


def _fits(data: Mapping[str, Any]) -> bool:
    return any(_is_list(data.get(key)) for key in KEYS)


def _is_list(value: Any) -> bool:
    items = from_json(value)
    return isinstance(items, list | tuple) and bool(items) and isinstance(items[0], dict) and "role" in items[0]


def _read(data: Mapping[str, Any]) -> Reading:
    key = next((key for key in KEYS if _is_list(data.get(key))), KEYS[0])
    messages, changes = conversation(data, key)
    return with_context(messages, changes, data, key)


def with_context(messages: Sequence[Message], changes: Sequence[str], data: Mapping[str, Any], *used: str) -> Reading:
    """A conversation with the `system` and `tools` that stand beside it in the row."""
    messages, tools = list(messages), tools_of(data)
    if data.get("system") not in (None, ""):
        text = text_of(data, "system")
        if messages and messages[0]["role"] == "system":
            raise Unusable("two-system-prompts", "`system` and a first system message: which one counts is unclear")
        messages = [{"role": "system", "content": text}, *messages]
    return Reading(tuple(messages), rest_of(data, *used, "system", "tools"), tools, changes=tuple(changes))


def conversation(data: Mapping[str, Any], key: str) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The messages under a key, and the kinds of changes that were made to them."""
    found = from_json(data.get(key))
    if not isinstance(found, list | tuple):
        raise Unusable("wrong-shape", f"`{key}` must be a list, found {kind_of(data, key)}")
    changes: dict[str, None] = {}
    messages = tuple(_message(item, f"{key}.{index}", changes) for index, item in enumerate(found))
    _refuse_several_speakers(found, key)
    return messages, tuple(changes)


def _message(item: Any, where: str, changes: dict[str, None]) -> Message:
    if not isinstance(item, dict):
        raise Unusable("wrong-shape", f"{where} must be an object, found {type(item).__name__}")
    given = {key: value for key, value in item.items() if value is not None and not (key != "content" and value == [])}
    role = text_of(given, "role", f"{where}.")
    if role == "developer":
        role = "system"
        changes["developer-as-system"] = None
    if role not in ROLES:
        raise Unusable("wrong-roles", f"{where} has the role {role!r}, known are {', '.join(ROLES)}")
    if unknown := given.keys() - ALLOWED[role]:
        raise Unusable("wrong-shape", f"{where} ({role}) has what training cannot use: {sorted(unknown)}")
    message: Message = {"role": role, "content": _content(given, where, changes)}
    if "weight" in given and _weight(given["weight"], where) == 0:
        message["weight"] = 0
    if "tool_calls" in given:
        message["tool_calls"] = [_call(call, f"{where}.tool_calls.{n}") for n, call in enumerate(given["tool_calls"])]
    if role == "tool":
        message |= {key: text_of(given, key, f"{where}.") for key in ("tool_call_id", "name") if key in given}
    elif "name" in given:
        changes["name-left-out"] = None
    return message


def _content(given: Mapping[str, Any], where: str, changes: dict[str, None]) -> str:
    if "content" not in given and given.get("tool_calls"):
        return ""
    parts = from_json(given["content"]) if isinstance(given.get("content"), str) else given.get("content")
    if not isinstance(parts, list) or not all(isinstance(part, dict) and "type" in part for part in parts):
        return text_of(given, "content", f"{where}.")
    texts = []
    for number, part in enumerate(parts):
        present = {key for key, value in part.items() if value is not None}
        if part["type"] not in ("text", "input_text", "output_text") or not isinstance(part.get("text"), str):
            raise Unusable(
                "not-text", f"{where}.content.{number} is of type {part['type']!r}: only text can be trained on"
            )
        if unknown := present - {"type", "text"}:
            raise Unusable("wrong-shape", f"{where}.content.{number} has what training cannot use: {sorted(unknown)}")
        texts.append(part["text"])
    if len(texts) > 1:
        changes["content-parts-joined"] = None
    return "\n".join(texts)


def _weight(value: Any, where: str) -> int:
    if value not in (0, 1):
        raise Unusable("wrong-shape", f"{where}.weight is {value!r}: a turn is learned (1) or not (0)")
    return int(value)


def _call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Unusable("wrong-shape", f"{where} must be {{type: function, function: {{name, arguments}}}}")
    arguments = from_json(function.get("arguments") or {})
    if not isinstance(arguments, dict):
        raise Unusable("wrong-shape", f"{where}.function.arguments must be a JSON object, found {arguments!r:.60}")
    made: dict[str, Any] = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return {"id": call["id"], **made} if isinstance(call.get("id"), str) else made


def _refuse_several_speakers(found: Sequence[Any], key: str) -> None:
    """Chat templates do not show names, so that two of them in one role would become one speaker."""
    for role in ("system", "user", "assistant"):
        names = {str(item["name"]) for item in found if item.get("role") == role and item.get("name") is not None}
        if len(names) > 1:
            shown = ", ".join(sorted(names))
            raise Unusable("several-names", f"`{key}` has {role} messages by {shown}, and templates do not show who")


def tools_of(data: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """The functions that the model may call; OpenAI's form."""
    found = from_json(data.get("tools"))
    if found in (None, "", [], ()):
        return ()
    if not isinstance(found, list | tuple):
        raise Unusable("wrong-shape", f"`tools` must be a list, found {kind_of(data, 'tools')}")
    tools = []
    for number, item in enumerate(found):
        tool = from_json(item)
        tool = {"type": "function", "function": tool} if isinstance(tool, dict) and "function" not in tool else tool
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            shown = json.dumps(item, default=str)[:60]
            raise Unusable(
                "wrong-shape", f"tools.{number} must be {{type: function, function: {{name, ...}}}}, found {shown}"
            )
        tools.append(tool)
    return tuple(tools)


LAYOUT = Layout(_fits, _read)
