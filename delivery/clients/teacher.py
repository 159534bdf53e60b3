"""A teacher over an OpenAI-compatible API: one reply to one conversation, or the reason why there is none."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from configs.errors import SlipwayError

TRIES = 4
AGAIN_AFTER_S = 1.0  # then twice as long, and so on
WORDS = 200  # characters of its complaint
BAD_MOMENTS = frozenset((408, 429))  # and 5xx


class NoReplyError(SlipwayError):
    """The teacher gave no whole answer to this very question."""


class TeacherClient:
    """One model at `base_url` (with its /v1). Safe to share between threads."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str = "",
        timeout_s: float = 120.0,
        max_tokens: int = 512,
        temperature: float = 0.7,
        sleep: Callable[[float], None] = time.sleep,
    ):
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(headers=headers, timeout=timeout_s)
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._asked = {"model": model, "max_tokens": max_tokens, "temperature": temperature}
        self._sleep = sleep

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def reply(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """What it says. Raises NoReplyError with the reason; SlipwayError where it refuses the key or the model."""
        for attempt in range(TRIES):
            try:
                answer = self._http.post(self._url, json={**self._asked, "messages": list(messages)})
            except httpx.HTTPError as error:
                reason = f"the teacher cannot be reached: {error or type(error).__name__}"
            else:
                if answer.status_code == httpx.codes.OK:
                    return _said(answer)
                reason = f"HTTP {answer.status_code}: {answer.text[:WORDS]}"
                if answer.status_code in (401, 403, 404):
                    cure = "see --teacher, --model and the key in --api-key-env"
                    raise SlipwayError(f"the teacher refuses: {reason}", where=self._url, cure=cure)
                if answer.status_code < 500 and answer.status_code not in BAD_MOMENTS:
                    raise NoReplyError(reason)
            if attempt < TRIES - 1:
                self._sleep(AGAIN_AFTER_S * 2**attempt)
        raise NoReplyError(f"{reason}; tried {TRIES} times")


def _said(answer: httpx.Response) -> str:
    try:
        choice = answer.json()["choices"][0]
        text, ended = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, KeyError, IndexError, TypeError):
        raise NoReplyError(f"no answer of the OpenAI API: {answer.text[:WORDS]}") from None
    if ended == "length":
        raise NoReplyError("the answer was cut: --max-tokens is too low for it")
    if not isinstance(text, str) or not text.strip():
        raise NoReplyError("the answer is empty")
    return text.strip()
