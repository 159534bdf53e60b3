"""HTTP at both ends of the gateway: what clients and upstreams may do on a connection, and what it then holds to."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from gateway_world import CHAT, QUICK, Running, World, eventually, table_for
from stub_upstream import hangs, says

from delivery.gateway.http.connection import HEAD_LIMIT
from delivery.gateway.http.messages import Request, Response
from delivery.gateway.http.server import HttpServer
from delivery.gateway.http.upstream_answer import HELD_LIMIT, BrokenOffError, UnreachableError
from delivery.gateway.upstream.connections import Connections, origin_of

BODY = json.dumps(CHAT).encode()
STREAMED = json.dumps(CHAT | {"stream": True}).encode()
ANSWER = json.dumps({"model": "m", "choices": [{"message": {"content": "Said."}, "finish_reason": "stop"}]}).encode()


def post(body: bytes = BODY, *lines: bytes, version: bytes = b"1.1") -> bytes:
    head = [b"POST /v1/chat/completions HTTP/" + version, b"Host: x", b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def connected(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.gateway.port), timeout=10)


def until(connection: socket.socket, *ends: bytes) -> bytes:
    """What comes, until each of these has come in its turn; with none, until the gateway closes."""
    got, at = b"", 0
    for end in ends or (None,):
        while end is None or (found := got.find(end, at)) < 0:
            data = connection.recv(65536)
            got += data
            if not data:
                assert end is None, got
                return got
        at = found + len(end)
    return got


# Users


def test_requests_that_come_at_once_are_answered_one_after_the_other(world: World) -> None:
    stub = world.upstream()
    with connected(world.gateway(table_for(stub.url))) as connection:
        connection.sendall(post() + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + post() + post(BODY[:-1]))
        got = until(connection, b"I am old-model", b'{"status":"ok"}', b"I am old-model", b"invalid_json")
    assert got.count(b"HTTP/1.1 200 OK") == 3
    assert len(stub.seen) == 2


def test_the_answer_to_head_has_the_length_and_no_body(world: World) -> None:
    with connected(world.gateway(table_for(world.upstream().url))) as connection:
        connection.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        first, _, rest = until(connection, b'{"status":"ok"}').partition(b"\r\n\r\n")
    assert b"Content-Length: 15" in first
    assert rest.startswith(b"HTTP/1.1 200 OK")


def test_a_connection_is_closed_after_the_answer_if_the_client_wants_that(world: World) -> None:
    with connected(world.gateway(table_for(world.upstream().url))) as connection:
        connection.sendall(post(BODY, b"Connection: close") + post())
        got = until(connection)
    assert got.count(b"HTTP/1.1 200 OK") == 1
    assert b"Connection: close" in got


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_client_that_would_rather_speak_http_2_is_answered_in_http_1(world: World, size: int) -> None:
    stub = world.upstream()
    body = json.dumps({**CHAT, "messages": [{"role": "user", "content": "x" * size}]}).encode()
    line = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"
    with connected(world.gateway(table_for(stub.url))) as connection:
        connection.sendall(post(body, line) + post(body, line))
        assert until(connection, b"I am old-model", b"I am old-model").count(b"HTTP/1.1 200 OK") == 2
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + line
        connection.sendall(head + b"\r\n\r\n" + chunked)
        until(connection, b"I am old-model")
    assert [len(seen.body["messages"][0]["content"]) for seen in stub.seen] == [size] * 3


def test_a_client_of_http_1_0_gets_its_stream_without_chunks_until_the_end_of_the_connection(world: World) -> None:
    with connected(world.gateway(table_for(world.upstream().url))) as connection:
        connection.sendall(post(STREAMED, version=b"1.0"))
        head, _, body = until(connection).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("line", [b"OPTIONS *", b"CONNECT models.example:443", b"GET http://[::1", b"GET http://x"])
def test_a_target_that_is_no_path_leads_nowhere(world: World, line: bytes) -> None:
    with connected(world.gateway(table_for(world.upstream().url))) as connection:
        connection.sendall(line + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert until(connection, b"\r\n\r\n").split(b" ")[1] in (b"400", b"404")


def test_what_is_said_behind_the_body_is_no_header(world: World) -> None:
    stub = world.upstream()
    with connected(world.gateway(table_for(stub.url, testers={"me": "new"}))) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"%x\r\n%b\r\n0\r\nx-slipway-user: me\r\n\r\n" % (len(BODY), BODY))
        assert b"I am old-model" in until(connection, b"-model")


def test_a_client_of_http_1_0_may_keep_its_connection(world: World) -> None:
    with connected(world.gateway(table_for(world.upstream().url))) as connection:
        for _ in range(2):
            connection.sendall(post(BODY, b"Connection: keep-alive", version=b"1.0"))
            assert b"Connection: keep-alive" in until(connection, b"I am old-model")


def test_a_client_that_waits_before_its_body_is_told_to_go_on_if_its_key_is_good(world: World) -> None:
    with connected(world.gateway(table_for(world.upstream().url))) as connection:
        request = post(BODY, b"Expect: 100-continue")
        connection.sendall(request[: -len(BODY)])
        assert until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert b"I am old-model" in until(connection, b"I am old-model")


def test_a_head_may_come_in_pieces_up_to_its_limit_and_not_beyond(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    fields = b"\r\n".join(b"x-%d: %b" % (n, b"a" * 1000) for n in range(14))
    with connected(running) as connection:
        request = post(BODY, fields)
        for start in range(0, len(request), 700):
            connection.sendall(request[start : start + 700])
        assert b"I am old-model" in until(connection, b"I am old-model")
    with connected(running) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Long: ")
        for _ in range(4):
            connection.sendall(b"a" * HEAD_LIMIT)
        assert until(connection).startswith(b"HTTP/1.1 431 ")
    assert running.ask().status_code == 200


def test_a_body_whose_chunks_break_is_an_error_of_the_client(world: World) -> None:
    stub = world.upstream()
    with connected(world.gateway(table_for(stub.url))) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{")
        connection.sendall(b"}}}}}}}}}}\r\nno chunk")
        got = until(connection)
    assert got.startswith(b"HTTP/1.1 400 ")
    assert b"invalid_body" in got
    assert not stub.seen


def test_a_client_that_sends_on_and_on_still_gets_its_refusal(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url), max_body_bytes=1000)
    with connected(running) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n")
        for _ in range(20):
            connection.sendall(b"x" * 10_000)
        got = until(connection)
    assert got.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in got
    assert b"body_too_large" in got


def test_a_handler_waits_for_a_client_that_does_not_read_but_not_for_ever(world: World) -> None:
    sent, given_up = [0], []

    async def pours(http: Request) -> Response | None:
        sending = http.stream({})
        try:
            while True:
                sending.write(b"x" * 100_000)
                await sending.room(0.1)
                sent[0] += 100_000
        except TimeoutError:
            given_up.append(True)
            sending.abort()
        return None

    with socket.create_connection(("127.0.0.1", serving(world, pours)), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: given_up == [True])
    assert 0 < sent[0] < 50_000_000


def serving(world: World, handle: Callable[[Request], Awaitable[Response | None]]) -> int:
    server = HttpServer(handle, 1000, 5.0)
    world.stack.push_async_callback(server.close)
    return int(world.do(server.start("127.0.0.1", 0, is_shared=False)))


def test_a_fault_of_the_gateways_own_code_is_told_and_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def fails(_: Request) -> Response | None:
        raise RuntimeError("the code is wrong")

    with socket.create_connection(("127.0.0.1", serving(world, fails)), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        got = until(connection, b"internal_error")
    assert got.startswith(b"HTTP/1.1 500 ")
    assert "the code is wrong" in caplog.text


def test_a_stream_that_its_handler_leaves_is_broken_off_so_that_nobody_takes_it_for_whole(world: World) -> None:
    async def leaves(http: Request) -> Response | None:
        http.stream({}).write(b"half")
        return None

    with socket.create_connection(("127.0.0.1", serving(world, leaves)), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        try:
            while data := connection.recv(1000):
                got += data
        except ConnectionResetError:
            pass
    assert not got.endswith(b"0\r\n\r\n")


# Replicas


def listening(world: World, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> str:
    """An upstream that talks like this on every connection. Its base URL."""

    async def start() -> asyncio.Server:
        return await asyncio.start_server(talk, "127.0.0.1", 0)

    server = world.do(start())
    world.stack.callback(server.close)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def replies(world: World, *parts: bytes | None) -> str:
    """An upstream that answers each connection's request with these bytes, and closes it at None. Its base URL."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await reader.readuntil(b"\r\n\r\n")) and (await reader.read(65536)):
            for part in parts:
                if part is None:
                    writer.close()
                    return
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)

    return listening(world, talk)


def whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


GOOD = {
    "in one piece": (whole(ANSWER),),
    "byte by byte": tuple(bytes([byte]) for byte in whole(ANSWER)),
    "in chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(ANSWER),
        ANSWER,
        b"\r\n0\r\n\r\n",
    ),
    "until the connection ends": (b"HTTP/1.1 200 OK\r\n\r\n", ANSWER, None),
    "after a 100": (b"HTTP/1.1 100 Continue\r\n\r\n", whole(ANSWER)),
    "with more than was asked for": (whole(ANSWER) + whole(ANSWER),),
    "and closed": (whole(ANSWER), None),
}
BAD = {
    "cut": (whole(ANSWER)[:-5], None),
    "cut in chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n", ANSWER, None),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n",),
    "an upgrade": (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",),
    "an endless head": (b"HTTP/1.1 200 OK\r\n" + b"x-more: and more\r\n" * 10_000,),
    "nothing": (None,),
}


@pytest.mark.parametrize("parts", GOOD.values(), ids=GOOD.keys())
def test_an_answer_is_read_however_it_comes(world: World, parts: tuple[bytes | None, ...]) -> None:
    running = world.gateway(table_for(replies(world, *parts)))
    for _ in range(3):
        assert running.said() == "Said."


@pytest.mark.parametrize("parts", BAD.values(), ids=BAD.keys())
def test_an_answer_that_is_none_is_the_variants_failure_and_stable_takes_over(
    world: World, parts: tuple[bytes | None, ...]
) -> None:
    good = world.upstream()
    variants = {"new": {"upstreams": (replies(world, *parts),)}}
    candidate = {"variant": "new", "share_bp": 10_000}
    running = world.gateway(table_for(good.url, variants=variants, candidate=candidate), **QUICK)
    for _ in range(3):
        assert running.said() == "I am old-model"
    failed = [record for record in running.wait_for_records(6) if record.variant == "new"]
    assert [record.ok for record in failed] == [False] * 3
    assert {record.error for record in failed} <= {"connect", "disconnected"}


def on_loop(world: World, ask: Callable[[Connections], Awaitable[Any]]) -> Any:
    async def asking() -> Any:
        connections = Connections(0.5, "")
        try:
            return await ask(connections)
        finally:
            connections.close()

    return world.do(asking())


def test_a_connection_is_kept_for_the_next_request_and_one_that_upstream_closed_costs_nothing(world: World) -> None:
    connected_at: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected_at.append(1)
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(whole(b"ok"))
        writer.close()  # as the third request is on its way

    url = listening(world, talk)

    async def five(connections: Connections) -> list[bytes]:
        return [await (await connections.ask("GET", url, "/", to_the_end=True)).read() for _ in range(5)]

    assert on_loop(world, five) == [b"ok"] * 5
    assert sum(connected_at) == 3


def test_however_many_kept_connections_meet_their_end_the_second_try_is_on_a_new_one(world: World) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(whole(b"ok"))
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    url = listening(world, talk)

    async def three_and_one(connections: Connections) -> list[bytes]:
        first = await asyncio.gather(*(connections.ask("GET", url, "/", to_the_end=True) for _ in range(3)))
        answers = [*first, await connections.ask("GET", url, "/", to_the_end=True)]
        return [await answer.read() for answer in answers]

    assert on_loop(world, three_and_one) == [b"ok"] * 4


def test_what_nobody_reads_waits_upstream(world: World) -> None:
    url = replies(world, b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 65536] * 400, None)

    async def read(connections: Connections) -> tuple[int, int]:
        answer = await connections.ask("POST", url, "/", b"{}", to_the_end=False)
        await asyncio.sleep(0.2)  # long enough for all of it
        first = await answer.read_some()
        size = len(first)
        while data := await answer.read_some():
            size += len(data)
        return len(first), size

    first, size = on_loop(world, read)
    assert first < 3 * HELD_LIMIT
    assert size == 400 * 65536


def test_a_port_where_nobody_listens_and_an_address_that_does_not_answer_are_unreachable(world: World) -> None:
    async def ask(connections: Connections) -> None:
        await connections.ask("GET", "http://127.0.0.1:1", "/", to_the_end=True)

    with pytest.raises(UnreachableError):
        on_loop(world, ask)


def test_a_stream_that_breaks_gives_what_it_had_and_then_says_so(world: World) -> None:
    url = replies(world, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", None)

    async def read(connections: Connections) -> bytes:
        answer = await connections.ask("POST", url, "/", b"{}", to_the_end=False)
        got = await answer.read_some()
        with pytest.raises(BrokenOffError):
            await answer.read_some()
        return got

    assert on_loop(world, read) == b"half"


def test_where_a_base_url_leads_to() -> None:
    origin = origin_of("https://models.example:8443/behind/")
    assert (origin.host, origin.port, origin.is_tls) == ("models.example", 8443, True)
    assert (origin.prefix, origin.named) == ("/behind", "models.example:8443")
    assert origin_of("http://[::1]").port == 80
    assert origin_of("http://[::1]").host == "::1"
    for wrong in ("127.0.0.1:8100", "ftp://x", "http://", "/v1"):
        with pytest.raises(ValueError, match="http"):
            origin_of(wrong)


def test_a_request_whose_client_goes_is_given_up_upstream(world: World) -> None:
    stub = world.upstream(**{"old-model": hangs, "new-model": says("unused")})
    running = world.gateway(table_for(stub.url))
    with connected(running) as connection:
        connection.sendall(post())
        eventually(lambda: len(stub.seen) == 1)
    eventually(lambda: stub.abandoned == 1)
