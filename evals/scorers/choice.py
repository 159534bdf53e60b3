"""`choice`: the reply names one of some classes. Its suites have an accuracy, a macro-F1 and figures by class."""

import re
from collections.abc import Sequence
from typing import Literal, Self

import orjson
from pydantic import Field, JsonValue, model_validator

from configs.strict import Strict
from evals.samples import Reply, Sample
from evals.scorers.score import Score, shown

_AROUND = " \t\r\n.,;:!?\"'`*()[]"


class ChoiceScorer(Strict):
    """1 when the last reply names the sample's `expected` class."""

    name: Literal["choice"]
    labels: tuple[str, ...] = Field(min_length=2, description="the classes")
    ignore_case: bool = True
    field: str | None = Field(None, description="the class stands in this field of a JSON object")
    anywhere: bool = Field(False, description="whether the one class that a longer reply names counts")

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        plain = [self._plain(label) for label in self.labels]
        if len(set(plain)) < len(plain) or "" in plain:
            raise ValueError("two labels are the same, or one is empty -> give each class a name of its own")
        if self.field is not None and self.anywhere:
            raise ValueError("a class in a field of JSON does not stand anywhere -> keep `field` or `anywhere`")
        return self

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """A reply that names no class, or several, is wrong and not unjudged: that is what users get."""
        wanted = self.expected_label(sample)
        if wanted is None:
            return Score(None, f"the sample expects {shown(sample.expected)}; one of {list(self.labels)} is needed")
        said = self._label_in(replies[-1].text or "")
        if said is None:
            return Score(0.0, f"names none of the classes, or several; expected {wanted!r}", wanted, "")
        reason = "" if said == wanted else f"says {said!r}, expected {wanted!r}"
        return Score(float(said == wanted), reason, wanted, said)

    def expected_label(self, sample: Sample) -> str | None:
        """The class that a sample expects, written alone or as a reply would write it."""
        return self._label_in(sample.expected) or self._bare(sample.expected)

    def _label_in(self, value: JsonValue) -> str | None:
        found = value if self.field is None else _field(value, self.field)
        label = self._bare(found)
        return self._named_in(found) if label is None and self.anywhere and isinstance(found, str) else label

    def _bare(self, value: JsonValue) -> str | None:
        """The label that a value is, whole."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return None
        plain = self._plain(str(value))
        return next((label for label in self.labels if self._plain(label) == plain), None)

    def _named_in(self, text: str) -> str | None:
        """The one label that the text names as a word. A label inside a longer one that is named does not count."""
        flags = re.IGNORECASE if self.ignore_case else 0
        places = {
            label: [m.span() for m in re.finditer(rf"(?<!\w){re.escape(label)}(?!\w)", text, flags)]
            for label in self.labels
        }
        all_places = [place for found in places.values() for place in found]
        named = [label for label, found in places.items() if any(not _is_inside(place, all_places) for place in found)]
        return named[0] if len(named) == 1 else None

    def _plain(self, text: str) -> str:
        text = text.strip(_AROUND)
        return text.casefold() if self.ignore_case else text


def _is_inside(place: tuple[int, int], others: Sequence[tuple[int, int]]) -> bool:
    start, end = place
    return any(a <= start and end <= b and (a, b) != place for a, b in others)


def _field(value: JsonValue, name: str) -> JsonValue:
    """That field of a JSON object, or of a text that is one; None where there is no such field."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
    return value.get(name) if isinstance(value, dict) else None
