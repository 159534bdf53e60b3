"""Prometheus metrics. Plain numbers are kept here and turned into the text format when somebody asks.

Labels are bounded: routes and variants come from routing tables only, and of variants that left the table the most
recent few are remembered.
"""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from configs.routing import RoutingTable
from delivery.gateway.openai.errors import ApiError
from delivery.gateway.records.attempts import Attempt

BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
ALARMING = ("overloaded", "internal_error")  # shown from the start: a count that begins at 1 has no increase
FORMER_KEPT = 48  # (route, variant, role) that are served no more


@dataclass(slots=True)
class Histogram:
    """Seconds, counted under BOUNDS_S."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total: float = 0.0

    def observe(self, value: float) -> None:
        """Adds one value."""
        self.counts[bisect_left(BOUNDS_S, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        sums, seen = [], 0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            seen += count
            sums.append((bound, float(seen)))
        return sums


@dataclass(slots=True)
class Series:
    """All about the attempts of one route, variant and role."""

    outcomes: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    ttft: Histogram = field(default_factory=Histogram)  # of streams
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failed_over: int = 0
    users_failed: int = 0
    judged: Counter[str] = field(default_factory=Counter)  # by detector
    broken: Counter[str] = field(default_factory=Counter)
    unjudged: Counter[str] = field(default_factory=Counter)


class Metrics:
    """Counts what it is told. `observe` sits in the way of every request and is kept cheap."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str, str], Series] = {}
        self.dropped: Counter[str] = Counter()
        self.refused: Counter[str] = Counter(dict.fromkeys(ALARMING, 0))

    def observe(self, attempt: Attempt) -> None:
        """One attempt has ended."""
        series = self._of(attempt)
        series.outcomes[attempt.error or "ok"] += 1
        if attempt.prompt_tokens is not None:
            series.prompt_tokens += attempt.prompt_tokens
            series.completion_tokens += attempt.completion_tokens or 0
        if attempt.ttft_s is not None:
            if attempt.streamed:  # a plain answer's first content comes with its last
                series.ttft.observe(attempt.ttft_s)
            series.latency.observe(attempt.duration_s)
        if not attempt.user_ok:
            series.users_failed += 1
        for detector, is_broken in attempt.verdicts.items():
            series.judged[detector] += 1
            series.broken[detector] += is_broken
        for detector in attempt.unjudged:
            series.unjudged[detector] += 1

    def failed_over(self, attempt: Attempt) -> None:
        """Stable takes over from this attempt."""
        self._of(attempt).failed_over += 1

    def _of(self, attempt: Attempt) -> Series:
        place = (attempt.route, attempt.variant, attempt.role)
        series = self.series.get(place)
        if series is None:
            series = self.series[place] = Series()
        return series

    def mirror_dropped(self, route: str) -> None:
        """A copy was not sent: no room, or withdrawn."""
        self.dropped[route] += 1

    def refuse(self, refusal: ApiError) -> None:
        """A request got an error for an answer."""
        self.refused[refusal.body["error"]["code"] or "declined"] += 1

    def keep_only(self, table: RoutingTable) -> None:
        """Forgets the oldest of what this table does not serve."""
        former = [
            place
            for place in self.series
            if place[0] not in table.routes or place[1] not in table.routes[place[0]].variants
        ]
        for place in former[: max(0, len(former) - FORMER_KEPT)]:
            del self.series[place]
        for route in self.dropped.keys() - table.routes.keys():
            del self.dropped[route]
