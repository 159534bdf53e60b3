"""The gateway keeps the promises of its own OpenAPI page, whatever schemathesis makes of it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from aiohttp import web
from gateway_world import Running, World, table_for
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from stub_upstream import DONE, USAGE, Stub, answers, frame, sends

from delivery.gateway.endpoints import ENDPOINTS
from delivery.gateway.openapi import ERRORS, page

PROMISES = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
CHOICE = {"index": 0, "message": {"content": "Hi"}, "delta": {"content": "Hi"}, "text": "Hi", "finish_reason": "stop"}
ANY_ANSWER = {"choices": [CHOICE], "data": [{"index": 0, "embedding": [0.5]}], "usage": USAGE}


async def answers_all(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    behave = sends(frame(ANY_ANSWER), DONE) if body.get("stream") else answers(ANY_ANSWER)
    return await behave(http, body)


schema = schemathesis.openapi.from_dict(page())


@pytest.fixture(scope="module")
def running(event_loop_thread: object) -> Iterator[tuple[Running, Stub]]:
    world = World(event_loop_thread)  # type: ignore[arg-type]
    stub = world.upstream(**{"old-model": answers_all})
    policy = {"endpoints": [endpoint.name for endpoint in ENDPOINTS], "max_choices": 4}
    yield world.gateway(table_for(stub.url, policy=policy)), stub
    world.do(world.stack.aclose())


@schema.parametrize()
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_promise_is_kept_for(case: schemathesis.Case, running: tuple[Running, Stub]) -> None:
    gateway, _ = running
    name = case.body.get("model") if isinstance(case.body, dict) else None
    if isinstance(name, str) and len(name) % 2 == 0:
        case.body["model"] = "tutor"  # a name that is made up reaches nobody
    case.call_and_validate(base_url=gateway.url, checks=PROMISES)


def test_the_page_is_served_without_a_key_and_names_every_parameter(running: tuple[Running, Stub]) -> None:
    shown = httpx.get(running[0].url + "/openapi.json").json()
    assert shown == page()
    for endpoint in ENDPOINTS:
        body = shown["paths"][endpoint.path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert set(body["properties"]) == endpoint.parameters
        assert set(map(int, shown["paths"][endpoint.path]["post"]["responses"])) == {200, *ERRORS} - {409}


@pytest.mark.parametrize(("path", "method"), [("/v1/chat/completions", "POST"), ("/v1/models/x", "GET")])
def test_a_method_that_a_path_does_not_take_is_told_the_one_that_it_takes(
    running: tuple[Running, Stub], path: str, method: str
) -> None:
    response = httpx.delete(running[0].url + path)
    assert (response.status_code, response.headers["allow"]) == (405, method)
