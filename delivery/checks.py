"""What the checks of a stage say about the evidence: pass, fail, inconclusive or error, with everything compared.

A stage fails when the weighted sum of its gating checks' evidence that the candidate is worse than its limits reaches
1/alpha: one error budget for all of them. It passes when for *every* gating check the evidence that the candidate is
within its limit reaches 1/alpha (delivery.analysis.family). E-values may be looked at in every tick. No data is no
evidence, for either.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from configs.checks import Check, OnFail
from configs.rollout import RolloutPlan, Stage
from configs.routing import FULL_BP
from configs.strict import Strict
from delivery.analysis import family
from delivery.analysis.bets import Five
from delivery.analysis.family import Member, Process
from delivery.analysis.one_sample import OneSample
from delivery.analysis.quantiles import RelativeQuantile
from delivery.analysis.ranks import Typical
from delivery.analysis.wealth import e_values
from delivery.evidence import Evidence
from delivery.measurement import Measurement
from delivery.records import Tripped

Verdict = Literal["pass", "fail", "inconclusive", "error"]
ENOUGH_TO_MISS = 20  # expected requests, before it is strange that there are none
SHORTAGE = 4.0  # so many times fewer than expected


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


class CheckResult(Finding):
    """One check's verdict with everything that was compared. `e_worse` counts towards a rollback, `e_better` a pass."""

    verdict: Verdict
    sentence: str
    e_worse: float
    e_better: float
    shared_incident: bool = False  # stable breaches the same absolute limit: not the candidate's fault


class Facts(Strict):
    """What a stage's verdict depends on besides its checks."""

    alpha: float
    min_requests: int
    candidate_requests: int
    candidate_in_flight: int = 0
    expected_requests: float | None = None  # from the share and stable's requests
    tripped: Tripped | None = None  # the gateway gave the candidate up by itself


class Judgement(Strict):
    """What all checks of a stage say together. `e_value` is that of the family, to be compared with 1/alpha."""

    verdict: Verdict
    blame: Literal["", "rollback", "pause"] = ""  # of a fail: what the failing check asks for
    reason: str
    e_value: float = 1.0
    results: tuple[CheckResult, ...]
    facts: Facts
    first_bad_at: float | None = None


def judge(plan: RolloutPlan, stage: Stage, evidence: Evidence, tripped: Tripped | None = None) -> Judgement:
    """The verdict on a stage; a candidate that a gateway has given up has failed, whatever the checks say yet."""
    findings = [found(check, evidence) for check in plan.checks_of(stage)]
    facts = Facts(
        alpha=plan.alpha,
        min_requests=stage.min_requests,
        candidate_requests=evidence.candidate.requests,
        candidate_in_flight=evidence.candidate.in_flight,
        expected_requests=_expected(stage, evidence),
        tripped=tripped,
    )
    return conclude(findings, facts)


def conclude(findings: Sequence[Finding], facts: Facts) -> Judgement:
    """From values to verdicts: all that `slipway explain` needs to see a decision again."""
    needed = 1 / facts.alpha
    gating = [finding for finding in findings if finding.on_fail != "warn"]
    failure = family.fails([_member(finding) for finding in gating], facts.alpha)
    results = tuple(_result(finding, needed, len(gating), failure) for finding in findings)
    judged = [result for result in results if result.on_fail != "warn"]
    failed = [result for result in judged if result.verdict == "fail"]
    guilty = [result for result in failed if result.on_fail == "rollback" and not result.shared_incident]
    verdict, reason = _verdict(judged, guilty or failed, facts)
    since = [facts.tripped.since] if facts.tripped is not None else []
    since += [result.first_bad_at for result in guilty if result.first_bad_at is not None]
    return Judgement(
        verdict=verdict,
        blame="" if verdict != "fail" else "rollback" if guilty or facts.tripped is not None else "pause",
        reason=reason,
        e_value=failure.e_value,
        results=results,
        facts=facts,
        first_bad_at=min(since, default=None),
    )


def _verdict(judged: Sequence[CheckResult], failed: Sequence[CheckResult], facts: Facts) -> tuple[Verdict, str]:
    if facts.tripped is not None:
        return "fail", _given_up(facts.tripped)
    if failed:
        return "fail", failed[0].sentence
    missing = _shortage(facts)
    if missing:
        return "error", missing
    for verdict in ("error", "inconclusive"):
        open_ones = [result.sentence for result in judged if result.verdict == verdict]
        if open_ones:
            return verdict, "; ".join(open_ones)
    if facts.candidate_requests < facts.min_requests or not judged:
        return "inconclusive", f"{facts.candidate_requests} of the {facts.min_requests} candidate requests needed here"
    return "pass", "; ".join(result.sentence for result in judged)


def _member(finding: Finding) -> Member:
    stable = finding.stable_worse.e_value if finding.stable_worse is not None else 1.0
    return Member(name=finding.check, e_value=finding.worse.e_value, stable_e_value=stable)


def _result(finding: Finding, needed: float, gating: int, failure: family.Failure) -> CheckResult:
    """A check fails by its part of the budget, or as the strongest of checks that suffice together."""
    worse, better = finding.worse.e_value, finding.better.e_value
    warns = finding.on_fail == "warn"
    stable_breaches = finding.stable_worse is not None and finding.stable_worse.e_value >= needed
    needs = needed if warns else needed * gating
    alone = worse >= needs
    shared = stable_breaches and worse >= needed
    verdict: Verdict = "inconclusive"
    if alone or shared or finding.check in failure.blamed:
        verdict = "fail"
    elif finding.problem:
        verdict = "error"
    elif better >= needed:
        verdict = "pass"
    said = {
        "fail": f"evidence {worse:.3g} that it is worse, {needs:g} suffice",
        "pass": f"evidence {better:.3g} that it is within, {needed:g} needed",
        "inconclusive": f"not enough to tell: evidence {better:.3g} of {needed:g} that it is within,"
        f" {worse:.3g} of {needs:g} that it is worse",
        "error": f"cannot be measured: {finding.problem}",
    }[verdict]
    note = "; stable breaches it too: a shared incident" if stable_breaches and verdict == "fail" else ""
    return CheckResult.model_validate(
        {
            **dict(finding),
            "verdict": verdict,
            "sentence": f"{verdict}: {finding.comparison} ({said}){note}",
            "e_worse": worse,
            "e_better": better,
            "shared_incident": stable_breaches and verdict == "fail",
        }
    )


# -- how many should there be? --------------------------------------------------------------------------------------


def _expected(stage: Stage, evidence: Evidence) -> float | None:
    """Candidate requests that the share should have brought; None in watch, where the candidate has nearly all."""
    stable, candidate = evidence.stable.requests, evidence.candidate.requests + evidence.candidate.in_flight
    if stage.kind == "watch":
        return None
    if stage.kind == "shadow":
        return stable * stage.mirror_bp / FULL_BP
    return (stable + candidate) * stage.share_bp / FULL_BP


def _shortage(facts: Facts) -> str:
    expected, got = facts.expected_requests, facts.candidate_requests + facts.candidate_in_flight
    if expected is None or expected < ENOUGH_TO_MISS or got * SHORTAGE >= expected:
        return ""
    return f"error: {got} candidate requests came where its share should have brought about {expected:.0f}"


# -- one check ------------------------------------------------------------------------------------------------------


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
        comparison=_in_words(check, measured, candidate, stable, limit),
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


def _wealth(process: Process) -> Wealth:
    inner = process.rate if isinstance(process, RelativeQuantile) else process
    inner = inner.mean if isinstance(inner, Typical) else inner
    return Wealth(wealth=inner.wealth, blocks=inner.blocks)


def _stable_wealth(process: OneSample) -> Wealth:
    return Wealth(wealth=process.stable_wealth, blocks=process.stable_blocks)


def _values(check: Check, measured: Measurement) -> tuple[float | None, float | None, float | None]:
    """(the candidate's, stable's, the limit), in the metric's unit."""
    tally, past = measured.tally, measured.past
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
    judged = measured.values.n if check.kind != "rate" else measured.tally.candidate_n
    if measured.unusable < ENOUGH_TO_MISS or measured.unusable <= judged:
        return ""
    return f"{measured.unusable} of {evidence.candidate.requests} requests have no such value, or one that is no number"


# -- words ----------------------------------------------------------------------------------------------------------


def _in_words(
    check: Check, measured: Measurement, candidate: float | None, stable: float | None, limit: float | None
) -> str:
    tally, name = measured.tally, check.metric.replace("_", " ")
    if check.kind == "rate":
        share = "unknown" if candidate is None else _percent(candidate)
        ours = f"{name} {share} ({tally.candidate_hits} of {tally.candidate_n})"
        theirs = f"({tally.stable_hits} of {tally.stable_n})"
        wanted = "no limit yet" if limit is None else f"limit {_percent(limit)}"
        if check.is_relative:
            wanted += f" from stable's {'unknown' if stable is None else _percent(stable)} {theirs}"
    else:
        ours = f"{name.removesuffix(' s')} {_value(check, candidate)} ({tally.candidate_n} requests)"
        wanted = f"limit {_value(check, limit)}"
        if check.is_relative:
            wanted += f" from stable's {_value(check, stable)}"
    return f"{ours}, {wanted}{', in pairs' if measured.paired else ''}"


def _counted(check: Check, measured: Measurement) -> str:
    """The choice of who counts, for whoever reads the evidence."""
    if measured.paired:
        return "pairs of answers to the same request; of a user the first pair that differs"
    if check.kind == "typical" and check.is_relative:
        return "the first request of each user; requests without a user one by one"
    return "users once a tick, until their first hit; requests without a user one by one"


def _given_up(trip: Tripped) -> str:
    return (
        f"fail: {trip.failures} attempts in a row failed (users: {trip.users}, the last with {trip.error}) while the"
        f" route's other variant answered {trip.answered_elsewhere}: the gateway gives it no more users"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _value(check: Check, value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.3g}{' s' if check.quantity in ('latency_s', 'ttft_s') else ''}"
