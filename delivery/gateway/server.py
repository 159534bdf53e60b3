"""The gateway's parts put together, and its two listeners opened and closed in order."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs.api_keys import ApiKeys
from configs.errors import SlipwayError
from configs.routing import RoutingTable
from configs.traffic_log import USUAL
from delivery.gateway.admin import Admin
from delivery.gateway.admission import Places
from delivery.gateway.bodies import Bodies
from delivery.gateway.http.listeners import Address, Quiet, listen, telling_why
from delivery.gateway.http.server import HttpServer
from delivery.gateway.keys.access import Keys, read_keys
from delivery.gateway.keys.budget_files import BudgetFile, kept_budgets
from delivery.gateway.log_ins import LogIns
from delivery.gateway.openai.endpoints.known import ENDPOINTS
from delivery.gateway.proxy import Proxy
from delivery.gateway.records.attempts import Attempts, Observer
from delivery.gateway.records.exposition import Exposition
from delivery.gateway.records.feedback import PATH as FEEDBACK_PATH
from delivery.gateway.records.feedback import FeedbackDesk
from delivery.gateway.records.metrics import Metrics
from delivery.gateway.records.pairs import Pairs
from delivery.gateway.records.redaction import Redactor
from delivery.gateway.settings import Settings
from delivery.gateway.table.files import StateFile, read_table
from delivery.gateway.table.served import Clock, Tables
from delivery.gateway.table.watch import Watch
from delivery.gateway.upstream.ask import Timeouts, Upstreams
from delivery.gateway.upstream.health import Health
from delivery.gateway.upstream.mirror import Mirror
from delivery.gateway.upstream.replicas import Replicas
from delivery.gateway.user_paths import UserPaths
from delivery.traffic.breaker import Breaker

if TYPE_CHECKING:
    from delivery.gateway.records.traces import Traces
    from delivery.gateway.records.traffic_log import TrafficWriter
    from delivery.gateway.workers.member import Member

log = logging.getLogger("slipway.gateway")
LAST_REQUESTS_S = 0.3  # for what a kept connection may be sending when the gateway stops
FEEDBACK_S = 10.0  # for the body of an opinion
LAST_VERDICTS_S = 1.0  # for answers that are being judged when the gateway stops


class Gateway:
    """A gateway that is running."""

    def __init__(self, settings: Settings, monotonic: Clock, wall: Clock, member: "Member | None" = None):
        self.metrics = Metrics()
        self.breaker = Breaker()
        self.replicas = Replicas(monotonic, settings.homes, settings.homes_lead)
        self.keys = (member.keys if member is not None else Keys)(settings.api_keys is not None, monotonic, wall)
        self.log = _traffic_writer(settings, wall)
        self.pairs = Pairs(Redactor(settings.traffic_log.redact if settings.traffic_log is not None else USUAL))
        self.traces = _traces(settings.traces_endpoint)
        observers: list[Observer] = [
            self.breaker.observe,
            self.metrics.observe,
            self.replicas.observe,
            self.pairs.observe,
        ]
        observers += [one.observe for one in (self.log, self.traces) if one is not None]
        self.attempts = Attempts(
            settings.records_kept,
            observers,
            keeps_text=self.log is not None and self.log.keeps_text,
            listeners=() if self.log is None else (self.log.told,),
            monotonic=monotonic,
            wall=wall,
        )
        self.upstreams = Upstreams(
            self.attempts,
            Timeouts.of(settings),
            self.replicas,
            settings.upstream_api_key,
            self.traces.traceparent if self.traces is not None else None,
        )
        self.health = Health(self.replicas, self.upstreams, settings.health_interval_s)
        self.tables = Tables(
            (
                self.breaker.keep_only,
                self.metrics.keep_only,
                self.replicas.keep_only,
                self.health.table_changed,
                self.pairs.keep_only,
                self.keys.check_testers,
            ),
            leased=settings.table is None,
            monotonic=monotonic,
            wall=wall,
        )
        self.mirror = Mirror(
            settings.mirror_queue,
            settings.mirror_at_once,
            self.tables,
            self.attempts,
            self.upstreams,
            self.metrics,
        )
        if settings.counts_users_as_one:
            log.warning("users who name themselves count as one: no API keys are required, and others can reach this")
        most = settings.max_in_flight
        places = Places(most, settings.max_in_flight_per_client or most - most // 4)
        bodies, log_ins = Bodies(settings.max_body_bytes), LogIns("users'", monotonic)
        self.proxy = Proxy(
            self.tables,
            self.attempts,
            self.breaker,
            self.upstreams,
            self.mirror,
            self.metrics,
            self.keys,
            places,
            bodies,
            log_ins,
            settings.keep_alive_s,
            settings.trusts_user_names,
        )
        self.exposition = Exposition(self.metrics, self.attempts, self.tables, self.breaker, self.replicas, self.log)
        elsewhere = member.feedback if member is not None else None
        self.feedback = FeedbackDesk(
            self.attempts,
            self.metrics,
            self.keys,
            places,
            replace(bodies, timeout_s=FEEDBACK_S),
            log_ins,
            elsewhere,
        )
        posts = {one.path: self.proxy.at(one) for one in ENDPOINTS} | {FEEDBACK_PATH: self.feedback.handle}
        self.paths = UserPaths(
            posts,
            self.tables,
            self.replicas,
            self.metrics,
            self.keys,
            log_ins,
            frozenset(settings.allowed_origins),
            lambda: self.proxy.is_draining,
        )
        self.port = self.admin_port = 0

    async def drain(self, users: HttpServer, seconds: float) -> None:
        """Waits for users' requests that are coming and answers that are under way, not longer than this.

        Clients that keep their connection are told to close it, and get a moment to send what they have begun to send.
        """
        self.proxy.is_draining = True
        until, quiet = time.monotonic() + seconds, Quiet(LAST_REQUESTS_S)
        while time.monotonic() < until:
            busy = users.is_busy()
            if not busy and not users.connections:
                return
            if quiet.lasts(busy):
                return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def serving(
    settings: Settings,
    *,
    monotonic: Clock = time.monotonic,
    wall: Clock = time.time,
    member: "Member | None" = None,
) -> AsyncIterator[Gateway]:
    """A gateway that serves for as long as the context lasts, and drains at its end. Raises SlipwayError.

    As a `member` of a fleet it is told by the fleet what to serve, and keeps nothing itself.
    """
    gateway = Gateway(settings, monotonic, wall, member)
    async with contextlib.AsyncExitStack() as stack:
        if gateway.traces is not None:
            stack.push_async_callback(asyncio.to_thread, gateway.traces.close)
        if gateway.log is not None:
            stack.push_async_callback(asyncio.to_thread, _started(gateway.log).stop)
        stack.push_async_callback(gateway.attempts.settle, LAST_VERDICTS_S)
        await stack.enter_async_context(gateway.upstreams)
        stack.push_async_callback(cancelled, asyncio.create_task(gateway.mirror.run()))
        stack.push_async_callback(cancelled, asyncio.create_task(gateway.health.run()))
        if member is None:
            await _stand_alone(stack, gateway, settings, wall)
        else:
            await member.join(stack, gateway)
        users = HttpServer(
            gateway.paths.handle,
            settings.max_body_bytes,
            settings.idle_connection_s,
            gateway.metrics.refuse,
            max_connections=settings.max_connections,
            max_held_bytes=settings.max_held_bytes,
        )
        stack.push_async_callback(users.close)
        with telling_why(settings.host, settings.port, "--port"):
            gateway.port = await users.start(settings.host, settings.port, is_shared=settings.reuse_port)
        if member is not None:
            await member.ready()
        yield gateway
        await users.stop_accepting()
        await gateway.drain(users, settings.drain_s)


async def _stand_alone(stack: contextlib.AsyncExitStack, gateway: Gateway, settings: Settings, wall: Clock) -> None:
    """The files that the gateway keeps and watches, and its admin listener."""
    state = StateFile(settings.table_state) if settings.table_state else None
    watches: list[Watch[RoutingTable] | Watch[ApiKeys]] = []
    if settings.api_keys is not None:
        watches.append(Watch(settings.api_keys, read_keys, gateway.keys.replace))
    if settings.table is not None:
        watches.append(Watch(settings.table, read_table, gateway.tables.replace))
    for watch in watches:
        watch.look()
    if settings.table is None and state is not None and (kept := state.read()) is not None:
        gateway.tables.restore(kept)
    if settings.budgets_file is not None:
        kept_budgets(stack, BudgetFile(settings.budgets_file, gateway.keys, wall))
    for watch in watches:
        stack.push_async_callback(cancelled, asyncio.create_task(watch.run()))
    if settings.admin_token:
        admin = Admin(
            gateway.tables,
            gateway.attempts,
            gateway.breaker,
            gateway.replicas,
            gateway.exposition,
            gateway.pairs,
            state,
            settings.admin_token,
            settings.table is not None,
        )
        inside = Address(settings.admin_host, settings.admin_port, "--admin-port", settings.idle_connection_s)
        gateway.admin_port = await listen(stack, admin.app(), inside)


def _traffic_writer(settings: Settings, wall: Clock) -> "TrafficWriter | None":
    """Without a log nothing of pyarrow is loaded."""
    if settings.traffic_log is None:
        return None
    from delivery.gateway.records.traffic_log import TrafficWriter

    beside = settings.table_state.parent if settings.table_state is not None else Path()
    return TrafficWriter(settings.traffic_log, beside / "traffic", secrets.token_hex(4), wall)


def _traces(endpoint: str) -> "Traces | None":
    """Without an endpoint nothing of OpenTelemetry is loaded."""
    if not endpoint:
        return None
    from delivery.gateway.records.traces import to_collector

    return to_collector(endpoint)


def _started(log: "TrafficWriter") -> "TrafficWriter":
    try:
        log.start()
    except OSError as error:
        what = f"the traffic log cannot be written: {error.strerror or error}"
        raise SlipwayError(
            what, where=str(error.filename), cure="choose another folder in the traffic log's settings"
        ) from None
    return log


async def cancelled(task: asyncio.Task[None]) -> None:
    """Ends the task, and waits for it."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
