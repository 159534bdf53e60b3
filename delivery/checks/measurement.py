"""What one check has gathered in an epoch: two tests of opposite claims, fed with each tick's fresh requests.

`worse` gathers evidence that the candidate is worse than its limit, `better` that it is within it. Neither pools over
epochs; what is carried over is stable's past alone, which sharpens the bets and is compared with nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from configs.checks import Check
from configs.metrics import Prices
from configs.strict import Strict
from delivery.analysis import pairs, two_sample
from delivery.analysis.bets import RATE_LIFTS, TAIL_LIFTS, Claim
from delivery.analysis.family import TestProcess
from delivery.analysis.one_sample import Limit, OneSample
from delivery.analysis.outcomes import EVER, ArmName, Cohorts, RiskSet
from delivery.analysis.quantiles import ENOUGH_PAST, RelativeQuantile, relative_quantile
from delivery.analysis.ranks import Typical, typical
from delivery.analysis.sketch import Sketch
from delivery.analysis.two_sample import Block, Comparison, TwoSample
from delivery.checks.judgements import Judged
from delivery.traffic.records import Feedback, InFlight, Record

TAIL = 0.05  # p95 <= x: at most this share of the requests takes longer
MEDIAN = 0.5
_CLAIMS: tuple[Claim, Claim] = ("worse", "better")


@dataclass
class Fresh:
    """What came in since the last tick and counts. `now` is the gateways' clock, UNIX seconds.

    `now` is None while something may be missing: a gateway did not answer, or gave only a part of its records.
    """

    stable: list[Record] = field(default_factory=list)
    candidate: list[Record] = field(default_factory=list)
    feedback: list[tuple[ArmName, Feedback]] = field(default_factory=list)
    in_flight: list[tuple[ArmName, InFlight]] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)  # pairs of answers, in shadow
    excused: set[str] = field(default_factory=set)  # ids of requests at which stable failed like the candidate
    now: float | None = None
    prices: Prices | None = None
    usual_s: Sketch = field(default_factory=Sketch)  # stable's latencies before this tick

    def of_arms(self) -> tuple[tuple[ArmName, list[Record]], tuple[ArmName, list[Record]]]:
        """Both arms' ended requests."""
        return ("stable", self.stable), ("candidate", self.candidate)


class Past(Strict):
    """Stable's past over the whole release: how many were judged, how many were hits, or which values they had."""

    n: int = 0
    hits: int = 0
    values: Sketch = Sketch()


class Tally(Strict):
    """What was judged in this epoch, for people to read: users at risk per tick, or requests without a user."""

    stable_n: int = 0
    stable_hits: int = 0
    candidate_n: int = 0
    candidate_hits: int = 0

    def plus(self, block: Block) -> "Tally":
        """With a block of (misses, hits)."""
        return Tally(
            stable_n=self.stable_n + sum(block.stable),
            stable_hits=self.stable_hits + block.stable[1],
            candidate_n=self.candidate_n + sum(block.candidate),
            candidate_hits=self.candidate_hits + block.candidate[1],
        )


class Half(Strict):
    """One answer of a pair, waiting for the other one."""

    arm: ArmName
    value: float
    started_at: float


class Measurement(Strict):
    """One check's evidence; bounded in size."""

    worse: TestProcess
    better: TestProcess
    paired: bool = False  # the candidate's answers are copies of stable's requests, and are compared one by one
    risk: RiskSet = RiskSet()
    cohorts: Cohorts | None = None  # of values; None while stable's past must be learned first
    waiting: dict[str, Half] = Field(default_factory=dict)  # by request id
    tally: Tally = Tally()
    values: Sketch = Sketch()  # the candidate's
    past: Past = Past()
    unusable: int = 0  # of the candidate's complete answers: without a value, with one that is no number, not judged
    swayed: int = 0  # pairs in which the judge's choice followed the order of the answers
    first_hit_at: float | None = None  # when the candidate's first bad request started


def begin(check: Check, past: Past, *, in_shadow: bool) -> Measurement:
    """Nothing seen yet in this epoch. A relative rate or typical value is compared in pairs where there are pairs."""
    paired = in_shadow and check.is_relative and check.kind != "p95" and check.reads.said is None
    worse, better = (_process(check, past, claim, paired=paired) for claim in _CLAIMS)
    learns = check.reads.so_far is None or (check.is_relative and past.values.n < ENOUGH_PAST)
    cohorts = None if check.kind == "rate" or paired or learns else Cohorts(settled_until=EVER)
    return Measurement(worse=worse, better=better, paired=paired, cohorts=cohorts, past=past)


def _process(check: Check, past: Past, claim: Claim, *, paired: bool) -> TestProcess:
    ratio, more = check.ratio, check.increase
    if check.kind == "preference" and check.max is not None:
        return OneSample(test=pairs.signs(claim, check.max))
    if check.max is not None:
        limit = {"rate": check.max, "p95": TAIL, "typical": MEDIAN}[check.kind]
        lifts = TAIL_LIFTS if check.kind == "typical" else RATE_LIFTS
        return OneSample(test=Limit(limit=limit, claim=claim, lifts=lifts))
    if paired:
        test = pairs.rates(ratio, more, claim) if check.kind == "rate" else pairs.signs(claim)
        return OneSample(test=test)
    if check.kind == "rate":
        comparison = Comparison(ratio=ratio, increase=more, claim=claim)
        return two_sample.learn(TwoSample(test=comparison), two_sample.counts(past.n, past.hits, 0, 0))
    if check.kind == "p95":
        return relative_quantile(1 - TAIL, ratio, more, claim)
    return typical(ratio, more, claim)


def first_hit(found: Measurement, started_at: Iterable[float]) -> float | None:
    """When the candidate's first bad request started, with some more of them."""
    known = [] if found.first_hit_at is None else [found.first_hit_at]
    return min((*known, *started_at), default=None)


def value_past(process: TestProcess, past: Sketch) -> Any:
    """A process with stable's past values; kept once per measurement instead of in both processes."""
    if isinstance(process, RelativeQuantile | Typical):
        return process.model_copy(update={"past": past})
    return process
