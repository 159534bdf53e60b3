"""What a scorer says of one sample, and what all scorers of text share: which texts are expected, and what equals them.

A scorer never takes "could not judge" for a zero: a sample without what is needed gives the score None and the reason.
"""

import re
import unicodedata
from typing import NamedTuple

from pydantic import Field, JsonValue

from configs.strict import Strict
from evals.samples import Sample


class Score(NamedTuple):
    """A score from 0 to 1, or None where nobody can tell; and for scorers of classes what was expected and said."""

    score: float | None
    reason: str = ""
    expected: str | None = None
    said: str | None = None  # "" when the reply names no class


def unless(fault: str) -> Score:
    """1 where nothing speaks against a reply, 0 with the fault as its reason."""
    return Score(0.0, fault) if fault else Score(1.0)


def expected_texts(sample: Sample) -> tuple[str, ...]:
    """The sample's `expected` as texts, any of which is right; empty when there is none, or it is no text or number."""
    wanted = sample.expected if isinstance(sample.expected, list) else [sample.expected]
    texts = [_text(value) for value in wanted]
    return tuple(text for text in texts if text is not None) if None not in texts else ()


def nothing_expected(sample: Sample) -> Score:
    """What to say of a sample whose `expected` holds no text to compare with."""
    return Score(None, f"the sample expects {shown(sample.expected)}; a text, or a list of texts, is needed")


def shown(value: JsonValue, most: int = 80) -> str:
    """A value in at most so many characters, for a reason."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def _text(value: JsonValue) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)


class TextComparison(Strict):
    """How texts are made alike before they are compared. White space at both ends never counts."""

    ignore_case: bool = Field(False, description="whether capitals and small letters are the same")
    ignore_spaces: bool = Field(False, description="whether any run of white space equals one space")
    ignore_punctuation: bool = Field(False, description="whether what is neither letter, digit nor space is left out")

    def alike(self, text: str) -> str:
        """The text in the form that is compared."""
        text = unicodedata.normalize("NFC", text)
        if self.ignore_case:
            text = text.casefold()
        if self.ignore_punctuation:
            text = re.sub(r"[^\w\s]|_", "", text)
        return re.sub(r"\s+", " ", text).strip() if self.ignore_spaces else text.strip()
