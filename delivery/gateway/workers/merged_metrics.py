"""Several workers' metrics as one set, for `GET /metrics`: pure, on what each process' exposition collected.

Counters and histograms grow by what each process has added since it was last heard, as Prometheus itself reckons after
a restart: a process that dies, or forgets a series, takes nothing away from what was shown.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.metrics_core import Metric

from configs.routing import RoutingTable
from delivery.gateway.records.metrics import FORMER_KEPT

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]  # of one sample
Page = list[dict[str, Any]]  # families, as JSON
GROWING = frozenset(("counter", "histogram"))
LOWEST = frozenset(("slipway_upstream_up",))  # it is down when one worker says so; other gauges are added up


def as_page(families: Iterable[Metric]) -> Page:
    """Collected families in a form that JSON can carry."""
    return [
        {
            "name": family.name,
            "documentation": family.documentation,
            "type": family.type,
            "samples": [(sample.name, sample.labels, sample.value) for sample in family.samples],
        }
        for family in families
    ]


@dataclass
class _Family:
    documentation: str
    kind: str
    samples: dict[Key, float] = field(default_factory=dict)  # of what grows: over all processes that ever were


class MergedMetrics:
    """The figures of all processes. A source is one process: its successor is another source."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}
        self._last: dict[int, dict[Key, float]] = {}  # by source: what grows, as it was last told
        self._gauges: dict[int, dict[str, dict[Key, float]]] = {}  # by source and family

    def add(self, source: int, page: Page) -> None:
        """What the process shows now."""
        former, self._last[source], self._gauges[source] = self._last.get(source, {}), {}, {}
        for shown in page:
            family = self._families.setdefault(shown["name"], _Family(shown["documentation"], shown["type"]))
            samples = {(name, tuple(sorted(labels.items()))): value for name, labels, value in shown["samples"]}
            if family.kind not in GROWING:
                self._gauges[source][shown["name"]] = samples
                continue
            for key, value in samples.items():
                before = former.get(key, 0.0)
                family.samples[key] = family.samples.get(key, 0.0) + (value - before if value >= before else value)
            self._last[source] |= samples

    def ended(self, source: int) -> None:
        """The process is no more; what it counted stays counted."""
        self._last.pop(source, None)
        self._gauges.pop(source, None)

    def keep_only(self, table: RoutingTable) -> None:
        """Forgets the oldest of the routes' variants that neither this table nor any process shows."""
        shown = {_place(labels) for samples in self._last.values() for _, labels in samples}
        served = {(name, variant) for name, route in table.routes.items() for variant in route.variants}
        known = dict.fromkeys(_place(key[1]) for family in self._families.values() for key in family.samples)
        former = [place for place in known if all(place) and place not in served and place not in shown]
        gone = set(former[: max(0, len(former) - FORMER_KEPT)])
        for family in self._families.values():
            family.samples = {key: value for key, value in family.samples.items() if _place(key[1]) not in gone}

    def collect(self, without: frozenset[str] = frozenset()) -> Iterator[Metric]:
        """All families but those of these names."""
        for name, family in self._families.items():
            if name in without:
                continue
            metric = Metric(name, family.documentation, family.kind)
            samples = family.samples
            if family.kind not in GROWING:
                combine = min if name in LOWEST else sum
                samples = _combined([page[name] for page in self._gauges.values() if name in page], combine)
            for (sample, labels), value in samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


def _combined(pages: Sequence[Mapping[Key, float]], combine: Any) -> dict[Key, float]:
    keys = dict.fromkeys(key for page in pages for key in page)
    return {key: combine([page[key] for page in pages if key in page]) for key in keys}


def _place(labels: Labels) -> tuple[str, str]:
    named = dict(labels)
    return named.get("route", ""), named.get("variant", "")


def merged_upstreams(pages: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Several workers' `GET /admin/upstreams`: up if all say so, with the models that all of them have seen."""
    by_url: dict[str, list[Mapping[str, Any]]] = {}
    for page in pages:
        for replica in page:
            by_url.setdefault(replica["url"], []).append(replica)
    return [_merged_upstream(url, seen) for url, seen in sorted(by_url.items())]


def _merged_upstream(url: str, seen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    models = [set(replica["models"]) for replica in seen if replica["models"] is not None]
    failures: dict[str, int] = {}
    for replica in seen:
        for kind, count in replica["failures"].items():
            failures[kind] = failures.get(kind, 0) + count
    return {
        "url": url,
        "up": all(replica["up"] for replica in seen),
        "draining": any(replica["draining"] for replica in seen),
        "in_flight": sum(replica["in_flight"] for replica in seen),
        "models": sorted(set.intersection(*models)) if len(models) == len(seen) else None,
        "failures": failures,
    }
