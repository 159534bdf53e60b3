"""Rows in a language that is not asked for; py3langid tells it, with a model that its package brings along."""

from functools import lru_cache
from typing import Any

from configs.filters import LanguageFilter
from delivery.build.layouts.row import Unusable
from delivery.build.rows import Example
from tasks.data.filters.texts import answers, asked

VERSION = 1
PACKAGES = ("py3langid",)


def judge(settings: LanguageFilter, example: Example) -> Example:
    """Raises Unusable (language) for a text whose language is told with enough confidence and is not allowed."""
    for where, text in [("what the user says", " ".join(asked(example))), *answers(example)]:
        if sum(letter.isalpha() for letter in text) < settings.min_letters:
            continue
        language, confidence = _identifier().classify(text)
        if language not in settings.allowed and confidence >= settings.min_confidence:
            allowed = ", ".join(settings.allowed)
            raise Unusable("language", f"{where} is {language} ({confidence:.2f}), allowed: {allowed}")
    return example


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
