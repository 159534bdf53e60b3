"""`/v1/completions`."""

from operator import itemgetter
from typing import Any

from delivery.gateway.openai.answers import Gist, choices_in
from delivery.gateway.openai.endpoints.endpoint import SAMPLING, Endpoint, parameters, says_something
from delivery.gateway.openai.forced import UNSAID
from delivery.gateway.openai.streams import Stream


def completion_gist(answer: dict[str, Any], _: bool) -> Gist:
    """Of a text completion, or a chunk of one."""
    choices = choices_in(answer)
    ended = [choice for choice in choices if choice.get("finish_reason")]
    texts = [text for choice in choices if choice.get("index", 0) == 0 and isinstance(text := choice.get("text"), str)]
    has_content = any(choice.get("text") or choice.get("finish_reason") == "length" for choice in choices)
    if not ended:
        return Gist(has_content, "", "".join(texts))
    return Gist(has_content, str(ended[0]["finish_reason"]), "".join(texts), ended[0].get("stop_reason", UNSAID))


COMPLETIONS = Endpoint(
    name="completions",
    path="/v1/completions",
    content="prompt",
    parameters=parameters(SAMPLING + "prompt best_of echo logprobs suffix response_format"),
    check=says_something("prompt"),
    asked=itemgetter("prompt"),
    gist=completion_gist,
    stream=Stream,
    operation="text_completion",
)
