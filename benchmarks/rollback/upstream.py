"""A stub vLLM: `python -m benchmarks.rollback.upstream PORT`. Adapters come and go; a model fails as often as told."""

import asyncio
import random
import sys
from typing import Any

from aiohttp import web

ANSWER_S = 0.02


class Stub:
    """Adapters by name, and by name the share of chat requests that fail."""

    def __init__(self) -> None:
        self.models = {"base": "/models/base"}
        self.failing: dict[str, float] = {}
        self.dice = random.Random(2026)  # noqa: S311 - no secret hangs on it

    async def list_models(self, _: web.Request) -> web.Response:
        """As vLLM lists them."""
        cards = [{"id": n, "root": r, "parent": None if n == "base" else "base"} for n, r in self.models.items()]
        return web.json_response({"object": "list", "data": cards})

    async def load(self, request: web.Request) -> web.Response:
        """An adapter more."""
        body = await request.json()
        self.models[body["lora_name"]] = body["lora_path"]
        return web.Response()

    async def unload(self, request: web.Request) -> web.Response:
        """An adapter less."""
        self.models.pop((await request.json())["lora_name"], None)
        return web.Response()

    async def fail(self, request: web.Request) -> web.Response:
        """From now on this share of a model's chat requests fails."""
        body = await request.json()
        self.failing[body["model"]] = body["share"]
        return web.Response()

    async def complete(self, request: web.Request) -> web.Response:
        """Probes and chats; only chats fail, so that a candidate can be prepared."""
        body = await request.json()
        name = body["model"]
        if name not in self.models:
            return web.json_response({"error": {"message": f"no model {name}"}}, status=404)
        if "messages" in body:
            if self.dice.random() < self.failing.get(name, 0.0):
                return web.json_response({"error": {"message": "broken"}}, status=500)
            await asyncio.sleep(ANSWER_S)
        return web.json_response(_answer(name))


def _answer(name: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": "What do you know already?"}
    choice = {"index": 0, "text": "2", "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18}
    return {"id": "x", "object": "chat.completion", "model": name, "choices": [choice], "usage": usage}


def main(port: int) -> None:
    """Serves until ended."""
    stub, app = Stub(), web.Application()
    app.router.add_get("/v1/models", stub.list_models)
    app.router.add_get("/health", lambda _: _ok())
    app.router.add_post("/v1/load_lora_adapter", stub.load)
    app.router.add_post("/v1/unload_lora_adapter", stub.unload)
    app.router.add_post("/v1/chat/completions", stub.complete)
    app.router.add_post("/v1/completions", stub.complete)
    app.router.add_post("/fail", stub.fail)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


async def _ok() -> web.Response:
    return web.Response()


if __name__ == "__main__":
    main(int(sys.argv[1]))
