"""Traces: a span for every attempt, at a collector that may be there or not."""

from typing import Any

import httpx
import pytest
from aiohttp import web
from gateway_world import World, all_to_new, table_for
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from stub_upstream import answers, refuses
from test_gateway_failover import free_port

from delivery.gateway.server import serving
from delivery.gateway.settings import Settings


class Collector:
    def __init__(self, world: World):
        self.spans: list[Any] = []
        self.port = world.do(self._start(world))

    async def _start(self, world: World) -> int:
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        world.stack.push_async_callback(runner.cleanup)
        return int(runner.addresses[0][1])

    async def _take(self, http: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await http.read())
        self.spans += [s for r in sent.resource_spans for scope in r.scope_spans for s in scope.spans]
        return web.Response(content_type="application/x-protobuf")


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_the_attempts_of_a_request_share_a_trace_that_the_model_is_told(world: World) -> None:
    collector, stub = Collector(world), world.upstream(**{"new-model": refuses(500)})
    endpoint = f"http://127.0.0.1:{collector.port}"
    running = world.gateway(table_for(stub.url, **all_to_new()), traces_endpoint=endpoint)
    request_id = running.ask(stream=True).headers["x-slipway-request-id"]
    running.wait_for_records(2)
    assert running.gateway.traces is not None
    running.gateway.traces.close()
    failed, taken = sorted(collector.spans, key=lambda span: attributes(span)["slipway.role"], reverse=True)
    assert failed.trace_id == taken.trace_id == bytes.fromhex(request_id.rjust(32, "0"))
    assert {seen.headers["traceparent"].split("-")[1] for seen in stub.seen} == {failed.trace_id.hex()}
    assert (attributes(failed)["slipway.variant"], attributes(failed)["error.type"]) == ("new", "status")
    assert (failed.status.code, taken.status.code) == (2, 0)
    assert attributes(taken)["gen_ai.usage.output_tokens"] == 3
    assert [event.name for event in taken.events] == ["first content"]
    assert "old-model" not in str(collector.spans)


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
def test_the_model_is_told_of_every_request_whether_its_trace_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    collector, stub = Collector(world), world.upstream(**{"new-model": refuses(500)})
    running = world.gateway(table_for(stub.url, **all_to_new()), traces_endpoint=f"http://127.0.0.1:{collector.port}")
    asked = {running.ask().headers["x-slipway-request-id"] for _ in range(40)}
    running.wait_for_records(80)
    assert running.gateway.traces is not None
    running.gateway.traces.close()
    told = [seen.headers["traceparent"].split("-") for seen in stub.seen]
    kept = {trace for _, trace, _, flag in told if flag == "01"}
    assert kept == {span.trace_id.hex() for span in collector.spans}
    assert {trace for _, trace, _, flag in told if flag == "00"} == {one.rjust(32, "0") for one in asked} - kept
    assert 5 < len(kept) < 35


def test_a_span_is_named_after_what_was_asked_for(world: World) -> None:
    collector = Collector(world)
    answer = {"choices": [{"text": "Hi", "message": {"content": "Hi"}}], "data": [{"embedding": [0.5]}]}
    stub = world.upstream(**{"old-model": answers(answer)})
    policy = {"endpoints": ["chat", "completions", "embeddings"]}
    endpoint = f"http://127.0.0.1:{collector.port}"
    running = world.gateway(table_for(stub.url, policy=policy), traces_endpoint=endpoint)
    running.ask()
    for path, body in (("completions", {"prompt": "x"}), ("embeddings", {"input": "x"})):
        assert running.http.post(f"/v1/{path}", json={"model": "tutor"} | body).status_code == 200
    running.wait_for_records(3)
    assert running.gateway.traces is not None
    running.gateway.traces.close()
    assert [span.name for span in collector.spans] == ["chat tutor", "text_completion tutor", "embeddings tutor"]
    assert {attributes(span)["gen_ai.operation.name"] for span in collector.spans} == {
        *("chat", "text_completion", "embeddings"),
    }
    assert [list(span.events) for span in collector.spans] == [[], [], []]  # no first content before the last


def test_without_an_endpoint_nothing_is_traced_and_the_model_told_nothing(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url))
    running.ask()
    assert running.gateway.traces is None
    assert "traceparent" not in {name.lower() for name in stub.seen[0].headers}


@pytest.mark.live
def test_a_collector_that_is_away_costs_users_nothing(world: World) -> None:
    stub = world.upstream()
    endpoint = f"http://127.0.0.1:{free_port()}"
    running = world.gateway(table_for(stub.url), traces_endpoint=endpoint)
    assert {running.said() for _ in range(20)} == {"I am old-model"}


def test_a_gateway_that_ends_sends_its_last_spans(world: World) -> None:
    collector = Collector(world)

    async def short_life() -> None:
        settings = Settings(port=0, traces_endpoint=f"http://127.0.0.1:{collector.port}", drain_s=0.1)
        async with serving(settings) as gateway:
            gateway.tables.replace(table_for(f"http://127.0.0.1:{free_port()}"))
            body = {"model": "tutor", "messages": [{"role": "user", "content": "Hi"}]}
            async with httpx.AsyncClient() as client:
                await client.post(f"http://127.0.0.1:{gateway.port}/v1/chat/completions", json=body)

    world.do(short_life())
    (span,) = collector.spans
    assert attributes(span)["error.type"] == "connect"
