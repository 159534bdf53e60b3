"""Asking a variant: its replicas, the timeouts, and everything that can go wrong before and between the bytes.

Nothing of the client's own headers goes upstream, and nothing of upstream's comes back: the request and the response
are made anew, so there is nothing hop-by-hop to strip and no key to leak.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson

from configs.gateway import GatewayConfig
from configs.routing import Variant
from delivery.gateway.http.deadlines import Deadline
from delivery.gateway.http.upstream_answer import (
    AnswerTooLargeError,
    BrokenOffError,
    ExhaustedError,
    UnreachableError,
    UpstreamAnswer,
)
from delivery.gateway.openai.answers import CLIENTS_FAULT, UpstreamError, declined, error_in, parse_object
from delivery.gateway.openai.call import REPLICAS_THAT_SEE_IT, Call, for_variant
from delivery.gateway.openai.streams import Stream, count_tokens, refused_in_band
from delivery.gateway.records.attempts import EXHAUSTED, Attempt, Attempts
from delivery.gateway.upstream.connections import Connections
from delivery.gateway.upstream.replicas import Replicas

TRIES = 3  # replicas of a variant asked for one attempt
MAY_HAVE_DIED = frozenset(("connect", "disconnected", "first_frame"))
ANOTHER_MAY_DO = frozenset(("connect", "disconnected", "first_frame"))
SUFFIXES = {"failover": "-f", "mirror": "-m"}  # of the request's id, by role
T = TypeVar("T")


@dataclass(frozen=True)
class Timeouts:
    """All in seconds."""

    connect_s: float
    first_byte_s: float  # streams: to the first content byte
    idle_s: float  # streams: between two chunks
    answer_s: float  # plain requests: to the whole answer

    @classmethod
    def of(cls, config: GatewayConfig) -> Self:
        """As the gateway's settings say."""
        return cls(
            connect_s=config.connect_timeout_s,
            first_byte_s=config.first_byte_timeout_s,
            idle_s=config.idle_timeout_s,
            answer_s=config.answer_timeout_s,
        )


@dataclass
class Upstreams:
    """The HTTP client towards vLLM. Open it once, with `async with`."""

    attempts: Attempts
    timeouts: Timeouts
    replicas: Replicas
    api_key: str = ""
    traceparent: Callable[[str], str] | None = None  # of a request's id; None where nothing is traced

    async def __aenter__(self) -> Self:
        headers = "Content-Type: application/json\r\nAccept-Encoding: identity\r\nUser-Agent: slipway\r\n"
        if self.api_key:
            headers += f"Authorization: Bearer {self.api_key}\r\n"
        self._connections = Connections(self.timeouts.connect_s, headers)
        self._checks = Connections(self.timeouts.connect_s, headers)  # a request's own connection tells if it was lost
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connections.close()
        self._checks.close()

    async def get(self, upstream: str, path: str) -> tuple[int, bytes]:
        """Status and body of a GET upstream. Raises UnreachableError, BrokenOffError."""
        answer = await self._checks.ask("GET", upstream, path, to_the_end=True)
        return answer.status, await answer.read()

    async def ask(self, call: Call, variant: Variant, attempt: Attempt) -> bytes:
        """A plain request's answer, under the route's name. Raises UpstreamError, or ApiError if the model declines."""
        body = for_variant(call, variant, self.replicas.context_of(variant))

        async def one(upstream: str) -> dict[str, Any]:
            said = await self._post(upstream, call.endpoint.path, body, attempt, to_the_end=True)
            attempt.status = said.status
            return _accepted(said.status, said.content(), variant, call)

        answer = await self._at_some_replica(call, attempt, self.timeouts.answer_s, one)
        call.endpoint.shown(answer, call.body, call.name)
        count_tokens(attempt, answer)
        gist = call.endpoint.gist(answer, False)
        if attempt.said is not None:
            attempt.said.add(gist.text)
        shown = orjson.dumps(answer)
        attempt.ended_by(gist)
        if not gist.has_content and not attempt.says_nothing_by_force:
            raise UpstreamError("empty", attempt.status, shown if gist.finish_reason else b"")
        self.attempts.first_content(attempt)
        return shown

    async def stream(self, call: Call, variant: Variant, attempt: Attempt) -> "Stream":
        """A stream whose first content is there, or UpstreamError, or ApiError. Whoever gets it closes it."""
        body = for_variant(call, variant, self.replicas.context_of(variant))

        async def one(upstream: str) -> Stream:
            said = await self._post(upstream, call.endpoint.path, body, attempt, to_the_end=False)
            attempt.status = said.status
            try:
                if said.status != 200:
                    _accepted(said.status, await said.read(), variant, call)
                stream = call.endpoint.stream(said, call, variant, attempt, self.timeouts.idle_s)
                await stream.start()
            except BaseException:
                said.close()
                raise
            return stream

        stream = await self._at_some_replica(call, attempt, self.timeouts.first_byte_s, one)
        self.attempts.first_content(attempt)
        return stream

    async def _at_some_replica(
        self, call: Call, attempt: Attempt, timeout_s: float, once: Callable[[str], Awaitable[T]]
    ) -> T:
        """What the first replica that can says. A replica's own failure is the variant's only if no other helps."""
        variant = call.route.variants[attempt.variant]
        failure: UpstreamError | None = None
        try:
            with Deadline(timeout_s):
                for upstream in (self._order(call, variant) if call.seen else self.replicas.order(variant))[:TRIES]:
                    if failure is not None and not call.may_reach(upstream, attempt.variant):
                        continue
                    self.replicas.begin(attempt, upstream)
                    try:
                        return await once(upstream)
                    except (UpstreamError, UnreachableError, ExhaustedError, BrokenOffError) as error:
                        failure = _failure_of(error)
                        attempt.status = failure.status
                    self._note(call, variant, upstream, failure)
                    if failure.is_lost or not _another_may_do(failure):
                        raise failure from None
        except TimeoutError:
            self.replicas.timed_out(attempt)
            raise UpstreamError("first_byte_timeout", attempt.status) from None
        raise failure or AssertionError("a variant has a replica that may be asked")

    def _order(self, call: Call, variant: Variant) -> Sequence[str]:
        """The replicas to ask, best first: once two have failed at this request, none but these."""
        order = self.replicas.order(variant)
        if len(call.seen) < REPLICAS_THAT_SEE_IT:
            return order
        return [upstream for upstream in order if upstream in call.seen] or list(call.seen & {*variant.upstreams})

    def _note(self, call: Call, variant: Variant, upstream: str, failure: UpstreamError) -> None:
        """What this replica's failure says of it, and of the request."""
        if failure.was_sent and (failure.status >= 500 or failure.kind in MAY_HAVE_DIED):
            call.seen.add(upstream)
        if not _another_may_do(failure) or len(variant.upstreams) == 1:
            return
        if failure.status == 404:
            self.replicas.lacks(upstream, variant.model)
        else:
            self.replicas.failed(upstream, failure.kind)

    def _post(
        self, upstream: str, path: str, body: bytes, attempt: Attempt, *, to_the_end: bool
    ) -> Awaitable[UpstreamAnswer]:
        """An answer whose head is there, or all of it. Raises as `Connections.ask` does."""
        suffix = SUFFIXES.get(attempt.role, "")
        headers = f"X-Request-Id: {attempt.request_id}{suffix}\r\n"
        if self.traceparent is not None:
            headers += f"traceparent: {self.traceparent(attempt.request_id)}\r\n"
        attempt.sent_bytes = len(body)
        return self._connections.ask("POST", upstream, path, body, headers, to_the_end=to_the_end)


def _failure_of(error: Exception) -> UpstreamError:
    """The variant's failure that an error of the connection is."""
    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, AnswerTooLargeError):
        return UpstreamError("malformed", error.status)
    if isinstance(error, BrokenOffError):
        return UpstreamError("disconnected", error.status, is_lost=True)
    if isinstance(error, UnreachableError):
        return UpstreamError("connect", cause=str(error), was_sent=error.was_sent, is_lost=error.is_lost)
    return UpstreamError(EXHAUSTED, cause=str(error), was_sent=False)


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
