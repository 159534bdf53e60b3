"""Clients that read late, leave early or never end: what they cost is bounded, and nobody honest is cut off."""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
from gateway_world import CHAT, Running, World, eventually, table_for
from stub_upstream import answers, hangs

from delivery.gateway.http.connection import HEAD_LIMIT, PIPELINE_LIMIT
from delivery.gateway.http.messages import Request, Response
from delivery.gateway.http.server import HttpServer
from delivery.gateway.server import serving
from delivery.gateway.settings import Settings

pytestmark = pytest.mark.live

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
BIG = 20_000_000  # bytes: more than the kernel keeps for both ends
BODY = json.dumps(CHAT).encode()
CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY)


class Answering:
    """A server whose every answer has this many bytes."""

    def __init__(self, world: World, size: int, *, idle_s: float = 5.0, write_timeout_s: float = 5.0):
        self.count = 0
        self._answer = Response(200, b"x" * size)
        self.server = HttpServer(self._handle, 1000, idle_s, write_timeout_s=write_timeout_s)
        world.stack.push_async_callback(self.server.close)
        self._port = world.do(self.server.start("127.0.0.1", 0, is_shared=False))

    async def _handle(self, _: Request) -> Response | None:
        self.count += 1
        return self._answer

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=10)


def connected(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.gateway.port), timeout=10)


def all_of(connection: socket.socket, pause_s: float = 0.0) -> bytes:
    """What comes until the gateway closes, read with pauses."""
    got = bytearray()
    while data := connection.recv(1_000_000):
        got += data
        time.sleep(pause_s)
    return bytes(got)


def test_whoever_asks_on_and_on_and_never_reads_gets_no_more_answers_and_then_no_connection(world: World) -> None:
    one = Answering(world, 100_000, write_timeout_s=0.3)
    with one.connected() as connection:
        connection.sendall(GET * 200)
        eventually(lambda: one.count > 0)
        eventually(lambda: not one.server.connections)
    assert one.count < 150


def test_a_client_that_reads_slowly_but_reads_gets_all_of_its_answers_however_long_it_takes(world: World) -> None:
    one = Answering(world, BIG, idle_s=0.2, write_timeout_s=0.2)
    with one.connected() as connection:
        connection.sendall(GET + LAST)
        got = all_of(connection, pause_s=0.03)
    assert got.count(b"x" * 1000) == 2 * BIG // 1000
    assert one.count == 2


def test_a_client_that_starts_to_read_late_is_not_taken_for_one_that_has_nothing_to_do(world: World) -> None:
    one = Answering(world, BIG, idle_s=0.1)
    with one.connected() as connection:
        connection.sendall(LAST)
        time.sleep(0.6)
        assert all_of(connection).endswith(b"x" * BIG)


def test_a_client_that_never_reads_its_last_answer_is_closed_like_an_idle_one(world: World) -> None:
    one = Answering(world, BIG, idle_s=0.1, write_timeout_s=0.2)
    with one.connected() as connection:
        connection.sendall(LAST)
        eventually(lambda: one.count == 1)
        eventually(lambda: not one.server.connections)


@pytest.mark.parametrize("request_", [GET, UPGRADE], ids=["plain", "for HTTP/2"])
def test_of_too_many_requests_at_once_the_first_are_answered_and_the_last_of_these_says_so(
    world: World, request_: bytes
) -> None:
    one = Answering(world, 10)
    with one.connected() as connection:
        connection.sendall(request_ * (PIPELINE_LIMIT * 6))
        got = all_of(connection)
    assert PIPELINE_LIMIT <= got.count(b"HTTP/1.1 200 OK") == one.count <= PIPELINE_LIMIT + 1
    assert got.count(b"Connection: close") == 1
    assert b"Connection: close" in got.rpartition(b"HTTP/1.1 200 OK")[2]


def test_a_client_that_sends_several_requests_and_leaves_takes_the_first_one_with_it(world: World) -> None:
    stub = world.upstream(**{"old-model": hangs})
    running = world.gateway(table_for(stub.url))
    with connected(running) as connection:
        connection.sendall((POST + BODY) * 3)
        eventually(lambda: len(stub.seen) == 1)
    eventually(lambda: stub.abandoned == 1)
    eventually(lambda: not running.gateway.attempts.in_flight)
    assert len(stub.seen) == 1


def test_what_stands_behind_a_body_is_bounded_like_a_head(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url))
    sent = 0
    with connected(running) as connection:
        connection.sendall(CHUNKED + b"%x\r\n%b\r\n0\r\nX: " % (len(BODY), BODY))
        try:
            while sent < 50 * HEAD_LIMIT:
                connection.sendall(b"a" * 4096)
                sent += 4096
                time.sleep(0.001)
                connection.setblocking(False)
                try:
                    assert b"invalid_body" in connection.recv(65536)
                    break
                except BlockingIOError:
                    connection.setblocking(True)
        except ConnectionError:
            pass
    assert sent < 20 * HEAD_LIMIT
    assert not stub.seen


def test_a_body_may_come_in_as_many_small_chunks_as_its_client_likes(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    body = json.dumps({**CHAT, "messages": [{"role": "user", "content": "x" * 6000}]}).encode()
    with connected(running) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(CHUNKED)
        for byte in body:
            connection.sendall(b"1\r\n")
            connection.sendall(b"%c\r\n" % byte)
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


# Draining

DRAIN_S = 60.0


def stopping(
    world: World, upstream: str, drain_s: float, client: Callable[[int, asyncio.Event], Awaitable[bytes]]
) -> tuple[bytes, float]:
    """What the client got of a gateway that stopped as the client had begun; and how long that took."""

    ended = asyncio.Event()  # the gateway's end

    async def scenario() -> tuple[bytes, float]:
        async with serving(Settings(port=0, drain_s=drain_s)) as gateway:
            gateway.tables.replace(table_for(upstream))
            talking = asyncio.create_task(client(gateway.port, ended))
            await asyncio.sleep(0.1)
            began = time.monotonic()
        took_s = time.monotonic() - began
        ended.set()
        return await talking, took_s

    got: tuple[bytes, float] = world.do(scenario())
    return got


def test_a_request_whose_body_is_on_its_way_when_the_gateway_stops_is_answered(world: World) -> None:
    async def client(port: int, ended: asyncio.Event) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + BODY[:10])
        await asyncio.sleep(1.0)
        writer.write(BODY[10:])
        got = await reader.read()
        writer.close()
        return got

    got, took_s = stopping(world, world.upstream().url, DRAIN_S, client)
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert took_s < DRAIN_S


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_large_answer_that_is_on_its_way_when_the_gateway_stops_arrives_whole(world: World, version: bytes) -> None:
    said = {"choices": [{"message": {"content": "x" * BIG}, "finish_reason": "stop"}]}

    async def client(port: int, ended: asyncio.Event) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(POST.replace(b"1.1", version) + BODY)
        await asyncio.sleep(1.5)  # by then all of it is handed over
        got = await reader.read()
        writer.close()
        return got

    got, took_s = stopping(world, world.upstream(**{"old-model": answers(said)}).url, DRAIN_S, client)
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert len(got) > BIG
    assert took_s < DRAIN_S


def test_a_client_that_never_reads_on_does_not_hold_up_the_end(world: World) -> None:
    said = {"choices": [{"message": {"content": "x" * BIG}, "finish_reason": "stop"}]}

    async def client(port: int, ended: asyncio.Event) -> bytes:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(POST + BODY)
        await ended.wait()
        writer.transport.abort()
        return b"left"

    assert stopping(world, world.upstream(**{"old-model": answers(said)}).url, 0.5, client)[0] == b"left"
