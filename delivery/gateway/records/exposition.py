"""The page that Prometheus reads: what was counted, and the state of the moment."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from delivery.gateway.records.attempts import Attempts
from delivery.gateway.records.metrics import Metrics
from delivery.gateway.table.served import Tables
from delivery.gateway.upstream.replicas import Replicas
from delivery.traffic.breaker import Breaker

if TYPE_CHECKING:
    from delivery.gateway.records.traffic_log import TrafficWriter

ATTEMPT = ("route", "variant", "role")


class Exposition(Collector):
    """Everything that `GET /metrics` shows."""

    def __init__(
        self,
        metrics: Metrics,
        attempts: Attempts,
        tables: Tables,
        breaker: Breaker,
        replicas: Replicas,
        log: "TrafficWriter | None" = None,
    ):
        self._metrics = metrics
        self._attempts = attempts
        self._tables = tables
        self._breaker = breaker
        self._log = log
        self._replicas = replicas
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks for them."""
        yield from self._counted()
        yield from self._timed()
        yield from self._now()
        yield from self._upstreams()

    def _counted(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "slipway_attempts", "Attempts that ended, by outcome.", labels=(*ATTEMPT, "outcome")
        )
        failovers = CounterMetricFamily("slipway_failovers", "Failed, and taken over by stable.", labels=ATTEMPT)
        users = CounterMetricFamily("slipway_user_failures", "Users who got no complete answer.", labels=ATTEMPT)
        tokens = CounterMetricFamily("slipway_tokens", "Tokens that upstream counted.", labels=(*ATTEMPT, "kind"))
        for place, series in self._metrics.series.items():
            for outcome, count in series.outcomes.items():
                requests.add_metric((*place, outcome), count)
            failovers.add_metric(place, series.failed_over)
            users.add_metric(place, series.users_failed)
            tokens.add_metric((*place, "prompt"), series.prompt_tokens)
            tokens.add_metric((*place, "completion"), series.completion_tokens)
        judged = CounterMetricFamily(
            "slipway_contract_judged", "Answers that a detector of the contract judged.", labels=(*ATTEMPT, "detector")
        )
        broken = CounterMetricFamily(
            "slipway_contract_broken", "Answers that break the contract.", labels=(*ATTEMPT, "detector")
        )
        unjudged = CounterMetricFamily(
            "slipway_contract_unjudged", "Answers that would take a detector too long.", labels=(*ATTEMPT, "detector")
        )
        for place, series in self._metrics.series.items():
            for detector, count in series.judged.items():
                judged.add_metric((*place, detector), count)
                broken.add_metric((*place, detector), series.broken[detector])
            for detector, count in series.unjudged.items():
                unjudged.add_metric((*place, detector), count)
        refused = CounterMetricFamily("slipway_refused", "Requests answered with an error.", labels=("code",))
        for code, count in self._metrics.refused.items():
            refused.add_metric((code,), count)
        dropped = CounterMetricFamily("slipway_mirror_dropped", "Copies that were not sent.", labels=("route",))
        for route, count in self._metrics.dropped.items():
            dropped.add_metric((route,), count)
        yield from (requests, failovers, users, tokens, judged, broken, unjudged, refused, dropped)
        if self._log is not None:
            rows = CounterMetricFamily("slipway_traffic_log_rows", "Rows taken, and lost of them.", labels=("fate",))
            for fate in ("taken", "lost"):
                rows.add_metric((fate,), self._log.counts[fate])
            yield rows

    def _timed(self) -> Iterator[Metric]:
        latency = HistogramMetricFamily("slipway_answer_seconds", "Time to the end of an answer.", labels=ATTEMPT)
        ttft = HistogramMetricFamily("slipway_first_content_seconds", "To a stream's first content.", labels=ATTEMPT)
        for place, series in self._metrics.series.items():
            latency.add_metric(place, series.latency.buckets(), series.latency.total)
            ttft.add_metric(place, series.ttft.buckets(), series.ttft.total)
        yield from (latency, ttft)

    def _now(self) -> Iterator[Metric]:
        in_flight = GaugeMetricFamily("slipway_in_flight", "Attempts under way.", labels=ATTEMPT)
        under_way: Counter[tuple[str, str, str]] = Counter(
            (a.route, a.variant, a.role) for a in self._attempts.in_flight
        )
        for place in {*self._metrics.series, *under_way}:
            in_flight.add_metric(place, under_way[place])
        yield in_flight
        yield from standing(self._tables, self._breaker)

    def _upstreams(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("slipway_upstream_up", "Answers health checks.", labels=("upstream",))
        in_flight = GaugeMetricFamily("slipway_upstream_in_flight", "Attempts there now.", labels=("upstream",))
        failures = CounterMetricFamily(
            "slipway_upstream_failures", "Failures that another replica made good.", labels=("upstream", "kind")
        )
        for url, replica in self._replicas.known():
            up.add_metric((url,), replica.is_up)
            in_flight.add_metric((url,), replica.in_flight)
            for kind, count in replica.failures.items():
                failures.add_metric((url, kind), count)
        yield from (up, in_flight, failures)


STANDING = frozenset(("slipway_variant_tripped", "slipway_table_revision", "slipway_lease_remaining_seconds"))


def standing(tables: Tables, breaker: Breaker) -> Iterator[Metric]:
    """The families of STANDING: what is served, and for how long."""
    tripped = GaugeMetricFamily(
        "slipway_variant_tripped", "Gets no users: it failed several times in a row.", labels=("route", "variant")
    )
    for name in breaker.tripped():
        tripped.add_metric(name, 1)
    yield tripped
    yield GaugeMetricFamily("slipway_table_revision", "The served table.", value=tables.revision)
    lease = tables.lease_remaining_s()
    if lease is not None:
        yield GaugeMetricFamily("slipway_lease_remaining_seconds", "Until stable gets everything.", value=lease)
