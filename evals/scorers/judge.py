"""`judge`: a language model says whether the reply or the expected answer is the better one.

It is asked twice, with the answers in either order. Who asks lies elsewhere: here is what the replies come to.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from configs.judge import Judge
from configs.strict import Strict
from evals.samples import Reply, Sample
from evals.scorers.score import Score, expected_texts, nothing_expected

JudgeOpinion = Literal["stable", "candidate", "tie", "swayed", "unclear"]
_OF_A_RELEASE = frozenset(("share_bp", "pairs_per_tick", "pairs_per_release"))
_SCORES: dict[JudgeOpinion, Score] = {
    "stable": Score(0.0, "the judge prefers the expected answer"),
    "tie": Score(0.5, "the judge sees no difference to the expected answer"),
    "candidate": Score(1.0),
    "swayed": Score(None, "the judge changes its mind with the order of the answers"),
    "unclear": Score(None, "the judge's reply was not understood"),
}


class JudgeScorer(Strict):
    """1 when a judge prefers the last reply to the sample's `expected`, a half when it sees no difference."""

    name: Literal["judge"]
    judge_by: Judge = Field(alias="judge", description="the model that judges: pin it by a name that never moves")
    tie: float = Field(0.5, ge=0, le=1, description="the score of a reply that is as good as the expected answer")

    @field_validator("judge_by")
    @classmethod
    def _of_an_eval(cls, judge: Judge) -> Judge:
        if idle := sorted(_OF_A_RELEASE & judge.model_fields_set):
            raise ValueError(f"{', '.join(idle)} bound a release's judge; here every sample is judged -> leave it out")
        return judge

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """Without a judge's opinion there is nothing to say but that."""
        return nothing_expected(sample) if not expected_texts(sample) else Score(None, "no judge was asked")

    def of(self, opinion: JudgeOpinion) -> Score:
        """What a judge's opinion of a reply (its "candidate") beside the expected answer ("stable") comes to."""
        score = _SCORES[opinion]
        return score if opinion != "tie" else score._replace(score=self.tie)
