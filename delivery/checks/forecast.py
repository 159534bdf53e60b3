"""What a release plan can detect with the traffic at hand, before anyone meets the candidate.

Every stage is simulated, seeded, through the very tests that will decide (delivery.analysis): a candidate equal to
stable, to see how long a pass takes and how often it would be rolled back, and candidates that are worse by more and
more, to find the smallest effect that is rolled back in at least 80 % of runs before the stage's time is over.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.checks import Check
from configs.errors import SlipwayError
from configs.rollout import RolloutPlan, Stage
from configs.routing import FULL_BP
from configs.strict import Strict
from delivery.analysis import one_sample, two_sample
from delivery.analysis.family import TestProcess, core
from delivery.analysis.one_sample import OneSample
from delivery.analysis.two_sample import Standing, TwoSample
from delivery.analysis.wealth import Array, e_values
from delivery.checks.forecast_traffic import SWAYED, Assumed, effects, outcomes
from delivery.checks.measurement import Measurement, Past, begin

POWER = 0.8
RUNS = 200
QUICK_RUNS = 20  # to see whether there is anything at all
MISSED_RARELY = 0.05  # releases in which a stage's share reaches nobody
BLOCKS = 100  # a stage is simulated in so many steps at most
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


@dataclass(frozen=True)
class _Traffic:
    """A stage's simulated blocks: candidate and stable requests, (blocks, runs)."""

    each_s: float
    seconds: Array  # (blocks,) at the end of each
    candidate: Array
    stable: Array


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
    share, beside = _shares(plan, stage)
    traffic = _arrivals(plan, stage, requests_per_s * share, requests_per_s * beside, runs, rng)
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
        counted = _judged(plan, traffic) if check.kind == "preference" else traffic
        worse = _paths(found.worse, found, check, assumed, every, counted, rng)
        better = _paths(found.better, found, check, assumed, every[:1], counted, rng)
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


def _shares(plan: RolloutPlan, stage: Stage) -> tuple[float, float]:
    """(the candidate's, stable's) requests of all."""
    if stage.rules.has_pairs:
        return stage.mirror_bp / FULL_BP, 1.0
    share = plan.last_share_bp if stage.rules.commits else stage.share_bp
    return share / FULL_BP, 1 - share / FULL_BP


def _arrivals(
    plan: RolloutPlan, stage: Stage, candidate_s: float, stable_s: float, runs: int, rng: np.random.Generator
) -> _Traffic:
    warm_s = max(stage.warmup_s, stage.warmup_requests / candidate_s if candidate_s else 0.0)
    counted_s = max(stage.max_duration_s - warm_s, 0.0)
    blocks = max(1, min(BLOCKS, math.floor(counted_s / plan.tick_s)))
    each_s = counted_s / blocks
    shape = (blocks, runs)
    return _Traffic(
        each_s=each_s,
        seconds=warm_s + each_s * np.arange(1, blocks + 1, dtype=np.float64),
        candidate=rng.poisson(candidate_s * each_s, shape).astype(np.float64),
        stable=rng.poisson(stable_s * each_s, shape).astype(np.float64),
    )


def _judged(plan: RolloutPlan, traffic: _Traffic) -> _Traffic:
    """The pairs that a judge decides, if it keeps up: of a share of all, so many a tick, so many in a release."""
    if plan.judge is None:
        return traffic
    kept = np.floor(traffic.candidate.cumsum(axis=0) * plan.judge.share_bp / FULL_BP)
    a_block = plan.judge.pairs_per_tick * max(1, math.floor(traffic.each_s / plan.tick_s))
    asked = np.minimum(np.diff(kept, axis=0, prepend=0.0), a_block)
    shadows = sum(stage.rules.has_pairs for stage in plan.stages)
    in_all = np.minimum(asked.cumsum(axis=0), plan.judge.pairs_per_release // shadows)
    counted = np.diff(np.floor((1 - SWAYED) * in_all), axis=0, prepend=0.0)
    return _Traffic(traffic.each_s, traffic.seconds, counted, traffic.stable)


def _paths(
    process: TestProcess,
    found: Measurement,
    check: Check,
    assumed: Assumed,
    effect: Array,
    traffic: _Traffic,
    rng: np.random.Generator,
) -> Array:
    """E-values after each block: (blocks, runs, effects)."""
    stable_p, candidate_p = outcomes(check, assumed, effect, paired=found.paired)
    blocks, runs = traffic.candidate.shape
    shape = (runs, len(effect))
    inner = core(process)
    path = np.ones((blocks, *shape))
    wealth, seen = np.zeros((*shape, 5)), np.zeros(shape)
    standing = _start(inner, shape) if isinstance(inner, TwoSample) else None
    for block in range(blocks):
        n_c = np.broadcast_to(traffic.candidate[block][:, None], shape).astype(np.int64)
        candidate = rng.multinomial(n_c, _whole(candidate_p))
        if standing is not None and isinstance(inner, TwoSample):
            n_s = np.broadcast_to(traffic.stable[block][:, None], shape).astype(np.int64)
            standing = two_sample.advance(inner.test, standing, rng.multinomial(n_s, _whole(stable_p)), candidate)
            path[block] = standing.e
        elif isinstance(inner, OneSample):
            wealth, seen = one_sample.advance(inner.test, wealth, seen, candidate.astype(np.float64))
            path[block] = e_values(wealth, seen)
    return path


def _start(process: TwoSample, shape: tuple[int, int]) -> Standing:
    fresh = Standing.new(process.test, *shape)
    known_n, known_total = np.full(shape, process.known_n), np.full(shape, process.known_total)
    return Standing(fresh.wealth, fresh.blocks, known_n, known_total, fresh.waiting_s, fresh.waiting_c)


def _whole(p: Array) -> Array:
    """Exactly 1 in sum, as drawing wants it."""
    clipped = np.clip(p, 0.0, 1.0)
    whole: Array = clipped / clipped.sum(axis=-1, keepdims=True)
    return whole


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
