"""Whether an answer breaks a route's response contract: pure, the same for every variant, bounded in input and time.

What is judged is what the user got. An answer that ended at its token limit is judged as it stands; one that is longer
than what was kept counts as broken where its beginning shows it, and is not judged otherwise.
"""

from typing import NamedTuple

import orjson

from configs.contract import Contract, Detector, Form, Json, Pattern, Refusal
from configs.patterns import compiled
from evals.json_schema import TooManyStepsError, is_of
from evals.wording import ending_fault, length_fault, markup_fault, refuses

QUICK_STEPS = 150  # of a JSON Schema's rules: about a millisecond
MOST_STEPS = 20_000
QUICK_WORK = 300_000  # characters times instructions: about a millisecond


class ContractJudgement(NamedTuple):
    """Per detector, True if the answer breaks it; what cannot be told is absent. `given_up`: it would take too long."""

    verdicts: dict[str, bool]
    given_up: tuple[str, ...] = ()


def is_quick(contract: Contract, text: str) -> bool:
    """Whether `judge` takes a few milliseconds at most, given QUICK_STEPS."""
    return contract.work * len(text) <= QUICK_WORK


def judge(contract: Contract, text: str, *, is_whole: bool = True, steps: int = MOST_STEPS) -> ContractJudgement:
    """What the contract says of an answer. No text gives no verdicts.

    `is_whole`: False when `text` is only the beginning of the answer. `steps`: that a JSON Schema may take.
    """
    verdicts: dict[str, bool] = {}
    given_up = []
    if text.strip():
        for name, detector in contract.detectors.items():
            try:
                verdict = _breaks(detector, text, is_whole, steps)
            except TooManyStepsError:
                given_up.append(name)
            else:
                if verdict is not None:
                    verdicts[name] = verdict
    return ContractJudgement(verdicts, tuple(given_up))


def _breaks(detector: Detector, text: str, is_whole: bool, steps: int) -> bool | None:
    match detector:
        case Form():
            return _or_unknown(_form_fault(detector, text, is_whole) != "", is_whole)
        case Refusal():
            return refuses(text, detector.opening)
        case Pattern():
            found = compiled(detector.pattern, detector.ignore_case).search(text) is not None
            if detector.broken_by == "absence":
                return False if found else (True if is_whole else None)
            return _or_unknown(found, is_whole)
        case Json():
            return _is_no_json(detector, text, steps) if is_whole else None


def _or_unknown(is_broken: bool, is_whole: bool) -> bool | None:
    return is_broken if is_broken or is_whole else None


def _form_fault(form: Form, text: str, is_whole: bool) -> str:
    fault = length_fault(text, form.max_words, form.max_sentences)
    if not fault and form.plain_text:
        fault = markup_fault(text)
    return fault or (ending_fault(text) if form.ends_with == "question" and is_whole else "")


def _is_no_json(detector: Json, text: str, steps: int) -> bool:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return True
    return not is_of(detector.json_schema, value, steps)
