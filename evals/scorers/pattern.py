"""`pattern`: a regular expression is found in the reply, or is not, or finds what is expected.

The engine is RE2, whose time grows with the text alone: no pattern and no reply can hold an evaluation up.
"""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from configs.patterns import Regex, compiled
from evals.samples import Reply, Sample
from evals.scorers.score import Score, TextComparison, expected_texts, nothing_expected, shown, unless


class PatternScorer(TextComparison):
    """1 when the pattern is found anywhere in the last reply; with `group`, when that group is what is expected."""

    name: Literal["pattern"]
    pattern: Regex
    ignore_case: bool = True
    wanted: Literal["presence", "absence"] = "presence"
    group: int | None = Field(None, ge=0, description="this group of the last match is compared with `expected`")

    @model_validator(mode="after")
    def _group_is_there(self) -> Self:
        groups = compiled(self.pattern, self.ignore_case).groups
        if self.group is not None and self.group > groups:
            raise ValueError(f"the pattern has {groups} groups, no group {self.group} -> put it in parentheses")
        if self.group is not None and self.wanted == "absence":
            raise ValueError("what must be absent has no group to compare -> leave out `group` or `wanted`")
        return self

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """A reply that was cut off before any match that must not be there cannot be judged."""
        text = replies[-1].text or ""
        if self.group is not None:
            return self._compare(sample, text)
        found = compiled(self.pattern, self.ignore_case).search(text)
        if self.wanted == "presence":
            return unless("" if found else "the pattern is not found")
        if found is None and replies[-1].cut:
            return Score(None, "cut off by max_tokens before any match: one might have followed")
        return unless(f"the pattern is found: {shown(found.group())}" if found else "")

    def _compare(self, sample: Sample, text: str) -> Score:
        wanted = expected_texts(sample)
        if not wanted:
            return nothing_expected(sample)
        matches = list(compiled(self.pattern, self.ignore_case).finditer(text))
        if not matches:
            return unless("the pattern is not found")
        said = matches[-1].group(self.group) or ""
        is_equal = self.alike(said) in {self.alike(expected) for expected in wanted}
        return unless("" if is_equal else f"says {shown(said)}, expected {shown(sample.expected)}")
