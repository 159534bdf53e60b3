"""What every client is asked to do, in words that all of them share."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

URL = os.environ["GATEWAY_URL"] + "/v1"
KEY, USED_UP, WRONG = os.environ["GATEWAY_KEY"], os.environ["GATEWAY_USED_UP_KEY"], "sk-nobody-knows-this-one"
QUESTION = "What is 2 + 2?"
HALFWAY = "Stop halfway."
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
ANSWER = {
    "title": "answer",
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}


def status_of(ask: Callable[[], Any]) -> dict[str, Any]:
    """The HTTP status and the wait that an error told its client."""
    try:
        ask()
    except Exception as error:  # noqa: BLE001 - each client has errors of its own
        of_response = getattr(getattr(error, "response", None), "headers", None)
        headers = getattr(error, "litellm_response_headers", None) or of_response or {}
        return {"status": getattr(error, "status_code", None), "retry_after": headers.get("retry-after")}
    return {"status": 200, "retry_after": None}


def tell(**found: Any) -> None:
    """Prints what was found, for the test that started this."""
    json.dump(found, sys.stdout)
