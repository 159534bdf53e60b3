"""What the checks of a stage say about the evidence: pass, fail, inconclusive or error, with everything compared.

A stage fails when the weighted sum of its gating checks' evidence that the candidate is worse than its limits reaches
1/alpha: one error budget for all of them. It passes when for *every* gating check the evidence that the candidate is
within its limit reaches 1/alpha (delivery.analysis.family). E-values may be looked at in every tick. No data is no
evidence, for either.
"""

from collections.abc import Sequence
from typing import Literal

from configs.rollout import RolloutPlan, Stage
from configs.routing import FULL_BP
from configs.strict import Strict
from delivery.analysis import family
from delivery.analysis.family import FamilyMember
from delivery.checks.evidence import Evidence
from delivery.checks.findings import ENOUGH_TO_MISS, Finding, found
from delivery.traffic.records import Tripped

Verdict = Literal["pass", "fail", "inconclusive", "error"]
SHORTAGE = 4.0  # so many times fewer than expected


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
    candidate_left_out: int = 0  # came, and count for nothing
    unvouched: int = 0  # of both, for whose users nobody vouches
    expected_requests: float | None = None  # from the share and stable's requests
    tripped: Tripped | None = None  # the gateway keeps users from the candidate, for which it may have its reasons


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
    """The verdict on a stage. A trip of the gateway's is no evidence: the checks decide, and until then it holds."""
    findings = [found(check, evidence) for check in plan.checks_of(stage)]
    facts = Facts(
        alpha=plan.alpha,
        min_requests=stage.min_requests,
        candidate_requests=evidence.candidate.requests,
        candidate_in_flight=evidence.candidate.in_flight,
        candidate_left_out=evidence.candidate.left_out,
        unvouched=evidence.candidate.unvouched + evidence.stable.unvouched,
        expected_requests=_expected(stage, evidence),
        tripped=tripped,
    )
    return conclude(findings, facts)


def conclude(findings: Sequence[Finding], facts: Facts) -> Judgement:
    """From values to verdicts: all that `slipway explain` needs to see a decision again."""
    needed = 1 / facts.alpha
    gating = [finding for finding in findings if finding.on_fail != "warn"]
    failure = family.fails([_member(finding) for finding in gating], facts.alpha)
    open_ones = family.unproven({finding.check: finding.better.e_value for finding in findings}, facts.alpha)
    results = tuple(_result(finding, needed, len(gating), failure, open_ones) for finding in findings)
    judged = [result for result in results if result.on_fail != "warn"]
    failed = [result for result in judged if result.verdict == "fail"]
    guilty = [result for result in failed if result.on_fail == "rollback" and not result.shared_incident]
    verdict, reason = _verdict(judged, guilty or failed, facts)
    since = [result.first_bad_at for result in guilty if result.first_bad_at is not None]
    since += [facts.tripped.since] if facts.tripped is not None and guilty else []
    return Judgement(
        verdict=verdict,
        blame="" if verdict != "fail" else "rollback" if guilty else "pause",
        reason=reason,
        e_value=failure.e_value,
        results=results,
        facts=facts,
        first_bad_at=min(since, default=None),
    )


def _verdict(judged: Sequence[CheckResult], failed: Sequence[CheckResult], facts: Facts) -> tuple[Verdict, str]:
    if failed:
        return "fail", failed[0].sentence
    if facts.tripped is not None:
        return "inconclusive", "; ".join([given_up(facts.tripped), *(result.sentence for result in judged)])
    missing = _shortage(facts)
    if missing:
        return "error", missing
    for verdict in ("error", "inconclusive"):
        open_ones = [result.sentence for result in judged if result.verdict == verdict]
        if open_ones:
            return verdict, "; ".join([*open_ones, *_made_up(facts)])
    if facts.candidate_requests < facts.min_requests or not judged:
        return "inconclusive", f"{facts.candidate_requests} of the {facts.min_requests} candidate requests needed here"
    return "pass", "; ".join(result.sentence for result in judged)


def _member(finding: Finding) -> FamilyMember:
    stable = finding.stable_worse.e_value if finding.stable_worse is not None else 1.0
    return FamilyMember(name=finding.check, e_value=finding.worse.e_value, stable_e_value=stable)


def _result(
    finding: Finding, needed: float, gating: int, failure: family.Failure, unproven: Sequence[str]
) -> CheckResult:
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
    elif finding.check not in unproven:
        verdict = "pass"
    enough = f"{needs:g} suffice"
    if finding.check in failure.blamed and not alone:
        enough = f"all checks together {failure.e_value:.3g}, {needed:g} suffice"
    said = {
        "fail": f"evidence {worse:.3g} that it is worse, {enough}",
        "pass": f"evidence {better:.3g} that it is within, {needed:g} needed",
        "inconclusive": f"not enough to tell: evidence {better:.3g} of {needed:g} that it is within,"
        f" {worse:.3g} of {needs:g} that it is worse",
        "error": f"cannot be measured: {finding.problem}",
    }[verdict]
    nothing = verdict == "inconclusive" and finding.worse.blocks == finding.better.blocks == 0
    note = "; stable breaches it too: a shared incident" if stable_breaches and verdict == "fail" else ""
    return CheckResult.model_validate(
        {
            **dict(finding),
            "verdict": verdict,
            "sentence": f"{verdict}: {finding.comparison}{'' if nothing else f' ({said})'}{note}",
            "e_worse": worse,
            "e_better": better,
            "shared_incident": stable_breaches and verdict == "fail",
        }
    )


# -- how many should there be? --------------------------------------------------------------------------------------


def _expected(stage: Stage, evidence: Evidence) -> float | None:
    """Candidate requests that the share should have brought; None where the candidate is live and has nearly all."""
    stable, candidate = (arm.requests + arm.left_out for arm in (evidence.stable, evidence.candidate))
    candidate += evidence.candidate.in_flight
    if stage.rules.commits:
        return None
    if stage.rules.has_pairs:
        return stable * stage.mirror_bp / FULL_BP
    return (stable + candidate) * stage.share_bp / FULL_BP


def _shortage(facts: Facts) -> str:
    expected, got = facts.expected_requests, facts.candidate_requests + facts.candidate_in_flight
    got += facts.candidate_left_out
    if expected is None or expected < ENOUGH_TO_MISS or got * SHORTAGE >= expected:
        return ""
    return f"error: {got} candidate requests came where its share should have brought about {expected:.0f}"


def _made_up(facts: Facts) -> list[str]:
    if not facts.unvouched:
        return []
    return [
        f"{facts.unvouched} requests came without an API key, and nobody vouches for their users' names: together they"
        " count as one user (give out keys, or say trust_user_names: true to the gateway)"
    ]


def given_up(trip: Tripped) -> str:
    """Why the gateway keeps users from the candidate."""
    return (
        f"{trip.failures} attempts in a row failed (users: {trip.users}, the last with {trip.error}) while the"
        f" route's other variant answered {trip.answered_elsewhere}: the gateway keeps users from it and asks it by"
        " copies until it answers one"
    )
