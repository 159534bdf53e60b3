"""Shadow, where every request is answered twice and compared in pairs: equal candidates, and worse ones.

Ten checks: seven rates, and the signs of three values (latency, time to first token, tokens). What both arms get wrong
because of the request itself says nothing; with some users one arm fails again and again where the other does not, and
with as many others it is the other way round.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.canary.simulate import ALPHA, CHECKS, CHUNK
from benchmarks.canary.streams import NAMES, RATES
from benchmarks.canary.users import Mask, Users
from delivery.analysis import pairs
from delivery.analysis.one_sample import Limit, advance
from delivery.analysis.wealth import Array, e_values

RATE, SIGN = pairs.rates(1.0, 0.0, "worse"), pairs.signs("worse")
USERS, PAIRS = 400, 10  # per run, and per tick
BOTH = 0.5  # of a rate: the request's own fault, in both arms
ONE_SIDED, HOW_OFTEN = 0.03, 0.5  # users with whom one arm fails, and how often it does
TIES = (0.0, 0.0, 0.3)  # pairs of equal latency, time to first token, tokens
OWN_SIGN = 0.1  # users for whom one of the arms is always quicker


@dataclass(frozen=True)
class Worse:
    """A candidate that fails more often in one check: an independent part is added to what stable has."""

    check: str
    rate: float

    @property
    def chances(self) -> Array:
        """Of a pair of which neither, the candidate alone, stable alone, both fail: (4,)."""
        usual = RATES[self.check]
        both = BOTH * usual
        own, its_own = (usual - both) / (1 - both), (self.rate - both) / (1 - both)
        neither = (1 - own) * (1 - its_own)
        parts: Array = np.array([neither, its_own * (1 - own), own * (1 - its_own), own * its_own]) * (1 - both)
        parts[3] += both
        return parts

    def bound(self, alpha: float) -> float:
        """The least mean number of pairs of any such test: ln(1/alpha) / KL(pairs, nearest equal pairs)."""
        _, candidate, stable, _ = self.chances
        middle = (candidate + stable) / 2
        return -math.log(alpha) / float(candidate * math.log(candidate / middle) + stable * math.log(stable / middle))


class PairedStanding:
    """Ten paired tests of many runs."""

    def __init__(self, runs: int):
        signs = CHECKS - len(NAMES)
        self._tests: list[tuple[Limit, Array, Array]] = [
            (RATE, np.zeros((runs, len(NAMES), 5)), np.zeros((runs, len(NAMES)))),
            (SIGN, np.zeros((runs, signs, 5)), np.zeros((runs, signs))),
        ]

    def step(self, rates: Array, signs: Array) -> Mask:
        """One more tick of counts by level, (runs, 7, 4) and (runs, 3, 3); which runs are rolled back: (runs,)."""
        self._tests = [
            (test, *advance(test, wealth, blocks, counts))
            for (test, wealth, blocks), counts in zip(self._tests, (rates, signs), strict=True)
        ]
        total = sum(e_values(wealth, blocks).sum(axis=1) for _, wealth, blocks in self._tests)
        fired: Mask = np.asarray(total) / CHECKS >= 1 / ALPHA
        return fired

    def keep(self, mask: Mask) -> None:
        """Only these runs go on."""
        self._tests = [(test, wealth[mask], blocks[mask]) for test, wealth, blocks in self._tests]


def false_rollbacks(runs: int, ticks: int, seed: int) -> tuple[float, float]:
    """Shares of runs with an equal candidate that ten checks under one budget roll back.

    Counting users until their first unequal pair, and, for contrast, every pair.
    """
    by_user, by_pair = [], []
    for start in range(0, runs, CHUNK):
        found = _of_users(min(CHUNK, runs - start), ticks, np.random.default_rng([seed, start]))
        by_user.append(found[0])
        by_pair.append(found[1])
    return float(np.concatenate(by_user).mean()), float(np.concatenate(by_pair).mean())


def stops(worse: Worse, runs: int, seed: int, longest: int = 8000) -> Array:
    """Pairs until the rollback of a worse candidate, one by one, with a user of its own each; inf for never: (runs,).

    The other nine checks are equal candidates'.
    """
    rng = np.random.default_rng(seed)
    chances = np.array([Worse(name, RATES[name]).chances if name != worse.check else worse.chances for name in NAMES])
    sign = np.array([[(1 - tie) / 2, tie, (1 - tie) / 2] for tie in TIES])
    found, alive, standing = np.full(runs, np.inf), np.arange(runs), PairedStanding(runs)
    for pair in range(1, longest + 1):
        fired = standing.step(_one_of(rng, chances, len(alive)), _one_of(rng, sign, len(alive)))
        found[alive[fired]] = pair
        if fired.any():
            alive = alive[~fired]
            standing.keep(~fired)
        if not len(alive):
            break
    return found


def _one_of(rng: np.random.Generator, chances: Array, runs: int) -> Array:
    """One pair a run and check, as counts by level: chances (checks, levels) give (runs, checks, levels)."""
    drawn = rng.random((runs, len(chances), 1)) < chances.cumsum(axis=1)
    level = drawn.argmax(axis=2)  # the first that the number is below
    found: Array = np.eye(chances.shape[1])[level]
    return found


def _of_users(runs: int, ticks: int, rng: np.random.Generator) -> tuple[Mask, Mask]:
    users, by_user, by_pair = Users(runs, USERS, checks=CHECKS), PairedStanding(runs), PairedStanding(runs)
    sides = [_sides(rng, (runs, USERS), ONE_SIDED) for _ in NAMES]
    quicker = [_sides(rng, (runs, USERS), OWN_SIGN) for _ in TIES]
    ever, ever_naive = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    for _ in range(ticks):
        who = users.come(rng, PAIRS)
        rates, all_rates = np.zeros((runs, len(NAMES), 4)), np.zeros((runs, len(NAMES), 4))
        for check, name in enumerate(NAMES):
            differs = _difference(rng, RATES[name], np.take_along_axis(sides[check], who, axis=1))
            counts, difference = users.counted(check, differs)
            rates[:, check] = _levels(difference, counts)
            all_rates[:, check] = _levels(differs, np.ones_like(counts))
        signs, all_signs = np.zeros((runs, len(TIES), 3)), np.zeros((runs, len(TIES), 3))
        for check, tie in enumerate(TIES):
            sign = _sign(rng, tie, np.take_along_axis(quicker[check], who, axis=1))
            counts, first = users.counted(len(NAMES) + check, sign)
            users.leave(len(NAMES) + check)
            signs[:, check] = _signs(first, counts)
            all_signs[:, check] = _signs(sign, np.ones_like(counts))
        ever |= by_user.step(rates, signs)
        ever_naive |= by_pair.step(all_rates, all_signs)
    return ever, ever_naive


def _sides(rng: np.random.Generator, shape: tuple[int, int], share: float) -> NDArray[np.int8]:
    """Of every user: 1 where the candidate alone is the worse one, -1 where stable is, else 0."""
    drawn = rng.random(shape)
    return (drawn < share / 2).astype(np.int8) - ((drawn >= share / 2) & (drawn < share)).astype(np.int8)


def _difference(rng: np.random.Generator, rate: float, side: NDArray[np.int8]) -> NDArray[np.int8]:
    """The candidate's outcome less stable's, in each pair; equal outcomes say nothing, whichever they are."""
    own = (rate - BOTH * rate) / (1 - BOTH * rate)
    chance = own * (1 - own) * (1 - BOTH * rate)
    drawn = rng.random(side.shape)
    usual = (drawn < chance).astype(np.int8) - (drawn > 1 - chance).astype(np.int8)
    return np.where(side == 0, usual, side * (drawn < HOW_OFTEN)).astype(np.int8)


def _sign(rng: np.random.Generator, tie: float, side: NDArray[np.int8]) -> NDArray[np.int8]:
    """Whether the candidate's value is above stable's (1), equal (0) or below (-1)."""
    drawn = rng.random(side.shape)
    fair = (drawn < (1 - tie) / 2).astype(np.int8) - (drawn > (1 + tie) / 2).astype(np.int8)
    return np.where(side == 0, fair, side).astype(np.int8)


def _levels(difference: NDArray[np.int8], counted: Mask) -> Array:
    """Counts by level of delivery.analysis.pairs.tally_rates, equal outcomes as if neither had failed: (runs, 4)."""
    up, down = (difference > 0) & counted, (difference < 0) & counted
    equal, none = counted & (difference == 0), np.zeros(len(counted))
    return np.stack([equal.sum(axis=1), up.sum(axis=1), down.sum(axis=1), none], axis=-1).astype(np.float64)


def _signs(sign: NDArray[np.int8], counted: Mask) -> Array:
    """Counts by level of delivery.analysis.pairs.tally_signs: (runs, 3)."""
    return np.stack([(counted & (sign == level)).sum(axis=1) for level in (-1, 0, 1)], axis=-1).astype(np.float64)
