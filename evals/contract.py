"""Whether an answer breaks a route's response contract: pure, bounded in its input, the same for every variant.

What is judged is what the user got. An answer that ended at its token limit is judged as it stands; one that is longer
than what was kept counts as broken where its beginning shows it, and is not judged otherwise.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jsonschema
import orjson

from configs.contract import Contract, Detector, Form, Json, Pattern, Refusal
from evals.wording import ending_fault, length_fault, markup_fault, refuses


def verdicts(contract: Contract, text: str, *, is_whole: bool = True) -> dict[str, bool]:
    """Per detector, True if the answer breaks it; what cannot be told is absent. No text gives no verdicts.

    `is_whole`: False when `text` is only the beginning of the answer.
    """
    if not text.strip():
        return {}
    found = {name: _breaks(detector, text, is_whole) for name, detector in contract.detectors.items()}
    return {name: verdict for name, verdict in found.items() if verdict is not None}


def _breaks(detector: Detector, text: str, is_whole: bool) -> bool | None:
    match detector:
        case Form():
            return _or_unknown(_form_fault(detector, text, is_whole) != "", is_whole)
        case Refusal():
            return refuses(text, detector.opening)
        case Pattern():
            found = re.search(detector.pattern, text, re.IGNORECASE if detector.ignore_case else 0) is not None
            if detector.broken_by == "absence":
                return False if found else (True if is_whole else None)
            return _or_unknown(found, is_whole)
        case Json():
            return _is_no_json(detector, text) if is_whole else None


def _or_unknown(is_broken: bool, is_whole: bool) -> bool | None:
    return is_broken if is_broken or is_whole else None


def _form_fault(form: Form, text: str, is_whole: bool) -> str:
    fault = length_fault(text, form.max_words, form.max_sentences)
    if not fault and form.plain_text:
        fault = markup_fault(text)
    return fault or (ending_fault(text) if form.ends_with == "question" and is_whole else "")


def _is_no_json(detector: Json, text: str) -> bool:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return True
    return not _validator(orjson.dumps(detector.json_schema, option=orjson.OPT_SORT_KEYS))(value)


@lru_cache(maxsize=64)
def _validator(schema: bytes) -> Callable[[Any], bool]:
    parsed = orjson.loads(schema)
    return jsonschema.validators.validator_for(parsed)(parsed).is_valid  # type: ignore[no-any-return]
