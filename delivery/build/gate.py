"""Whether a candidate's evals let it out of the build: every limit with its verdict, and a sentence that says why.

What cannot be compared never passes: a missing suite, another version of it, or answers that nobody could judge are
errors, and an error is no pass. Samples that could not be judged count against the candidate: as 0 for it, as 1 for
production.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from configs.evals import Gate
from configs.strict import Strict
from evals.report import EvalReport, SuiteResult
from evals.summaries import Estimate, mean, paired_difference

MAX_UNJUDGED_SHARE = 0.1  # of the candidate's samples; above it the suite says nothing

GateVerdict = Literal["pass", "fail", "error"]


class GateFinding(Strict):
    """One limit of one gate. `sentence` holds the values that were compared."""

    suite: str
    limit: str  # "min_score 0.90"
    verdict: GateVerdict
    sentence: str


class GateDecision(Strict):
    """Passed only when every limit of every gate is met."""

    passed: bool
    findings: tuple[GateFinding, ...]


def judge(gates: Sequence[Gate], candidate: EvalReport, production: EvalReport) -> GateDecision:
    """The candidate against the limits and, sample by sample, against production. No gate, no pass."""
    findings = tuple(finding for gate in gates for finding in _judge(gate, candidate, production))
    return GateDecision(passed=bool(findings) and all(f.verdict == "pass" for f in findings), findings=findings)


def _judge(gate: Gate, candidate: EvalReport, production: EvalReport) -> Iterator[GateFinding]:
    new, old = candidate.suites.get(gate.suite), production.suites.get(gate.suite)
    for limit, value in (("min_score", gate.min_score), ("max_drop", gate.max_drop), ("min_gain", gate.min_gain)):
        if value is None:
            continue
        verdict, sentence = _compare(gate, limit, value, new, old)
        yield GateFinding(
            suite=gate.suite, limit=f"{limit} {value:.2f}", verdict=verdict, sentence=f"{gate.suite}: {sentence}"
        )


def _compare(
    gate: Gate, limit: str, value: float, new: SuiteResult | None, old: SuiteResult | None
) -> tuple[GateVerdict, str]:
    paired = limit != "min_score"
    trouble = _candidate_trouble(new) or _production_trouble(new, old, paired)
    if trouble or new is None:
        return "error", trouble
    if old is None or not paired:
        return _reaches(gate, value, new, old)
    return _differs(gate, limit, value, new, old)


def _candidate_trouble(new: SuiteResult | None) -> str:
    if new is None:
        return "the candidate was not evaluated on it"
    count = len(new.samples)
    unjudged = sum(sample.score is None for sample in new.samples)
    if unjudged == count:
        return f"none of the candidate's {count} answers could be judged{_example(new)}"
    if unjudged > MAX_UNJUDGED_SHARE * count:
        allowed = f"allowed is a share of {MAX_UNJUDGED_SHARE:.2f}"
        return f"{unjudged} of the candidate's {count} answers could not be judged, {allowed}{_example(new)}"
    return ""


def _production_trouble(new: SuiteResult | None, old: SuiteResult | None, paired: bool) -> str:
    if old is None:
        return "production was not evaluated on it, so there is nothing to compare with" if paired else ""
    if new is not None and old.version != new.version:
        return f"the candidate ran version {new.version[7:19]} of the suite, production {old.version[7:19]}"
    if not paired:
        return ""
    if all(sample.score is None for sample in old.samples):
        return f"none of production's {len(old.samples)} answers could be judged{_example(old)}"
    if new is not None and {s.id for s in new.samples} != {s.id for s in old.samples}:
        return f"candidate and production answered different samples ({len(new.samples)}, {len(old.samples)})"
    return ""


def _reaches(gate: Gate, value: float, new: SuiteResult, old: SuiteResult | None) -> tuple[GateVerdict, str]:
    estimate = mean([s.score if s.score is not None else 0.0 for s in new.samples], gate.confidence)
    shown = estimate.low if gate.strict else estimate.value
    what = "lower bound " if gate.strict else ""
    how = "reaches" if shown >= value else "is below"
    beside = f"; production {_score(old)}" if old is not None else ""
    sentence = f"candidate {estimate} {how} the required {what}{value:.2f} (n={estimate.n}{_notes(new)}{beside})"
    return ("pass" if shown >= value else "fail"), sentence


def _differs(gate: Gate, limit: str, value: float, new: SuiteResult, old: SuiteResult) -> tuple[GateVerdict, str]:
    before = {s.id: s.score if s.score is not None else 1.0 for s in old.samples}
    after = {s.id: s.score if s.score is not None else 0.0 for s in new.samples}
    ids = sorted(after)
    difference = paired_difference([after[i] for i in ids], [before[i] for i in ids], gate.confidence)
    if limit == "max_drop":
        passed, outcome = difference.low >= -value, _drop_outcome(difference, value)
    else:
        passed = difference.low > value
        outcome = f"the gain is {'' if passed else 'not shown to be '}above the required {value:.2f}"
    sentence = (
        f"candidate {_score(new)}, production {_score(old)}; difference {difference.value:+.2f} "
        f"[{difference.low:+.2f}, {difference.high:+.2f}]: {outcome} "
        f"({difference.n} pairs{_notes(new)}{_notes(old, 'production')})"
    )
    return ("pass" if passed else "fail"), sentence


def _drop_outcome(difference: Estimate, allowed: float) -> str:
    if difference.low >= -allowed:
        return f"a drop of more than {allowed:.2f} is excluded"
    if difference.high < -allowed:
        return f"it drops by more than the allowed {allowed:.2f}"
    if difference.value >= 0:
        return f"a drop of more than {allowed:.2f} cannot be excluded with so few samples"
    return f"a drop of more than {allowed:.2f} cannot be excluded"


def _score(result: SuiteResult) -> str:
    if result.score is None or result.low is None or result.high is None:
        return "unjudged"
    return str(Estimate(result.score, result.low, result.high, result.n))


def _notes(result: SuiteResult, whose: str = "candidate") -> str:
    return f", {result.unjudged} unjudged of {whose} counted against the candidate" if result.unjudged else ""


def _example(result: SuiteResult) -> str:
    reasons = [s.reason for s in result.samples if s.score is None and s.reason]
    return f', e.g. "{reasons[0]}"' if reasons else ""
