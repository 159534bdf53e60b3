"""Whether a candidate's evals let it out of the build: every limit with its verdict, and a sentence that says why.

What cannot be compared never passes: a missing suite, another version of it, or answers that nobody could judge are
errors, and an error is no pass. Samples that could not be judged count against the candidate: wrong for it, right for
production. Where lower is better (a share of stereotypes, say), a drop is a rise: what is compared is how much worse or
better the candidate is.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from configs.evals import Gate
from configs.strict import Strict
from evals.estimate import Estimate
from evals.report import EvalReport, SampleScore, SuiteResult
from evals.summaries import difference, estimate

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
    limits = ("min_score", "max_score", "max_drop", "min_gain")
    for limit, value in ((name, getattr(gate, name)) for name in limits):
        if value is None:
            continue
        verdict, sentence = _compare(gate, limit, value, new, old)
        yield GateFinding(
            suite=gate.suite, limit=f"{limit} {value:.2f}", verdict=verdict, sentence=f"{gate.suite}: {sentence}"
        )


def _compare(
    gate: Gate, limit: str, value: float, new: SuiteResult | None, old: SuiteResult | None
) -> tuple[GateVerdict, str]:
    paired = limit not in ("min_score", "max_score")
    trouble = _candidate_trouble(new) or _production_trouble(new, old, paired) or _wrong_way(limit, new)
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
    return _off_the_scale(new, "the candidate")


def _off_the_scale(result: SuiteResult, whose: str) -> str:
    """On a scale without ends nothing says what an answer that could not be judged would count as."""
    scores = [s.score for s in result.samples]
    if None in scores and not all(0 <= score <= 1 for score in scores if score is not None):
        return f"{scores.count(None)} answers of {whose} could not be judged, on a scale that is not from 0 to 1"
    return ""


def _production_trouble(new: SuiteResult | None, old: SuiteResult | None, paired: bool) -> str:
    if old is None:
        return "production was not evaluated on it, so there is nothing to compare with" if paired else ""
    if new is not None and (old.measure, old.better) != (new.measure, new.better):
        return f"the candidate's {new.measure} ({new.better} is better), production's {old.measure} ({old.better})"
    if new is not None and old.version != new.version:
        return f"the candidate ran version {new.version[7:19]} of the suite, production {old.version[7:19]}"
    if not paired:
        return ""
    if all(sample.score is None for sample in old.samples):
        return f"none of production's {len(old.samples)} answers could be judged{_example(old)}"
    if new is not None and {s.id for s in new.samples} != {s.id for s in old.samples}:
        return f"candidate and production answered different samples ({len(new.samples)}, {len(old.samples)})"
    return _off_the_scale(old, "production")


def _wrong_way(limit: str, new: SuiteResult | None) -> str:
    """A floor under what should be low, or a ceiling over what should be high, would let the wrong ones pass."""
    fitting = {"min_score": "higher", "max_score": "lower"}.get(limit)
    if new is None or fitting in (None, new.better):
        return ""
    return f"{new.better} is better here, so that {limit} asks the wrong way round: give " + (
        "max_score" if new.better == "lower" else "min_score"
    )


def _reaches(gate: Gate, value: float, new: SuiteResult, old: SuiteResult | None) -> tuple[GateVerdict, str]:
    found = estimate(new.measure, _counted(new, "wrong"), gate.confidence)
    beside = f"; production {_score(old)}" if old is not None else ""
    notes = f"(n={found.n}{_notes(new)}{beside})"
    if new.better == "lower":
        shown = found.high if gate.strict else found.value
        how = "keeps below" if shown <= value else "is above"
        what = "upper bound " if gate.strict else ""
        return ("pass" if shown <= value else "fail"), f"candidate {found} {how} the allowed {what}{value:.2f} {notes}"
    shown = found.low if gate.strict else found.value
    what = "lower bound " if gate.strict else ""
    how = "reaches" if shown >= value else "is below"
    return ("pass" if shown >= value else "fail"), f"candidate {found} {how} the required {what}{value:.2f} {notes}"


def _counted(result: SuiteResult, unjudged: Literal["wrong", "right"]) -> list[SampleScore]:
    """The samples by their ids, what could not be judged counted as wrong or as right."""
    is_high = (unjudged == "right") == (result.better == "higher")
    counted = [
        s
        if s.score is not None
        else s.model_copy(update={"score": float(is_high), "said": s.expected if unjudged == "right" else ""})
        for s in result.samples
    ]
    return sorted(counted, key=lambda sample: sample.id)


def _differs(gate: Gate, limit: str, value: float, new: SuiteResult, old: SuiteResult) -> tuple[GateVerdict, str]:
    found = difference(new.measure, _counted(new, "wrong"), _counted(old, "right"), gate.confidence)
    better = found if new.better == "higher" else Estimate(-found.value, -found.high, -found.low, found.n)
    if limit == "max_drop":
        passed, outcome = better.low >= -value, _drop_outcome(better, value, new)
    else:
        passed = better.low > value
        outcome = f"the gain is {'' if passed else 'not shown to be '}above the required {value:.2f}"
    sentence = (
        f"candidate {_score(new)}, production {_score(old)}; difference {found.value:+.2f} "
        f"[{found.low:+.2f}, {found.high:+.2f}]{_direction(new)}: {outcome} "
        f"({found.n} pairs{_notes(new)}{_notes(old, 'production')})"
    )
    return ("pass" if passed else "fail"), sentence


def _direction(result: SuiteResult) -> str:
    return ", lower is better" if result.better == "lower" else ""


def _drop_outcome(better: Estimate, allowed: float, new: SuiteResult) -> str:
    worse = "drop" if new.better == "higher" else "rise"
    if better.low >= -allowed:
        return f"a {worse} of more than {allowed:.2f} is excluded"
    if better.high < -allowed:
        return f"it {worse}s by more than the allowed {allowed:.2f}"
    if better.value >= 0:
        return f"a {worse} of more than {allowed:.2f} cannot be excluded with so few samples"
    return f"a {worse} of more than {allowed:.2f} cannot be excluded"


def _score(result: SuiteResult) -> str:
    if result.score is None or result.low is None or result.high is None:
        return "unjudged"
    return str(Estimate(result.score, result.low, result.high, result.n))


def _notes(result: SuiteResult, whose: str = "candidate") -> str:
    return f", {result.unjudged} unjudged of {whose} counted against the candidate" if result.unjudged else ""


def _example(result: SuiteResult) -> str:
    reasons = [s.reason for s in result.samples if s.score is None and s.reason]
    return f', e.g. "{reasons[0]}"' if reasons else ""
