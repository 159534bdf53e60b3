"""The paths that reach a model: what a client may send on each, and what counts as an answer.

What is not listed is refused rather than passed on: some of vLLM's own parameters (`prompt_logprobs`,
`return_prompt_text`, `truncate_prompt_tokens`, `chat_template`...) show or undo the variant's system prompt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from configs.routing import EndpointName
from delivery.gateway.openai.answers import Gist, chat_gist, completion_gist, embeddings_gist
from delivery.gateway.openai.endpoints.responses.answers import response_gist
from delivery.gateway.openai.endpoints.responses.requests import PARAMETERS as RESPONSES
from delivery.gateway.openai.endpoints.responses.requests import as_messages, check_input
from delivery.gateway.openai.errors import ApiError

SAMPLING = """
    frequency_penalty logit_bias presence_penalty seed stop stream stream_options temperature top_p n max_tokens
    allowed_token_ids bad_words ignore_eos include_stop_str_in_output length_penalty min_p min_tokens
    repetition_penalty skip_special_tokens spaces_between_special_tokens stop_token_ids structured_outputs top_k
"""
CHAT = """
    messages audio function_call functions logprobs max_completion_tokens metadata modalities moderation
    parallel_tool_calls prediction prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort
    response_format service_tier store tool_choice tools
    top_logprobs verbosity web_search_options
"""
COMPLETIONS = "prompt best_of echo logprobs suffix response_format"
EMBEDDINGS = "input dimensions encoding_format"
SYSTEM_ROLES = frozenset(("system", "developer"))
ROLES = frozenset(("user", "assistant", "tool", "function")) | SYSTEM_ROLES


@dataclass(frozen=True)
class Endpoint:
    """One path of OpenAI's API. `gist(answer, streamed)`: what an answer or a chunk says.

    `asked(body)`: what the client said, for those who read it. `limits`: the parameters that bound an answer's tokens.
    """

    name: EndpointName
    path: str
    parameters: frozenset[str]
    check: Callable[[dict[str, Any]], None]  # raises ApiError (400)
    gist: Callable[[dict[str, Any], bool], Gist]
    asked: Callable[[dict[str, Any]], Any]
    limits: tuple[str, ...] = ("max_tokens", "max_completion_tokens")


def _parameters(listed: str) -> frozenset[str]:
    return frozenset(("model user safety_identifier " + listed).split())


def _check_messages(body: dict[str, Any]) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "`messages` must be a list that is not empty.", code="invalid_type", param="messages")
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in ROLES:  # templates print roles as they come
            what = f"`messages[{index}]` needs a role of: {', '.join(sorted(ROLES))}."
            raise ApiError(400, what, code="invalid_value", param=f"messages[{index}].role")


def _check_present(name: str) -> Callable[[dict[str, Any]], None]:
    def check(body: dict[str, Any]) -> None:
        if not isinstance(body.get(name), str | list) or not body[name]:
            what = f"`{name}` must be a text, or a list of texts or of tokens, that is not empty."
            raise ApiError(400, what, code="invalid_type", param=name)

    return check


CHAT_COMPLETIONS = Endpoint(
    "chat",
    "/v1/chat/completions",
    _parameters(SAMPLING + CHAT),
    _check_messages,
    chat_gist,
    itemgetter("messages"),
)
ENDPOINTS = (
    CHAT_COMPLETIONS,
    Endpoint(
        "responses",
        "/v1/responses",
        _parameters(RESPONSES),
        check_input,
        response_gist,
        as_messages,
        ("max_output_tokens",),
    ),
    Endpoint(
        "completions",
        "/v1/completions",
        _parameters(SAMPLING + COMPLETIONS),
        _check_present("prompt"),
        completion_gist,
        itemgetter("prompt"),
    ),
    Endpoint(
        "embeddings",
        "/v1/embeddings",
        _parameters(EMBEDDINGS),
        _check_present("input"),
        embeddings_gist,
        itemgetter("input"),
        (),
    ),
)
