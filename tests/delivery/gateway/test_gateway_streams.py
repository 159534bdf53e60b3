"""Streams on their way through: parts handed on as they come, clients that read slowly or not at all, deadlines."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from gateway_world import CHAT, World, table_for
from stub_upstream import DONE, Gate, chunk, frame, sends

from delivery.gateway.http.deadlines import Deadline
from delivery.gateway.http.upstream_answer import HELD_LIMIT, BrokenOffError, UpstreamAnswer
from delivery.gateway.upstream.connections import Connections

PARTS = [b"%05d;" % n for n in range(2000)]
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reading(world: World, talk: Talk, read: Callable[[UpstreamAnswer], Awaitable[Any]]) -> Any:
    """What `read` makes of the answer of an upstream that talks like this."""

    async def run() -> Any:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        connections = Connections(0.5, "")
        try:
            port = server.sockets[0].getsockname()[1]
            return await read(await connections.ask("GET", f"http://127.0.0.1:{port}", "/", to_the_end=False))
        finally:
            connections.close()
            server.close()

    return world.do(run())


def sending(*parts: bytes, cut: bool = False) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        for part in parts:
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        if cut:
            writer.close()
        else:
            writer.write(b"0\r\n\r\n")

    return talk


@pytest.mark.parametrize("every", [1, 3, 100, 10**9])
def test_each_part_is_taken_once_and_in_order_however_often_the_taker_stops(world: World, every: int) -> None:
    taken: list[bytes] = []

    def take(data: bytes) -> bool:
        taken.append(data)
        return len(taken) % every == 0

    async def read(answer: UpstreamAnswer) -> None:
        while await answer.pass_on(take):
            await asyncio.sleep(0)

    reading(world, sending(*PARTS), read)
    assert b"".join(taken) == b"".join(PARTS)


def test_what_came_before_the_connection_broke_is_taken_and_then_it_is_said(world: World) -> None:
    taken: list[bytes] = []

    def take(data: bytes) -> bool:
        taken.append(data)
        return len(taken) == 1

    async def read(answer: UpstreamAnswer) -> None:
        assert await answer.pass_on(take)
        await asyncio.sleep(0.1)  # until the connection is gone
        for _ in range(2):
            with pytest.raises(BrokenOffError):
                await answer.pass_on(take)

    reading(world, sending(*PARTS, cut=True), read)
    assert b"".join(taken) == b"".join(PARTS)


def test_what_a_taker_raises_reaches_whoever_waits(world: World) -> None:
    def take(data: bytes) -> bool:
        raise ConnectionResetError(data)

    async def read(answer: UpstreamAnswer) -> None:
        with pytest.raises(ConnectionResetError, match="first"):
            await answer.pass_on(take)
        assert await answer.read() == b""

    reading(world, sending(b"first"), read)


def test_while_the_taker_does_not_take_upstream_waits(world: World) -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(HEAD)
        for _ in range(400):
            writer.write(b"%x\r\n%b\r\n" % (65536, b"x" * 65536))
            await writer.drain()
            sent += 65536
        writer.write(b"0\r\n\r\n")

    async def read(answer: UpstreamAnswer) -> int:
        sizes: list[int] = []
        stops = lambda data: bool(sizes.append(len(data))) or len(sizes) == 1  # noqa: E731
        assert await answer.pass_on(stops)
        await asyncio.sleep(0.2)  # long enough for all of it
        assert sent < 400 * 65536
        await answer.pass_on(stops)
        assert sizes[1] < 3 * HELD_LIMIT
        return sum(sizes)

    assert reading(world, talk, read) == 400 * 65536


WORDS = [frame(chunk({"content": f"{n} " + "x" * 4000})) for n in range(2000)]


def streaming(world: World, *frames: bytes | Gate, write_timeout_s: float = 60.0) -> tuple[Any, socket.socket]:
    """A gateway, and a client of it that has asked for a stream of these frames and has not read anything."""
    stub = world.upstream(**{"old-model": sends(*frames)})
    running = world.gateway(table_for(stub.url))
    running.gateway.proxy.sender.write_timeout_s = write_timeout_s
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    client.settimeout(20)
    client.connect(("127.0.0.1", running.gateway.port))
    world.stack.callback(client.close)
    body = json.dumps(CHAT | {"stream": True}).encode()
    client.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )
    return running, client


def test_a_client_that_reads_late_gets_all_of_it(world: World) -> None:
    running, client = streaming(world, *WORDS, frame(chunk({}, "stop")), DONE)
    got = b""
    while data := client.recv(65536):
        got += data
    texts = [json.loads(line[6:]) for line in got.split(b"\n") if line.startswith(b"data: {")]
    numbers = [int(d["content"].split()[0]) for t in texts if (d := t["choices"][0]["delta"]).get("content")]
    assert numbers == list(range(2000))
    assert got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert running.wait_for_records(1)[0].ok


def test_a_client_that_does_not_read_is_left_and_upstream_with_it(world: World) -> None:
    running, client = streaming(world, *WORDS, Gate(), write_timeout_s=0.2)
    (record,) = running.wait_for_records(1)
    assert (record.error, record.ok) == ("client_stalled", True)
    while client.recv(65536):
        pass


def test_a_deadline_ends_what_lasts_too_long_and_nothing_else() -> None:
    async def run() -> None:
        with Deadline(30):
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError), Deadline(0.01):
            await asyncio.Event().wait()
        with pytest.raises(KeyError), Deadline(0.01):
            raise KeyError
        await asyncio.sleep(0.03)  # no deadline that is over cancels anything

    asyncio.run(run())


def test_whoever_is_cancelled_from_outside_stays_cancelled_though_the_deadline_passes_too() -> None:
    async def late() -> None:
        with Deadline(0.01):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                asyncio.current_task().cancel()  # type: ignore[union-attr]
                raise

    async def run() -> None:
        task = asyncio.create_task(late())
        await asyncio.wait([task])
        assert task.cancelled()
        waits = asyncio.create_task(late())
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.wait([waits])
        assert waits.cancelled()

    asyncio.run(run())
