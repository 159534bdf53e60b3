"""A proxy that makes a healthy upstream go wrong on purpose: errors, latency, hangs, empty and broken answers.

It stands between the gateway and vLLM, passes everything through, and, once told to, spoils chat completions only:
health, model lists and adapter loading always pass, as with a real server whose inference alone is sick.

    python -m demo.faults --upstream http://127.0.0.1:8100 --port 8190
    curl -X POST http://127.0.0.1:8190/faults -d '{"error_rate": 0.5, "latency_s": 2, "after_completions": 20}'
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from typing import Literal, Self

import aiohttp
from aiohttp import web
from pydantic import Field, ValidationError, model_validator

from configs.strict import Strict

FaultKind = Literal["none", "error", "hang", "empty", "midstream"]
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}
EVENTS_BEFORE_BREAK = 3  # a stream's first event carries the role, the second the first content


class Faults(Strict):
    """What goes wrong, as shares of the chat completions; at most one kind for each."""

    error_rate: float = Field(0, ge=0, le=1, description="HTTP 500 before the upstream is asked")
    hang_rate: float = Field(0, ge=0, le=1, description="no answer at all, until the client gives up")
    empty_rate: float = Field(0, ge=0, le=1, description="HTTP 200 without any content")
    midstream_rate: float = Field(0, ge=0, le=1, description="the connection breaks after the first content")
    latency_s: float = Field(0, ge=0, description="added before every chat completion")
    models: tuple[str, ...] = Field((), description="only for these model names; empty: for all")
    after_completions: int = Field(0, ge=0, description="start after so many more chat completions of those models")
    after_s: float = Field(0, ge=0, description="start after so many seconds")

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        total = self.error_rate + self.hang_rate + self.empty_rate + self.midstream_rate
        if total > 1 + 1e-9:
            raise ValueError(f"the rates add up to {total:g} -> at most 1")
        return self

    def pick(self, draw: float) -> FaultKind:
        """The fault for a draw in [0, 1)."""
        rates: dict[FaultKind, float] = {
            "error": self.error_rate,
            "hang": self.hang_rate,
            "empty": self.empty_rate,
            "midstream": self.midstream_rate,
        }
        for kind, rate in rates.items():
            if draw < rate:
                return kind
            draw -= rate
        return "none"


class FaultProxy:
    """The proxy's state: which faults are set, since when, and what it did."""

    def __init__(self, upstream: str, seed: int = 0, faults: Faults | None = None):
        self.upstream = upstream.rstrip("/")
        self.random = random.Random(seed)  # noqa: S311 - reproducible faults, nothing secret
        self.counts = dict.fromkeys(("completions", "error", "hang", "empty", "midstream"), 0)
        self.set(faults or Faults())

    def set(self, faults: Faults) -> None:
        """From now on (or from after_completions, after_s on) these."""
        self.faults = faults
        self.set_at = time.monotonic()
        self.seen_since = 0

    def next_fault(self, model: str) -> tuple[FaultKind, float]:
        """What to do with one chat completion: the fault, and the latency to add."""
        self.counts["completions"] += 1
        if self.faults.models and model not in self.faults.models:
            return "none", 0.0
        self.seen_since += 1
        if self.seen_since <= self.faults.after_completions or time.monotonic() < self.set_at + self.faults.after_s:
            return "none", 0.0
        kind = self.faults.pick(self.random.random())
        if kind != "none":
            self.counts[kind] += 1
        return kind, self.faults.latency_s

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=64 * 2**20)
        app.cleanup_ctx.append(self._session)
        app.router.add_post("/faults", self._set)
        app.router.add_get("/faults", self._show)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_route("*", "/{path:.*}", self._pass)
        return app

    async def _session(self, app: web.Application) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as self.client:
            yield

    async def _set(self, request: web.Request) -> web.Response:
        try:
            self.set(Faults.model_validate_json(await request.read()))
        except ValidationError as error:
            return web.json_response({"error": error.errors(include_url=False, include_context=False)}, status=422)
        return await self._show(request)

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response({"faults": self.faults.model_dump(), "counts": self.counts})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        kind, latency_s = self.next_fault(str(body.get("model", "")))
        if latency_s:
            await asyncio.sleep(latency_s)
        if kind == "error":
            return web.json_response({"error": {"message": "injected failure", "code": 500}}, status=500)
        if kind == "hang":
            await asyncio.Event().wait()  # ends when the client goes away
        if kind == "empty":
            return _empty(bool(body.get("stream")), str(body.get("model", "")))
        return await self._pass(request, to_break=kind == "midstream")

    async def _pass(self, request: web.Request, to_break: bool = False) -> web.StreamResponse:
        dropped = {*HOP_BY_HOP, "host", "content-length"}
        headers = {name: value for name, value in request.headers.items() if name.lower() not in dropped}
        body = await request.read()
        try:
            async with self.client.request(
                request.method, self.upstream + request.path_qs, headers=headers, data=body or None
            ) as upstream:
                return await _relay(request, upstream, to_break)
        except aiohttp.ClientError as error:
            return web.json_response({"error": {"message": f"upstream: {error}", "code": 502}}, status=502)


async def _relay(request: web.Request, upstream: aiohttp.ClientResponse, to_break: bool) -> web.StreamResponse:
    answer = web.StreamResponse(status=upstream.status)
    for name, value in upstream.headers.items():
        if name.lower() not in HOP_BY_HOP:
            answer.headers[name] = value
    await answer.prepare(request)
    events = 0
    try:
        async for chunk in upstream.content.iter_any():
            if to_break and answer.content_length is not None:
                await answer.write(chunk[: answer.content_length // 2])
                return _broken(request, answer)
            await answer.write(chunk)
            events += chunk.count(b"data:")
            if to_break and events >= EVENTS_BEFORE_BREAK:
                return _broken(request, answer)
    except aiohttp.ClientError:
        return _broken(request, answer)  # as the upstream broke, so does this
    await answer.write_eof()
    return answer


def _broken(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return answer


def _empty(stream: bool, model: str) -> web.Response:
    if stream:
        return web.Response(text="data: [DONE]\n\n", content_type="text/event-stream")
    choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return web.json_response({"object": "chat.completion", "model": model, "choices": [choice], "usage": usage})


def main(arguments: list[str] | None = None) -> int:
    """The command line; runs until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m demo.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--upstream", required=True, help="base URL of vLLM")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", default="{}", help="JSON; the faults to begin with")
    given = parser.parse_args(arguments)
    proxy = FaultProxy(given.upstream, given.seed, Faults.model_validate_json(given.faults))
    web.run_app(
        proxy.app(), host=given.host, port=given.port, print=None, handler_cancellation=True, shutdown_timeout=1.0
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
