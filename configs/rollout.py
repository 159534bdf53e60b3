"""A release plan: the stages, the checks with their limits, and what happens when they fail."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.routing import FULL_BP, Trip
from configs.strict import Strict

Metric = Literal["error_rate", "latency_p95_s", "ttft_p95_s", "completion_tokens_mean"]
StageKind = Literal["shadow", "canary", "full", "watch"]


class Check(Strict):
    """One metric and its limit: absolute (`max`), or relative to stable beside it (`max_ratio`, `max_increase`)."""

    metric: Metric
    max: float | None = Field(None, ge=0, description="absolute limit, in the metric's unit")
    max_ratio: float | None = Field(None, gt=0, description="limit = stable * max_ratio (+ max_increase)")
    max_increase: float | None = Field(None, ge=0, description="limit = stable (* max_ratio) + max_increase")
    min_requests: int = Field(20, ge=1, description="below this many requests per compared variant: inconclusive")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    on_fail: Literal["rollback", "pause", "warn"] = "rollback"
    stages: tuple[StageKind, ...] = Field(("shadow", "canary", "full", "watch"), min_length=1)

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        relative = self.max_ratio is not None or self.max_increase is not None
        if (self.max is None) != relative:
            raise ValueError("either max, or max_ratio and/or max_increase is needed -> keep one kind of limit")
        if self.metric == "error_rate" and self.max == 0 and self.on_fail != "warn":
            raise ValueError("no number of requests shows an error rate of 0 -> give a max above 0")
        return self

    @property
    def is_relative(self) -> bool:
        """Whether the limit moves with the stable variant's own value."""
        return self.max is None


class Stage(Strict):
    """One step of a release. It ends with a pass of every gating check, or not at all."""

    kind: StageKind
    share_bp: int = Field(0, ge=0, le=FULL_BP, description="canary: candidate's share of users; full: 10000 - holdback")
    mirror_bp: int = Field(0, ge=0, le=FULL_BP, description="shadow: share of stable's requests that is mirrored")
    min_requests: int = Field(20, ge=1, description="candidate requests before a pass is possible")
    min_duration_s: float = Field(0, ge=0)
    max_duration_s: float = Field(3600, gt=0, description="without a pass by then: rolled back")
    approval: bool = Field(False, description="a named person must approve before the next stage")


class RolloutPlan(Strict):
    """Stages in order shadow*, canary+, full, watch?, with the checks that gate them."""

    tick_s: float = Field(1.0, gt=0, le=60)
    lease_s: float = Field(15.0, gt=0, le=3600)
    monitor_timeout_s: float = Field(30.0, gt=0, description="a monitor silent for longer raises an alert")
    max_hold_s: float = Field(900.0, gt=0, description="held for want of data or of a monitor for longer: rolled back")
    drain_s: float = Field(30.0, ge=0, description="between the routing change and the unloading of an adapter")
    trip: Trip = Field(Trip(), description="when the gateway takes the candidate's users away by itself: rolled back")
    approval_timeout_s: float = Field(86_400.0, gt=0, description="an approval not given by then: rolled back")
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        order = ["shadow", "canary", "full", "watch"]
        kinds = [stage.kind for stage in self.stages]
        if [order.index(k) for k in kinds] != sorted(order.index(k) for k in kinds):
            raise ValueError(f"stages must come in the order shadow, canary, full, watch, found {kinds}")
        if kinds.count("full") != 1 or "canary" not in kinds or kinds.count("watch") > 1:
            raise ValueError(f"needed: at least one canary, one full, at most one watch, found {kinds}")
        shares = [s.share_bp for s in self.stages if s.kind in ("canary", "full")]
        if shares != sorted(shares) or shares[0] == 0:
            raise ValueError(f"shares must grow from above 0, found {shares}")
        for index, stage in enumerate(self.stages):
            if stage.kind == "shadow" and (stage.mirror_bp == 0 or stage.share_bp):
                raise ValueError(f"stages.{index}: shadow needs mirror_bp above 0 and no share_bp")
            if stage.min_duration_s > stage.max_duration_s:
                raise ValueError(f"stages.{index}: min_duration_s exceeds max_duration_s")
            if not any(stage.kind in c.stages and c.on_fail == "rollback" for c in self.checks):
                raise ValueError(f"stages.{index}: no check with on_fail: rollback covers {stage.kind} -> add one")
        self._has_something_to_compare_with()
        return self

    def _has_something_to_compare_with(self) -> None:
        """With all users on the candidate, no stable is left for a relative limit: such a stage could never pass."""
        if not any(stage.kind == "full" and stage.share_bp == FULL_BP for stage in self.stages):
            return
        for index, check in enumerate(self.checks):
            alone = [kind for kind in ("full", "watch") if kind in check.stages]
            if check.is_relative and check.on_fail != "warn" and alone:
                raise ValueError(
                    f"checks.{index}: {check.metric} is relative, and full leaves no users on stable to compare with"
                    f" -> lower the share_bp of full, or name the check's stages without {' and '.join(alone)}"
                )
