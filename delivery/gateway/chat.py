"""A chat request between its two shapes: what a client may send, and what a variant's model is sent.

What is not listed here is refused rather than passed on: some of vLLM's own parameters (`prompt_logprobs`,
`return_prompt_text`, `truncate_prompt_tokens`, `chat_template`...) show or undo the variant's system prompt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from configs.routing import Route, Variant
from delivery.gateway.api_errors import ApiError

OPENAI = """
    model messages stream stream_options user audio frequency_penalty function_call functions logit_bias logprobs
    max_completion_tokens max_tokens metadata modalities n parallel_tool_calls prediction presence_penalty
    prompt_cache_key reasoning_effort response_format safety_identifier seed service_tier stop store temperature
    tool_choice tools top_logprobs top_p verbosity web_search_options
"""
VLLM_SAMPLING = """
    allowed_token_ids bad_words ignore_eos include_stop_str_in_output length_penalty min_p min_tokens
    repetition_penalty skip_special_tokens spaces_between_special_tokens stop_token_ids structured_outputs top_k
"""
PARAMETERS = frozenset((OPENAI + VLLM_SAMPLING).split())
SYSTEM_ROLES = frozenset(("system", "developer"))
ROLES = frozenset(("user", "assistant", "tool", "function")) | SYSTEM_ROLES
USER_HEADER = "x-slipway-user"
KEY_LIMIT = 512  # characters of a user's key that count


@dataclass(frozen=True, slots=True)
class Call:
    """One user's request under the table of the moment it arrived."""

    request_id: str
    name: str  # the route's
    route: Route
    body: dict[str, Any]
    user_key: str  # the request's id when there is no user
    user: str  # the pseudonym in records, or ""
    stream: bool
    wants_usage: bool


def parse(raw: bytes) -> dict[str, Any]:
    """The body as a dict whose `model`, `messages`, `stream` and `user` are well formed. Raises ApiError (400)."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object.", code="invalid_json")
    if not isinstance(body.get("model"), str):
        raise ApiError(400, "`model` must be a string: the name of a route.", code="invalid_type", param="model")
    unknown = body.keys() - PARAMETERS
    if unknown:
        name = min(unknown)[:100]
        raise ApiError(400, f"Unknown parameter: `{name}`.", code="unknown_parameter", param=name)
    _check_messages(body.get("messages"))
    for name, kind in (("stream", bool), ("stream_options", dict), ("user", str)):
        if not isinstance(body.get(name), kind | None):
            raise ApiError(400, f"`{name}` must be a {kind.__name__}.", code="invalid_type", param=name)
    return body


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "`messages` must be a list that is not empty.", code="invalid_type", param="messages")
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in ROLES:  # templates print roles as they come
            what = f"`messages[{index}]` needs a role of: {', '.join(sorted(ROLES))}."
            raise ApiError(400, what, code="invalid_value", param=f"messages[{index}].role")


def user_key(headers: Mapping[str, str], body: Mapping[str, Any]) -> str:
    """Whom the share's hash is about: the header, else `user`, else the bearer token, else "" (nobody known)."""
    key = headers.get(USER_HEADER) or body.get("user")
    if not key:
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
    return str(key)[:KEY_LIMIT]


def for_variant(body: Mapping[str, Any], variant: Variant, *, stream: bool) -> bytes:
    """The body that the variant's model is sent. Raises ApiError (400) if none of the client's messages is left.

    A variant's system prompt replaces the client's system and developer messages; without one they are kept.
    """
    sent = dict(body)
    sent["model"] = variant.model
    if variant.system_prompt:
        messages = [message for message in body["messages"] if message["role"] not in SYSTEM_ROLES]
        if not messages:
            what = "`messages` holds system messages only, and this model has a system prompt of its own."
            raise ApiError(400, what, code="invalid_value", param="messages")
        sent["messages"] = [{"role": "system", "content": variant.system_prompt}, *messages]
    if variant.temperature is not None and sent.get("temperature") is None:
        sent["temperature"] = variant.temperature
    limited = sent.get("max_tokens") is not None or sent.get("max_completion_tokens") is not None
    if variant.max_tokens is not None and not limited:
        sent["max_tokens"] = variant.max_tokens
    if stream:  # records need the token counts, whether the client wants to see them or not
        sent["stream_options"] = {**(sent.get("stream_options") or {}), "include_usage": True}
    try:
        return orjson.dumps(sent)
    except orjson.JSONEncodeError as error:  # nested deeper than anything that a model reads
        raise ApiError(400, f"The body cannot be passed on: {error}.", code="invalid_json") from None
