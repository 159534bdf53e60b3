import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import ValidationError

from demo.faults import FaultProxy, Faults

ANSWER = {"model": "base", "choices": [{"message": {"content": "What comes first? " * 20}, "finish_reason": "stop"}]}
EVENTS = [{"role": "assistant"}, {"content": "What"}, {"content": " comes"}, {"content": " first?"}]


async def upstream_chat(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    if not body.get("stream"):
        return web.json_response(ANSWER, headers={"x-upstream": "1"})
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    for delta in EVENTS:
        await answer.write(f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n".encode())
        await asyncio.sleep(0)
    await answer.write(b"data: [DONE]\n\n")
    return answer


async def upstream_other(request: web.Request) -> web.Response:
    text = await request.text()
    return web.json_response({"path": request.path_qs, "method": request.method, "body": text}, status=201)


@asynccontextmanager
async def proxied(faults: Faults | None = None) -> AsyncIterator[tuple[TestClient, FaultProxy]]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", upstream_chat)
    app.router.add_route("*", "/{path:.*}", upstream_other)
    async with TestServer(app) as upstream:
        proxy = FaultProxy(str(upstream.make_url("")), faults=faults)
        async with TestClient(TestServer(proxy.app())) as client:
            yield client, proxy


def run(scenario: Callable[[TestClient, FaultProxy], Awaitable[None]], faults: Faults | None = None) -> None:
    async def main() -> None:
        async with proxied(faults) as (client, proxy):
            await asyncio.wait_for(scenario(client, proxy), 10)

    asyncio.run(main())


def chat(client: TestClient, stream: bool = False, model: str = "base"):
    return client.post("/v1/chat/completions", json={"model": model, "messages": [], "stream": stream})


def test_without_faults_everything_passes_unchanged() -> None:
    async def scenario(client: TestClient, proxy: FaultProxy) -> None:
        async with chat(client) as answer:
            assert (answer.status, await answer.json(), answer.headers["x-upstream"]) == (200, ANSWER, "1")
        async with chat(client, stream=True) as answer:
            assert (await answer.text()).count("data:") == len(EVENTS) + 1
        async with client.put("/v1/anything?x=1", data="body") as answer:
            assert answer.status == 201
            assert await answer.json() == {"path": "/v1/anything?x=1", "method": "PUT", "body": "body"}

    run(scenario)


def test_errors_hit_chat_completions_only() -> None:
    async def scenario(client: TestClient, proxy: FaultProxy) -> None:
        async with chat(client) as answer:
            assert answer.status == 500
        for path in ("/health", "/v1/models"):
            async with client.get(path) as answer:
                assert answer.status == 201
        async with client.post("/v1/load_lora_adapter", json={}) as answer:
            assert answer.status == 201

    run(scenario, Faults(error_rate=1))


@pytest.mark.parametrize("stream", [False, True])
def test_a_midstream_fault_breaks_the_connection_after_some_content(stream: bool) -> None:
    async def scenario(client: TestClient, proxy: FaultProxy) -> None:
        received = bytearray()

        async def read() -> None:
            async with chat(client, stream=stream) as answer:
                assert answer.status == 200
                async for chunk in answer.content.iter_any():
                    received.extend(chunk)

        with pytest.raises(aiohttp.ClientPayloadError):
            await read()
        assert b"What" in received
        assert b"[DONE]" not in received

    run(scenario, Faults(midstream_rate=1))


def test_an_empty_stream_and_an_empty_answer_are_well_formed() -> None:
    async def scenario(client: TestClient, proxy: FaultProxy) -> None:
        async with chat(client, stream=True) as answer:
            assert await answer.text() == "data: [DONE]\n\n"
        async with chat(client) as answer:
            assert (await answer.json())["choices"][0]["message"]["content"] == ""

    run(scenario, Faults(empty_rate=1))


def test_a_hang_lasts_until_the_client_gives_up() -> None:
    async def scenario(client: TestClient, proxy: FaultProxy) -> None:
        with pytest.raises(TimeoutError):
            await client.post("/v1/chat/completions", json={}, timeout=aiohttp.ClientTimeout(total=0.1))

    run(scenario, Faults(hang_rate=1))


def test_latency_delays_every_completion() -> None:
    async def scenario(client: TestClient, proxy: FaultProxy) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with chat(client) as answer:
            assert answer.status == 200
        assert loop.time() - began >= 0.1

    run(scenario, Faults(latency_s=0.1))


def test_faults_are_switched_while_it_runs_and_bad_ones_are_refused() -> None:
    async def scenario(client: TestClient, proxy: FaultProxy) -> None:
        async with client.post("/faults", json={"error_rate": 1}) as answer:
            assert (await answer.json())["faults"]["error_rate"] == 1
        async with chat(client) as answer:
            assert answer.status == 500
        async with client.post("/faults", json={"error_rte": 1}) as answer:
            assert answer.status == 422
            assert "error_rte" in await answer.text()
        async with client.post("/faults", json={}) as answer:
            assert answer.status == 200
        async with chat(client) as answer:
            assert answer.status == 200
        async with client.get("/faults") as answer:
            assert (await answer.json())["counts"]["error"] == 1

    run(scenario)


def test_they_begin_after_so_many_completions_of_the_named_models() -> None:
    proxy = FaultProxy("http://127.0.0.1:1", faults=Faults(error_rate=1, models=("lora",), after_completions=2))
    kinds = [proxy.next_fault(model)[0] for model in ("lora", "base", "lora", "base", "lora", "base", "lora")]
    assert kinds == ["none", "none", "none", "none", "error", "none", "error"]


def test_the_same_seed_gives_the_same_faults_at_the_asked_rate() -> None:
    def kinds(seed: int) -> list[str]:
        proxy = FaultProxy("http://127.0.0.1:1", seed, Faults(error_rate=0.3, empty_rate=0.2))
        return [proxy.next_fault("base")[0] for _ in range(2000)]

    assert kinds(1) == kinds(1) != kinds(2)
    assert abs(kinds(1).count("error") / 2000 - 0.3) < 0.05
    assert abs(kinds(1).count("empty") / 2000 - 0.2) < 0.05


def test_rates_above_one_together_are_refused() -> None:
    with pytest.raises(ValidationError, match="add up to"):
        Faults(error_rate=0.7, hang_rate=0.7)
