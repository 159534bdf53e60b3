"""A stage simulated: its requests in blocks of time, and the e-values of a test over them (`forecast` asks of them)."""

import math
from dataclasses import dataclass

import numpy as np

from configs.checks import Check
from configs.rollout import RolloutPlan, Stage
from configs.routing import FULL_BP
from delivery.analysis import one_sample, two_sample
from delivery.analysis.family import TestProcess, core
from delivery.analysis.one_sample import OneSample
from delivery.analysis.two_sample import Standing, TwoSample
from delivery.analysis.wealth import Array, e_values
from delivery.checks.forecast_traffic import SWAYED, Assumed, outcomes
from delivery.checks.measurement import Measurement

BLOCKS = 100  # a stage is simulated in so many steps at most


@dataclass(frozen=True)
class SimulatedTraffic:
    """A stage's simulated blocks: candidate and stable requests, (blocks, runs)."""

    each_s: float
    seconds: Array  # (blocks,) at the end of each
    candidate: Array
    stable: Array


def shares(plan: RolloutPlan, stage: Stage) -> tuple[float, float]:
    """(the candidate's, stable's) requests of all."""
    if stage.rules.has_pairs:
        return stage.mirror_bp / FULL_BP, 1.0
    share = plan.last_share_bp if stage.rules.commits else stage.share_bp
    return share / FULL_BP, 1 - share / FULL_BP


def arrivals(
    plan: RolloutPlan, stage: Stage, candidate_s: float, stable_s: float, runs: int, rng: np.random.Generator
) -> SimulatedTraffic:
    """What arrives once the stage has warmed up, at these requests per second."""
    warm_s = max(stage.warmup_s, stage.warmup_requests / candidate_s if candidate_s else 0.0)
    counted_s = max(stage.max_duration_s - warm_s, 0.0)
    blocks = max(1, min(BLOCKS, math.floor(counted_s / plan.tick_s)))
    each_s = counted_s / blocks
    shape = (blocks, runs)
    return SimulatedTraffic(
        each_s=each_s,
        seconds=warm_s + each_s * np.arange(1, blocks + 1, dtype=np.float64),
        candidate=rng.poisson(candidate_s * each_s, shape).astype(np.float64),
        stable=rng.poisson(stable_s * each_s, shape).astype(np.float64),
    )


def judged_pairs(plan: RolloutPlan, traffic: SimulatedTraffic) -> SimulatedTraffic:
    """The pairs that a judge decides, if it keeps up: of a share of all, so many a tick, so many in a release."""
    if plan.judge is None:
        return traffic
    kept = np.floor(traffic.candidate.cumsum(axis=0) * plan.judge.share_bp / FULL_BP)
    a_block = plan.judge.pairs_per_tick * max(1, math.floor(traffic.each_s / plan.tick_s))
    asked = np.minimum(np.diff(kept, axis=0, prepend=0.0), a_block)
    shadows = sum(stage.rules.has_pairs for stage in plan.stages)
    in_all = np.minimum(asked.cumsum(axis=0), plan.judge.pairs_per_release // shadows)
    counted = np.diff(np.floor((1 - SWAYED) * in_all), axis=0, prepend=0.0)
    return SimulatedTraffic(traffic.each_s, traffic.seconds, counted, traffic.stable)


def paths(
    process: TestProcess,
    found: Measurement,
    check: Check,
    assumed: Assumed,
    effect: Array,
    traffic: SimulatedTraffic,
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
