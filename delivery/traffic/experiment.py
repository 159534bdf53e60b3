"""What an A/B experiment has shown: per arm and metric an estimate with its interval, and the difference from control.

Users are the units that were dealt, so they are the units here: a metric is a ratio of sums over users, its variance
that of the delta method (Deng, Knoblich, Lu 2018), so that a user's many requests do not count as many users. Rates
take Wilson's interval with the effective sample size that this variance implies (Korn, Graubard 1998), or with the
number of users where all of them agree; their differences take Newcombe's (1998). Means take Student's and Welch's.

The intervals hold for one look at a time that was fixed beforehand, each on its own; they decide nothing.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scipy.stats import norm, t

from configs.metrics import CONTRACT, READINGS
from configs.routing import FULL_BP, Route
from delivery.traffic.records import Feedback, Record


@dataclass(frozen=True)
class Interval:
    """An estimate between its bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ArmSummary:
    """One variant of the experiment. A metric is None with fewer than two users who have it."""

    variant: str
    share_bp: int
    users: int
    requests: int
    metrics: Mapping[str, Interval | None]
    differences: Mapping[str, Interval | None]  # from the control; empty for the control itself


@dataclass(frozen=True)
class _Estimate:
    value: float
    variance: float
    users: int
    requests: float
    is_rate: bool

    def interval(self, confidence: float) -> Interval:
        if self.is_rate:
            return Interval(self.value, *self._wilson(confidence))
        half = float(t.ppf((1 + confidence) / 2, self.users - 1)) * math.sqrt(self.variance)
        return Interval(self.value, self.value - half, self.value + half)

    def minus(self, other: "_Estimate", confidence: float) -> Interval:
        difference = self.value - other.value
        if self.is_rate:
            (low, high), (other_low, other_high) = self._wilson(confidence), other._wilson(confidence)
            below = math.hypot(self.value - low, other_high - other.value)
            above = math.hypot(high - self.value, other.value - other_low)
            return Interval(difference, difference - below, difference + above)
        variance = self.variance + other.variance
        if variance == 0:
            return Interval(difference, difference, difference)
        parts = self.variance**2 / (self.users - 1) + other.variance**2 / (other.users - 1)
        half = float(t.ppf((1 + confidence) / 2, variance**2 / parts)) * math.sqrt(variance)
        return Interval(difference, difference - half, difference + half)

    def _wilson(self, confidence: float) -> tuple[float, float]:
        p, spread = self.value, self.value * (1 - self.value)
        n = min(spread / self.variance, self.requests) if self.variance > 0 and spread > 0 else float(self.users)
        z2 = float(norm.ppf((1 + confidence) / 2)) ** 2
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = math.sqrt(z2 * spread / n + z2 * z2 / (4 * n * n)) / (1 + z2 / n)
        return max(0.0, centre - half), min(1.0, centre + half)


def report(
    route: Route, records: Iterable[Record], feedback: Iterable[Feedback] = (), confidence: float = 0.95
) -> tuple[ArmSummary, ...]:
    """The arms, the control first, from those records that began under the route's epoch. ValueError: no experiment."""
    if route.experiment is None:
        raise ValueError("the route has no experiment")
    shares = {route.stable: FULL_BP - sum(route.experiment.arms.values()), **route.experiment.arms}
    dealt = [r for r in records if r.epoch == route.epoch and r.role == "served" and r.variant in shares]
    said = _last_feedback(feedback)
    estimates = {name: _estimates([record for record in dealt if record.variant == name], said) for name in shares}
    metrics = sorted({metric for found in estimates.values() for metric in found})
    control = estimates[route.stable]
    arms = []
    for name, share_bp in shares.items():
        found = estimates[name]
        mine = [record for record in dealt if record.variant == name]
        arms.append(
            ArmSummary(
                variant=name,
                share_bp=share_bp,
                users=len({_user(record) for record in mine}),
                requests=len(mine),
                metrics={metric: _shown(found.get(metric), confidence) for metric in metrics},
                differences={}
                if name == route.stable
                else {metric: _compared(found.get(metric), control.get(metric), confidence) for metric in metrics},
            )
        )
    return tuple(arms)


def _shown(estimate: _Estimate | None, confidence: float) -> Interval | None:
    return estimate.interval(confidence) if estimate else None


def _compared(arm: _Estimate | None, control: _Estimate | None, confidence: float) -> Interval | None:
    return arm.minus(control, confidence) if arm and control else None


def _last_feedback(feedback: Iterable[Feedback]) -> dict[str, Feedback]:
    return {one.request_id: one for one in sorted(feedback, key=lambda one: one.seq)}


def _user(record: Record) -> str:
    return record.user or record.request_id


def _estimates(records: list[Record], said: Mapping[str, Feedback]) -> dict[str, _Estimate]:
    rates = {reading.name for reading in READINGS if reading.unit == ""}
    sums: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
    for record in records:
        for metric, value in _values(record, said).items():
            of_user = sums[metric][_user(record)]
            of_user[0] += value
            of_user[1] += 1
    return {
        metric: _estimate(list(users.values()), is_rate=metric in rates or metric.startswith(CONTRACT))
        for metric, users in sums.items()
        if len(users) >= 2
    }


def _values(record: Record, said: Mapping[str, Feedback]) -> dict[str, float]:
    """By the reading's name. Feedback is there for all requests or, where nobody gave any, for none."""
    values: dict[str, float] = {CONTRACT + detector: broken for detector, broken in record.verdicts.items()}
    for reading in READINGS:
        value = reading.of(record, None)
        if said and reading.said is not None:
            found = said.get(record.request_id)
            value = found is not None and reading.said(found)
        if value is not None:
            values[reading.name] = value
    return values


def _estimate(users: list[list[float]], *, is_rate: bool) -> _Estimate:
    """The ratio of sums over users ((sum of values, requests) each) and its variance by the delta method."""
    total, requests, m = sum(y for y, _ in users), sum(n for _, n in users), len(users)
    ratio = total / requests
    residuals = sum((y - ratio * n) ** 2 for y, n in users)
    return _Estimate(ratio, residuals * m / (m - 1) / requests**2, m, requests, is_rate)
