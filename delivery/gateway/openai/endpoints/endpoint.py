"""What differs by path: which request is one, what the model is sent, and what an answer says and shows.

What is not among an endpoint's parameters is refused rather than passed on: some of vLLM's own (`prompt_logprobs`,
`return_prompt_text`, `truncate_prompt_tokens`, `chat_template`...) show or undo the variant's system prompt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.routing import EndpointName, Policy, Variant
from delivery.gateway.openai.answers import Gist
from delivery.gateway.openai.errors import ApiError

if TYPE_CHECKING:
    from delivery.gateway.openai.streams import Stream

COMMON = ("model", "user", "safety_identifier")
SAMPLING = """
    frequency_penalty logit_bias presence_penalty seed stop stream stream_options temperature top_p n max_tokens
    allowed_token_ids bad_words ignore_eos include_stop_str_in_output length_penalty min_p min_tokens
    repetition_penalty skip_special_tokens spaces_between_special_tokens stop_token_ids structured_outputs top_k
"""
Body = Mapping[str, Any]  # a request's


def parameters(listed: str) -> frozenset[str]:
    """Those of a list, and those that every endpoint takes."""
    return frozenset((*COMMON, *listed.split()))


def says_something(name: str) -> Callable[[Body], None]:
    """A check that the parameter of this name is there, as a text or a list."""

    def check(body: Body) -> None:
        if not isinstance(body.get(name), str | list) or not body[name]:
            what = f"`{name}` must be a text, or a list of texts or of tokens, that is not empty."
            raise ApiError(400, what, code="invalid_type", param=name)

    return check


def counted(body: Body, variant: Variant, policy: Policy) -> dict[str, Any]:
    """As it is; records need a stream's token counts, whether the client wants to see them or not."""
    sent = dict(body)
    if body.get("stream") is True:
        sent["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    return sent


def renamed(answer: dict[str, Any], body: Body, route: str) -> None:
    """Changes an answer to what its client may see: it comes from the route."""
    answer["model"] = route


def takes_all(policy: Policy, body: Body) -> None:
    """For an endpoint whose policy is what holds everywhere."""


def as_they_are(own: Body) -> Body:
    """A variant's own parameters, where they are called as in chat completions."""
    return own


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One path. What is not set is as in text completions."""

    name: EndpointName
    path: str
    content: str  # the parameter without which nothing is asked
    parameters: frozenset[str]
    check: Callable[[Body], None]  # the request's shape; raises ApiError (400)
    allows: Callable[[Policy, Body], None] = takes_all  # its part of a route's policy; raises ApiError (400)
    asked: Callable[[Body], Any]  # what the client said, for those who read it
    sent: Callable[[Body, Variant, Policy], dict[str, Any]] = counted  # to vLLM, but for model and limits
    in_its_words: Callable[[Body], Body] = as_they_are  # a variant's own parameters, which are chat completions'
    limits: tuple[str, ...] = ("max_tokens", "max_completion_tokens")  # bound an answer's tokens; (): it has none
    gist: Callable[[dict[str, Any], bool], Gist]  # of an answer, or (True) of one chunk of a stream
    shown: Callable[[dict[str, Any], Body, str], None] = renamed  # answer, body, route: as its client sees it
    stream: "type[Stream]"
    operation: str  # as OpenTelemetry calls it
