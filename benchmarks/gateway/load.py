"""A closed-loop load: so many connections, each with one request at a time, and every latency kept."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import uvloop

STAMP = re.compile(rb"t=(\d+)")
DRAIN_S = 15.0


@dataclass
class Measured:
    """What a load has seen. Latencies and transits are seconds; a transit is one token's from upstream to client."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    transits: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def per_s(self) -> float:
        """Good answers per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0


def quantile(values: list[float], q: float) -> float:
    """The q-quantile, NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


def request(port: int, key: str, user: str, *, stream: bool) -> bytes:
    """One chat request as it goes over the wire."""
    content = "Tom has 3 apples and buys 4 more. How many does he have now?"
    body = {"model": "tutor", "messages": [{"role": "user", "content": content}], "stream": stream}
    raw = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nx-slipway-user: {user}\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw


class _Client(asyncio.Protocol):
    def __init__(self, raw: bytes, measured: Measured, until: float, done: "asyncio.Future[None]"):
        self._raw = raw
        self._measured = measured
        self._until = until
        self._done = done
        self._buffer = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        self._buffer = b""
        self._sent = time.monotonic()
        if self._sent >= self._until:
            self._transport.close()
        else:
            self._transport.write(self._raw)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self._measured.transits += [(now - int(sent)) / 1e9 for sent in STAMP.findall(data)]
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or not self._is_whole(end):
            return
        if self._buffer.startswith(b"HTTP/1.1 200"):
            self._measured.latencies.append(time.monotonic() - self._sent)
        else:
            self._measured.failed += 1
        self._next()

    def _is_whole(self, end: int) -> bool:
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        if at >= 0:
            return len(self._buffer) >= end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
        return self._buffer.endswith(b"0\r\n\r\n")

    def connection_lost(self, error: Exception | None) -> None:
        if time.monotonic() < self._until:
            self._measured.failed += 1
        if not self._done.done():
            self._done.set_result(None)


async def _drive(
    port: int, requests: list[bytes], seconds: float, ramp_s: float, when_full: Callable[[], object]
) -> Measured:
    loop, measured = asyncio.get_running_loop(), Measured()
    until = time.monotonic() + ramp_s + seconds
    ends = []
    for raw in requests:
        done = loop.create_future()
        ends.append(done)
        make = lambda raw=raw, done=done: _Client(raw, measured, until, done)  # noqa: E731
        await loop.create_connection(make, "127.0.0.1", port)
        if ramp_s:
            await asyncio.sleep(ramp_s / len(requests))
    measured.latencies.clear()
    measured.transits.clear()
    when_full()
    began = time.monotonic()
    await asyncio.wait(ends, timeout=seconds + DRAIN_S)
    measured.seconds = time.monotonic() - began
    return measured


def drive(
    port: int,
    key: str,
    connections: int,
    seconds: float,
    *,
    stream: bool = False,
    first_user: int = 0,
    ramp_s: float = 0.0,
    when_full: Callable[[], object] = lambda: None,
) -> Measured:
    """Loads this port for so long; every connection is a user of its own.

    `ramp_s`: until all have come, one after the other. Then `when_full` is called, and measuring begins.
    """
    users = range(first_user, first_user + connections)
    requests = [request(port, key, f"user-{n}", stream=stream) for n in users]
    measured: Measured = uvloop.run(_drive(port, requests, seconds, ramp_s, when_full))
    return measured
