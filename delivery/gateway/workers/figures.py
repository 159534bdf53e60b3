"""The metrics' page of a fleet: its workers' figures merged, what it serves itself, and how its workers are."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from delivery.gateway.records.exposition import standing
from delivery.gateway.workers.fleet import Fleet


class FleetFigures(Collector):
    """Everything that the fleet's `GET /metrics` shows."""

    def __init__(self, fleet: Fleet):
        self._fleet = fleet
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks for them."""
        fleet = self._fleet
        yield from fleet.metrics.collect()
        yield from standing(fleet.tables, fleet.breaker)
        told = sum(worker.is_told for worker in fleet.workers)
        yield GaugeMetricFamily("slipway_workers", "Processes that serve users.", value=told)
        yield CounterMetricFamily(
            "slipway_worker_restarts", "Workers that died and were replaced.", value=fleet.restarts
        )
        yield CounterMetricFamily(
            "slipway_worker_lost_requests", "Users' requests under way in a worker that died.", value=fleet.lost
        )
