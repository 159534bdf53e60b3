"""What a report on a candidate tells: whom it was compared with, on what, and where its answers became worse."""

from dataclasses import dataclass, field

from pydantic import Field

from configs.strict import Strict
from delivery.build.gate import GateDecision
from delivery.build.slices import AskedSamples
from evals.report import EvalReport, SampleScore
from evals.samples import Sample

ALIKE = 3  # regressions that are shown of those against which the same suites speak


class ReportBasis(Strict):
    """Everything beside the candidate's own report."""

    decision: GateDecision
    production: EvalReport
    base: EvalReport | None = None
    asked: dict[str, dict[str, Sample]] = Field(default_factory=dict)  # suite -> id -> what was asked
    trained_tokens: int | None = None
    final_loss: float | None = None  # mean over the last steps' assistant tokens, in nats


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
