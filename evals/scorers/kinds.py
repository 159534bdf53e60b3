"""Every kind of scorer by its name in an eval.yaml. A new kind is one file beside this one, and its line here."""

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from evals.report import SampleScore
from evals.samples import Reply, Sample
from evals.scorers.choice import Choice
from evals.scorers.contains import Contains
from evals.scorers.detector import Detector
from evals.scorers.exact import Exact
from evals.scorers.function import Function
from evals.scorers.json_fields import JsonFields
from evals.scorers.judge import Judged
from evals.scorers.number import Number
from evals.scorers.pattern import Pattern
from evals.scorers.refusal import Refusal
from evals.scorers.similarity import Similarity
from evals.scorers.verdict import Verdict

ScorerConfig = Annotated[
    Exact | Contains | Pattern | Number | Choice | JsonFields | Detector | Refusal | Similarity | Judged | Function,
    Field(discriminator="name"),
]
Scorer = Callable[[Sample, Sequence[Reply]], SampleScore]


def scorer(config: ScorerConfig) -> Scorer:
    """The scorer that an eval.yaml asks for; it takes a sample and all replies of the model, in their order."""

    def score(sample: Sample, replies: Sequence[Reply]) -> SampleScore:
        verdict = unanswered(sample, replies) or config.judge(sample, replies)
        if isinstance(config, Choice):  # a sample that nobody answered belongs to its class all the same
            verdict = verdict._replace(expected=config.expected_label(sample))
        return scored(sample, replies, verdict)

    return score


def scored(sample: Sample, replies: Sequence[Reply], verdict: Verdict) -> SampleScore:
    """A verdict beside what it is about."""
    output = "\n---\n".join(reply.text or "" for reply in replies)
    return SampleScore(
        id=sample.id,
        score=verdict.score,
        reason=verdict.reason,
        output=output,
        expected=verdict.expected,
        said=verdict.said,
    )


def unanswered(sample: Sample, replies: Sequence[Reply]) -> Verdict | None:
    """Why no scorer can judge: no text, or too few replies. None when there is something to judge."""
    for turn, reply in enumerate(replies, start=1):
        if reply.problem:
            return Verdict(None, f"reply {turn}: {reply.problem}")
        if not (reply.text or "").strip():
            return Verdict(None, f"reply {turn} is empty")
    if len(replies) != sample.replies:
        return Verdict(None, f"{len(replies)} replies, {sample.replies} are needed")
    return None
