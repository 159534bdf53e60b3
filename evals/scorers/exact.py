"""`exact`: the reply is the expected text and nothing else."""

from collections.abc import Sequence
from typing import Literal

from evals.samples import Reply, Sample
from evals.scorers.score import Score, TextComparison, expected_texts, nothing_expected, shown, unless


class ExactScorer(TextComparison):
    """1 when the last reply is the sample's `expected`, or one of them when it is a list."""

    name: Literal["exact"]

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """A reply that was cut off is compared as it stands: so it was served."""
        wanted = expected_texts(sample)
        if not wanted:
            return nothing_expected(sample)
        is_equal = self.alike(replies[-1].text or "") in {self.alike(text) for text in wanted}
        return unless("" if is_equal else f"expected {shown(sample.expected)}")
