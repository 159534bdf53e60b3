"""What the gateway holds is bounded in number and in bytes, and what it runs out of is nobody else's fault."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from gateway_world import World, all_to_new, eventually, table_for
from stub_upstream import ROLE, Stub, answers, says, sends
from test_gateway_http import listening, on_loop, whole

from delivery.gateway.admission import Places, allow_open_files
from delivery.gateway.http import upstream_answer
from delivery.gateway.http.upstream_answer import ExhaustedError
from delivery.gateway.openai import streams
from delivery.gateway.openai.errors import ApiError
from delivery.gateway.upstream.connections import Connections

HEAD = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
MODELS = b'{"data": [{"id": "old-model"}, {"id": "new-model"}]}'


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process may open nothing for a while; what is open stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Requests


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/feedback"])
def test_a_request_whose_body_is_still_coming_takes_no_place_from_others(world: World, path: bytes) -> None:
    running = world.gateway(table_for(world.upstream().url), max_in_flight=2)
    address = ("127.0.0.1", running.gateway.port)
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection(address)).sendall(HEAD % path)
        eventually(lambda: len(running.gateway.proxy.places.by_client) == 0 and running.said() == "I am old-model")
        assert running.http.post("/v1/feedback", json={"request_id": "r", "rating": 1}).status_code == 404


def test_one_client_cannot_take_all_places(world: World) -> None:
    places = Places(4, 3)
    for _ in range(3):
        places.take("greedy")
    with pytest.raises(ApiError) as refused:
        places.take("greedy")
    assert refused.value.status == 429
    places.take("other")
    with pytest.raises(ApiError) as refused:
        places.take("third")
    assert refused.value.status == 503
    places.give_back("greedy")
    places.take("greedy")


def test_of_too_many_connections_those_go_that_wait_of_the_address_with_most(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    running = world.gateway(table_for(world.upstream().url), max_connections=3)
    address = ("127.0.0.1", running.gateway.port)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(address)) for _ in range(3)]
        for connection in slow:
            connection.sendall(HEAD % b"/v1/chat/completions")
        assert running.said() == "I am old-model"
        slow[0].settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert slow[0].recv(100) == b""
    assert "those that wait the longest are closed" in caplog.text


def test_bodies_hold_no_more_memory_than_they_may_together(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url), max_held_bytes=10_000)
    with socket.create_connection(("127.0.0.1", running.gateway.port)) as slow:
        slow.sendall(HEAD.replace(b"1000", b"9000") % b"/v1/chat/completions" + b" " * 8_000)
        eventually(lambda: running.ask(messages=[{"role": "user", "content": "x" * 5_000}]).status_code == 503)
    eventually(lambda: running.ask(messages=[{"role": "user", "content": "x" * 5_000}]).status_code == 200)


def test_copies_take_no_place_from_users(world: World) -> None:
    running = world.gateway(
        table_for(world.upstream().url, candidate={"variant": "new", "mirror_bp": 10_000}), max_in_flight=1
    )
    assert [running.ask().status_code for _ in range(5)] == [200] * 5


# Answers


def test_a_plain_answer_beyond_all_measure_is_given_up_as_malformed(world: World) -> None:
    endless = sends(
        b'{"choices": "', *[b"x" * 1024 * 1024] * (upstream_answer.ANSWER_LIMIT // 2**20 + 2), then="silence"
    )
    running = world.gateway(table_for(world.upstream(**{"new-model": endless}).url, **all_to_new()))
    assert running.said() == "I am old-model"
    failed, _ = running.wait_for_records(2)
    assert (failed.variant, failed.ok, failed.error, failed.status) == ("new", False, "malformed", 200)


def test_a_large_plain_answer_below_that_arrives(world: World) -> None:
    said = {"choices": [{"message": {"content": "x" * 5_000_000}, "finish_reason": "stop"}]}
    running = world.gateway(table_for(world.upstream(**{"old-model": answers(said)}).url))
    assert len(running.said()) == 5_000_000


def test_a_stream_that_goes_on_without_a_first_word_is_given_up_as_malformed(world: World) -> None:
    endless = sends(*[ROLE * 100] * (streams.PREAMBLE_LIMIT // len(ROLE * 100) + 100), then="silence")
    running = world.gateway(table_for(world.upstream(**{"new-model": endless}).url, **all_to_new()))
    assert running.said(stream=True) == "I am old-model "
    failed, _ = running.wait_for_records(2)
    assert (failed.variant, failed.ok, failed.error) == ("new", False, "malformed")


# Connections and open files


def test_of_a_replica_that_is_asked_no_more_nothing_is_kept(world: World) -> None:
    urls = [world.upstream().url for _ in range(3)]

    async def scenario() -> tuple[int, int]:
        connections = Connections(0.5, "", kept_s=0.3)
        try:
            for url in urls:
                await connections.ask("GET", url, "/v1/models", to_the_end=True)
            known = len(connections.known)
            await asyncio.sleep(1.0)
            return known, len(connections.known)
        finally:
            connections.close()

    assert world.do(scenario()) == (3, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_having_no_descriptor_left_is_told_apart_from_a_replica_that_is_not_there(world: World, host: str) -> None:
    url = world.upstream().url.replace("127.0.0.1", host)

    async def ask(connections: Connections) -> None:
        with no_more_files(), pytest.raises(ExhaustedError):
            await connections.ask("GET", url, "/v1/models", to_the_end=True)
        await connections.ask("GET", url, "/v1/models", to_the_end=True)

    on_loop(world, ask)


def closing(world: World) -> str:
    """A replica that is healthy and keeps no connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(whole(MODELS))
        writer.close()

    return listening(world, talk)


def test_a_candidate_that_cannot_be_asked_for_want_of_descriptors_has_not_failed(world: World) -> None:
    stub = Stub({"old-model": says("I am old-model")}, models=["old-model"])
    runner = world.do(stub.start())
    world.stack.push_async_callback(runner.cleanup)
    table = table_for(stub.url, **all_to_new(variants={"new": {"upstreams": (closing(world),)}}))
    running = world.gateway(table, health_interval_s=60)
    replicas = running.gateway.replicas
    eventually(lambda: all(replica.models is not None for _, replica in replicas.known()))
    running.ask(user="ada")  # stable takes over
    with no_more_files():
        response = running.ask(user="ada")
    assert response.json()["choices"][0]["message"]["content"] == "I am old-model"  # by a connection that was kept
    _, _, missed, taken = running.wait_for_records(4)
    assert (missed.variant, missed.ok, missed.error, missed.user_ok) == ("new", True, "exhausted", True)
    assert (taken.variant, taken.ok) == ("old", True)


def test_where_nobody_can_be_asked_for_want_of_descriptors_the_user_is_told_to_come_again(world: World) -> None:
    running = world.gateway(table_for(closing(world)), health_interval_s=60)
    replicas = running.gateway.replicas
    eventually(lambda: all(replica.models is not None for _, replica in replicas.known()))
    running.http.get("/healthz")
    with no_more_files():
        response = running.ask()
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    (record,) = running.wait_for_records(1)
    assert (record.ok, record.error, record.user_ok) == (True, "exhausted", False)


def test_a_health_check_that_had_no_descriptor_says_nothing_about_the_replica(world: World) -> None:
    running = world.gateway(table_for(closing(world)), health_interval_s=0.02)
    ((_, replica),) = running.gateway.replicas.known()
    eventually(lambda: replica.models is not None)
    with no_more_files():
        world.do(asyncio.sleep(0.2))
        assert replica.silent == 0


def test_the_process_may_open_as_many_files_as_it_is_allowed_and_says_where_that_is_too_few(
    caplog: pytest.LogCaptureFixture,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 500), hard))
    try:
        assert allow_open_files(10, 20) == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert not caplog.records
        allow_open_files(hard, 20)
        (record,) = caplog.records
        assert record.__dict__["open_files"] == hard
        assert "--max-connections" in record.__dict__["cure"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
