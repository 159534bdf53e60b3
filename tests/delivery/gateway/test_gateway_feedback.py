"""What users say about answers: tied to the request, counted once, and in the records' own order."""

import hashlib
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from gateway_world import CHAT, Running, World, all_to_new, table_for
from stub_upstream import refuses


def tell(running: Running, request_id: str, **opinion: Any) -> httpx.Response:
    return running.http.post("/v1/feedback", json={"request_id": request_id} | opinion)


def asked(running: Running, **more: Any) -> str:
    return str(running.ask(**more).headers["x-request-id"])


def test_a_rating_comes_with_everything_that_is_known_of_its_answer(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, **all_to_new()))
    number = asked(running, user="ada")
    running.clock.now += 30
    assert tell(running, number, rating=-1, escalated=True).json()["rating"] == -1
    page = running.admin.records(0)
    (record,), (given,) = page.records, page.feedback
    assert (given.request_id, given.variant, given.role, given.epoch) == (number, "new", "served", "e1")
    assert (given.user, given.started_at, given.at) == (record.user, 1000.0, 1030.0)
    assert (given.rating, given.escalated, given.seq, page.last_seq) == (-1, True, 2, 2)
    assert running.admin.records(1).feedback == page.feedback
    assert running.admin.records(2).feedback == ()


def test_it_goes_to_whoever_answered_in_the_end(world: World) -> None:
    stub = world.upstream(**{"new-model": refuses(500)})
    running = world.gateway(table_for(stub.url, **all_to_new()))
    tell(running, asked(running), rating=1)
    (given,) = running.admin.records(0).feedback
    assert (given.variant, given.role) == ("old", "failover")


def test_the_official_client_sees_the_request_id(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    with openai.OpenAI(base_url=running.url + "/v1", api_key="x") as client:
        answer = client.chat.completions.create(model="tutor", messages=[{"role": "user", "content": "Hi"}])
    assert tell(running, str(answer._request_id), rating=0).status_code == 200


def test_of_a_request_one_rating_and_one_escalation_count(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    number = asked(running)
    for opinion in ({"rating": 1}, {"rating": 1}, {"escalated": True}, {"rating": 1, "escalated": True}):
        assert tell(running, number, **opinion).status_code == 200
    assert [(one.rating, one.escalated) for one in running.admin.records(0).feedback] == [(1, False), (None, True)]
    changed = tell(running, number, rating=-1)
    assert (changed.status_code, changed.json()["error"]["code"]) == (409, "rated_already")
    assert len(running.admin.records(0).feedback) == 2


def test_an_answer_that_nobody_remembers_is_told_so(world: World) -> None:
    stub = world.upstream(**{"old-model": refuses(500)})
    running = world.gateway(table_for(stub.url), records_kept=3)
    unanswered = asked(running)
    del stub.behaviours["old-model"]
    first = asked(running)
    for _ in range(3):
        asked(running)
    for number in ("f" * 24, unanswered, first):
        response = tell(running, number, rating=1)
        assert response.status_code == 404
        error = response.json()["error"]
        assert (error["code"], error["param"], error["source"]) == ("unknown_request", "request_id", "gateway")
        assert number in error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"rating": 1}, "request_id"),
        ({"request_id": "a"}, "rating"),
        ({"request_id": "a", "rating": 5}, "rating"),
        ({"request_id": "a", "rating": 1, "stars": 5}, "stars"),
        ({"request_id": "a", "rating": 1, "comment": "x" * 5000}, "comment"),
        ([1], None),
    ],
)
def test_what_is_no_feedback_is_refused_in_openais_shape(world: World, body: Any, param: str | None) -> None:
    running = world.gateway(table_for(world.upstream().url))
    response = running.http.post("/v1/feedback", json=body)
    assert response.status_code == 400
    assert response.json()["error"] | {"message": ""} == {
        "message": "",
        "type": "invalid_request_error",
        "param": param,
        "code": "invalid_value",
        "source": "gateway",
    }


def test_only_the_client_who_asked_may_say_something(world: World, tmp_path: Path) -> None:
    names = {"ada": "sk-ada-0123456789", "bob": "sk-bob-0123456789"}
    entries = [{"name": name, "sha256": [hashlib.sha256(key.encode()).hexdigest()]} for name, key in names.items()]
    file = tmp_path / "keys.yaml"
    file.write_text(yaml.safe_dump({"keys": entries}))
    running = world.gateway(table_for(world.upstream().url), api_keys=file)
    as_ada, as_bob = ({"Authorization": f"Bearer {key}"} for key in names.values())
    answer = running.http.post("/v1/chat/completions", json=CHAT, headers=as_ada)
    opinion = {"request_id": answer.headers["x-request-id"], "rating": 1}
    statuses = [running.http.post("/v1/feedback", json=opinion, headers=h).status_code for h in ({}, as_bob, as_ada)]
    assert statuses == [401, 404, 200]
