"""Whether a candidate's evals let it out of the build: every limit with its verdict, and a sentence that says why.

What cannot be compared never passes: a missing suite, another version of it, or answers that nobody could judge are
errors, and an error is no pass. Samples that could not be judged count against the candidate: wrong for it, right for
production. A limit that is not shown to be kept, and that so few samples could not show, is an error too, unless the
gate says `when_blind: allow`. Where lower is better (a share of stereotypes, say), a drop is a rise: what is compared
is how much worse or better the candidate is.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from configs.evals import Gate, SliceGate
from configs.strict import Strict
from delivery.build.pairs import RunNoise, counted, noise_of, off_the_scale
from delivery.build.slices import AskedSamples, judge_slices
from evals.estimate import Estimate
from evals.power import best_difference
from evals.report import EvalReport, SuiteResult
from evals.summaries import difference, estimate, mean

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


def judge(
    gates: Sequence[Gate],
    candidate: EvalReport,
    production: EvalReport,
    asked: AskedSamples | None = None,
    again: EvalReport | None = None,
) -> GateDecision:
    """The candidate against the limits and, sample by sample, against production. No gate, no pass.

    `asked` has the suites' samples, for gates with slices. `again` is production asked a second time: what the serving
    stack alone changes between the two runs widens the intervals of all differences.
    """
    findings = tuple(finding for gate in gates for finding in _judge(gate, candidate, production, asked or {}, again))
    return GateDecision(passed=bool(findings) and all(f.verdict == "pass" for f in findings), findings=findings)


def _judge(
    gate: Gate, candidate: EvalReport, production: EvalReport, asked: AskedSamples, again: EvalReport | None
) -> Iterator[GateFinding]:
    new, old = candidate.suites.get(gate.suite), production.suites.get(gate.suite)
    twice = None if again is None else again.suites.get(gate.suite)
    limits = ("min_score", "max_score", "max_drop", "min_gain")
    for limit, value in ((name, getattr(gate, name)) for name in limits):
        if value is None:
            continue
        verdict, sentence = _compare(gate, limit, value, new, old, twice)
        yield GateFinding(
            suite=gate.suite, limit=f"{limit} {value:.2f}", verdict=verdict, sentence=f"{gate.suite}: {sentence}"
        )
    for one in gate.slices:
        verdict, sentence = _compare_slices(gate, one, new, old, asked)
        limit = f"slices by {one.field} max_drop {one.max_drop:.2f}"
        yield GateFinding(suite=gate.suite, limit=limit, verdict=verdict, sentence=f"{gate.suite}: {sentence}")


def _compare_slices(
    gate: Gate, one: SliceGate, new: SuiteResult | None, old: SuiteResult | None, asked: AskedSamples
) -> tuple[GateVerdict, str]:
    trouble = _candidate_trouble(new) or _production_trouble(new, old, paired=True)
    if trouble or new is None or old is None:
        return "error", trouble
    found = judge_slices(one, gate.confidence, new, old, asked.get(gate.suite, {}))
    if isinstance(found, str):
        return "error", found
    return _unless_blind(gate, found.blind, "fail" if found.worse else "pass", found.sentence)


def _compare(
    gate: Gate,
    limit: str,
    value: float,
    new: SuiteResult | None,
    old: SuiteResult | None,
    again: SuiteResult | None,
) -> tuple[GateVerdict, str]:
    paired = limit not in ("min_score", "max_score")
    trouble = _candidate_trouble(new) or _production_trouble(new, old, paired) or _wrong_way(limit, new)
    if trouble or new is None:
        return "error", trouble
    if old is None or not paired:
        return _reaches(gate, value, new, old)
    return _differs(gate, limit, value, new, old, again)


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
    return off_the_scale(new, "the candidate")


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
    return off_the_scale(old, "production")


def _wrong_way(limit: str, new: SuiteResult | None) -> str:
    """A floor under what should be low, or a ceiling over what should be high, would let the wrong ones pass."""
    fitting = {"min_score": "higher", "max_score": "lower"}.get(limit)
    if new is None or fitting in (None, new.better):
        return ""
    return f"{new.better} is better here, so that {limit} asks the wrong way round: give " + (
        "max_score" if new.better == "lower" else "min_score"
    )


def _reaches(gate: Gate, value: float, new: SuiteResult, old: SuiteResult | None) -> tuple[GateVerdict, str]:
    found = estimate(new.measure, counted(new, "wrong"), gate.confidence)
    beside = f"; production {_score(old)}" if old is not None else ""
    notes = f"(n={found.n}{_notes(new)}{beside})"
    blind = _blind_to_score(gate, value, new) if gate.strict else ""
    whole = gate.strict and not blind
    if new.better == "lower":
        shown = found.high if whole else found.value
        how = "keeps below" if shown <= value else "is above"
        what = "upper bound " if whole else ""
        passed, sentence = shown <= value, f"candidate {found} {how} the allowed {what}{value:.2f} {notes}"
    else:
        shown = found.low if whole else found.value
        what = "lower bound " if whole else ""
        how = "reaches" if shown >= value else "is below"
        passed, sentence = shown >= value, f"candidate {found} {how} the required {what}{value:.2f} {notes}"
    return _unless_blind(gate, blind, "pass" if passed else "fail", sentence)


def _blind_to_score(gate: Gate, value: float, new: SuiteResult) -> str:
    """Why the interval of no candidate could keep this limit; "" when one could."""
    if new.measure != "mean":
        return ""
    is_low = new.better == "lower"
    best = mean([0.0 if is_low else 1.0] * len(new.samples), gate.confidence)
    if (best.high <= value) if is_low else (best.low >= value):
        return ""
    shown = best.high if is_low else best.low
    return f"the interval over {len(new.samples)} samples shows {shown:.2f} at best"


def _unless_blind(gate: Gate, blind: str, verdict: GateVerdict, sentence: str) -> tuple[GateVerdict, str]:
    """What cannot be shown does not pass, unless the gate says so; what is plainly wrong is a fail all the same."""
    if not blind or verdict == "fail":
        return verdict, sentence
    if gate.when_blind == "allow":
        return verdict, f"{sentence}; nothing more is shown: {blind}, and the gate says when_blind: allow"
    cure = "take more samples or a wider limit, or say when_blind: allow"
    return "error", f"{sentence}; the gate cannot tell: {blind}; {cure}"


def _differs(
    gate: Gate, limit: str, value: float, new: SuiteResult, old: SuiteResult, again: SuiteResult | None
) -> tuple[GateVerdict, str]:
    found = difference(new.measure, counted(new, "wrong"), counted(old, "right"), gate.confidence)
    noise = RunNoise(0, 0, 0.0) if again is None else noise_of(old, again)
    found = noise.widen(found, gate.confidence)
    better = found if new.better == "higher" else Estimate(-found.value, -found.high, -found.low, found.n)
    is_shown = better.low >= -value if limit == "max_drop" else better.low > value
    blind = "" if is_shown else _blind_to_difference(gate, limit, value, new, old)
    shown = better.value if blind else better.low
    if limit == "max_drop":
        passed, outcome = shown >= -value, _drop_outcome(better, value, new)
    else:
        passed = shown > value
        outcome = f"the gain is {'' if better.low > value else 'not shown to be '}above the required {value:.2f}"
    sentence = (
        f"candidate {_score(new)}, production {_score(old)}; difference {found.value:+.2f} "
        f"[{found.low:+.2f}, {found.high:+.2f}]{_direction(new)}: {outcome} "
        f"({found.n} pairs{_notes(new)}{_notes(old, 'production')}{_noise(noise)})"
    )
    return _unless_blind(gate, blind, "pass" if passed else "fail", sentence)


def _blind_to_difference(gate: Gate, limit: str, value: float, new: SuiteResult, old: SuiteResult) -> str:
    """Why no candidate could keep this limit on so many samples; "" when one could.

    Of scores between 0 and 1 the interval alone tells: it is as narrow as they are alike.
    """
    samples = counted(new, "wrong")
    if any(one.score not in (0.0, 1.0) for one in (*samples, *counted(old, "right"))):
        return ""
    equal, ahead = best_difference(new.measure, samples, gate.confidence)
    if limit == "max_drop":
        return (
            ""
            if equal >= -value
            else f"for a candidate as good as production {len(samples)} samples exclude no drop below {-equal:.3f}"
        )
    return "" if ahead > value else f"{len(samples)} samples show no gain above {ahead:.3f}"


def _noise(noise: RunNoise) -> str:
    return f"; asked twice, production scores otherwise on {noise.changed} of {noise.n}" if noise.n else ""


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
