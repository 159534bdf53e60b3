"""What a route's policy says of a request of the Responses API, beside what holds for every endpoint.

A policy names parameters as chat completions do; what this API says elsewhere (`text.format`) is looked for there.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from configs.routing import Policy
from delivery.gateway.openai.endpoints.responses.requests import ResponseItem, is_system, kind_of
from delivery.gateway.openai.errors import not_allowed
from delivery.gateway.openai.policies import JSON_FORMATS

ELSEWHERE = {
    "max_tokens": ("max_output_tokens",),
    "max_completion_tokens": ("max_output_tokens",),
    "response_format": ("text", "format"),
    "verbosity": ("text", "verbosity"),
    "reasoning_effort": ("reasoning", "effort"),
}
CLIENTS_TOOLS = frozenset(("function", "custom"))  # which the client itself calls
ITEMS = frozenset(
    ("message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning")
)
TEXT_KEYS = frozenset(("type", "text", "refusal", "annotations", "logprobs", "prompt_cache_breakpoint"))
INLINE_KEYS = TEXT_KEYS | {"detail", "filename", "file_data", "input_audio", "image_url", "file_url"}
FETCHED = ("image_url", "file_url")


def check_response(policy: Policy, body: Mapping[str, Any]) -> None:
    """Raises ApiError (400) for what the route's clients may not set."""
    for name in policy.refused_parameters:
        if name in ELSEWHERE and _at(body, ELSEWHERE[name]) is not None:
            path = ".".join(ELSEWHERE[name])
            raise not_allowed(path, f"`{path}` cannot be set for this model.")
    if body.get("truncation") not in (None, "disabled") and "truncation" not in policy.allowed_parameters:
        what = "`truncation` must be `disabled` for this model: what is cut first is its system prompt."
        raise not_allowed("truncation", what)
    _check_format(policy, body)
    _check_tools(policy, body.get("tools") or [])
    if policy.system_messages == "refuse" and body.get("instructions"):
        what = "This model has a system prompt of its own; there may be no `instructions`."
        raise not_allowed("instructions", what)
    if isinstance(body["input"], list):
        for item in body["input"]:
            _check_item(policy, item)


def _at(body: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = body
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _check_format(policy: Policy, body: Mapping[str, Any]) -> None:
    form = _at(body, ("text", "format"))
    if form is None or policy.guided_decoding == "any":
        return
    kind = form.get("type") if isinstance(form, dict) else None
    taken = ("text",) if policy.guided_decoding == "none" else JSON_FORMATS
    if not isinstance(kind, str) or kind not in taken:
        raise not_allowed("text.format", f"`text.format` must be one of: {', '.join(sorted(taken))}.")


def _check_tools(policy: Policy, tools: list[Any]) -> None:
    for index, tool in enumerate(tools):
        is_many = isinstance(tool, dict) and tool.get("type") == "namespace" and isinstance(tool.get("tools"), list)
        for one in tool["tools"] if is_many else (tool,):
            _check_tool(policy, f"tools[{index}]", one)


def _check_tool(policy: Policy, where: str, tool: Any) -> None:
    kind = str(tool.get("type")) if isinstance(tool, dict) else "none"
    if kind not in CLIENTS_TOOLS and kind not in policy.builtin_tools:
        what = f"`{where}` of type `{kind[:100]}` is not served by this model; functions are."
        raise not_allowed(f"{where}.type", what)
    if kind == "custom" and _at(tool, ("format", "type")) == "grammar" and policy.guided_decoding != "any":
        raise not_allowed(f"{where}.format", "Tools may have no grammars for this model.")


def _check_item(policy: Policy, item: ResponseItem) -> None:
    kind = kind_of(item)
    if kind not in ITEMS and not policy.builtin_tools:
        raise not_allowed("input", f"Items of type `{kind[:100]}` are not served by this model.")
    if policy.system_messages == "refuse" and is_system(item):
        what = "This model has a system prompt of its own; `input` may hold no system or developer messages."
        raise not_allowed("input", what)
    if policy.media == "any":
        return
    if kind not in ITEMS:
        if any(name.encode() in orjson.dumps(item) for name in FETCHED):
            raise not_allowed("input", "Media must come within the request (data: URLs): nothing is fetched.")
        return
    for parts in (item.get("content"), item.get("output")):
        for part in parts if isinstance(parts, list) else ():
            _check_part(policy, part)


def _check_part(policy: Policy, part: Any) -> None:
    told = {name for name, value in part.items() if value is not None} if isinstance(part, dict) else {""}
    if told <= TEXT_KEYS:
        return
    if policy.media == "none" or not told <= INLINE_KEYS:
        raise not_allowed("input", "`input` may hold texts only for this model, or media that it allows, no file ids.")
    for name in FETCHED:
        if name in told and not (isinstance(part[name], str) and part[name].startswith("data:")):
            raise not_allowed("input", "Media must come within the request (data: URLs): nothing is fetched.")
