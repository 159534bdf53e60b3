"""The gateway's parts put together: who is told of what, and who answers what."""

import asyncio
import logging
import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs.traffic_log import USUAL
from delivery.gateway.admission import Places
from delivery.gateway.bodies import Bodies
from delivery.gateway.http.listeners import Quiet
from delivery.gateway.http.server import HttpServer
from delivery.gateway.keys.access import Keys
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
from delivery.gateway.sending import Sender
from delivery.gateway.settings import Settings
from delivery.gateway.table.served import Clock, Tables
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
            Sender(self.upstreams, settings.keep_alive_s),
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
            lambda: self.proxy.sender.is_draining,
        )
        self.port = self.admin_port = 0

    async def drain(self, users: HttpServer, seconds: float) -> None:
        """Waits for users' requests that are coming and answers that are under way, not longer than this.

        Clients that keep their connection are told to close it, and get a moment to send what they have begun to send.
        """
        self.proxy.sender.is_draining = True
        until, quiet = time.monotonic() + seconds, Quiet(LAST_REQUESTS_S)
        while time.monotonic() < until:
            busy = users.is_busy()
            if not busy and not users.connections:
                return
            if quiet.lasts(busy):
                return
            await asyncio.sleep(0.02)


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
