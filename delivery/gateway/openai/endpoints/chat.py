"""`/v1/chat/completions`."""

from operator import itemgetter
from typing import Any

from configs.prompts import with_system_prompt
from configs.routing import Policy, Variant
from delivery.gateway.openai.answers import Gist, choices_in
from delivery.gateway.openai.endpoints.endpoint import SAMPLING, Body, Endpoint, counted, parameters
from delivery.gateway.openai.endpoints.messages import SYSTEM_ROLES, text_of
from delivery.gateway.openai.errors import ApiError, not_allowed
from delivery.gateway.openai.forced import UNSAID
from delivery.gateway.openai.streams import Stream

PARAMETERS = """
    messages audio function_call functions logprobs max_completion_tokens metadata modalities moderation
    parallel_tool_calls prediction prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort
    response_format service_tier store tool_choice tools
    top_logprobs verbosity web_search_options
"""
ROLES = frozenset(("user", "assistant", "tool", "function")) | SYSTEM_ROLES
TEXT_KEYS = frozenset(("type", "text", "refusal"))
MEDIA_KEYS = frozenset(("image_url", "video_url", "audio_url", "input_audio"))
CONTENT = ("tool_calls", "reasoning", "reasoning_content", "refusal", "function_call", "audio")


def check_messages(body: Body) -> None:
    """Raises ApiError (400) unless every message has a role that templates know."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "`messages` must be a list that is not empty.", code="invalid_type", param="messages")
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in ROLES:  # templates print roles as they come
            what = f"`messages[{index}]` needs a role of: {', '.join(sorted(ROLES))}."
            raise ApiError(400, what, code="invalid_value", param=f"messages[{index}].role")


def allow_messages(policy: Policy, body: Body) -> None:
    """Raises ApiError (400) for roles and media that the route's clients may not send."""
    is_refusing, takes_all = policy.system_messages == "refuse", policy.media == "any"
    for message in body["messages"]:
        if is_refusing and message["role"] in SYSTEM_ROLES:
            what = "This model has a system prompt of its own; `messages` may hold no system or developer messages."
            raise not_allowed("messages", what)
        content = message.get("content")
        if not takes_all and not isinstance(content, str) and content is not None:
            _check_parts(policy, content if isinstance(content, list) else [content])


def _check_parts(policy: Policy, parts: list[Any]) -> None:
    for part in parts:
        if isinstance(part, str) or (isinstance(part, dict) and part.keys() <= TEXT_KEYS):
            continue
        is_media = isinstance(part, dict) and part.keys() <= TEXT_KEYS | MEDIA_KEYS | {"uuid"}
        if policy.media == "none" or not is_media:
            raise not_allowed("messages", "`messages` may hold texts only for this model, or media that it allows.")
        if not all(_is_inline(part[name]) for name in MEDIA_KEYS & part.keys() if name != "input_audio"):
            raise not_allowed("messages", "Media must come within the request (data: URLs): nothing is fetched.")


def _is_inline(value: Any) -> bool:
    url = value.get("url") if isinstance(value, dict) else value
    return isinstance(url, str) and url.startswith("data:")


def with_prompt(body: Body, variant: Variant, policy: Policy) -> dict[str, Any]:
    """What vLLM is sent: with the variant's system prompt, in place of the client's or before it.

    Raises ApiError (400) if none of the client's messages is left.
    """
    sent = counted(body, variant, policy)
    if variant.system_prompt:
        sent["messages"] = _behind_prompt(body["messages"], variant.system_prompt, variant, policy)
    return sent


def _behind_prompt(
    messages: list[dict[str, Any]], prompt: str, variant: Variant, policy: Policy
) -> list[dict[str, Any]]:
    own = [message for message in messages if message["role"] in SYSTEM_ROLES]
    if own and policy.system_messages != "append":
        messages = [message for message in messages if message["role"] not in SYSTEM_ROLES]
        if not messages:
            what = "`messages` holds system messages only, and this model has a system prompt of its own."
            raise ApiError(400, what, code="invalid_value", param="messages")
    elif own and variant.system_place == "first_user":  # the template takes none of them
        messages = [message for message in messages if message["role"] not in SYSTEM_ROLES]
        prompt = "\n\n".join([prompt, *(text_of(message.get("content")) for message in own)])
    return with_system_prompt(messages, prompt, variant.system_place)


def chat_gist(answer: dict[str, Any], streamed: bool) -> Gist:
    """Of a chat completion, or a chunk of one (`streamed`)."""
    part = "delta" if streamed else "message"
    has_content, finish_reason, text, stopped_by = False, "", "", UNSAID
    for choice in choices_in(answer):
        said = choice.get(part)
        if isinstance(said, dict):
            content = said.get("content")
            if isinstance(content, str) and choice.get("index", 0) == 0:
                text += content
            has_content = has_content or bool(content) or any(said.get(key) for key in CONTENT)
        if reason := choice.get("finish_reason"):
            if not finish_reason:
                finish_reason, stopped_by = str(reason), choice.get("stop_reason", UNSAID)
            has_content = has_content or reason == "length"
    return Gist(has_content, finish_reason, text, stopped_by)


CHAT_COMPLETIONS = Endpoint(
    name="chat",
    path="/v1/chat/completions",
    content="messages",
    parameters=parameters(SAMPLING + PARAMETERS),
    check=check_messages,
    allows=allow_messages,
    asked=itemgetter("messages"),
    sent=with_prompt,
    gist=chat_gist,
    stream=Stream,
    operation="chat",
)
