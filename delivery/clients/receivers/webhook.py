"""Posts one JSON body to a webhook. Its address may be a secret: it is in no error and in no log."""

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import httpx

from delivery.clients.receivers.errors import ReceiverError, without

TIMEOUT_S = 10.0
SHOWN = 200  # characters of an answer
_posting: ContextVar[bool] = ContextVar("posting", default=False)


def post(
    url: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str],
    secrets: tuple[str, ...],
    timeout_s: float = TIMEOUT_S,
) -> str:
    """What the webhook answered. ReceiverError when that is no success, or nothing; redirections are not followed."""
    token = _posting.set(True)
    try:
        with (
            httpx.Client(timeout=timeout_s, headers=dict(headers)) as http,
            http.stream("POST", url, json=body) as answer,
        ):
            words = _beginning(answer)
            status, retry = answer.status_code, answer.headers.get("retry-after", "")
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError) as error:
        said = without(str(error) or type(error).__name__, secrets)
        raise ReceiverError(
            f"it cannot be reached: {said}", cure="see that its address is right and that it runs"
        ) from None
    finally:
        _posting.reset(token)
    said = without(f"status {status}{': ' if words else ''}{words}", secrets)
    if httpx.codes.is_success(status):
        return said
    wrong = ReceiverError(said, cure=_cure(status))
    wrong.retry_after_s = float(retry) if retry.isdecimal() else 0.0
    raise wrong


def _beginning(answer: httpx.Response) -> str:
    text = b""
    for part in answer.iter_bytes():
        text += part
        if len(text) >= SHOWN:
            break
    return " ".join(text.decode("utf-8", "replace").split())[:SHOWN]


def _cure(status: int) -> str:
    if status in (401, 403):
        return "it refuses this login: see its token, or make its address anew"
    if status in (404, 410):
        return "there is no such webhook any more: make it anew, and set its address"
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return "it takes no more for now: it is tried again"
    return "see what it says" if status < 500 else "see its own log: it is tried again"


class _NoAddresses(logging.Filter):
    """httpx logs the address of each request, and some of these are secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _posting.get()


for _name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy"):
    logging.getLogger(_name).addFilter(_NoAddresses())
