"""API keys: who is let in, to which routes, and how much of it."""

import hashlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from gateway_world import CHAT, Clock, Running, World, all_to_new, eventually, table_for
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT
from stub_upstream import DONE, ROLE, Gate, Stub, chunk, frame, hangs, refuses, sends

from configs.errors import ConfigError
from delivery.gateway.__main__ import main
from delivery.gateway.keys.access import read_keys
from delivery.gateway.keys.budgets import Budget
from delivery.gateway.keys.new_key import main as make_key
from delivery.gateway.keys.tokens import BYTES_PER_TOKEN, tokens_at_most
from delivery.gateway.openai.call import Call
from delivery.gateway.openai.endpoints.chat import CHAT_COMPLETIONS
from delivery.gateway.openai.endpoints.known import ENDPOINTS

ADA, BOB = "sk-ada-0123456789", "sk-bob-0123456789"
STOP = chunk({}, "stop")
README = (ROOT / "docs" / "gateway.md").read_text()


def entry(key: str, name: str = "ada", **limits: Any) -> dict[str, Any]:
    return {"name": name, "sha256": [hashlib.sha256(key.encode()).hexdigest()], **limits}


def write(file: Path, entries: Sequence[dict[str, Any]]) -> Path:
    file.write_text(yaml.safe_dump({"keys": list(entries)}))
    return file


def guarded(world: World, folder: Path, *entries: dict[str, Any], clock: Clock | None = None) -> Running:
    table = table_for(world.upstream().url).model_dump()
    table["routes"]["other"] = table["routes"]["tutor"]
    running = world.gateway(api_keys=write(folder / "keys.yaml", entries), clock=clock)
    running.admin.put_table(type(table_for("http://a")).model_validate(table))
    return running


def ask(running: Running, key: str, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} | more.pop("headers", {})
    return running.http.post("/v1/chat/completions", json=CHAT | more, headers=headers)


NOT_A_KEY = [None, "Bearer", "Bearer sk-wrong", f"Basic {ADA}", ADA, f"Bearer {ADA}x", f"Bearer {ADA[:-1]}"]


@pytest.mark.parametrize("header", NOT_A_KEY)
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/chat/completions"), ("GET", "/v1/models")])
def test_without_a_known_key_nothing_is_answered_or_listed(
    world: World, tmp_path: Path, header: str | None, method: str, path: str
) -> None:
    running = guarded(world, tmp_path, entry(ADA))
    response = running.http.request(method, path, json=CHAT, headers={"Authorization": header} if header else {})
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert "tutor" not in response.text
    assert not running.records()


def test_neither_is_the_digest_of_a_key_a_key(world: World, tmp_path: Path) -> None:
    running = guarded(world, tmp_path, entry(ADA))
    assert ask(running, entry(ADA)["sha256"][0]).status_code == 401
    assert ask(running, ADA).status_code == 200


def test_the_body_of_a_stranger_is_not_even_read(world: World, tmp_path: Path) -> None:
    running = guarded(world, tmp_path, entry(ADA))
    headers = {"Authorization": "Bearer sk-wrong"}
    assert running.http.post("/v1/chat/completions", content=b"{", headers=headers).status_code == 401


def test_a_key_opens_the_routes_of_its_scope_and_hides_all_others(world: World, tmp_path: Path) -> None:
    running = guarded(world, tmp_path, entry(ADA, routes=["tutor"]), entry(BOB, "bob"))
    refused = ask(running, ADA, model="other")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert refused.json()["error"]["message"].endswith("Served here: tutor.")
    assert ask(running, BOB, model="other").status_code == 200
    with openai.OpenAI(base_url=running.url + "/v1", api_key=ADA) as client:
        assert [model.id for model in client.models.list()] == ["tutor"]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("other")


def test_a_key_that_has_expired_opens_nothing(world: World, tmp_path: Path) -> None:
    clock = Clock(now=1_000.0)
    running = guarded(world, tmp_path, entry(ADA, expires_at="1970-01-01T00:17:00Z"), clock=clock)  # 1,020 s
    assert ask(running, ADA).status_code == 200
    clock.now = 1_020.0
    assert "expired" in ask(running, ADA).json()["error"]["message"]


def test_requests_beyond_the_rate_are_told_when_to_come_again(world: World, tmp_path: Path) -> None:
    clock = Clock()
    running = guarded(world, tmp_path, entry(ADA, requests_per_minute=2), entry(BOB, "bob"), clock=clock)
    assert [ask(running, ADA).status_code for _ in range(3)] == [200, 200, 429]
    refused = ask(running, ADA)
    assert refused.headers["retry-after"] == "30"
    assert refused.json()["error"]["type"] == "requests"
    assert ask(running, BOB).status_code == 200
    clock.now += 30
    assert [ask(running, ADA).status_code for _ in range(2)] == [200, 429]
    with (
        openai.OpenAI(base_url=running.url + "/v1", api_key=ADA, max_retries=0) as client,
        pytest.raises(openai.RateLimitError),
    ):
        client.chat.completions.create(model="tutor", messages=[{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("limit", "wait"), [("tokens_per_minute", (15, 14)), ("tokens_per_day", (21_600, 19_440))])
def test_tokens_are_counted_as_upstream_counts_them(
    world: World, tmp_path: Path, limit: str, wait: tuple[int, int], stream: bool
) -> None:
    clock = Clock()
    running = guarded(world, tmp_path, entry(ADA, **{limit: 40}), clock=clock)  # an answer takes 14
    assert [ask(running, ADA, stream=stream).status_code for _ in range(2)] == [200, 200]
    refused = ask(running, ADA, stream=stream)
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "tokens")
    assert refused.headers["retry-after"] == str(wait[stream])  # for what its bytes let expect; 12 of the 40 are left
    clock.now += wait[stream] - 2
    assert ask(running, ADA, stream=stream).status_code == 429
    clock.now += 2
    assert ask(running, ADA, stream=stream).status_code == 200


def at_once(running: Running, stub: Stub, gate: Gate, loop: Any, count: int, **more: Any) -> list[int]:
    """The statuses of requests that are under way together: the model answers when nobody is left to be refused."""
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(ask, running, ADA, stream=True, **more) for _ in range(count)]
        eventually(lambda: len(stub.seen) + sum(one.done() for one in asked) == count)
        gate.open(loop)
        return sorted(one.result().status_code for one in asked)


def test_requests_side_by_side_get_no_more_tokens_than_one_after_the_other(world: World, tmp_path: Path) -> None:
    gate = Gate()
    stub = world.upstream(**{"old-model": sends(ROLE, gate, frame(chunk({"content": "So "})), frame(STOP), DONE)})
    running = world.gateway(api_keys=write(tmp_path / "keys.yaml", [entry(ADA, tokens_per_minute=1000)]))
    running.admin.put_table(table_for(stub.url))
    assert at_once(running, stub, gate, world.loop, 9, max_tokens=300) == [200] * 3 + [429] * 6
    spent = running.gateway.keys.spent
    eventually(lambda: spent()["ada"]["tokens_per_minute"] < 150)  # what was set aside and not taken is there again


def test_a_request_that_asks_for_more_than_a_full_budget_gets_in_when_it_is_full(world: World, tmp_path: Path) -> None:
    clock = Clock()
    running = guarded(world, tmp_path, entry(ADA, tokens_per_minute=100), clock=clock)
    running.admin.put_table(table_for(world.upstream().url, revision=2, policy={"max_tokens": None}))
    assert ask(running, ADA, max_tokens=10**9).status_code == 200
    assert ask(running, ADA, max_tokens=10**9).headers["retry-after"] == "9"  # the 14 that were taken
    clock.now += 9
    assert ask(running, ADA, max_tokens=10**9).status_code == 200


ASKED = [
    ({}, 60),
    ({"max_tokens": 7}, 17),
    ({"max_tokens": 7, "max_completion_tokens": 9}, 19),
    ({"max_tokens": 7, "n": 3}, 31),
    ({"max_tokens": -1}, 10),
    ({"max_tokens": "7"}, 10 + sys.maxsize),
    ({"max_tokens": 7, "n": 2.0}, 10 + 7 * sys.maxsize),
]


@pytest.mark.parametrize(("body", "tokens"), ASKED)
def test_what_a_request_may_take_is_its_bytes_the_prompt_and_the_longest_answer(
    body: dict[str, Any], tokens: int
) -> None:
    route = table_for("http://a", variants={"old": {"system_prompt": "x" * 20, "max_tokens": 50}}).routes["tutor"]
    call = Call("1", "tutor", route, body, "u", "", stream=False, wants_usage=False, endpoint=CHAT_COMPLETIONS, size=20)
    assert tokens_at_most(call) == tokens


@pytest.mark.parametrize(("asked", "tokens"), [({}, 60), ({"max_output_tokens": 7}, 17)])
def test_a_response_may_take_what_its_own_limit_says(asked: dict[str, Any], tokens: int) -> None:
    route = table_for("http://a", variants={"old": {"system_prompt": "x" * 20, "max_tokens": 50}}).routes["tutor"]
    (endpoint,) = [one for one in ENDPOINTS if one.name == "responses"]
    body = {"input": "Hi"} | asked
    call = Call("1", "tutor", route, body, "u", "", stream=False, wants_usage=False, endpoint=endpoint, size=20)
    assert tokens_at_most(call) == tokens


def test_failures_of_the_gateways_own_cost_the_client_nothing(world: World, tmp_path: Path) -> None:
    stub = world.upstream(**{"new-model": refuses(500)})
    running = world.gateway(api_keys=write(tmp_path / "keys.yaml", [entry(ADA, tokens_per_day=1000)]))
    running.admin.put_table(table_for(stub.url, **all_to_new()))
    spent = running.gateway.keys.spent
    assert ask(running, ADA).status_code == 200
    eventually(lambda: spent() == {"ada": {"tokens_per_day": pytest.approx(14)}})  # stable's answer alone
    stub.behaviours["old-model"] = refuses(500)
    assert ask(running, ADA).status_code == 502
    stub.behaviours["old-model"] = stub.behaviours["new-model"] = refuses(400)
    assert ask(running, ADA).status_code == 400
    eventually(lambda: spent() == {"ada": {"tokens_per_day": pytest.approx(14)}})


def test_a_client_that_hangs_up_before_the_count_comes_pays_for_what_it_got(world: World, tmp_path: Path) -> None:
    words = [frame(chunk({"content": "word "})) for _ in range(9)]
    stub = world.upstream(**{"old-model": sends(ROLE, *words, then="silence")})
    running = world.gateway(api_keys=write(tmp_path / "keys.yaml", [entry(ADA, tokens_per_day=8)]))
    running.admin.put_table(table_for(stub.url))
    headers = {"Authorization": f"Bearer {ADA}"}
    with httpx.stream("POST", running.url + "/v1/chat/completions", json=CHAT | {"stream": True}, headers=headers) as r:
        assert any("word" in line for line in r.iter_lines())
    (record,) = running.wait_for_records(1)
    assert record.error == "client_closed"
    assert len(str(stub.seen[0].body)) > BYTES_PER_TOKEN
    assert ask(running, ADA).status_code == 429


def test_the_copies_of_a_mirror_cost_the_client_nothing(world: World, tmp_path: Path) -> None:
    mirrored = {"candidate": {"variant": "new", "mirror_bp": 10_000}}
    running = world.gateway(api_keys=write(tmp_path / "keys.yaml", [entry(ADA, tokens_per_day=1000)]))
    running.admin.put_table(table_for(world.upstream().url, **mirrored))
    assert ask(running, ADA).status_code == 200
    running.wait_for_records(2)
    eventually(lambda: running.gateway.keys.spent() == {"ada": {"tokens_per_day": pytest.approx(14)}})


def test_a_client_may_have_only_so_many_requests_under_way(world: World, tmp_path: Path) -> None:
    gate = Gate()
    stub = world.upstream(**{"old-model": sends(ROLE, frame(chunk({"content": "So "})), gate, DONE)})
    running = world.gateway(api_keys=write(tmp_path / "keys.yaml", [entry(ADA, concurrent_requests=1)]))
    running.admin.put_table(table_for(stub.url))
    headers = {"Authorization": f"Bearer {ADA}"}
    with httpx.stream("POST", running.url + "/v1/chat/completions", json=CHAT | {"stream": True}, headers=headers) as r:
        lines = r.iter_lines()
        assert any("So" in line for line in lines)
        assert ask(running, ADA).status_code == 429
        gate.open(world.loop)
        list(lines)
    eventually(lambda: ask(running, ADA, stream=True).status_code == 200)


def test_the_users_of_two_clients_are_different_users_and_a_new_key_changes_nobodys_variant(
    world: World, tmp_path: Path
) -> None:
    both = entry(ADA)["sha256"] + entry("sk-ada-new")["sha256"]
    running = guarded(world, tmp_path, entry(ADA) | {"sha256": both}, entry(BOB, "bob"))
    for key in (ADA, "sk-ada-new", BOB):
        ask(running, key, headers={"x-slipway-user": "7"})
        ask(running, key)
    users = [record.user for record in running.records()]
    assert users[0] == users[2]
    assert users[1] == users[3]
    assert len(set(users)) == 4


def test_an_edit_of_the_file_holds_within_a_second_and_a_broken_one_does_not(world: World, tmp_path: Path) -> None:
    running = guarded(world, tmp_path, entry(ADA))
    write(tmp_path / "keys.yaml", [entry(BOB, "bob")])
    eventually(lambda: ask(running, ADA).status_code == 401)
    assert ask(running, BOB).status_code == 200
    (tmp_path / "keys.yaml").write_text("keys: [{name: bob, sha265: []}]")
    with pytest.raises(ConfigError, match="sha265"):
        read_keys(tmp_path / "keys.yaml")
    assert ask(running, BOB).status_code == 200
    (tmp_path / "keys.yaml").unlink()
    assert ask(running, BOB).status_code == 200


def test_what_was_spent_stays_spent_when_the_file_is_edited(world: World, tmp_path: Path) -> None:
    running = guarded(world, tmp_path, entry(ADA, requests_per_minute=2))
    assert [ask(running, ADA).status_code for _ in range(3)] == [200, 200, 429]
    write(tmp_path / "keys.yaml", [entry(ADA, requests_per_minute=3), entry(BOB, "bob")])
    eventually(lambda: ask(running, BOB).status_code == 200)
    assert [ask(running, ADA).status_code for _ in range(2)] == [200, 429]


PROBLEMS = [
    ([entry(ADA), entry(BOB)], "name 'ada' is given twice"),
    ([entry(ADA), entry(ADA, "bob")], "is given twice"),
    ([entry(ADA) | {"sha256": ["sk-in-the-clear"]}], "no SHA-256 digest"),
    ([entry(ADA, requests_per_minute=0)], "requests_per_minute"),
    ([entry(ADA, routes=[])], "routes"),
    ([entry(ADA, expires_at="2027-01-31T00:00:00")], "expires_at"),
    ([entry(ADA, name="a b")], "name"),
]


@pytest.mark.parametrize(("entries", "said"), PROBLEMS)
def test_a_file_that_cannot_be_right_is_refused_at_the_start(
    tmp_path: Path, entries: list[dict[str, Any]], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--keys", str(write(tmp_path / "keys.yaml", entries))]
    assert main(arguments, {"SLIPWAY_ADMIN_TOKEN": "t" * 32}) == 2
    assert said in capsys.readouterr().err


def test_no_key_reaches_upstream_the_log_or_the_metrics(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stub = world.upstream(**{"new-model": hangs})
    running = world.gateway(api_keys=write(tmp_path / "keys.yaml", [entry(ADA)]), upstream_api_key="up")
    running.admin.put_table(table_for(stub.url, **all_to_new()))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            running.url + "/v1/chat/completions", json=CHAT, headers={"Authorization": f"Bearer {ADA}"}, timeout=0.2
        )
    eventually(lambda: stub.abandoned == 1)
    seen = [str(stub.seen), running.metrics(), caplog.text, running.admin.records(0).model_dump_json()]
    assert all(ADA not in text and entry(ADA)["sha256"][0] not in text for text in seen)


def test_a_key_is_made_and_shown_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_key(["class-7b"]) == 0
    shown = capsys.readouterr()
    (tmp_path / "keys.yaml").write_text("keys:\n" + shown.out)
    (made,) = read_keys(tmp_path / "keys.yaml").keys
    key = shown.err.split()[-1]
    assert (made.name, made.sha256) == ("class-7b", (hashlib.sha256(key.encode()).hexdigest(),))
    assert len(key) > 40


def test_the_example_of_the_readme_is_a_file_of_keys(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text(README.partition("```yaml\n# keys.yaml\n")[2].partition("```")[0])
    assert [key.name for key in read_keys(tmp_path / "keys.yaml").keys] == ["class-7b", "trial"]


# -- budgets, as arithmetic -----------------------------------------------------------------------------------------

AMOUNTS = st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 30)), max_size=30)


@given(capacity=st.floats(1, 100), steps=AMOUNTS)
def test_never_more_is_spent_than_was_there_and_came_in(capacity: float, steps: list[tuple[float, float]]) -> None:
    now, spent, budget = 0.0, 0.0, Budget.full(capacity, 60.0, 0.0)
    for elapsed, amount in steps:
        now += elapsed
        if amount <= capacity and budget.wait_s(amount, now) == 0:
            budget.spend(amount, now)
            spent += amount
    assert spent <= capacity * (1 + now / 60) + 1e-6


@given(capacity=st.floats(1, 100), spent=st.floats(0, 300), amount=st.floats(0.1, 1))
def test_the_wait_that_is_told_suffices(capacity: float, spent: float, amount: float) -> None:
    budget = Budget.full(capacity, 60.0, 0.0)
    budget.spend(spent, 0.0)
    wait_s = budget.wait_s(amount, 0.0)
    assert budget.wait_s(amount, wait_s) < 1e-6
