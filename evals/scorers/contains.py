"""`contains`: certain texts are in the reply, or are not."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from evals.samples import Reply, Sample
from evals.scorers.score import Score, TextComparison, expected_texts, nothing_expected, shown, unless


class ContainsScorer(TextComparison):
    """1 when the last reply holds all, any or none of the texts."""

    name: Literal["contains"]
    texts: tuple[str, ...] = Field((), description="what is looked for; by default the sample's `expected`")
    which: Literal["all", "any", "none"] = "all"

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """A reply that was cut off before any of what must not be in it cannot be judged: it might have followed."""
        wanted = self.texts or expected_texts(sample)
        if not wanted:
            return nothing_expected(sample)
        reply = self.alike(replies[-1].text or "")
        found = [text for text in wanted if self.alike(text) in reply]
        if self.which == "none":
            if not found and replies[-1].cut:
                return Score(None, "cut off by max_tokens before any of the texts: one might have followed")
            return unless(f"holds {shown(found[0])}" if found else "")
        missing = [text for text in wanted if text not in found]
        if self.which == "any":
            return unless("" if found else f"holds none of {shown(list(wanted))}")
        return unless(f"does not hold {shown(missing[0])}" if missing else "")
