"""What a report on a candidate tells: whom it was compared with, on what, and where its answers became worse."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import Field

from configs.strict import Strict
from delivery.build.gate import GateDecision, between
from evals.estimate import Estimate
from evals.report import EvalReport, SampleScore, SuiteResult
from evals.samples import Sample
from evals.summaries import summarise

FEWEST, MOST = 2, 12  # values of a field that cut a suite into slices
ALIKE = 3  # regressions that are shown of those against which the same suites speak

AskedSamples = Mapping[str, Mapping[str, Sample]]  # suite -> sample's id -> the sample


class Comparison(Strict):
    """Everything beside the candidate's own report."""

    decision: GateDecision
    production: EvalReport
    base: EvalReport | None = None
    asked: dict[str, dict[str, Sample]] = Field(default_factory=dict)  # suite -> id -> what was asked
    trained_tokens: int | None = None
    final_loss: float | None = None  # mean over the last steps' assistant tokens, in nats


@dataclass(frozen=True)
class Slice:
    """The samples of a suite that have one value of a field."""

    suite: str
    field: str
    value: str
    n: int
    candidate: SuiteResult
    production: SuiteResult
    difference: Estimate | None


@dataclass
class Regression:
    """One conversation that the candidate answers worse than production, by every suite that says so."""

    asked: Sample | None
    id: str
    candidate: str
    production: str
    suites: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    lost: float = 0.0  # summed over the suites, each from 0 to 1


def slices(candidate: EvalReport, production: EvalReport, asked: AskedSamples, only: str | None = None) -> list[Slice]:
    """Every suite by every field of its samples that has a few values; `only` names one field, of any many values."""
    return [
        _slice(new, old, name, value, ids)
        for suite, new in candidate.suites.items()
        if (old := production.suites.get(suite)) is not None and new.measure == "mean"
        for name, values in _fields(asked.get(suite.partition("/")[0], {}), only)
        for value, ids in sorted(values.items())
        if any(sample.id in ids for sample in new.samples)
    ]


def _fields(samples: Mapping[str, Sample], only: str | None) -> Iterator[tuple[str, dict[str, set[str]]]]:
    """The fields that cut these samples into slices, with the ids of each value."""
    found: dict[str, dict[str, set[str]]] = {}
    for sample in samples.values():
        for name, value in sample.fields.items():
            if isinstance(value, str | int | bool) and only in (None, name):
                found.setdefault(name, {}).setdefault(str(value), set()).add(sample.id)
    for name, values in found.items():
        if only is not None or FEWEST <= len(values) <= min(MOST, len(samples) // 2):
            yield name, values


def _slice(new: SuiteResult, old: SuiteResult, name: str, value: str, ids: set[str]) -> Slice:
    mine, theirs = (_only(result, ids) for result in (new, old))
    return Slice(new.suite, name, value, len(mine.samples), mine, theirs, between(mine, theirs))


def _only(result: SuiteResult, ids: set[str]) -> SuiteResult:
    samples = [sample for sample in result.samples if sample.id in ids]
    return summarise(result.suite, result.version, result.kind, samples, result.measure, result.better)


def worst(candidate: EvalReport, production: EvalReport, asked: AskedSamples, limit: int = 8) -> list[Regression]:
    """The conversations that lost most, the worst first; suites that share a sample share a regression."""
    found: dict[object, Regression] = {}
    for suite, new in candidate.suites.items():
        old = production.suites.get(suite)
        if old is None or new.kind != "behaviour" or "/" in suite:
            continue
        before = {sample.id: sample for sample in old.samples}
        for sample in new.samples:
            lost = _lost(sample, before.get(sample.id))
            if lost <= 0:
                continue
            question = asked.get(suite, {}).get(sample.id)
            one = found.setdefault(
                question.messages if question is not None else (suite, sample.id),
                Regression(question, sample.id, sample.output, before[sample.id].output),
            )
            one.suites.append(suite)
            one.reasons += [f"{suite}: {sample.reason}"] if sample.reason else []
            one.lost += lost
    shown: dict[tuple[str, ...], list[Regression]] = {}
    for one in sorted(found.values(), key=lambda one: (-one.lost, one.id)):
        shown.setdefault(tuple(one.suites), []).append(one)
    kept = [one for alike in shown.values() for one in alike[:ALIKE]]
    return sorted(kept, key=lambda one: (-one.lost, one.id))[:limit]


def _lost(new: SampleScore, old: SampleScore | None) -> float:
    """By how much an answer is worse; what could not be judged counts as wrong for the candidate alone."""
    if old is None or old.score is None:
        return 0.0
    return old.score - (new.score or 0.0)
