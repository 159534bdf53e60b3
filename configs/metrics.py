"""Every metric that a check may name: one table, which plans, measuring, forecasts, findings and experiments read.

A new metric is one row of METRICS. It says how the metric is compared, what it reads of a request, in which unit, what
an answer without a value means, and what a forecast takes for usual.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

from pydantic import Field

from configs.strict import Strict

MetricKind = Literal["rate", "p95", "typical", "preference"]
Unit = Literal["", "s", "tokens", "cost"]  # "": yes or no, as a rate 0..1; cost: of a thousand requests
Missing = Literal["unmeasured", "no"]
CONTRACT = "contract:"
_DETECTOR = re.compile(r"contract:[A-Za-z0-9_.-]+")


class Prices(Strict):
    """What tokens cost, for `cost_typical`: in any currency, per million."""

    prompt_per_million: float = Field(ge=0)
    completion_per_million: float = Field(ge=0)


class Ended(Protocol):
    """What can be read of an attempt to answer: a part of `delivery.traffic.records.Record`."""

    ok: bool
    error: str
    duration_s: float
    ttft_s: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str
    verdicts: dict[str, bool]


class UserFeedback(Protocol):
    """What can be read of a user's feedback: a part of `delivery.traffic.records.Feedback`."""

    rating: Literal[-1, 0, 1] | None
    escalated: bool


@dataclass(frozen=True)
class MetricReading:
    """One thing that is read of a request. `usual`: stable's rate, or the p95 of its values, where nobody knows better.

    `of` gives None where an answer has no such value. If that is `missing` as "unmeasured", the answer is no evidence,
    and a check whose answers mostly are so cannot be judged; as "no", it counts as one without a hit. `said` reads a
    user's feedback, which comes later. `so_far` is what is known of a request in flight, from its age and the seconds
    to its first content; without it nothing is known before the end.
    """

    name: str
    unit: Unit
    usual: float
    of: Callable[[Ended, Prices | None], float | None]
    missing: Missing = "unmeasured"
    said: Callable[[UserFeedback], bool] | None = None
    so_far: Callable[[float, float | None], float] | None = None


@dataclass(frozen=True)
class Metric:
    """A reading and how it is compared; `name` is what a plan calls it."""

    name: str
    kind: MetricKind
    reads: MetricReading


# -- readings: a quick failure is no quick answer, nor is one that its client left; a timeout is a slow one -----------


def _nothing(_: Ended, __: Prices | None) -> float | None:
    return None


def _latency(ended: Ended, _: Prices | None) -> float | None:
    return None if ended.error and "timeout" not in ended.error else ended.duration_s


def _first_content(ended: Ended, _: Prices | None) -> float | None:
    if not ended.error:
        return ended.ttft_s
    if "timeout" not in ended.error:
        return None
    return ended.ttft_s if ended.ttft_s is not None else ended.duration_s


def _cost(ended: Ended, prices: Prices | None) -> float | None:
    if ended.error or prices is None or ended.prompt_tokens is None or ended.completion_tokens is None:
        return None
    prompt = ended.prompt_tokens * prices.prompt_per_million
    return (prompt + ended.completion_tokens * prices.completion_per_million) / 1000


def _truncated(ended: Ended, _: Prices | None) -> bool | None:
    """Cut off at the token limit: a candidate that rambles, or never finds its end, shows here first."""
    return ended.finish_reason == "length" if ended.finish_reason and not ended.error else None


def _broken(detector: str) -> MetricReading:
    return MetricReading(CONTRACT + detector, "", 0.02, lambda ended, _: ended.verdicts.get(detector))


LATENCY = MetricReading("latency_s", "s", 4.0, _latency, so_far=lambda age_s, _: age_s)
FIRST_CONTENT = MetricReading(
    "ttft_s", "s", 0.8, _first_content, so_far=lambda age_s, ttft_s: age_s if ttft_s is None else ttft_s
)
COMPLETION = MetricReading(
    "completion_tokens", "tokens", 250.0, lambda ended, _: None if ended.error else ended.completion_tokens
)
PROMPT = MetricReading("prompt_tokens", "tokens", 500.0, lambda ended, _: None if ended.error else ended.prompt_tokens)
COST = MetricReading("cost", "cost", 0.1, _cost)

METRICS = (
    Metric("error_rate", "rate", MetricReading("error_rate", "", 0.01, lambda ended, _: not ended.ok)),
    Metric(
        "feedback_negative",
        "rate",
        MetricReading("feedback_negative", "", 0.02, _nothing, missing="no", said=lambda opinion: opinion.rating == -1),
    ),
    Metric(
        "escalation",
        "rate",
        MetricReading("escalation", "", 0.01, _nothing, missing="no", said=lambda opinion: opinion.escalated),
    ),
    Metric("truncated", "rate", MetricReading("truncated", "", 0.02, _truncated)),
    Metric("latency_p95_s", "p95", LATENCY),
    Metric("ttft_p95_s", "p95", FIRST_CONTENT),
    Metric("completion_tokens_p95", "p95", COMPLETION),
    Metric("latency_typical_s", "typical", LATENCY),
    Metric("completion_tokens_typical", "typical", COMPLETION),
    Metric("cost_typical", "typical", COST),
    Metric("judge", "preference", MetricReading("judge", "", 0.5, _nothing)),  # pairs are judged, no single answer
)
_BY_NAME = {metric.name: metric for metric in METRICS}
READINGS = (*{metric.reads.name: metric.reads for metric in METRICS}.values(), PROMPT)  # of one request alone


@lru_cache(maxsize=256)
def metric_named(name: str) -> Metric:
    """The row of this name; `contract:NAME` is one for every detector. ValueError: there is no such metric."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    if _DETECTOR.fullmatch(name):
        return Metric(name, "rate", _broken(name.removeprefix(CONTRACT)))
    raise ValueError(f"no such metric: {name!r} -> take one of {', '.join(_BY_NAME)}, contract:NAME")
