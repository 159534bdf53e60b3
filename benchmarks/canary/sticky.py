"""Users who stick to their variant, some of them unlucky for ever: one user's failures are no independent evidence."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.canary.ours import Durations
from benchmarks.canary.simulate import ALPHA, CHECKS, CHUNK
from benchmarks.canary.streams import NAMES, SPREAD
from benchmarks.canary.users import Mask, Users, split
from delivery.analysis.two_sample import Comparison, Standing, advance
from delivery.analysis.wealth import Array

USERS = 400
SHARE = 0.05
REQUESTS = 40  # per tick
UNLUCKY, THEIR_RATE, USUAL_RATE = 0.03, 0.5, 0.002
MANY_USERS = 2000  # where ten checks watch them
PACE_SPREAD = 0.5  # of the logarithm of how long a user's requests usually take
HISTORY = 500  # stable's requests before, as a shadow stage leaves them


def false_rollbacks(runs: int, ticks: int, seed: int) -> tuple[float, float]:
    """Shares of runs with an equal candidate that one check of level alpha rolls back.

    Counting first failures of users at risk, and, for contrast, every request.
    """
    by_user, by_request = [], []
    for start in range(0, runs, CHUNK):
        ours, naive = _one_check(min(CHUNK, runs - start), ticks, np.random.default_rng([seed, start]))
        by_user.append(ours)
        by_request.append(naive)
    return float(np.concatenate(by_user).mean()), float(np.concatenate(by_request).mean())


@dataclass(frozen=True)
class Failing:
    """What a candidate does to its users beyond what stable does: more of these failures, longer answers."""

    check: str = "errors"
    more: float = 0.0  # added to each user's rate
    slower: float = 1.0


def rollbacks(failing: Failing, runs: int, ticks: int, seed: int) -> Array:
    """Candidate requests until ten checks under one budget of alpha roll back; inf for never: (runs,)."""
    parts = []
    for start in range(0, runs, CHUNK):
        rng = np.random.default_rng([seed, start])
        parts.append(_ten_checks(failing, min(CHUNK, runs - start), ticks, rng))
    return np.concatenate(parts)


def _one_check(runs: int, ticks: int, rng: np.random.Generator) -> tuple[Mask, Mask]:
    test, users = Comparison(), Users(runs, USERS, checks=1)
    ours, naive = Standing.new(test, runs), Standing.new(test, runs)
    candidate = rng.random((runs, USERS)) < SHARE
    rate = _rates(rng, (runs, USERS))
    ours_ever, naive_ever = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    for _ in range(ticks):
        who = users.come(rng, REQUESTS)
        failed = rng.random((runs, REQUESTS)) < np.take_along_axis(rate, who, axis=1)
        arm = np.take_along_axis(candidate, who, axis=1)
        naive = advance(test, naive, split(failed, ~arm), split(failed, arm))
        counts, hit = users.counted(0, failed.astype(np.int8))
        ours = advance(test, ours, split(hit > 0, counts & ~arm), split(hit > 0, counts & arm))
        ours_ever |= ours.e >= 1 / ALPHA
        naive_ever |= naive.e >= 1 / ALPHA
    return ours_ever, naive_ever


def _ten_checks(failing: Failing, runs: int, ticks: int, rng: np.random.Generator) -> Array:
    """Seven rates, p95 of two durations, typical latency; whoever is unlucky in one is not more so in another."""
    kinds, test = len(NAMES), Comparison()
    users, standing = Users(runs, MANY_USERS, checks=CHECKS), Standing.new(test, runs, kinds)
    candidate = rng.random((runs, MANY_USERS)) < SHARE
    rates = [_rates(rng, (runs, MANY_USERS)) for _ in NAMES]
    pace = (PACE_SPREAD * rng.standard_normal((runs, MANY_USERS))).astype(np.float32)
    durations = [Durations(1.0, 1.0, "worse", runs), Durations(1.0, None, "worse", runs)]
    for duration in durations:
        duration.learn(_logs(rng, np.take_along_axis(pace, users.come(rng, HISTORY), axis=1)))
    seen, stopped = np.zeros(runs), np.full(runs, np.inf)
    for _ in range(ticks):
        who = users.come(rng, REQUESTS)
        arm = np.take_along_axis(candidate, who, axis=1)
        stable, other = np.zeros((runs, kinds, 2)), np.zeros((runs, kinds, 2))
        for check, name in enumerate(NAMES):
            rate = np.take_along_axis(rates[check], who, axis=1)
            if name == failing.check and failing.more:
                rate = rate + failing.more * arm
            counts, hit = users.counted(check, (rng.random(rate.shape) < rate).astype(np.int8))
            stable[:, check], other[:, check] = split(hit > 0, counts & ~arm), split(hit > 0, counts & arm)
        standing = advance(test, standing, stable, other)
        usual = np.take_along_axis(pace, who, axis=1) + arm.astype(np.float32) * np.float32(np.log(failing.slower))
        for number, duration in enumerate(durations):
            duration.step(_logs(rng, usual), arm, _Sticky(users, kinds + number, CHECKS - 1))
        e_values = [standing.e, *(s.e[:, None] for duration in durations for s in duration.standings())]
        seen += arm.sum(axis=1)
        fired = np.concatenate(e_values, axis=1).sum(axis=1) / CHECKS >= 1 / ALPHA
        stopped[fired & np.isinf(stopped)] = seen[fired & np.isinf(stopped)]
    return stopped


@dataclass(frozen=True)
class _Sticky:
    """How users count in the checks of a duration."""

    users: Users
    tail: int  # the number of the check
    typical: int

    def exceeded(self, over: Mask) -> tuple[Mask, Mask]:
        """Until the first request of theirs that takes too long."""
        counts, hit = self.users.counted(self.tail, over.astype(np.int8))
        return counts, hit > 0

    def ranked(self, shape: tuple[int, ...]) -> Mask:
        """With their first request."""
        counts, _ = self.users.counted(self.typical, np.zeros(shape, dtype=np.int8))
        self.users.leave(self.typical)
        return counts


def _rates(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Every user's own."""
    rates: Array = np.where(rng.random(shape) < UNLUCKY, THEIR_RATE, USUAL_RATE)
    return rates


def _logs(rng: np.random.Generator, usual: NDArray[np.float32]) -> NDArray[np.float32]:
    return usual + np.float32(SPREAD) * rng.standard_normal(usual.shape, dtype=np.float32)
