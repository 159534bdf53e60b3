"""A judge over an OpenAI-compatible API: many questions at once, each with one short reply or the reason for none."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Literal

import httpx

from configs.errors import SlipwayError
from configs.judge import Judge

JudgeMessage = dict[str, str]
ReplyOutcome = Literal["said", "late", "refused", "away"]
AGAIN_AFTER_S = 1.0  # a second try, where the first did not reach the judge or came at a bad moment
CONNECT_S = 5.0
BAD_MOMENTS = frozenset((401, 403, 404, 408, 429))  # and 5xx: it may be well again, or set right, later
LOOK_S = 10.0  # for a look at whether it is there
WORDS = 200  # characters of a judge's complaint


@dataclass(frozen=True)
class JudgeReply:
    """`said` with the text, else why not: `late`, `refused` (this very question), or `away` (nothing was paid for)."""

    outcome: ReplyOutcome
    text: str


class JudgeClient:
    """One judge. `ask` raises nothing that a judge can cause."""

    def __init__(self, settings: Judge, api_key: str = "", again_after_s: float = AGAIN_AFTER_S):
        self._settings = settings
        self._again_after_s = again_after_s
        self._key = api_key
        self._url = f"{settings.base_url}/chat/completions"
        self._tls = httpx.create_ssl_context()  # reads all certificates: once, not for every batch
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # a judge on this machine is asked directly, another one by way of the environment's proxy
        self._through = not _is_local(httpx.URL(self._url).host)

    def ask(self, questions: Sequence[Sequence[JudgeMessage]]) -> list[JudgeReply]:
        """The replies in the order of the questions; takes as long as the slowest, tried twice at most."""
        return asyncio.run(self._ask(questions))

    def require_answers(self) -> None:
        """Raises SlipwayError where the judge cannot be reached, or refuses this key; asks it no question."""
        url, cure = f"{self._settings.base_url}/models", "see that it runs, and that judge.base_url is right"
        try:
            with httpx.Client(headers=self._headers, timeout=LOOK_S, trust_env=self._through, verify=self._tls) as http:
                answer = http.get(url)
        except httpx.HTTPError as error:
            what = f"the judge cannot be reached: {error or type(error).__name__}"
            raise SlipwayError(what, where=url, cure=cure) from None
        status = answer.status_code
        if status in (401, 403):
            key = self._settings.api_key_env
            cure = f"see the key in {key}" if key else "name the variable that holds its key: judge.api_key_env"
            raise SlipwayError(
                f"the judge refuses this key: HTTP {status}: {self._words(answer)}", where=url, cure=cure
            )
        if status >= 500 and status != httpx.codes.NOT_IMPLEMENTED:  # one without a list of models may still judge
            raise SlipwayError(f"the judge fails: HTTP {status}: {self._words(answer)}", where=url, cure=cure)

    async def _ask(self, questions: Sequence[Sequence[JudgeMessage]]) -> list[JudgeReply]:
        slots = asyncio.Semaphore(self._settings.concurrent_questions)
        headers, through = self._headers, self._through
        total_s = self._settings.timeout_s
        timeouts = httpx.Timeout(total_s, connect=min(CONNECT_S, total_s / 2))  # who was not reached costs nothing
        async with httpx.AsyncClient(headers=headers, timeout=timeouts, trust_env=through, verify=self._tls) as http:

            async def one(question: Sequence[JudgeMessage]) -> JudgeReply:
                async with slots:
                    reply = await self._once(http, question)
                    if reply.outcome == "away":
                        await asyncio.sleep(self._again_after_s)
                        reply = await self._once(http, question)
                    return reply

            return await asyncio.gather(*(one(question) for question in questions))

    async def _once(self, http: httpx.AsyncClient, question: Sequence[JudgeMessage]) -> JudgeReply:
        settings = self._settings
        ours = {"model": settings.model, "messages": list(question), "temperature": 0}
        body = {**ours, "max_tokens": settings.max_tokens, **settings.parameters}
        sent = {name: value for name, value in body.items() if value is not None}
        try:
            async with asyncio.timeout(settings.timeout_s):
                answer = await http.post(self._url, json=sent)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return JudgeReply("away", f"it cannot be reached: {error or type(error).__name__}")
        except (TimeoutError, httpx.TimeoutException):
            return JudgeReply("late", f"no reply within {settings.timeout_s:g} s")
        except httpx.HTTPError as error:
            return JudgeReply("away", f"it broke off: {error or type(error).__name__}")
        if answer.is_success:
            return JudgeReply("said", _content(answer))
        if answer.status_code in BAD_MOMENTS or answer.status_code >= 500:
            return JudgeReply("away", f"HTTP {answer.status_code}: {self._words(answer)}")
        # a complaint about this question may quote it, and what becomes of these words is kept for ever
        return JudgeReply("refused", f"HTTP {answer.status_code}, in words that are not repeated: they may quote users")

    def _words(self, answer: httpx.Response) -> str:
        words = " ".join(answer.text.split())[:WORDS] or "no reason given"
        return words.replace(self._key, "***") if self._key else words


def _content(answer: httpx.Response) -> str:
    """The first choice's text; "" where there is none, which is no judgement."""
    try:
        data: Any = answer.json()
        content = data["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return ""
    return content if isinstance(content, str) else ""


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def key_of(settings: Judge, environ: Mapping[str, str]) -> str | None:
    """The key, "" where none is needed, None where the environment lacks it."""
    if settings.api_key_env is None:
        return ""
    return environ.get(settings.api_key_env, "").strip() or None
