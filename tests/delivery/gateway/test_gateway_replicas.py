"""Several replicas of a variant: who is asked, who is left in peace, and what a user never notices."""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from gateway_world import QUICK, TOKEN, Clock, Running, World, all_to_new, eventually, frames, table_for
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from stub_upstream import ROLE, Behaviour, chunk, frame, hangs, hangs_up, refuses, sends

from configs.routing import RoutingTable, Variant
from delivery.gateway.openai.call import Call
from delivery.gateway.openai.endpoints.chat import CHAT_COMPLETIONS
from delivery.gateway.records.attempts import Attempts
from delivery.gateway.upstream.replicas import DOWN_AFTER, HUNG_S, LACKING_S, SHUNNED_S, Replicas, by_nearness

A, B, C = "http://a", "http://b", "http://c"


def replicas_of(
    *urls: str, homes: int | None = None, homes_lead: int = 0, **table: Any
) -> tuple[Replicas, Variant, Clock]:
    clock = Clock()
    replicas = Replicas(clock, homes, homes_lead)
    served = RoutingTable.model_validate(table_for(*urls).model_dump() | table)
    replicas.keep_only(served)
    return replicas, served.routes["tutor"].variants["new"], clock


def busy(replicas: Replicas, url: str, requests: int = 1) -> list[Any]:
    route = table_for(A).routes["tutor"]
    attempts = Attempts(1000)
    call = Call("r", "tutor", route, {}, "u", "u", stream=False, wants_usage=False, endpoint=CHAT_COMPLETIONS)
    begun = [attempts.begin(call, "new", "served") for _ in range(requests)]
    for attempt in begun:
        replicas.begin(attempt, url)
    return begun


@given(st.lists(st.integers(0, 5), min_size=2, max_size=4))
def test_the_replica_with_the_least_to_do_comes_first(loads: list[int]) -> None:
    urls = tuple(f"http://{n}" for n in range(len(loads)))
    replicas, variant, _ = replicas_of(*urls)
    for url, requests in zip(urls, loads, strict=True):
        busy(replicas, url, requests)
    order = replicas.order(variant)
    assert sorted(order) == sorted(urls)
    assert [loads[urls.index(url)] for url in order] == sorted(loads)


@given(st.lists(st.integers(0, 12), min_size=4, max_size=4), st.integers(1, 5), st.integers(0, 8))
def test_a_models_homes_are_asked_first_until_they_have_too_much_more_to_do(
    loads: list[int], homes: int, lead: int
) -> None:
    urls = tuple(f"http://{n}" for n in range(len(loads)))
    replicas, variant, _ = replicas_of(*urls, homes=homes, homes_lead=lead)
    for url, requests in zip(urls, loads, strict=True):
        busy(replicas, url, requests)
    near, load = by_nearness(variant.model, urls)[:homes], dict(zip(urls, loads, strict=True))
    order = replicas.order(variant)
    assert sorted(order) == sorted(urls)
    least_at_home, least = min(load[url] for url in near), min(loads)
    if least_at_home < least + lead:
        assert order[0] in near
        assert load[order[0]] == least_at_home
    if least_at_home > least + lead:
        assert order[0] not in near


def test_a_models_home_that_is_down_or_lacks_it_has_a_successor_and_comes_back() -> None:
    replicas, variant, clock = replicas_of(A, B, C, homes=1, homes_lead=8)
    home, heir, _ = by_nearness(variant.model, (A, B, C))
    assert {replicas.order(variant)[0] for _ in range(6)} == {home}
    replicas.lacks(home, variant.model)
    assert {replicas.order(variant)[0] for _ in range(6)} == {heir}
    clock.now += LACKING_S
    assert {replicas.order(variant)[0] for _ in range(6)} == {home}
    replicas.failed(home, "connect")
    assert replicas.order(variant)[0] != home
    clock.now += SHUNNED_S
    assert replicas.order(variant)[0] == home


@given(st.integers(2, 8), st.data())
def test_a_replica_that_goes_moves_no_model_but_its_own(replicas: int, data: st.DataObject) -> None:
    urls = tuple(f"http://10.0.0.{n}:8000" for n in range(replicas))
    gone = data.draw(st.sampled_from(urls))
    model = data.draw(st.text(max_size=20))
    assert [url for url in by_nearness(model, urls) if url != gone] == list(
        by_nearness(model, tuple(url for url in reversed(urls) if url != gone))
    )


def test_models_spread_over_all_replicas() -> None:
    homes = [by_nearness(f"lora-{n}", (A, B, C))[0] for n in range(300)]
    assert min(homes.count(url) for url in (A, B, C)) > 70


def test_equals_take_turns_and_an_ended_attempt_counts_no_more() -> None:
    replicas, variant, _ = replicas_of(A, B)
    assert {replicas.order(variant)[0] for _ in range(2)} == {A, B}
    (attempt,) = busy(replicas, A)
    assert [replicas.order(variant)[0] for _ in range(2)] == [B, B]
    replicas.observe(attempt)
    assert {replicas.order(variant)[0] for _ in range(2)} == {A, B}


def test_a_replica_whose_list_lacks_the_adapter_gets_none_of_its_traffic() -> None:
    replicas, variant, _ = replicas_of(A, B)
    busy(replicas, B, 9)
    replicas.checked(A, True, frozenset(["base"]), replicas.generation)
    assert replicas.order(variant) == [B]
    replicas.checked(A, True, frozenset(["base", "new-model"]), replicas.generation)
    assert replicas.order(variant) == [A, B]


def test_a_replica_that_answered_404_is_believed_until_a_list_or_time_says_otherwise() -> None:
    replicas, variant, clock = replicas_of(A, B)
    replicas.lacks(A, "new-model")
    assert replicas.order(variant) == [B]
    clock.now += LACKING_S
    assert sorted(replicas.order(variant)) == [A, B]


def test_what_a_list_said_is_forgotten_with_a_new_table_for_the_adapter_may_be_loaded_since() -> None:
    replicas, variant, _ = replicas_of(A, B)
    before = replicas.generation
    replicas.checked(A, True, frozenset(["base"]), before)
    replicas.keep_only(table_for(A, B))
    assert sorted(replicas.order(variant)) == [A, B]
    replicas.checked(A, True, frozenset(["base"]), before)  # asked for before the table came
    assert sorted(replicas.order(variant)) == [A, B]


def test_when_all_lack_the_model_they_are_asked_all_the_same() -> None:
    replicas, variant, _ = replicas_of(A, B)
    for url in (A, B):
        replicas.checked(url, True, frozenset(), replicas.generation)
    assert sorted(replicas.order(variant)) == [A, B]


def test_a_silent_replica_comes_last_until_it_answers() -> None:
    replicas, variant, _ = replicas_of(A, B)
    busy(replicas, B, 9)
    for _ in range(DOWN_AFTER):
        assert replicas.order(variant)[0] == A
        replicas.checked(A, False, None, replicas.generation)
    assert replicas.order(variant) == [B, A]
    replicas.checked(A, True, None, replicas.generation)
    assert replicas.order(variant)[0] == A


def test_a_replica_that_failed_comes_last_for_a_while() -> None:
    replicas, variant, clock = replicas_of(A, B)
    busy(replicas, B, 9)
    replicas.failed(A, "connect")
    assert replicas.order(variant) == [B, A]
    clock.now += SHUNNED_S
    assert replicas.order(variant) == [A, B]


def test_a_replica_that_let_a_request_wait_in_vain_and_answered_nobody_since_comes_last_for_a_minute() -> None:
    replicas, variant, clock = replicas_of(A, B)
    (waiting,) = busy(replicas, A)
    waiting.began = clock.now
    clock.now += 60
    replicas.timed_out(waiting)
    replicas.observe(waiting)
    busy(replicas, B, 9)
    assert replicas.order(variant) == [B, A]
    clock.now += HUNG_S
    assert replicas.order(variant) == [A, B]


def test_a_replica_that_answered_others_meanwhile_is_slow_with_one_request_and_hangs_for_nobody() -> None:
    replicas, variant, clock = replicas_of(A, B)
    waiting, answered = busy(replicas, A, 2)
    waiting.began = answered.began = clock.now
    answered.ttft_s, answered.duration_s = 1.0, 30.0
    clock.now += 60
    replicas.observe(answered)
    replicas.timed_out(waiting)
    replicas.observe(waiting)
    busy(replicas, B, 9)
    assert replicas.order(variant) == [A, B]


def test_a_draining_replica_gets_nothing_new_and_is_known_until_it_has_finished() -> None:
    replicas, variant, _ = replicas_of(A, B, C, draining=(A,))
    assert {url for _ in range(3) for url in replicas.order(variant)} == {B, C}
    (attempt,) = busy(replicas, A)
    replicas.keep_only(table_for(B, C))
    assert [(shown["url"], shown["in_flight"]) for shown in replicas.page()] == [(A, 1), (B, 0), (C, 0)]
    replicas.observe(attempt)
    replicas.keep_only(table_for(B, C))
    assert [shown["url"] for shown in replicas.page()] == [B, C]


@pytest.mark.parametrize(
    ("draining", "said"), [((A, B), "every upstream of"), (("http://typo",), "no variant's upstream")]
)
def test_a_table_that_drains_everything_or_nothing_is_refused(draining: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RoutingTable.model_validate(table_for(A, B).model_dump() | {"draining": draining})


FAILURES: dict[str, tuple[Behaviour, bool]] = {
    "an overload": (refuses(503), False),
    "too many requests": (refuses(429), False),
    "an adapter that is not loaded": (refuses(404), False),
    "an error in the first frame": (sends(frame({"error": {"message": "engine dead", "code": 500}})), True),
}


@pytest.mark.parametrize(("behaviour", "stream"), FAILURES.values(), ids=FAILURES.keys())
def test_another_replica_makes_good_what_one_failed_at(world: World, behaviour: Behaviour, stream: bool) -> None:
    broken, sound = world.upstream(**{"new-model": behaviour}), world.upstream()
    running = world.gateway(table_for(broken.url, sound.url, **all_to_new()))
    for _ in range(4):
        assert running.said(stream=stream).strip() == "I am new-model"
    assert broken.asked("new-model")
    assert [(record.variant, record.ok) for record in running.records()] == [("new", True)] * 4
    eventually(lambda: all(shown["in_flight"] == 0 for shown in upstreams(running)))


DEATHS: dict[str, tuple[Behaviour, bool]] = {
    "hanging up": (hangs_up, False),
    "a cut before the first word": (sends(ROLE, then="cut"), True),
}


@pytest.mark.parametrize(("behaviour", "stream"), DEATHS.values(), ids=DEATHS.keys())
def test_a_request_at_which_a_replica_dies_is_sent_to_no_other_of_stables(
    world: World, behaviour: Behaviour, stream: bool
) -> None:
    stubs = [world.upstream(**{"old-model": behaviour}) for _ in range(6)]
    assert world.gateway(table_for(*(stub.url for stub in stubs))).ask(stream=stream).status_code == 502
    assert sum(len(stub.seen) for stub in stubs) == 1


@pytest.mark.parametrize(("behaviour", "stream"), DEATHS.values(), ids=DEATHS.keys())
def test_a_request_at_which_replicas_die_reaches_two_of_them_stables_included(
    world: World, behaviour: Behaviour, stream: bool
) -> None:
    stubs = [world.upstream(**{"old-model": behaviour, "new-model": behaviour}) for _ in range(6)]
    running = world.gateway(table_for(*(stub.url for stub in stubs), **all_to_new()))
    assert running.ask(stream=stream).status_code == 502
    assert sum(len(stub.seen) for stub in stubs) == 2


def test_a_request_that_replicas_answer_with_errors_reaches_two_of_them_and_then_stable_there(world: World) -> None:
    stubs = [world.upstream(**{"new-model": refuses(500)}) for _ in range(6)]
    running = world.gateway(table_for(*(stub.url for stub in stubs), **all_to_new()))
    assert running.said() == "I am old-model"
    assert sum(bool(stub.seen) for stub in stubs) == 2


def test_stable_takes_over_elsewhere_from_a_candidate_with_replicas_of_its_own(world: World) -> None:
    broken, own = [world.upstream(**{"new-model": refuses(500)}) for _ in range(3)], world.upstream()
    variants = {"new": {"upstreams": [stub.url for stub in broken]}}
    running = world.gateway(table_for(own.url, variants=variants, **all_to_new()))
    assert running.said() == "I am old-model"
    assert (sum(len(stub.seen) for stub in broken), len(own.seen)) == (1, 1)


def test_a_replica_that_cannot_be_reached_has_not_seen_it_and_the_next_ones_are_asked(world: World) -> None:
    running = world.gateway(table_for("http://127.0.0.1:9", "http://127.0.0.1:19", world.upstream().url))
    assert {running.said() for _ in range(3)} == {"I am old-model"}


def test_after_the_first_word_no_replica_is_asked_again(world: World) -> None:
    cut = sends(ROLE, frame(chunk({"content": "So "})), then="cut")
    one, other = world.upstream(**{"old-model": cut}), world.upstream(**{"old-model": cut})
    running = world.gateway(table_for(one.url, other.url))
    assert "error" in frames(running.ask(stream=True))[-1]
    assert len(one.seen) + len(other.seen) == 1


def test_a_variant_that_takes_its_time_is_not_asked_anew_elsewhere(world: World) -> None:
    one, other = (world.upstream(**{"new-model": hangs}) for _ in range(2))
    running = world.gateway(table_for(one.url, other.url, **all_to_new()), **QUICK)
    assert running.said() == "I am old-model"
    assert len(one.asked("new-model")) + len(other.asked("new-model")) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_once_a_replica_has_hung_the_next_users_are_answered_by_another(world: World, stream: bool) -> None:
    hung, sound = world.upstream(**{"old-model": hangs}), world.upstream()
    hung.models = sound.models = ["old-model", "new-model", "former-model"]  # its health checks are answered
    running = world.gateway(table_for(hung.url, sound.url), **QUICK)
    asked = [running.ask(stream=stream).status_code for _ in range(10)]
    assert asked.count(504) == len(hung.seen) == 1
    assert asked.count(200) == 9


def test_health_checks_find_what_is_loaded_and_what_is_dead(world: World) -> None:
    base, loaded = world.upstream(), world.upstream()
    base.models, loaded.models = ["old-model"], ["old-model", "new-model"]
    running = world.gateway(table_for(base.url, loaded.url, **all_to_new()), health_interval_s=0.05)
    eventually(lambda: all(shown["models"] for shown in upstreams(running)))
    for _ in range(6):
        assert running.said() == "I am new-model"
    assert not base.asked("new-model")
    base.is_broken = True
    eventually(lambda: [shown["up"] for shown in upstreams(running) if shown["url"] == base.url] == [False])
    assert f'slipway_upstream_up{{upstream="{base.url}"}} 0.0' in running.metrics()
    base.is_broken = False
    eventually(lambda: all(shown["up"] for shown in upstreams(running)))


def test_requests_go_where_least_is_under_way(world: World) -> None:
    gate = asyncio.Event()

    async def waits(http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await gate.wait()
        return web.Response(status=503)

    slow, fast = world.upstream(**{"old-model": waits}), world.upstream()
    running = world.gateway(table_for(slow.url, fast.url))
    held = [asyncio.run_coroutine_threadsafe(_post(running.url), world.loop) for _ in range(2)]
    eventually(lambda: len(slow.seen) == 1 and any(one.done() for one in held))
    for _ in range(4):
        assert running.said() == "I am old-model"
    assert len(slow.seen) == 1
    world.loop.call_soon_threadsafe(gate.set)
    assert [one.result(10) for one in held] == [200, 200]


async def _post(url: str) -> int:
    body = {"model": "tutor", "messages": [{"role": "user", "content": "Hi"}]}
    async with aiohttp.ClientSession() as session, session.post(url + "/v1/chat/completions", json=body) as answer:
        return answer.status


def upstreams(running: Running) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    shown = running.http.get(running.admin_url + "/admin/upstreams", headers=headers)
    assert shown.status_code == 200
    found: list[dict[str, Any]] = shown.json()["upstreams"]
    return found
