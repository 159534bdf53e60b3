"""Asking a variant: its replicas, the timeouts, and everything that can go wrong before and between the bytes.

Nothing of the client's own headers goes upstream, and nothing of upstream's comes back: the request and the response
are made anew, so there is nothing hop-by-hop to strip and no key to leak.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import orjson
from yarl import URL

from configs.environment import GatewayConfig
from configs.routing import Variant
from delivery.gateway.answers import (
    CLIENTS_FAULT,
    UpstreamError,
    declined,
    error_in,
    is_finished,
    parse_object,
)
from delivery.gateway.attempts import Attempt, Attempts
from delivery.gateway.chat import Call, for_variant
from delivery.gateway.replicas import Replicas
from delivery.gateway.streams import Stream, count_tokens, refused_in_band

DEFAULTS = GatewayConfig()
KEEPALIVE_S = 3.0  # less than the 5 s after which vLLM closes an idle connection
TRIES = 3  # replicas of a variant asked for one attempt
ANOTHER_MAY_DO = frozenset(("connect", "disconnected", "first_frame"))
T = TypeVar("T")


@dataclass(frozen=True)
class Timeouts:
    """All in seconds."""

    connect_s: float = DEFAULTS.connect_timeout_s
    first_byte_s: float = DEFAULTS.first_byte_timeout_s  # streams: to the first content byte
    idle_s: float = DEFAULTS.idle_timeout_s  # streams: between two chunks
    answer_s: float = DEFAULTS.answer_timeout_s  # plain requests: to the whole answer


@dataclass
class Upstreams:
    """The HTTP client towards vLLM. Open it once, with `async with`."""

    attempts: Attempts
    timeouts: Timeouts
    replicas: Replicas
    api_key: str = ""
    is_traced: bool = False

    async def __aenter__(self) -> Self:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "slipway"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.timeouts.connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, url: URL) -> tuple[int, bytes]:
        """Status and body of a GET upstream. Raises aiohttp.ClientError."""
        async with self._session.get(url, allow_redirects=False) as response:
            return response.status, await response.read()

    async def ask(self, call: Call, variant: Variant, attempt: Attempt) -> bytes:
        """A plain request's answer, under the route's name. Raises UpstreamError, or ApiError if the model declines."""
        body = for_variant(call, variant)

        async def one(upstream: str) -> dict[str, Any]:
            response = await self._post(upstream, call.endpoint.path, body, attempt)
            try:
                raw = await response.read()
            finally:
                response.close()  # no effect on a connection whose answer was read to the end
            return _accepted(response.status, raw, variant, call)

        answer = await self._at_some_replica(variant, attempt, self.timeouts.answer_s, one)
        answer["model"] = call.name
        count_tokens(attempt, answer)
        if attempt.said is not None:
            attempt.said.add(answer, streamed=False)
        shown = orjson.dumps(answer)
        if not call.endpoint.has_content(answer, False):
            raise UpstreamError("empty", attempt.status, shown if is_finished(answer) else b"")
        self.attempts.first_content(attempt)
        return shown

    async def stream(self, call: Call, variant: Variant, attempt: Attempt) -> "Stream":
        """A stream whose first content is there, or UpstreamError, or ApiError. Whoever gets it closes it."""
        body = for_variant(call, variant)

        async def one(upstream: str) -> Stream:
            response = await self._post(upstream, call.endpoint.path, body, attempt)
            try:
                if response.status != 200:
                    _accepted(response.status, await response.read(), variant, call)
                stream = Stream(response, call, variant, attempt, self.timeouts.idle_s)
                await stream.start()
            except BaseException:
                response.close()
                raise
            return stream

        stream = await self._at_some_replica(variant, attempt, self.timeouts.first_byte_s, one)
        self.attempts.first_content(attempt)
        return stream

    async def _at_some_replica(
        self, variant: Variant, attempt: Attempt, timeout_s: float, once: Callable[[str], Awaitable[T]]
    ) -> T:
        """What the first replica that can says. A replica's own failure is the variant's only if no other helps."""
        upstreams = self.replicas.order(variant)[:TRIES]
        try:
            async with asyncio.timeout(timeout_s):
                for upstream in upstreams[:-1]:
                    try:
                        return await self._at(upstream, attempt, once)
                    except UpstreamError as failure:
                        if not _another_may_do(failure):
                            raise
                        if failure.status == 404:
                            self.replicas.lacks(upstream, variant.model)
                        else:
                            self.replicas.failed(upstream, failure.kind)
                return await self._at(upstreams[-1], attempt, once)
        except TimeoutError:
            raise UpstreamError("first_byte_timeout", attempt.status) from None

    async def _at(self, upstream: str, attempt: Attempt, once: Callable[[str], Awaitable[T]]) -> T:
        self.replicas.begin(attempt, upstream)
        try:
            return await once(upstream)
        except aiohttp.ClientError:
            raise UpstreamError("disconnected", attempt.status) from None

    async def _post(self, upstream: str, path: str, body: bytes, attempt: Attempt) -> aiohttp.ClientResponse:
        """The response's head. Raises UpstreamError `connect`."""
        suffix = {"failover": "-f", "mirror": "-m"}.get(attempt.role, "")
        headers = {"X-Request-Id": attempt.request_id + suffix}
        if self.is_traced:
            headers["traceparent"] = f"00-{attempt.request_id:0>32}-{attempt.request_id[:16]}-01"
        url = URL(upstream.rstrip("/") + path, encoded=True)
        attempt.sent_bytes = len(body)
        for is_last_try in (False, True):
            try:
                response = await self._session.post(url, data=body, headers=headers, allow_redirects=False)
            except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError):
                break
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if is_last_try:  # the first may have met a kept-alive connection at its end
                    break
            else:
                attempt.status = response.status
                return response
        raise UpstreamError("connect")


def _another_may_do(failure: UpstreamError) -> bool:
    """Whether it may be this replica's failure alone: never time that has passed, nor an answer that is a poor one."""
    by_status = failure.kind == "status" and (failure.status in (404, 429) or failure.status >= 500)
    return by_status or failure.kind in ANOTHER_MAY_DO


def _accepted(status: int, raw: bytes, variant: Variant, call: Call) -> dict[str, Any]:
    """The answer, if it is one. The model's complaint about the request is an ApiError, all else an UpstreamError."""
    if status in CLIENTS_FAULT:
        try:
            error = error_in(parse_object(raw, status))
        except UpstreamError:
            error = None
        raise declined(status, error or {}, variant.model, call.name)
    if status != 200:
        raise UpstreamError("status", status)
    answer = parse_object(raw, status)
    error = error_in(answer)
    if error is not None:
        raise refused_in_band(error, variant, call)
    return answer
