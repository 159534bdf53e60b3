"""Copies of users' requests, sent to a candidate whose answer nobody sees. A slow candidate fills a queue, no more."""

import asyncio
import logging

from delivery.gateway.openai.answers import UpstreamError
from delivery.gateway.openai.call import Call
from delivery.gateway.openai.errors import ApiError
from delivery.gateway.records.attempts import Attempts
from delivery.gateway.records.metrics import Metrics
from delivery.gateway.table.served import Tables
from delivery.gateway.upstream.ask import Upstreams

log = logging.getLogger("slipway.gateway")


class Nowhere:
    """Where a copy's stream goes."""

    must_wait = False

    def write(self, data: bytes) -> None:
        """Nobody sees it."""

    async def room(self, timeout_s: float) -> None:
        """There is."""


class Mirror:
    """A bounded queue, and `at_once` workers that send what waits there."""

    def __init__(
        self,
        waiting: int,
        at_once: int,
        tables: Tables,
        attempts: Attempts,
        upstreams: Upstreams,
        metrics: Metrics,
    ):
        self._at_once = at_once
        self._queue: asyncio.Queue[tuple[Call, str]] = asyncio.Queue(waiting)
        self._tables = tables
        self._attempts = attempts
        self._upstreams = upstreams
        self._metrics = metrics

    def offer(self, call: Call, variant: str) -> None:
        """Copies the request to the variant if there is room; never waits."""
        try:
            self._queue.put_nowait((call, variant))
        except asyncio.QueueFull:
            self._metrics.mirror_dropped(call.name)

    async def run(self) -> None:
        """Sends copies until cancelled."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._at_once):
                workers.create_task(self._work())

    async def _work(self) -> None:
        while True:
            call, variant = await self._queue.get()
            is_current = self._tables.routes.get(call.name) is call.route and self._tables.lease_valid()
            if not is_current or call.seen:  # withdrawn while the copy waited, or a replica has failed at it
                self._metrics.mirror_dropped(call.name)
                continue
            try:
                await self._send(call, variant)
            except Exception:  # a worker that died would be missing for ever
                log.exception("a mirrored request broke the gateway's own code", extra={"request_id": call.request_id})

    async def _send(self, call: Call, name: str) -> None:
        variant = call.route.variants[name]
        attempt = self._attempts.begin(call, name, "mirror")
        try:
            if call.stream:
                stream = await self._upstreams.stream(call, variant, attempt)
                try:
                    await stream.relay(Nowhere(), 0.0)
                finally:
                    stream.close()
            else:
                await self._upstreams.ask(call, variant, attempt)
        except UpstreamError as failure:
            attempt.fail(failure.kind)
        except ApiError:
            attempt.error = "declined"
        except asyncio.CancelledError:
            attempt.error = "shutdown"
            raise
        except Exception:
            attempt.error = "internal_error"
            raise
        finally:
            self._attempts.end(attempt)
