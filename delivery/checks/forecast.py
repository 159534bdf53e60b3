"""What a release plan can detect with the traffic at hand, before anyone meets the candidate.

Every stage is simulated, seeded, through the very tests that will decide (delivery.analysis): a candidate equal to
stable, to see how long a pass takes and how often it would be rolled back, and candidates that are worse by more and
more, to find the smallest effect that is rolled back in at least 80 % of runs before the stage's time is over.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from configs.checks import Check
from configs.errors import SlipwayError
from configs.rollout import RolloutPlan, Stage
from configs.routing import FULL_BP
from configs.strict import Strict
from delivery.analysis.wealth import Array
from delivery.checks.forecast_traffic import Assumed, effects
from delivery.checks.measurement import Past, begin
from delivery.checks.simulation import arrivals, judged_pairs, paths, shares

POWER = 0.8
RUNS = 200
QUICK_RUNS = 20  # to see whether there is anything at all
MISSED_RARELY = 0.05  # releases in which a stage's share reaches nobody
PLENTY_PER_S = 1000.0  # requests, where nobody says how many there are


class CheckOutlook(Strict):
    """One check in one stage. An effect is a rate, or a factor of stable's values."""

    check: str
    on_fail: str
    smallest_effect: float | None  # detected with power 0.8; None: not even the worst candidate is
    limit_effect: float  # what is just allowed, in the same terms
    requests_to_pass: float | None  # candidate requests (median), for an equal candidate; None: rarely passes
    is_rate: bool


class StageOutlook(Strict):
    """One stage. Times are seconds, probabilities 0..1."""

    stage: str
    candidate_requests_per_s: float
    pass_probability: float  # of an equal candidate, within the stage's longest duration
    requests_to_pass: float | None
    seconds_to_pass: float | None
    false_rollback: float
    users_needed: int | None = None  # so that with 95 % somebody gets the candidate; None: users are not assigned
    nobody_probability: float | None = None  # that none of the plan's users gets it; None: they are not counted
    checks: tuple[CheckOutlook, ...]

    @property
    def is_blind(self) -> bool:
        """Whether no candidate, however bad, would be rolled back."""
        return all(check.smallest_effect is None for check in self.checks if check.on_fail == "rollback")


class Outlook(Strict):
    """A whole plan."""

    requests_per_s: float
    alpha: float
    stages: tuple[StageOutlook, ...]

    @property
    def blind_stages(self) -> tuple[str, ...]:
        """Stages that can detect nothing."""
        return tuple(stage.stage for stage in self.stages if stage.is_blind)

    @property
    def empty_stages(self) -> tuple[str, ...]:
        """Stages that may well reach nobody."""
        return tuple(stage.stage for stage in self.stages if (stage.nobody_probability or 0.0) > MISSED_RARELY)


def reach(plan: RolloutPlan, stage: Stage) -> tuple[int | None, float | None]:
    """How many users a stage needs, and how likely none of the plan's users gets the candidate.

    A user's variant is drawn once, with the share as its chance; many requests of few users change nothing about that.
    """
    if not stage.rules.assigns_users:
        return None, None
    missed = 1 - stage.share_bp / FULL_BP
    needed = 1 if missed == 0 else math.ceil(math.log(MISSED_RARELY) / math.log(missed))
    return needed, None if plan.users is None else missed**plan.users


def look_ahead(
    plan: RolloutPlan, requests_per_s: float | None = None, assumed: Assumed | None = None, *, runs: int = RUNS
) -> Outlook:
    """Simulates. `requests_per_s` of the route, by default the plan's own, else plenty."""
    rate = requests_per_s or plan.requests_per_s or PLENTY_PER_S
    stages = [_stage(plan, index, rate, assumed or Assumed(), runs) for index in range(len(plan.stages))]
    return Outlook(requests_per_s=rate, alpha=plan.alpha, stages=tuple(stages))


def refuse_blind(plan: RolloutPlan) -> None:
    """Raises SlipwayError for a plan with a stage in which not even the worst candidate would be rolled back."""
    if plan.accept_blind:
        return
    found = look_ahead(plan, runs=QUICK_RUNS)
    if found.blind_stages:
        raise SlipwayError(
            f"the release plan can detect nothing in {', '.join(found.blind_stages)}"
            f" with {found.requests_per_s:g} requests/s",
            where="rollout.yaml",
            cure="see `slipway plan`; give the stage more time, a larger share or wider limits, or say"
            " --accept-blind-plan (in the plan: accept_blind: true)",
        )


def refuse_empty(plan: RolloutPlan) -> None:
    """Raises SlipwayError for a plan with a stage that may well reach nobody, by the number of users that it names."""
    if plan.accept_blind:
        return
    empty = []
    for index, stage in enumerate(plan.stages):
        needed, nobody = reach(plan, stage)
        if nobody is not None and nobody > MISSED_RARELY:
            share = f"{stage.share_bp / 100:g} % of {plan.users} users"
            name = plan.stage_name(index)
            empty.append(f"{name} ({share}: nobody in {nobody:.0%} of releases, {needed} users are needed)")
    if empty:
        raise SlipwayError(
            f"the release plan may well reach nobody in {'; '.join(empty)}",
            where="rollout.yaml",
            cure="give the stage a larger share_bp, or say --accept-blind-plan (in the plan: accept_blind: true)",
        )


def _stage(plan: RolloutPlan, index: int, requests_per_s: float, assumed: Assumed, runs: int) -> StageOutlook:
    stage, rng = plan.stages[index], np.random.default_rng([7, index])
    share, beside = shares(plan, stage)
    traffic = arrivals(plan, stage, requests_per_s * share, requests_per_s * beside, runs, rng)
    checks = plan.checks_of(stage)
    gating = sum(check.gates for check in checks)
    seen = traffic.candidate.cumsum(axis=0)
    ready = (seen >= stage.min_requests) & (traffic.seconds >= stage.min_duration_s)[:, None]
    against = np.zeros_like(seen)
    outlooks = []
    for check in checks:
        past = Past(n=100, hits=round(100 * assumed.of(check))) if check.kind == "rate" else Past()
        found = begin(check, past, in_shadow=stage.rules.has_pairs)
        every = effects(check, assumed)
        counted = judged_pairs(plan, traffic) if check.kind == "preference" else traffic
        worse = paths(found.worse, found, check, assumed, every, counted, rng)
        better = paths(found.better, found, check, assumed, every[:1], counted, rng)
        needed = (gating if check.gates else 1) / plan.alpha
        shown = better[:, :, 0] >= 1 / plan.alpha
        if check.gates:
            ready &= shown
            against += worse[:, :, 0] / gating
        outlooks.append(_check(check, assumed, (worse >= needed).any(axis=0).mean(axis=0), _first(shown, seen)))
    passes = _first(ready, seen)
    after = _first(ready, np.broadcast_to(traffic.seconds[:, None], seen.shape))
    return StageOutlook(
        stage=plan.stage_name(index),
        candidate_requests_per_s=round(requests_per_s * share, 4),
        pass_probability=float(np.isfinite(passes).mean()),
        requests_to_pass=_median(passes),
        seconds_to_pass=_median(after),
        false_rollback=float((against >= 1 / plan.alpha).any(axis=0).mean()),
        users_needed=reach(plan, stage)[0],
        nobody_probability=reach(plan, stage)[1],
        checks=tuple(outlooks),
    )


def _check(check: Check, assumed: Assumed, power: Sequence[float] | Array, requests: Array) -> CheckOutlook:
    effect = effects(check, assumed)
    enough = [float(e) for e, p in zip(effect[1:], power[1:], strict=True) if p >= POWER]
    growth = effect[2] / effect[1]
    return CheckOutlook(
        check=check.name,
        on_fail=check.on_fail,
        smallest_effect=enough[0] if enough else None,
        limit_effect=float(effect[1] / growth),
        requests_to_pass=_median(requests),
        is_rate=check.kind in ("rate", "preference"),
    )


def _first(reached: NDArray[np.bool_], values: Array) -> Array:
    """Per run the value at the first block in which it is reached; inf for never."""
    first = reached.argmax(axis=0)
    found: Array = np.where(reached.any(axis=0), np.take_along_axis(values, first[None, :], axis=0)[0], np.inf)
    return found


def _median(values: Array) -> float | None:
    middle = float(np.median(values))
    return middle if math.isfinite(middle) else None
