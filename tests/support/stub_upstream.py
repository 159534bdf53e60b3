"""An upstream that behaves as a test tells it to: vLLM's two answers, and every way of going wrong."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Behaviour = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


@dataclass
class Seen:
    body: dict[str, Any]
    headers: dict[str, str]
    path: str = ""


@dataclass(repr=False)
class Stub:
    """`behaviours` by the model's name; what is not named says its own name."""

    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    abandoned: int = 0  # requests whose client went away
    port: int = 0
    models: list[str] | None = None  # what it lists; None: it has no list
    is_broken: bool = False  # as its health checks show it

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked(self, model: str) -> list[dict[str, Any]]:
        return [seen.body for seen in self.seen if seen.body["model"] == model]

    async def handle(self, http: web.Request) -> web.StreamResponse:
        body = await http.json()
        self.seen.append(Seen(body, dict(http.headers), http.path))
        behave = self.behaviours.get(body["model"]) or says(f"I am {body['model']}")
        try:
            return await behave(http, body)
        except asyncio.CancelledError:
            self.abandoned += 1
            raise

    async def list_models(self, _: web.Request) -> web.StreamResponse:
        if self.is_broken or self.models is None:
            return web.Response(status=500 if self.is_broken else 404)
        return web.json_response({"object": "list", "data": [{"id": name} for name in self.models]})

    async def start(self, port: int = 0) -> web.AppRunner:
        app = web.Application()
        for path in ("/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings"):
            app.router.add_post(path, self.handle)
        app.router.add_get("/v1/models", self.list_models)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.port = runner.addresses[0][1]
        return runner


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "c", "model": "secret-name", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def frame(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


ROLE = frame(chunk({"role": "assistant", "content": ""}))
DONE = frame(b"[DONE]")


def says(text: str, finish: str = "stop", done: bool = True, usage: bool = True) -> Behaviour:
    """A good answer, a word a chunk when streamed."""

    async def behave(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
            return web.json_response({"id": "c", "model": body["model"], "choices": [choice], "usage": USAGE})
        words = [frame(chunk({"content": word + " "})) for word in text.split()]
        tail = [frame(chunk({}, finish)), *([frame({"choices": [], "usage": USAGE})] if usage else [])]
        return await send(http, [ROLE, *words, *tail, *([DONE] if done else [])])

    return behave


def refuses(status: int, message: str = "no", headers: dict[str, str] | None = None) -> Behaviour:
    async def behave(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        error = {"message": message, "type": "SomeError", "param": None, "code": status}
        return web.json_response({"error": error}, status=status, headers=headers)

    return behave


class Gate:
    """A place in a stream where the upstream waits until the test opens it."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(self._opened.set)

    async def wait(self) -> None:
        await self._opened.wait()


def sends(*frames: bytes | Gate, then: str = "end") -> Behaviour:
    """These bytes with status 200, and then the `end`, a `cut` connection, or `silence`."""

    async def behave(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await send(http, frames)
        if then == "silence":
            await asyncio.Event().wait()
        if then == "cut":
            assert http.transport is not None
            http.transport.abort()
        return response

    return behave


def answers(value: Any) -> Behaviour:
    """This JSON value (or these bytes) as a plain answer with status 200."""

    async def behave(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(body=value if isinstance(value, bytes) else json.dumps(value).encode())

    return behave


async def hangs(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Takes the request and says nothing."""
    await asyncio.Event().wait()
    raise AssertionError


async def hangs_up(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Closes the connection instead of answering."""
    assert http.transport is not None
    http.transport.abort()
    return web.Response()


async def send(http: web.Request, frames: Sequence[bytes | Gate]) -> web.StreamResponse:
    """These bytes as an event stream."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(http)
    for data in frames:
        if isinstance(data, Gate):
            await data.wait()
        else:
            await response.write(data)
    return response
