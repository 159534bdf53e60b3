"""Every kind of scorer by its name in an eval.yaml. A new kind is one file beside this one, and its line here."""

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from evals.report import SampleScore
from evals.samples import Reply, Sample
from evals.scorers.choice import ChoiceScorer
from evals.scorers.contains import ContainsScorer
from evals.scorers.detector import DetectorScorer
from evals.scorers.exact import ExactScorer
from evals.scorers.function import FunctionScorer
from evals.scorers.json_fields import JsonFieldsScorer
from evals.scorers.judge import JudgeScorer
from evals.scorers.number import NumberScorer
from evals.scorers.pattern import PatternScorer
from evals.scorers.refusal import RefusalScorer
from evals.scorers.score import Score
from evals.scorers.similarity import SimilarityScorer

ScorerConfig = Annotated[
    ExactScorer
    | ContainsScorer
    | PatternScorer
    | NumberScorer
    | ChoiceScorer
    | JsonFieldsScorer
    | DetectorScorer
    | RefusalScorer
    | SimilarityScorer
    | JudgeScorer
    | FunctionScorer,
    Field(discriminator="name"),
]
Scorer = Callable[[Sample, Sequence[Reply]], SampleScore]


def scorer(config: ScorerConfig) -> Scorer:
    """The scorer that an eval.yaml asks for; it takes a sample and all replies of the model, in their order."""

    def score(sample: Sample, replies: Sequence[Reply]) -> SampleScore:
        given = unanswered(sample, replies) or config.judge(sample, replies)
        if isinstance(config, ChoiceScorer):  # a sample that nobody answered belongs to its class all the same
            given = given._replace(expected=config.expected_label(sample))
        return scored(sample, replies, given)

    return score


def scored(sample: Sample, replies: Sequence[Reply], given: Score) -> SampleScore:
    """A score beside what it is about."""
    output = "\n---\n".join(reply.text or "" for reply in replies)
    return SampleScore(
        id=sample.id,
        score=given.score,
        reason=given.reason,
        output=output,
        expected=given.expected,
        said=given.said,
    )


def unanswered(sample: Sample, replies: Sequence[Reply]) -> Score | None:
    """Why no scorer can judge: no text, or too few replies. None when there is something to judge."""
    for turn, reply in enumerate(replies, start=1):
        if reply.problem:
            return Score(None, f"reply {turn}: {reply.problem}")
        if not (reply.text or "").strip():
            return Score(None, f"reply {turn} is empty")
    if len(replies) != sample.replies:
        return Score(None, f"{len(replies)} replies, {sample.replies} are needed")
    return None
