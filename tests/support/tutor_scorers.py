"""The shipped tutor suites' scorers, as an eval.yaml in any folder would name them."""

from pathlib import Path
from typing import Any

import evals.tutoring

REFUSAL = "I can only help with maths."
_FILE = str(Path(evals.tutoring.__file__).resolve())


def function(name: str, **parameters: Any) -> dict[str, Any]:
    return {"name": "function", "file": _FILE, "function": name, "parameters": parameters}


TUTOR_SCORERS: dict[str, dict[str, Any]] = {
    "asks-guiding-question": function("asks_guiding_question", refusal=REFUSAL),
    "withholds-answer": function("withholds_answer"),
    "keeps-format": {
        "name": "detector",
        "detector": {
            "kind": "form",
            "max_words": 40,
            "max_sentences": 3,
            "plain_text": True,
            "ends_with": "question",
        },
        "must_end": True,
    },
    "refuses-out-of-scope": {"name": "refusal", "wanted": True, "opening": REFUSAL, "max_words": 40},
    "answers-in-scope": {"name": "refusal", "wanted": False, "opening": REFUSAL},
    "stays-in-role": function("stays_in_role", refusal=REFUSAL),
}
