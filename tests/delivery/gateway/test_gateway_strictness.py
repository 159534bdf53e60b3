"""HTTP that a server should refuse: none of it reaches a handler, and no request hides behind another one."""

import asyncio

import pytest

from delivery.gateway.http.messages import Request, Response
from delivery.gateway.http.server import HttpServer

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"
ODD_CODINGS = (
    b"x",
    b"\xd9\xa5",
    b"\xff",
    b"identity\r\nTransfer-Encoding: chunked",
    b"x, chunked",
    b"chunked, chunked",
)
REFUSED = {
    "no version": b"GET /x\r\n\r\n",
    "version 0.9": b"GET /x HTTP/0.9\r\n\r\n",
    "version 2.0": b"GET /x HTTP/2.0\r\nHost: a\r\n\r\n",
    "two blanks": b"GET /x  HTTP/1.1\r\nHost: a\r\n\r\n",
    "two hosts": b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a host with a blank": b"GET /x HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a host with a user": b"GET /x HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "a port that is none": b"GET http://a:x/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "a port beyond all": b"GET http://a:99999/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host in a URL": b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
    "half an address": b"GET http://[::1/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "a star for GET": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "a star and more": b"GET *x HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
    "chunks in 1.0": b"POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED + HIDDEN,
    "two lengths": b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + HIDDEN,
    "a length and chunks": b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CHUNKED,
    "a negative length": b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
    "a blank before the colon": b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello",
    "a folded header": b"GET /x HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "a lone CR": b"GET /x HTTP/1.1\rHost: a\r\n\r\n",
    "a NUL": b"GET /x HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    "a body and rubbish": b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloXX" + HIDDEN,
    "PROXY": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + HIDDEN,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00",
} | {
    f"{what} coded {coding!r}": b"POST /x HTTP/1.1\r\nHost: a\r\n"
    + upgrade
    + b"Transfer-Encoding: "
    + coding
    + b"\r\n\r\n"
    + CHUNKED
    + HIDDEN
    for coding in ODD_CODINGS
    for what, upgrade in (("plainly", b""), ("to upgrade", b"Connection: upgrade\r\nUpgrade: x\r\n"))
}
TAKEN = {
    "a path": (b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", 1),
    "a URL": (b"GET http://a:80/x HTTP/1.1\r\nHost: a\r\n\r\n", 1),
    "a star": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1),
    "version 1.0": (b"GET /x HTTP/1.0\r\n\r\n", 1),
    "an IPv6 host": (b"GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 1),
    "chunks": (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n" + CHUNKED + HIDDEN, 2),
    "an upgrade with a body": (
        b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello"
        + HIDDEN,
        2,
    ),
    "nothing behind the last": (b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + HIDDEN, 1),
}


def sent(data: bytes, parts: int) -> tuple[list[str], bytes]:
    """What reached the handler, and the answer."""
    reached = []

    async def handle(http: Request) -> Response:
        reached.append(http.path)
        return Response(200, await http.read())

    async def scenario() -> bytes:
        server = HttpServer(handle, 1000, 5.0)
        port = await server.start("127.0.0.1", 0, is_shared=False)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        size = -(-len(data) // parts)
        for at in range(0, len(data), size):
            writer.write(data[at : at + size])
            await asyncio.sleep(0)
        writer.write_eof()
        got = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await server.close()
        return got

    return reached, asyncio.run(scenario())


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_a_server_should_refuse_is_refused(data: bytes) -> None:
    reached, got = sent(data, parts=1)
    assert reached == []
    assert got.startswith(b"HTTP/1.1 4") or not got


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(("data", "count"), TAKEN.values(), ids=TAKEN.keys())
def test_what_is_right_is_taken(data: bytes, count: int, parts: int) -> None:
    reached, got = sent(data, parts)
    assert (len(reached), got.count(b"HTTP/1.1 200")) == (count, count)
