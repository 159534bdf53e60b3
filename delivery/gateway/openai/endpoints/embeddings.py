"""`/v1/embeddings`."""

from operator import itemgetter
from typing import Any

from delivery.gateway.openai.answers import Gist
from delivery.gateway.openai.endpoints.endpoint import Endpoint, parameters, says_something
from delivery.gateway.openai.streams import Stream


def embeddings_gist(answer: dict[str, Any], _: bool) -> Gist:
    """Of a list of embeddings."""
    return Gist(isinstance(answer.get("data"), list) and bool(answer["data"]), "", "")


EMBEDDINGS = Endpoint(
    name="embeddings",
    path="/v1/embeddings",
    content="input",
    parameters=parameters("input dimensions encoding_format"),
    check=says_something("input"),
    asked=itemgetter("input"),
    limits=(),
    gist=embeddings_gist,
    stream=Stream,
    operation="embeddings",
)
