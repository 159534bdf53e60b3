"""`similarity`: how near the reply comes to the expected text, by a library's measure, from 0 to 1."""

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from evals.samples import Reply, Sample
from evals.scorers.score import Score, TextComparison, expected_texts, nothing_expected


class SimilarityScorer(TextComparison):
    """The nearest of the expected texts counts; with `at_least`, 1 when it comes so near."""

    name: Literal["similarity"]
    measure: Literal["edits", "words", "chrf"] = Field(
        "edits",
        description="edits: the share of characters that stay (indel ratio); words: the same whatever the words' "
        "order; chrf: the mean F-score of character n-grams (Popovic 2015), as for translations",
    )
    at_least: float | None = Field(None, gt=0, le=1, description="from here on a reply counts as right")

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """Two texts without a character in common have the score 0."""
        wanted = expected_texts(sample)
        if not wanted:
            return nothing_expected(sample)
        said = self.alike(replies[-1].text or "")
        measure = _measure(self.measure)
        nearest = max(measure(said, self.alike(text)) for text in wanted)
        if self.at_least is None:
            return Score(nearest)
        is_near = nearest >= self.at_least
        return Score(float(is_near), "" if is_near else f"similarity {nearest:.2f}, wanted {self.at_least:.2f}")


def _measure(name: str) -> Callable[[str, str], float]:
    if name == "chrf":
        from sacrebleu.metrics.chrf import CHRF  # a third of a second to import, and few suites want it

        chrf = CHRF()
        return lambda said, wanted: float(chrf.sentence_score(said, [wanted]).score) / 100
    from rapidfuzz import fuzz

    ratio = fuzz.ratio if name == "edits" else fuzz.token_sort_ratio
    return lambda said, wanted: float(ratio(said, wanted)) / 100
