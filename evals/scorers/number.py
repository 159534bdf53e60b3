"""`number`: the reply comes to the expected number, however either is written: "1,200", "3/4", "twelve"."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from pydantic import Field

from configs.strict import Strict
from evals.numbers import mentions, normalised, value_of
from evals.samples import Reply, Sample
from evals.scorers.score import Score, shown, unless


class NumberScorer(Strict):
    """1 when a number of the last reply is the sample's `expected` within the tolerance."""

    name: Literal["number"]
    which: Literal["last", "first", "only", "any"] = Field("last", description="of the reply's numbers")
    tolerance: float = Field(0.0, ge=0, description="how far it may be from the expected one")
    relative_tolerance: float = Field(0.0, ge=0, lt=1, description="the same, as a share of the expected one")

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """The larger of the two tolerances counts."""
        wanted = value_of(str(sample.expected)) if isinstance(sample.expected, str | int | float) else None
        if wanted is None:
            return Score(None, f"the sample expects {shown(sample.expected)}; one number is needed")
        said = [mention.value for mention in mentions(normalised(replies[-1].text or "")) if not mention.vague]
        if not said:
            return unless("holds no number")
        if self.which == "only" and len(set(said)) > 1:
            return unless(f"holds {len(set(said))} different numbers")
        chosen = {"last": said[-1:], "first": said[:1], "only": said[:1], "any": said}[self.which]
        allowed = max(Fraction(self.tolerance), Fraction(self.relative_tolerance) * abs(wanted))
        is_right = any(abs(value - wanted) <= allowed for value in chosen)
        return unless("" if is_right else f"says {float(chosen[-1]):g}, expected {float(wanted):g}")
