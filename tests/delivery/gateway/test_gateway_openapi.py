"""The gateway keeps the promises of its own OpenAPI page, whatever schemathesis makes of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import schemathesis
from aiohttp import web
from gateway_world import CHAT, Running, World, table_for
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from stub_responses import responds
from stub_upstream import DONE, USAGE, Stub, answers, frame, sends
from test_gateway_keys import ADA, BOB, ask, entry, write

from delivery.gateway.log_ins import FORGOTTEN_S
from delivery.gateway.openai.endpoints.known import ENDPOINTS
from delivery.gateway.openai.openapi import ERRORS, page

pytestmark = pytest.mark.live

PROMISES = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
RESPONSES = "/v1/responses"
CHOICE = {"index": 0, "message": {"content": "Hi"}, "delta": {"content": "Hi"}, "text": "Hi", "finish_reason": "stop"}
ANY_ANSWER = {"choices": [CHOICE], "data": [{"index": 0, "embedding": [0.5]}], "usage": USAGE}


async def answers_all(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    if http.path == RESPONSES:
        return await responds("Hi")(http, body)
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


@dataclass(frozen=True)
class Guarded:
    """A gateway with keys, and an answer of its that was rated already."""

    running: Running
    request_id: str

    def headers(self, key: str) -> dict[str, str]:
        """A key's; where there is none, the address's failed log-ins are forgotten, so that none is answered late."""
        if key:
            return {"Authorization": f"Bearer {key}"}
        self.running.clock.now += FORGOTTEN_S + 1
        ask(self.running, BOB)  # his budget has been refilled meanwhile
        return {}


@pytest.fixture(scope="module")
def guarded(event_loop_thread: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    world = World(event_loop_thread)  # type: ignore[arg-type]
    stub = world.upstream(**{"old-model": answers_all})
    keys = [entry(ADA), entry(BOB, "bob", requests_per_minute=1)]
    running = world.gateway(api_keys=write(tmp_path_factory.mktemp("keys") / "keys.yaml", keys))
    running.admin.put_table(table_for(stub.url))
    for key in (BOB, ADA):  # whose budget is spent then; the clock stands still
        request_id = ask(running, key).headers["x-request-id"]
    yield Guarded(running, request_id)
    world.do(world.stack.aclose())


@schema.parametrize()
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_promise_is_kept_for(case: schemathesis.Case, running: tuple[Running, Stub]) -> None:
    gateway, _ = running
    name = case.body.get("model") if isinstance(case.body, dict) else None
    if isinstance(name, str) and len(name) % 2 == 0:
        case.body["model"] = "tutor"  # a name that is made up reaches nobody
    case.call_and_validate(base_url=gateway.url, checks=PROMISES)


@schema.parametrize()
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_where_keys_are_required_every_promise_is_kept_for(case: schemathesis.Case, guarded: Guarded) -> None:
    key = (ADA, ADA, BOB, "")[len(str(case.body)) % 4]
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = "tutor"
    if isinstance(case.body, dict) and isinstance(case.body.get("request_id"), str):
        case.body["request_id"] = guarded.request_id
    case.call_and_validate(base_url=guarded.running.url, checks=PROMISES, headers=guarded.headers(key))


TOLD = [(ADA, 1, 200), (ADA, 1, 200), (ADA, -1, 409), (BOB, 1, 404), ("", 1, 401)]


def test_what_is_answered_to_an_opinion_is_what_the_page_says(guarded: Guarded) -> None:
    for key, rating, status in TOLD:
        body = {"request_id": ask(guarded.running, ADA).headers["x-request-id"], "rating": rating}
        case = schema["/v1/feedback"]["POST"].Case(body=body, media_type="application/json")
        if status == 409:
            case.call(base_url=guarded.running.url, headers=guarded.headers(key), json=body | {"rating": 0})
        response = case.call(base_url=guarded.running.url, headers=guarded.headers(key))
        assert response.status_code == status
        case.validate_response(response, checks=PROMISES)


@pytest.mark.parametrize(("key", "status"), [(ADA, 200), (BOB, 429), ("", 401), ("sk-wrong", 401)])
def test_what_a_key_is_answered_is_what_the_page_says(guarded: Guarded, key: str, status: int) -> None:
    case = schema["/v1/chat/completions"]["POST"].Case(body=CHAT, media_type="application/json")
    response = case.call(base_url=guarded.running.url, headers=guarded.headers(key))
    assert response.status_code == status
    assert ("retry-after" in response.headers) == (status == 429)
    case.validate_response(response, checks=PROMISES)


def test_the_page_is_served_without_a_key_and_names_every_parameter(running: tuple[Running, Stub]) -> None:
    shown = httpx.get(running[0].url + "/openapi.json").json()
    assert shown == page()
    for endpoint in ENDPOINTS:
        body = shown["paths"][endpoint.path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert set(body["properties"]) == endpoint.parameters
        assert set(map(int, shown["paths"][endpoint.path]["post"]["responses"])) == {200, *ERRORS}


@pytest.mark.parametrize(("path", "method"), [("/v1/chat/completions", "POST"), ("/v1/models/x", "GET")])
def test_a_method_that_a_path_does_not_take_is_told_the_one_that_it_takes(
    running: tuple[Running, Stub], path: str, method: str
) -> None:
    response = httpx.delete(running[0].url + path)
    assert (response.status_code, response.headers["allow"]) == (405, method)
