"""Holds the evals' conversations with vLLM as users do: chat completions with the subject's own prompt and limits.

A request that two suites share is sent once. Only connection errors are tried again; a request that fails leaves its
sample unjudged, and more than a few failures mean that vLLM is in trouble, which is an error and not a low score.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from configs.errors import SlipwayError
from configs.prompts import SystemPlace, with_system_prompt
from delivery.progress import Progress
from evals.samples import Reply, Sample, SampleTurn

ATTEMPTS = 3
_CONNECTION = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)

ChatSoFar = list[dict[str, str]]
AskedTurns = tuple[SampleTurn, ...]


@dataclass(frozen=True)
class Subject:
    """What is evaluated. `identity` is the digest of what answers: an adapter's, or the base model's revision."""

    name: str  # for people: base, production, candidate
    model: str  # what vLLM calls it
    system_prompt: str | None
    temperature: float
    max_tokens: int
    identity: str
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)  # sent with every request
    system_place: SystemPlace = "system"


@dataclass
class Transcripts:
    """The replies to each sample, by the sample's messages; and what the requests cost."""

    replies: dict[AskedTurns, tuple[Reply, ...]] = field(default_factory=dict)
    prompt_tokens: list[int] = field(default_factory=list)  # one per request
    failed: list[str] = field(default_factory=list)  # why, one per failed request

    def of(self, sample: Sample) -> tuple[Reply, ...]:
        """The model's replies in this sample's conversation."""
        return self.replies[sample.messages]


def hold(
    subject: Subject,
    samples: Sequence[Sample],
    vllm_url: str,
    concurrency: int,
    on_progress: Progress,
    api_key: str | None = None,
    timeout_s: float = 180.0,
    retry_delay_s: float = 0.5,
) -> Transcripts:
    """All conversations, each distinct one once, `concurrency` requests at a time; turns of one follow each other.

    Raises SlipwayError when vLLM does not know the model or the key, and when more than a few requests fail.
    """
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    distinct = list(dict.fromkeys(sample.messages for sample in samples))
    return asyncio.run(_hold(subject, distinct, vllm_url, concurrency, on_progress, headers, timeout_s, retry_delay_s))


async def _hold(
    subject: Subject,
    conversations: Sequence[AskedTurns],
    vllm_url: str,
    concurrency: int,
    on_progress: Progress,
    headers: dict[str, str],
    timeout_s: float,
    retry_delay_s: float,
) -> Transcripts:
    transcripts = Transcripts()
    allowed = max(2, len(conversations) // 20)
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(  # trust_env off: a proxy has no business between us and our own vLLM
        base_url=vllm_url, headers=headers, timeout=timeout_s, limits=limits, trust_env=False
    ) as client:
        asker = _Asker(client, subject, asyncio.Semaphore(concurrency), retry_delay_s, allowed, transcripts)
        tasks = [asyncio.create_task(asker.converse(conversation)) for conversation in conversations]
        try:
            for done, task in enumerate(asyncio.as_completed(tasks), start=1):
                conversation, replies = await task
                transcripts.replies[conversation] = replies
                on_progress(done, len(tasks), f"{subject.name}: conversations")
        finally:
            await asker.close(tasks)
    return transcripts


class _Asker:
    """Sends requests, equal ones once."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        subject: Subject,
        slots: asyncio.Semaphore,
        retry_delay_s: float,
        allowed_failures: int,
        transcripts: Transcripts,
    ):
        self._client, self._subject, self._slots = client, subject, slots
        self._retry_delay_s, self._allowed_failures = retry_delay_s, allowed_failures
        self._transcripts = transcripts
        self._sent: dict[tuple[tuple[str, str], ...], asyncio.Task[Reply]] = {}

    async def converse(self, turns: AskedTurns) -> tuple[AskedTurns, tuple[Reply, ...]]:
        """The user's turns one after the other; where the conversation leaves a gap, the model's own reply stays in."""
        chat: ChatSoFar = []
        replies: list[Reply] = []
        for message in turns:
            if message.content is not None:
                chat.append({"role": message.role, "content": message.content})
                continue
            replies.append(await self._once(chat))
            if not replies[-1].text:
                return turns, tuple(replies)
            chat.append({"role": "assistant", "content": replies[-1].text})
        replies.append(await self._once(chat))
        return turns, tuple(replies)

    async def close(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        """Ends what still runs, after an error or Ctrl-C."""
        for task in (*tasks, *self._sent.values()):
            task.cancel()
        await asyncio.gather(*tasks, *self._sent.values(), return_exceptions=True)

    async def _once(self, chat: ChatSoFar) -> Reply:
        key = tuple((turn["role"], turn["content"]) for turn in chat)
        if key not in self._sent:
            self._sent[key] = asyncio.create_task(self._ask(list(chat)))
        return await self._sent[key]

    async def _ask(self, chat: ChatSoFar) -> Reply:
        subject = self._subject
        prompt = subject.system_prompt
        body: dict[str, Any] = {
            "model": subject.model,
            "messages": with_system_prompt(chat, prompt, subject.system_place) if prompt else chat,
            "temperature": subject.temperature,
            "max_tokens": subject.max_tokens,
            "seed": 0,
        }
        if subject.chat_template_kwargs:
            body["chat_template_kwargs"] = dict(subject.chat_template_kwargs)
        async with self._slots:
            try:
                response = await self._post(body)
                return self._read(response)
            except httpx.TimeoutException:
                return self._fail("no answer in time")
            except _CONNECTION as error:
                return self._fail(f"no connection after {ATTEMPTS} attempts ({type(error).__name__}: {error})")

    async def _post(self, body: dict[str, Any]) -> httpx.Response:
        for attempt in range(1, ATTEMPTS):
            try:
                return await self._client.post("/v1/chat/completions", json=body)
            except _CONNECTION:
                await asyncio.sleep(self._retry_delay_s * attempt)
        return await self._client.post("/v1/chat/completions", json=body)

    def _read(self, response: httpx.Response) -> Reply:
        status = response.status_code
        if status in (401, 403, 404):
            raise SlipwayError(
                f"vLLM does not let {self._subject.model!r} be evaluated: HTTP {status} {response.text[:300]}",
                where=str(response.url),
                cure="load the adapter first, and use the API key that vLLM was started with",
            )
        if status != 200:
            return self._fail(f"HTTP {status}: {response.text[:200]}")
        try:
            answer = response.json()
            choice = answer["choices"][0]
            text, cut = choice["message"]["content"], choice.get("finish_reason") == "length"
            self._transcripts.prompt_tokens.append(int(answer["usage"]["prompt_tokens"]))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            return self._fail(f"not a chat completion ({error!r}): {response.text[:200]}")
        return Reply(text=text, cut=cut)

    def _fail(self, reason: str) -> Reply:
        failed = self._transcripts.failed
        failed.append(reason)
        if len(failed) > self._allowed_failures:
            raise SlipwayError(
                f"evaluation of {self._subject.name} stopped: {len(failed)} requests failed, the last one: {reason}",
                where=str(self._client.base_url),
                cure="see whether vLLM still runs, and its log; then start the evaluation again",
            )
        return Reply(text=None, problem=f"the request failed: {reason}")
