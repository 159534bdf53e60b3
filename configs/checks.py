"""What a release plan may check: a metric, its limit, and what follows when the candidate is worse than the limit."""

from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from configs.metrics import CONTRACT, MetricKind, MetricReading, metric_named
from configs.stage_kinds import BY_NAME, STAGE_KINDS, KindName
from configs.strict import Strict

OnFail = Literal["rollback", "pause", "warn"]
EQUAL = 0.5  # of a preference: as many pairs lost as won


class Check(Strict):
    """One metric and its limit: absolute (`max`), or relative to stable beside it (`max_ratio`, `max_increase`).

    Rates are 0..1 per request: errors, answers that break a detector of the route's contract (`contract:NAME`),
    negative ratings, escalations. `p95` of seconds or tokens. `typical` values are compared with stable's as a whole,
    by ranks, and with an absolute limit as the median. `cost_typical` is what a thousand requests cost by the plan's
    prices. `judge` is the share of shadow's pairs in which the plan's judge prefers stable's answer, ties counting
    half: 0.5 for an equal candidate.
    """

    metric: str
    max: float | None = Field(None, gt=0, description="absolute limit, in the metric's unit")
    max_ratio: float | None = Field(None, gt=0, description="limit = stable * max_ratio (+ max_increase)")
    max_increase: float | None = Field(None, ge=0, description="limit = stable (* max_ratio) + max_increase")
    on_fail: OnFail = "rollback"
    stages: tuple[KindName, ...] = Field(get_args(KindName), min_length=1)

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        return metric_named(metric).name

    @model_validator(mode="after")
    def _can_decide(self) -> Self:
        if self.kind == "preference":
            problems = self._preference_problems()
        else:
            problems = [*self._limit_problems(), *(self._margin_problems() if self.gates and self.is_relative else ())]
        if problems:
            raise ValueError(f"{self.metric}: " + "; ".join(problems))
        return self

    def _limit_problems(self) -> list[str]:
        problems = []
        relative = self.max_ratio is not None or self.max_increase is not None
        if (self.max is None) != relative:
            problems.append("either max, or max_ratio and/or max_increase is needed -> keep one kind of limit")
        if self.kind == "rate" and self.max is not None and self.max >= 1:
            problems.append(f"max {self.max:g}: no rate exceeds 1 -> give a max below 1")
        if self.kind == "rate" and self.increase >= 1:
            problems.append(f"max_increase {self.increase:g}: no rate exceeds 1 -> give a max_increase below 1")
        return problems

    def _margin_problems(self) -> list[str]:
        if self.kind == "rate" and not self.increase and self.ratio >= 1:
            return [
                "where stable has none, a ratio allows none either, and no evidence shows that there are none at all"
                " -> add a max_increase, e.g. 0.02, or on_fail: warn"
            ]
        if self.ratio == 1 and not self.increase:
            return [
                "an equal candidate is exactly at this limit, and no evidence shows that it is within it"
                " -> add a margin (max_ratio: 1.2, or a max_increase), or on_fail: warn"
            ]
        return []

    def _preference_problems(self) -> list[str]:
        problems = []
        if not all(BY_NAME[name].has_pairs for name in self.stages):
            paired = ", ".join(kind.name for kind in STAGE_KINDS if kind.has_pairs)
            problems.append(f"only {paired} has two answers to one request -> stages: [{paired}]")
        if self.max is None or self.max_ratio is not None or self.max_increase is not None or self.max >= 1:
            problems.append("a share of pairs is its limit -> give a max below 1, e.g. 0.6, and nothing else")
        elif self.max < EQUAL or (self.gates and self.max == EQUAL):
            problems.append(
                f"max {self.max:g}: an equal candidate has {EQUAL:g}, and no evidence shows that it is within that"
                " -> add a margin, e.g. 0.6, or on_fail: warn with 0.5"
            )
        return problems

    @property
    def kind(self) -> MetricKind:
        """How it is compared."""
        return metric_named(self.metric).kind

    @property
    def reads(self) -> MetricReading:
        """What is read of a request."""
        return metric_named(self.metric).reads

    @property
    def detector(self) -> str:
        """The detector of the route's response contract; "" when it is no such check."""
        return self.metric.removeprefix(CONTRACT) if self.metric.startswith(CONTRACT) else ""

    @property
    def is_relative(self) -> bool:
        """Whether the limit moves with the stable variant's own value, as the limit of a preference does by nature."""
        return self.max is None or self.kind == "preference"

    @property
    def gates(self) -> bool:
        """Whether a stage waits for it to pass."""
        return self.on_fail != "warn"

    @property
    def ratio(self) -> float:
        """Of a relative limit."""
        return self.max_ratio if self.max_ratio is not None else 1.0

    @property
    def increase(self) -> float:
        """Of a relative limit."""
        return self.max_increase or 0.0

    @property
    def name(self) -> str:
        """Metric and limit: two checks of one plan never have the same."""
        if self.max is not None:
            return f"{self.metric} <= {self.max:g}"
        more = f" + {self.increase:g}" if self.increase else ""
        return f"{self.metric} <= {self.ratio:g} x stable{more}"
