"""What one check says about the evidence: pass, fail, inconclusive or error, with the comparison in words.

The rules are simple and lean on confidence bounds (delivery.bounds): a check fails when even the candidate's lower
bound is above the limit, passes when even its upper bound is within it, and is inconclusive between, or below the
minimum of requests. A failure needs no minimum: five failures out of five are enough against a limit of 5 %. No data
never passes.

A quantile limit is a rate: p95 <= x means that at most 5 % of the requests take longer than x, and a request that has
been in flight for longer than x already counts.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

from configs.rollout import Check, Metric, Stage
from configs.strict import Strict
from delivery import bounds
from delivery.evidence import Arm, Evidence, Histogram, Open

Verdict = Literal["pass", "fail", "inconclusive", "error"]
P95_TAIL = 0.05


class CheckResult(Strict):
    """One check's verdict with everything that was compared; rates are 0..1, times seconds."""

    metric: Metric
    verdict: Verdict
    sentence: str
    on_fail: Literal["rollback", "pause", "warn"]
    candidate: float | None = None
    stable: float | None = None
    limit: float | None = None
    candidate_requests: int = 0
    stable_requests: int = 0
    shared_incident: bool = False  # failed, but stable breaches the same absolute limit: not the candidate's fault
    first_bad_at: float | None = None  # of a failed check: when the first bad request started, UNIX seconds


class Judgement(Strict):
    """What all checks of a stage say together."""

    verdict: Verdict
    blame: Literal["", "rollback", "pause"] = ""  # of a fail: what the failing check asks for
    reason: str
    results: tuple[CheckResult, ...]
    first_bad_at: float | None = None


def judge(checks: Sequence[Check], evidence: Evidence, stage: Stage) -> Judgement:
    """The worst of a stage's checks; it passes only when every check that gates passes, on enough requests."""
    results = tuple(evaluate(check, evidence) for check in checks if stage.kind in check.stages)
    gating = [result for result in results if result.on_fail != "warn"]
    failed = [result for result in gating if result.verdict == "fail"]
    guilty = [result for result in failed if result.on_fail == "rollback" and not result.shared_incident]
    if failed:
        worst = (guilty or failed)[0]
        return Judgement(
            verdict="fail",
            blame="rollback" if guilty else "pause",
            reason=worst.sentence,
            results=results,
            first_bad_at=min((r.first_bad_at for r in guilty if r.first_bad_at is not None), default=None),
        )
    for verdict in ("error", "inconclusive"):
        open_ones = [result for result in gating if result.verdict == verdict]
        if open_ones:
            return Judgement(verdict=verdict, reason="; ".join(r.sentence for r in open_ones), results=results)
    got = evidence.candidate.requests
    if got < stage.min_requests or not gating:
        reason = f"{got} of the {stage.min_requests} candidate requests that this stage needs"
        return Judgement(verdict="inconclusive", reason=reason, results=results)
    return Judgement(verdict="pass", reason="; ".join(r.sentence for r in gating), results=results)


def evaluate(check: Check, evidence: Evidence) -> CheckResult:
    """One check against the evidence of one epoch."""
    compare: dict[Metric, Callable[[Check, Evidence], CheckResult]] = {
        "error_rate": _error_rate,
        "latency_p95_s": _latency,
        "ttft_p95_s": _ttft,
        "completion_tokens_mean": _tokens,
    }
    return compare[check.metric](check, evidence)


# -- rates ----------------------------------------------------------------------------------------------------------


def _error_rate(check: Check, evidence: Evidence) -> CheckResult:
    candidate, stable = evidence.candidate, evidence.stable
    ours = _rate(candidate)
    theirs = _rate(stable)
    alpha = 1 - check.confidence
    if check.max is not None:
        verdict = _against(ours, check.max, check.max, alpha)
        limit, wanted = check.max, f"limit {_percent(check.max)}"
    else:
        half = alpha / 2  # one half for each arm's bound
        ratio, more = check.max_ratio or 1.0, check.max_increase or 0.0
        surely_allowed = ratio * bounds.rate_low(theirs.possibly, theirs.n, half) + more
        at_most_allowed = ratio * bounds.rate_high_anytime(theirs.possibly, theirs.n, half) + more
        verdict = _against(ours, at_most_allowed, surely_allowed, half)
        limit = ratio * theirs.share + more
        wanted = f"limit {_percent(limit)} from stable's {theirs.say()}"
    verdict = _with_enough(verdict, check, ours.n, theirs.n)
    return _result(
        check,
        verdict,
        f"error rate {ours.say()}, {wanted}",
        ours,
        theirs,
        limit=limit,
        values=(ours.share if ours.n else None, theirs.share if theirs.n else None),
        shared=check.max is not None and _shared(check, ours, theirs, check.max, alpha),
        first_bad_at=candidate.first_error_at,
        needs=_needed(check, evidence, check.max),
    )


class _Rate(Strict):
    """Hits out of n; with a histogram's rounding a hit may be sure or only possible."""

    surely: int
    possibly: int
    n: int

    @property
    def share(self) -> float:
        return self.surely / self.n if self.n else 0.0

    def say(self) -> str:
        return f"{_percent(self.share)} ({self.surely} of {self.n})"


def _rate(arm: Arm) -> _Rate:
    return _Rate(surely=arm.errors, possibly=arm.errors, n=arm.requests)


def _against(rate: _Rate, fail_above: float, pass_within: float, alpha: float) -> Verdict:
    if bounds.rate_low_anytime(rate.surely, rate.n, alpha) > fail_above:
        return "fail"
    if rate.n and bounds.rate_high(rate.possibly, rate.n, alpha) <= pass_within:
        return "pass"
    return "inconclusive"


def _with_enough(verdict: Verdict, check: Check, ours: int, theirs: int) -> Verdict:
    """The minimum of requests is one for passing; a relative limit needs them on both sides."""
    if verdict == "pass" and (ours < check.min_requests or (check.is_relative and theirs < check.min_requests)):
        return "inconclusive"
    return verdict


def _shared(check: Check, ours: _Rate, theirs: _Rate, limit: float, alpha: float) -> bool:
    """Stable breaches the limit too, and the candidate is not clearly worse."""
    if theirs.n < check.min_requests or theirs.share <= limit:
        return False
    return bounds.rate_low_anytime(ours.surely, ours.n, alpha) <= bounds.rate_high_anytime(
        theirs.possibly, theirs.n, alpha
    )


# -- quantiles ------------------------------------------------------------------------------------------------------


def _latency(check: Check, evidence: Evidence) -> CheckResult:
    return _p95(
        check,
        evidence,
        "p95 latency",
        lambda arm: arm.latency,
        evidence.open_ages(evidence.candidate_variant),
        evidence.open_ages(evidence.stable_variant),
    )


def _ttft(check: Check, evidence: Evidence) -> CheckResult:
    # Whether an open request has sent its first byte is not known, so open ones cannot count here.
    return _p95(check, evidence, "p95 time to first token", lambda arm: arm.ttft, [], [])


def _p95(
    check: Check,
    evidence: Evidence,
    name: str,
    samples: Callable[[Arm], Histogram],
    our_open: list[Open],
    their_open: list[Open],
) -> CheckResult:
    candidate, stable = samples(evidence.candidate), samples(evidence.stable)
    alpha = 1 - check.confidence
    if check.max is not None:
        limit = check.max
        ours, theirs = _slower(candidate, our_open, limit), _slower(stable, their_open, limit)
        verdict = _against(ours, P95_TAIL, P95_TAIL, alpha)
        wanted, shared = f"limit {limit:.3g} s", _shared(check, ours, theirs, P95_TAIL, alpha)
    else:
        verdict, ours, theirs, limit = _relative_p95(check, candidate, our_open, stable, their_open)
        wanted, shared = f"limit {limit:.3g} s from stable's {_seconds(stable)} ({stable.n} requests)", False
    slow = f"{ours.surely} of {ours.n} requests slower than the limit"
    if verdict == "inconclusive" and candidate.n == 0 and not our_open:
        absent = evidence.candidate.requests >= check.min_requests
        verdict = "error" if absent else "inconclusive"
        slow = f"no value in {evidence.candidate.requests} requests"
    verdict = _with_enough(verdict, check, ours.n, theirs.n)
    first = min((item.started_at for item in our_open if item.age_s > limit), default=math.inf)
    if math.isfinite(limit):
        first = min(first, candidate.first_above(limit) or math.inf)
    return _result(
        check,
        verdict,
        f"{name} {_seconds(candidate)}, {wanted}: {slow}",
        ours,
        theirs,
        limit=limit if math.isfinite(limit) else None,
        values=(candidate.quantile(0.95), stable.quantile(0.95)),
        shared=shared,
        first_bad_at=first if math.isfinite(first) else None,
        needs=_needed(check, evidence, P95_TAIL),
    )


def _relative_p95(
    check: Check, candidate: Histogram, our_open: list[Open], stable: Histogram, their_open: list[Open]
) -> tuple[Verdict, _Rate, _Rate, float]:
    """Fails when the candidate exceeds the limit derived from stable's p95 clearly more often than stable its p95.

    Passes when at most 5 % surely exceed the limit that follows from the *lower* bound of stable's p95.
    """
    half = (1 - check.confidence) / 2
    ratio, more = check.max_ratio or 1.0, check.max_increase or 0.0
    typical = stable.quantile(0.95)
    if typical is None:
        return "inconclusive", _slower(candidate, our_open, math.inf), _slower(stable, their_open, math.inf), math.inf
    limit = ratio * typical + more
    ours, theirs = _slower(candidate, our_open, limit), _slower(stable, their_open, typical)
    allowed = max(P95_TAIL, bounds.rate_high_anytime(theirs.possibly, theirs.n, half))
    if stable.n >= check.min_requests and bounds.rate_low_anytime(ours.surely, ours.n, half) > allowed:
        return "fail", ours, theirs, limit
    rank = bounds.quantile_low_rank(stable.n, 0.95, half)
    strict = _slower(candidate, our_open, ratio * stable.order_statistic(rank)[0] + more)
    if rank and strict.n and bounds.rate_high(strict.possibly, strict.n, half) <= P95_TAIL:
        return "pass", ours, theirs, limit
    return "inconclusive", ours, theirs, limit


def _slower(samples: Histogram, open_now: list[Open], limit_s: float) -> _Rate:
    surely, possibly = samples.above(limit_s) if math.isfinite(limit_s) else (0, 0)
    late = sum(item.age_s > limit_s for item in open_now)
    return _Rate(surely=surely + late, possibly=possibly + late, n=samples.n + late)


# -- means ----------------------------------------------------------------------------------------------------------


def _tokens(check: Check, evidence: Evidence) -> CheckResult:
    ours, theirs = evidence.candidate.completion_tokens, evidence.stable.completion_tokens
    alpha = 1 - check.confidence
    ratio, more = check.max_ratio or 1.0, check.max_increase or 0.0
    limit, error = check.max, math.sqrt(ours.variance / ours.n) if ours.n else 0.0
    wanted = f"limit {limit:.4g}" if limit is not None else "no limit without stable's mean"
    if check.is_relative and theirs.mean is not None:
        limit = ratio * theirs.mean + more
        error = math.hypot(error, ratio * math.sqrt(theirs.variance / theirs.n))
        wanted = f"limit {limit:.4g} from stable's {theirs.mean:.4g} ({theirs.n} requests)"
    enough = ours.n >= check.min_requests and (not check.is_relative or theirs.n >= check.min_requests)
    verdict: Verdict = "inconclusive"
    if ours.mean is None and evidence.candidate.requests - evidence.candidate.errors >= check.min_requests:
        verdict = "error"
    elif enough and ours.mean is not None and limit is not None:
        if ours.mean - bounds.mean_radius_anytime(error, ours.n, alpha) > limit:
            verdict = "fail"
        elif ours.mean + bounds.mean_radius(error, alpha) <= limit:
            verdict = "pass"
    mean = "unknown" if ours.mean is None else f"{ours.mean:.4g}"
    return _result(
        check,
        verdict,
        f"completion tokens {mean} on average over {ours.n} requests, {wanted}",
        _Rate(surely=0, possibly=0, n=ours.n),
        _Rate(surely=0, possibly=0, n=theirs.n),
        limit=limit,
        values=(ours.mean, theirs.mean),
    )


# -- words ----------------------------------------------------------------------------------------------------------


def _result(
    check: Check,
    verdict: Verdict,
    sentence: str,
    ours: _Rate,
    theirs: _Rate,
    *,
    limit: float | None,
    values: tuple[float | None, float | None],
    shared: bool = False,
    first_bad_at: float | None = None,
    needs: str = "",
) -> CheckResult:
    shared = shared and verdict == "fail"
    words = {"pass": "", "fail": "", "inconclusive": f", not enough to tell{needs}", "error": ", cannot be measured"}
    note = "; stable breaches it too: a shared incident" if shared else ""
    return CheckResult(
        metric=check.metric,
        verdict=verdict,
        sentence=f"{verdict}: {sentence}{words[verdict]}{note}",
        on_fail=check.on_fail,
        candidate=values[0],
        stable=values[1],
        limit=limit,
        candidate_requests=ours.n,
        stable_requests=theirs.n,
        shared_incident=shared,
        first_bad_at=first_bad_at if verdict == "fail" else None,
    )


def _needed(check: Check, evidence: Evidence, limit_rate: float | None) -> str:
    """How many faultless requests a pass takes, so that nobody waits for what cannot come."""
    alpha = (1 - check.confidence) / (2 if check.is_relative else 1)
    least = bounds.requests_to_pass(limit_rate, alpha) if limit_rate is not None else check.min_requests
    if least is None:
        return "; this limit can never be shown to hold"
    least = max(least, check.min_requests)
    return f" (a pass takes at least {least})" if evidence.candidate.requests < least else ""


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _seconds(samples: Histogram) -> str:
    value = samples.quantile(0.95)
    return "unknown" if value is None else f"{value:.3g} s"
