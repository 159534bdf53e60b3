"""`/v1/responses`, put together."""

from delivery.gateway.openai.endpoints.endpoint import Endpoint, parameters
from delivery.gateway.openai.endpoints.responses.answers import as_seen, response_gist
from delivery.gateway.openai.endpoints.responses.events import EventStream
from delivery.gateway.openai.endpoints.responses.policy import check_response
from delivery.gateway.openai.endpoints.responses.requests import (
    PARAMETERS,
    as_messages,
    check_input,
    for_vllm,
    in_its_words,
)

RESPONSES = Endpoint(
    name="responses",
    path="/v1/responses",
    content="input",
    parameters=parameters(PARAMETERS),
    check=check_input,
    allows=check_response,
    asked=as_messages,
    sent=for_vllm,
    in_its_words=in_its_words,
    limits=("max_output_tokens",),
    gist=response_gist,
    shown=as_seen,
    stream=EventStream,
    operation="chat",
)
