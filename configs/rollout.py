"""A release plan: the stages, the checks with their limits, and what happens when they fail."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.checks import Check
from configs.judge import Judge
from configs.metrics import COST, Prices
from configs.release_hours import ReleaseHours
from configs.routing import FULL_BP, Trip
from configs.stage_kinds import BY_NAME, STAGE_KINDS, KindName, StageKind
from configs.strict import Strict


class Stage(Strict):
    """One step of a release. It ends with a pass of every gating check, or not at all."""

    kind: KindName
    share_bp: int = Field(0, ge=0, le=FULL_BP, description="canary: candidate's share of users; full: 10000 - holdback")
    mirror_bp: int = Field(0, ge=0, le=FULL_BP, description="shadow: share of stable's requests that is mirrored")
    min_requests: int = Field(20, ge=1, description="candidate requests before a pass is possible")
    min_duration_s: float = Field(0, ge=0)
    max_duration_s: float = Field(3600, gt=0, description="without a pass by then: rolled back")
    warmup_requests: int = Field(0, ge=0, description="so many candidate requests at first count for no check")
    warmup_s: float = Field(0, ge=0, description="from the first candidate request on, for so long none counts")
    approval: bool = Field(False, description="a named person must approve before the next stage")

    @property
    def rules(self) -> StageKind:
        """What its kind says about it."""
        return BY_NAME[self.kind]

    @property
    def size_bp(self) -> int:
        """The share that it names, of users or of requests."""
        return self.share_bp or self.mirror_bp


class RolloutPlan(Strict):
    """Stages in order shadow*, canary+, full, watch?, with the checks that gate them."""

    alpha: float = Field(0.05, gt=0, le=0.5, description="per stage: at most this chance of a false rollback")
    tick_s: float = Field(1.0, gt=0, le=60)
    lease_s: float = Field(15.0, gt=0, le=3600)
    monitor_timeout_s: float = Field(30.0, gt=0, description="a monitor silent for longer raises an alert")
    max_hold_s: float = Field(900.0, gt=0, description="held for want of data or of a monitor for longer: rolled back")
    drain_s: float = Field(30.0, ge=0, description="between the routing change and the unloading of an adapter")
    trip: Trip = Field(
        Trip(), description="when the gateway takes the candidate's users away by itself; the checks decide"
    )
    approval_timeout_s: float = Field(86_400.0, gt=0, description="how long a person has for an approval")
    on_approval_timeout: Literal["rollback", "alert"] = Field(
        "rollback", description="alert: tells, and goes on waiting"
    )
    prices: Prices | None = None
    judge: Judge | None = Field(None, description="who compares shadow's pairs of answers, for the check `judge`")
    requests_per_s: float | None = Field(None, gt=0, description="of the route; what `slipway plan` reckons with")
    users: int | None = Field(None, ge=1, description="who ask during a stage; few may all miss a canary's share")
    wait_for_traffic_s: float = Field(
        0.0, ge=0, description="a stage's time does not run while nobody asks, for so many seconds at most"
    )
    release_hours: ReleaseHours | None = Field(None, description="when a release may begin; at any time without it")
    accept_blind: bool = Field(False, description="release although a stage can detect nothing")
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _can_work(self) -> Self:
        problems = [*self._order(), *self._each_stage(), *self._each_check()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def without_stable(self) -> "RolloutPlan":
        """The plan with the checks that need no stable to compare with: absolute limits.

        Raises pydantic's ValidationError where a stage would be left without a check that takes a candidate back.
        """
        checks = [check for check in self.checks if not check.is_relative]
        return RolloutPlan.model_validate({**dict(self), "checks": tuple(checks), "judge": None})

    def checks_of(self, stage: Stage) -> tuple[Check, ...]:
        """The checks that are judged in a stage."""
        return tuple(check for check in self.checks if stage.kind in check.stages)

    @property
    def last_share_bp(self) -> int:
        """The candidate's share of users at the commit; 0 while a plan without a last share is being refused."""
        return max((stage.share_bp for stage in self.stages if stage.rules.is_last_share), default=0)

    def stage_name(self, index: int) -> str:
        """What a stage is called on record, in epochs and to people: `1-canary`."""
        return f"{index}-{self.stages[index].kind}"

    def _order(self) -> list[str]:
        problems = []
        kinds = [stage.kind for stage in self.stages]
        places = [STAGE_KINDS.index(stage.rules) for stage in self.stages]
        if places != sorted(places):
            order = ", ".join(kind.name for kind in STAGE_KINDS)
            problems.append(f"stages must come in the order {order}, found {kinds}")
        if not all(kind.may_be(kinds.count(kind.name)) for kind in STAGE_KINDS):
            needed = ", ".join(f"{kind.needed} {kind.name}" for kind in STAGE_KINDS if kind.needed != "any")
            problems.append(f"needed: {needed}, found {kinds}")
        shares = [stage.share_bp for stage in self.stages if stage.rules.assigns_users]
        if shares and (shares != sorted(shares) or shares[0] == 0):
            problems.append(f"shares must grow from above 0, found {shares}")
        return problems

    def _each_stage(self) -> list[str]:
        problems = []
        for index, stage in enumerate(self.stages):
            if stage.rules.has_pairs and (stage.mirror_bp == 0 or stage.share_bp):
                problems.append(f"stages.{index}: {stage.kind} needs mirror_bp above 0 and no share_bp")
            if stage.min_duration_s > stage.max_duration_s:
                problems.append(f"stages.{index}: min_duration_s exceeds max_duration_s")
            if stage.warmup_s >= stage.max_duration_s:
                problems.append(f"stages.{index}: warmup_s leaves nothing of max_duration_s -> shorten it")
            if not any(check.on_fail == "rollback" for check in self.checks_of(stage)):
                problems.append(f"stages.{index}: no check with on_fail: rollback covers {stage.kind} -> add one")
        return problems

    def _each_check(self) -> list[str]:
        problems = []
        kinds, names = {stage.kind for stage in self.stages}, [check.name for check in self.checks]
        for index, check in enumerate(self.checks):
            if names.index(check.name) != index:
                problems.append(f"checks.{index}: {check.name} is there twice -> name all its stages in one check")
            if not kinds & set(check.stages):
                problems.append(f"checks.{index}: {check.metric} covers no stage of this plan, found {sorted(kinds)}")
            if check.reads is COST and self.prices is None:
                problems.append(f"checks.{index}: {check.metric} needs prices -> give prompt_per_million and so on")
            problems += self._has_something_to_compare_with(index, check)
        return problems + self._judged(any(check.kind == "preference" for check in self.checks))

    def _judged(self, is_asked_for: bool) -> list[str]:
        if is_asked_for and self.judge is None:
            return ["the check judge needs a judge -> give its base_url and model in `judge`"]
        if self.judge is not None and not is_asked_for:
            return ["a judge that no check needs would be paid for nothing -> add a check `judge`, or take it out"]
        return []

    def _has_something_to_compare_with(self, index: int, check: Check) -> list[str]:
        """With all users on the candidate, no stable is left for a relative limit: such a stage could never pass."""
        alone = [kind.name for kind in STAGE_KINDS if kind.compares_with_the_last and kind.name in check.stages]
        if self.last_share_bp < FULL_BP or not (check.is_relative and check.gates and alone):
            return []
        last = " and ".join(kind.name for kind in STAGE_KINDS if kind.is_last_share)
        return [
            f"checks.{index}: {check.metric} is relative, and {last} leaves no users on stable to compare with"
            f" -> lower the share_bp of {last}, or name the check's stages without {' and '.join(alone)}"
        ]
