"""An upstream that costs next to nothing: `python -m benchmarks.gateway.stub PORT`. It speaks just enough HTTP.

Plain requests get one fixed answer at once; the model `steady` takes 20 ms, `slow` a second. Streams get TOKENS tokens,
INTERVAL_S apart, each with the time at which it was sent (CLOCK_MONOTONIC, which all processes of a machine share).
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from typing import cast

import uvloop

TOKENS = 40
INTERVAL_S = 0.05
WAITS_S = {b'"steady"': 0.02, b'"slow"': 1.0}
USAGE = {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 52}
TEXT = "How many apples are there before Tom buys the other four?"
CHOICE = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
ANSWER = {"id": "c", "object": "chat.completion", "created": 1, "model": "base", "choices": [CHOICE], "usage": USAGE}
MODELS = {"object": "list", "data": [{"id": name, "object": "model"} for name in ("base", "new", "steady", "slow")]}
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def response(body: Mapping[str, object]) -> bytes:
    """A whole HTTP response."""
    raw = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(raw), raw)


PLAIN, LIST = response(ANSWER), response(MODELS)


def chunked(event: bytes) -> bytes:
    """One server-sent event as one HTTP chunk."""
    data = b"data: " + event + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def token(content: str, finish: str | None = None) -> bytes:
    """A stream's chunk."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return json.dumps(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "base", "choices": [choice]}
    ).encode()


class StubConnection(asyncio.Protocol):
    """One client's connection, kept alive."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio calls it."""
        self._transport = cast(asyncio.Transport, transport)
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answers every request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get"):
            self._transport.write(LIST)
        elif b'"stream":true' in body.replace(b" ", b""):
            self._transport.write(STREAM_HEAD)
            self._send_token(TOKENS)
        elif waits := [seconds for model, seconds in WAITS_S.items() if model in body]:
            asyncio.get_running_loop().call_later(waits[0], self._transport.write, PLAIN)
        else:
            self._transport.write(PLAIN)

    def _send_token(self, left: int) -> None:
        if self._transport.is_closing():
            return
        if left:
            self._transport.write(chunked(token(f"t={time.monotonic_ns()} ")))
            asyncio.get_running_loop().call_later(INTERVAL_S, self._send_token, left - 1)
            return
        last = token("", "stop")
        usage = json.dumps({"id": "c", "model": "base", "choices": [], "usage": USAGE}).encode()
        self._transport.write(chunked(last) + chunked(usage) + chunked(b"[DONE]") + b"0\r\n\r\n")


async def serve(port: int) -> None:
    """Serves until the process ends."""
    server = await asyncio.get_running_loop().create_server(StubConnection, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
