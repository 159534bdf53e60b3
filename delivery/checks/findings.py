"""What one check compares: its values, its limit and its two tests, before it is said what follows."""

import numpy as np

from configs.checks import Check, OnFail
from configs.strict import Strict
from delivery.analysis.bets import Five
from delivery.analysis.family import TestProcess, core
from delivery.analysis.one_sample import OneSample
from delivery.analysis.wealth import e_values
from delivery.checks.evidence import Evidence, Judging
from delivery.checks.measurement import Measurement

ENOUGH_TO_MISS = 20  # requests, before it is strange that there are none
ENOUGH_UNCLEAR = 5  # pairs, before a judge that cannot be understood is out of order


class Wealth(Strict):
    """Where a test stands; its E-value follows (delivery.analysis.wealth)."""

    wealth: Five
    blocks: int

    @property
    def e_value(self) -> float:
        """The evidence for the test's claim; 1 before any data."""
        return float(e_values(np.array(self.wealth), self.blocks))


class Finding(Strict):
    """One check's values, before it is said what follows. Rates are 0..1, times seconds, costs per 1,000 requests."""

    check: str
    metric: str
    on_fail: OnFail
    comparison: str  # in words
    candidate: float | None = None
    stable: float | None = None
    limit: float | None = None
    candidate_requests: int = 0
    stable_requests: int = 0
    counted: str = "requests"
    worse: Wealth
    better: Wealth
    stable_worse: Wealth | None = None  # absolute limits: the same about stable
    problem: str = ""  # why it cannot be measured
    first_bad_at: float | None = None  # when the first bad request started, UNIX seconds


def found(check: Check, evidence: Evidence) -> Finding:
    """What one check compares, as values and in words."""
    measured = evidence.measurements.get(check.name)
    nothing = Wealth(wealth=(0.0,) * 5, blocks=0)
    if measured is None:
        return Finding(
            check=check.name,
            metric=check.metric,
            on_fail=check.on_fail,
            comparison=f"{check.metric}: nothing yet",
            worse=nothing,
            better=nothing,
        )
    candidate, stable, limit = _values(check, measured)
    stands = measured.worse
    absolute = isinstance(stands, OneSample) and not check.is_relative
    return Finding(
        check=check.name,
        metric=check.metric,
        on_fail=check.on_fail,
        comparison=_in_words(check, measured, evidence, candidate, stable, limit),
        candidate=candidate,
        stable=stable,
        limit=limit,
        candidate_requests=measured.tally.candidate_n,
        stable_requests=measured.tally.stable_n,
        counted=_counted(check, measured),
        worse=_wealth(measured.worse),
        better=_wealth(measured.better),
        stable_worse=_stable_wealth(stands) if absolute and isinstance(stands, OneSample) else None,
        problem=_problem(check, measured, evidence),
        first_bad_at=measured.first_hit_at,
    )


def _wealth(process: TestProcess) -> Wealth:
    inner = core(process)
    return Wealth(wealth=inner.wealth, blocks=inner.blocks)


def _stable_wealth(process: OneSample) -> Wealth:
    return Wealth(wealth=process.stable_wealth, blocks=process.stable_blocks)


def _values(check: Check, measured: Measurement) -> tuple[float | None, float | None, float | None]:
    """(the candidate's, stable's, the limit), in the metric's unit."""
    tally, past = measured.tally, measured.past
    if check.kind == "preference":
        ties = tally.candidate_n - tally.stable_hits - tally.candidate_hits
        lost = (tally.candidate_hits + ties / 2) / tally.candidate_n if tally.candidate_n else None
        return lost, None, check.max
    if check.kind == "rate":
        candidate = tally.candidate_hits / tally.candidate_n if tally.candidate_n else None
        stable = tally.stable_hits / tally.stable_n if tally.stable_n else None
    else:
        q = 0.95 if check.kind == "p95" else 0.5
        candidate, stable = measured.values.quantile(q), past.values.quantile(q)
    if check.max is not None:
        return candidate, stable, check.max
    return candidate, stable, None if stable is None else check.ratio * stable + check.increase


def _problem(check: Check, measured: Measurement, evidence: Evidence) -> str:
    """More answers without a value than with one: what was measured is not representative, if there is any."""
    if check.kind == "preference":
        return _judge_problem(measured, evidence)
    judged = measured.values.n if check.kind != "rate" else measured.tally.candidate_n
    if measured.unusable < ENOUGH_TO_MISS or measured.unusable <= judged:
        return ""
    return f"{measured.unusable} of {evidence.candidate.requests} requests have no such value, or one that is no number"


def _judge_problem(measured: Measurement, evidence: Evidence) -> str:
    if evidence.judging.error:
        return evidence.judging.error
    if measured.unusable >= ENOUGH_UNCLEAR and measured.unusable > measured.tally.candidate_n:
        return f"{measured.unusable} pairs could not be judged, more than could be"
    return ""


# -- words ----------------------------------------------------------------------------------------------------------


def _in_words(
    check: Check,
    measured: Measurement,
    evidence: Evidence,
    candidate: float | None,
    stable: float | None,
    limit: float | None,
) -> str:
    tally, name = measured.tally, check.metric.replace("_", " ")
    if check.kind == "preference":
        return _preferences_in_words(measured, evidence.judging, candidate, limit)
    if check.kind == "rate":
        ours = _shown(check, candidate, f" ({tally.candidate_hits} of {tally.candidate_n})")
        theirs = _shown(check, stable, f" ({tally.stable_hits} of {tally.stable_n})")
    else:
        name = name.removesuffix(" s")
        ours, theirs = _shown(check, candidate, f" ({tally.candidate_n} requests)"), _shown(check, stable)
    wanted = f"limit {_shown(check, limit)}" if limit is not None else "no limit before stable has one"
    wanted += f" from stable's {theirs}" if check.is_relative and theirs else ""
    pairs = ", in pairs" if measured.paired else ""
    return f"{name} {ours}, {wanted}{pairs}" if ours else f"{name}: no answer of the candidate yet, {wanted}{pairs}"


def _preferences_in_words(measured: Measurement, judging: Judging, lost: float | None, limit: float | None) -> str:
    tally = measured.tally
    ties = tally.candidate_n - tally.stable_hits - tally.candidate_hits
    share = "" if lost is None else f": {_percent(lost)} lost, ties as half"
    swayed = f"; in {measured.swayed} more its choice followed their order" if measured.swayed else ""
    unclear = f"; {measured.unusable} more could not be judged" if measured.unusable else ""
    spent = f"; no more are asked after {judging.asked} in this release" if judging.is_spent else ""
    return (
        f"the judge prefers stable in {tally.candidate_hits} of {tally.candidate_n} pairs, the candidate in"
        f" {tally.stable_hits}, ties {ties}{share}, limit {_percent(limit or 0.0)}{swayed}{unclear}{spent}"
    )


def _counted(check: Check, measured: Measurement) -> str:
    """The choice of who counts, for whoever reads the evidence."""
    if measured.paired:
        return "pairs of answers to the same request; of a user the first pair that differs"
    if check.kind == "typical" and check.is_relative:
        return "the first request of each user; requests without a user one by one"
    return "users once a tick, until their first hit; requests without a user one by one"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _shown(check: Check, value: float | None, counts: str = "") -> str:
    """A value in its unit, and what it was counted from; "" where there is none."""
    if value is None:
        return ""
    unit = " s" if check.reads.unit == "s" else ""
    return f"{_percent(value) if check.kind == 'rate' else f'{value:.3g}{unit}'}{counts}"
