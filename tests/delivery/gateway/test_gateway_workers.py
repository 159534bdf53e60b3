"""Several workers are one gateway: to the controller, to Prometheus, to API keys, and to users' opinions."""

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from fleet_world import RunningFleet, fleet_of
from gateway_world import TOKEN, Clock, World, all_to_new, eventually, table_for
from stub_upstream import DONE, ROLE, Gate, answers, chunk, frame, refuses, sends
from test_gateway_keys import ADA, BOB, entry

from configs.api_keys import ApiKeys
from delivery.clients.gateway import GatewayError
from delivery.gateway.workers.bank import Loan, TokenLoan
from delivery.gateway.workers.shared_keys import SharedKeys

pytestmark = pytest.mark.live


def keyed(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"api_keys": Path("keys.yaml"), "let_in": ApiKeys.model_validate({"keys": entries})}


def test_a_table_that_was_put_once_is_served_by_every_worker(world: World) -> None:
    table = table_for(world.upstream().url, revision=7, **all_to_new())
    fleet = fleet_of(world, 3, table)
    assert [fleet.variant(number) for number in range(3)] == ["new"] * 3
    assert fleet.admin.table() == table
    assert fleet.admin.records(0).revision == 7
    with pytest.raises(GatewayError, match="older than revision 7"):
        fleet.admin.put_table(table_for("http://a", revision=6))
    with pytest.raises(GatewayError, match="revision 7 is served"):
        fleet.admin.renew(6)


def test_a_user_gets_the_same_variant_from_every_worker(world: World) -> None:
    half = {"candidate": {"variant": "new", "share_bp": 5000}}
    fleet = fleet_of(world, 2, table_for(world.upstream().url, **half))
    users = [f"user-{number}" for number in range(20)]
    assert [fleet.variant(0, user) for user in users] == [fleet.variant(1, user) for user in users]


def test_the_lease_ends_in_all_workers_and_is_renewed_in_all_of_them(world: World) -> None:
    fleet = fleet_of(world, 2, table_for(world.upstream().url, lease_s=15.0, **all_to_new()))
    fleet.clock.now += 10
    assert fleet.admin.records(0).lease_remaining_s == pytest.approx(5)
    fleet.admin.renew(1)
    fleet.clock.now += 14.9
    assert [fleet.variant(number) for number in range(2)] == ["new"] * 2
    fleet.clock.now += 0.2
    assert [fleet.variant(number) for number in range(2)] == ["old"] * 2


def test_a_worker_that_comes_later_serves_the_table_with_what_is_left_of_its_lease(world: World) -> None:
    fleet = fleet_of(world, 1, table_for(world.upstream().url, lease_s=15.0, **all_to_new()))
    fleet.clock.now += 10
    fleet.start(1)
    assert fleet.variant(1) == "new"
    fleet.clock.now += 5.1
    assert fleet.variant(1) == "old"


def test_the_records_of_all_workers_are_one_sequence_with_one_cursor(world: World) -> None:
    fleet = fleet_of(world, 3, table_for(world.upstream().url))
    asked = [fleet.ask(number).headers["x-request-id"] for number in islice(cycle(range(3)), 9)]
    fleet.heard(9)
    page = fleet.admin.records(0)
    assert [record.seq for record in page.records] == list(range(1, 10))
    assert {record.request_id for record in page.records} == set(asked)
    assert (page.last_seq, page.dropped, page.in_flight) == (9, 0, ())
    rest = fleet.admin.records(4, 3)
    assert [record.seq for record in rest.records] == [5, 6, 7]
    assert rest.boot_id == page.boot_id


def test_what_is_under_way_in_any_worker_is_under_way(world: World) -> None:
    gate = Gate()
    stub = world.upstream(**{"old-model": sends(ROLE, frame(chunk({"content": "So "})), gate, DONE)})
    fleet = fleet_of(world, 2, table_for(stub.url))
    threads = [threading.Thread(target=fleet.ask, args=(number,), kwargs={"stream": True}) for number in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(fleet.admin.records(0).in_flight) == 2)
    assert fleet.metrics()['slipway_in_flight{role="served",route="tutor",variant="old"}'] == 2
    gate.open(world.loop)
    for thread in threads:
        thread.join()


def test_a_worker_that_is_gone_takes_no_record_and_no_count_with_it(world: World) -> None:
    fleet = fleet_of(world, 2, table_for(world.upstream().url))
    name = 'slipway_attempts_total{outcome="ok",role="served",route="tutor",variant="old"}'
    for number in (0, 1, 1):
        fleet.ask(number)
    assert fleet.metrics()[name] == 3
    fleet.stop(1)
    eventually(lambda: len(fleet.fleet.workers) == 1)
    assert fleet.metrics()[name] == 3
    fleet.start(1)
    fleet.ask(1)
    assert fleet.metrics()[name] == 4
    page = fleet.admin.records(0)
    assert [record.seq for record in page.records] == [1, 2, 3, 4]


def test_pairs_of_answers_come_from_all_workers_with_numbers_of_one_sequence(world: World) -> None:
    captured = {"candidate": {"variant": "new", "mirror_bp": 10_000, "capture_bp": 10_000}}
    fleet = fleet_of(world, 2, table_for(world.upstream().url, **captured))
    asked = {fleet.ask(number).headers["x-request-id"] for number in (0, 1, 1)}
    eventually(lambda: len(fleet.admin.pairs(0).pairs) == 3)
    page = fleet.admin.pairs(0)
    assert ([pair.seq for pair in page.pairs], page.last_seq) == ([1, 2, 3], 3)
    assert {pair.request_id for pair in page.pairs} == asked
    assert {(pair.stable, pair.candidate) for pair in page.pairs} == {("I am old-model", "I am new-model")}
    assert [pair.seq for pair in fleet.admin.pairs(2).pairs] == [3]


def test_histograms_and_upstreams_are_those_of_all_workers(world: World) -> None:
    stub = world.upstream()
    fleet = fleet_of(world, 2, table_for(stub.url))
    for number in (0, 1, 1):
        fleet.ask(number)
    figures = fleet.metrics()
    labels = 'role="served",route="tutor",variant="old"'
    assert figures[f"slipway_answer_seconds_count{{{labels}}}"] == 3
    assert figures[f'slipway_answer_seconds_bucket{{le="+Inf",{labels}}}'] == 3
    assert figures["slipway_workers"] == 2
    assert figures["slipway_table_revision"] == 1
    response = httpx.get(fleet.admin_url + "/admin/upstreams", headers={"Authorization": f"Bearer {TOKEN}"})
    assert [(one["url"], one["up"], one["in_flight"]) for one in response.json()["upstreams"]] == [(stub.url, True, 0)]


# -- a candidate that fails -----------------------------------------------------------------------------------------


def broken(world: World, count: int = 2) -> tuple[RunningFleet, Any]:
    stub = world.upstream(**{"new-model": refuses(500)})
    return fleet_of(world, count, table_for(stub.url, **all_to_new(trip={"failures": 4, "users": 2}))), stub


def test_what_one_worker_saw_fail_takes_the_share_from_all_of_them(world: World) -> None:
    fleet, _ = broken(world)
    for number in range(4):
        assert fleet.variant(0, f"user-{number}") == "old"
    eventually(lambda: bool(fleet.workers[1].gateway.breaker.is_tripped("tutor", route_of(fleet), "new")))
    assert fleet.variant(1, "ada") == "old"
    assert "tripped" in {record.error for record in fleet.admin.records(0).records}
    assert fleet.admin.records(0).tripped[0].failures >= 4
    assert fleet.metrics()['slipway_variant_tripped{route="tutor",variant="new"}'] == 1


def test_failures_in_a_row_are_counted_over_all_workers(world: World) -> None:
    fleet, stub = broken(world)
    for number in (0, 1, 0, 1):
        assert fleet.variant(number, f"user-{number}") == "old"
    eventually(lambda: bool(fleet.admin.records(0).tripped))
    assert len(stub.asked("new-model")) == 4


def test_a_tripped_candidate_that_answers_a_copy_of_one_worker_gets_its_users_back_in_all(world: World) -> None:
    fleet, stub = broken(world)
    for number in range(4):
        fleet.ask(0, f"user-{number}")
    eventually(lambda: bool(fleet.admin.records(0).tripped))
    eventually(lambda: fleet.workers[1].gateway.breaker.is_tripped("tutor", route_of(fleet), "new"))
    del stub.behaviours["new-model"]
    fleet.clock.now += 6
    assert fleet.variant(1, "ada") == "old"  # and a copy asks
    eventually(lambda: not fleet.admin.records(0).tripped)
    eventually(lambda: fleet.variant(0, "bob") == fleet.variant(1, "bob") == "new")


def route_of(fleet: RunningFleet) -> Any:
    return fleet.fleet.tables.routes["tutor"]


# -- opinions -------------------------------------------------------------------------------------------------------


def test_an_opinion_reaches_the_answer_whichever_worker_gets_it(world: World) -> None:
    fleet = fleet_of(world, 3, table_for(world.upstream().url))
    request_id = fleet.ask(0).headers["x-request-id"]
    assert fleet.rate(2, request_id, -1).json()["rating"] == -1
    refused = fleet.rate(1, request_id, 1)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "rated_already")
    unknown = fleet.rate(1, "f" * 24)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_request")
    (given,) = fleet.admin.records(0).feedback
    assert (given.request_id, given.rating, given.variant) == (request_id, -1, "old")


def test_nobody_rates_another_clients_answer_through_another_worker(world: World) -> None:
    fleet = fleet_of(world, 2, table_for(world.upstream().url), **keyed(entry(ADA), entry(BOB, "bob")))
    request_id = fleet.ask(0, key=ADA).headers["x-request-id"]
    assert fleet.rate(1, request_id, key=BOB).status_code == 404
    assert fleet.rate(1, request_id, key=ADA).status_code == 200


# -- budgets --------------------------------------------------------------------------------------------------------


def test_all_workers_together_let_in_what_a_key_may_ask_and_not_one_request_more(world: World) -> None:
    fleet = fleet_of(world, 3, table_for(world.upstream().url), **keyed(entry(ADA, requests_per_minute=5)))
    statuses = [fleet.ask(number, key=ADA).status_code for number in islice(cycle(range(3)), 9)]
    assert statuses == [200] * 5 + [429] * 4
    fleet.clock.now += 12
    eventually(lambda: fleet.ask(1, key=ADA).status_code == 200)
    assert [fleet.ask(number, key=ADA).status_code for number in range(3)] == [429] * 3


def test_what_one_worker_does_not_use_another_one_gets(world: World) -> None:
    fleet = fleet_of(world, 2, table_for(world.upstream().url), **keyed(entry(ADA, requests_per_minute=64)))
    assert fleet.ask(0, key=ADA).status_code == 200  # it was lent more than this one
    assert [fleet.ask(1, key=ADA).status_code for _ in range(64)] == [200] * 63 + [429]


def test_a_client_has_its_requests_at_once_over_all_workers(world: World) -> None:
    gate = Gate()
    stub = world.upstream(**{"old-model": sends(ROLE, frame(chunk({"content": "So "})), gate, DONE)})
    fleet = fleet_of(world, 2, table_for(stub.url), **keyed(entry(ADA, concurrent_requests=1)))
    thread = threading.Thread(target=fleet.ask, args=(0,), kwargs={"key": ADA, "stream": True})
    thread.start()
    eventually(lambda: len(stub.seen) == 1)
    assert fleet.ask(1, key=ADA).status_code == 429
    gate.open(world.loop)
    thread.join()
    del stub.behaviours["old-model"]
    eventually(lambda: fleet.ask(1, key=ADA).status_code == 200)
    assert [fleet.ask(number, key=ADA).status_code for number in (0, 1, 0, 1)] == [200] * 4


def test_a_worker_that_is_gone_gives_its_places_back(world: World) -> None:
    stub = world.upstream(**{"old-model": sends(ROLE, frame(chunk({"content": "So "})), then="silence")})
    fleet = fleet_of(world, 2, table_for(stub.url), **keyed(entry(ADA, concurrent_requests=1)))
    headers = {"Authorization": f"Bearer {ADA}"}
    body = {"model": "tutor", "messages": [{"role": "user", "content": "x"}], "stream": True}
    with fleet.workers[0].http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        assert response.status_code == 200
        assert fleet.ask(1, key=ADA).status_code == 429
        fleet.stop(0)
    del stub.behaviours["old-model"]
    eventually(lambda: fleet.ask(1, key=ADA).status_code == 200)


def test_tokens_that_one_worker_gave_out_are_gone_for_all(world: World) -> None:
    fleet = fleet_of(world, 2, table_for(world.upstream().url), **keyed(entry(ADA, tokens_per_minute=40)))
    assert [fleet.ask(0, key=ADA).status_code for _ in range(2)] == [200, 200]  # 14 each
    assert fleet.ask(1, key=ADA).status_code == 429
    fleet.start(2)
    assert fleet.ask(2, key=ADA).status_code == 429
    fleet.clock.now += 60
    eventually(lambda: fleet.ask(2, key=ADA).status_code == 200)


def test_tokens_that_were_set_aside_and_not_taken_are_there_for_the_other_workers(world: World) -> None:
    fleet = fleet_of(world, 2, table_for(world.upstream().url), **keyed(entry(ADA, tokens_per_minute=1000)))
    for number in islice(cycle(range(2)), 10):
        assert fleet.ask(number, key=ADA, max_tokens=400).status_code == 200
    spent = fleet.fleet.keys.spent
    eventually(lambda: spent() == {"ada": {"tokens_per_minute": pytest.approx(10 * 14)}})


def test_requests_side_by_side_in_all_workers_get_no_more_tokens_than_the_key_has(world: World) -> None:
    gate = Gate()
    stub = world.upstream(**{"old-model": sends(ROLE, gate, frame(chunk({"content": "So "}, "stop")), DONE)})
    fleet = fleet_of(world, 3, table_for(stub.url), **keyed(entry(ADA, tokens_per_minute=1000)))
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(fleet.ask, number % 3, key=ADA, stream=True, max_tokens=300) for number in range(12)]
        eventually(lambda: len(stub.seen) + sum(one.done() for one in asked) == 12)
        gate.open(world.loop)
        assert sorted(one.result().status_code for one in asked) == [200] * 3 + [429] * 9


def test_what_another_answer_leaves_just_now_is_enough_and_nobody_is_asked_or_refused(world: World) -> None:
    asked = []

    async def lends(name: str, need: int, wish: int) -> TokenLoan:
        asked.append((name, need, wish))
        return TokenLoan(need if len(asked) == 1 else 0)

    async def lends_none(name: str, request: bool, slot: bool) -> Loan:
        raise AssertionError

    async def two_in_turn() -> list[int]:
        keys = SharedKeys(True, Clock(), Clock(), lends_none, lends)
        keys.replace(keyed(entry(ADA, tokens_per_minute=100))["let_in"])
        client = keys.client("ada")
        assert client is not None
        first = await keys.hold(client, 80, 80)
        second = asyncio.create_task(keys.hold(client, 50, 50))
        await asyncio.sleep(0)  # it is about to borrow
        keys._spend(client, -first)
        return [first, await second]

    assert world.do(two_in_turn()) == [80, 50]
    assert asked == [("ada", 80, 80)]


def test_an_answer_longer_than_was_thought_is_a_debt_that_all_workers_hear_of(world: World) -> None:
    usage = {"prompt_tokens": 700, "completion_tokens": 500}
    stub = world.upstream(**{"old-model": answers({"choices": [{"message": {"content": "Hi"}}], "usage": usage})})
    fleet = fleet_of(world, 2, table_for(stub.url), **keyed(entry(ADA, tokens_per_minute=1000)))
    assert fleet.ask(0, key=ADA).status_code == 200
    spent = fleet.fleet.keys.spent
    eventually(lambda: spent() == {"ada": {"tokens_per_minute": pytest.approx(1200)}})
    assert fleet.ask(1, key=ADA).status_code == 429


# -- workers that do not do as they are told ------------------------------------------------------------------------


def test_a_worker_that_does_not_confirm_a_table_is_named_and_the_table_is_served_all_the_same(world: World) -> None:
    table = table_for(world.upstream().url)
    fleet = fleet_of(world, 1, table)
    ours, its = socket.socketpair()
    with its:
        following = world.do(start_following(fleet, ours))
        said = its.recv(1_000_000)
        assert b'"name":"serve"' in said
        its.sendall(b'{"answer":0,"content":null}\n')  # it knows what to serve, and says no more
        eventually(lambda: all(worker.is_told for worker in fleet.fleet.workers))
        with pytest.raises(GatewayError, match="have not confirmed it yet: 9") as refused:
            fleet.admin.put_table(table_for(world.upstream().url, revision=2, stable="former"))
        assert refused.value.status == 503
        assert fleet.variant(0) == "former"
    world.do(finished(following))


async def start_following(fleet: RunningFleet, end: socket.socket) -> Any:
    import asyncio

    return asyncio.create_task(fleet.fleet.follow(9, end, lambda: None))


async def finished(task: Any) -> None:
    await task
