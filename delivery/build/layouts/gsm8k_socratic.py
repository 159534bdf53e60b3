"""GSM8K's socratic rows as a tutor's first turn; only where a recipe names it: such field names tell little."""

import re
from collections.abc import Mapping
from typing import Any

from delivery.build.layouts.row import Layout, Reading, Unusable, rest_of, text_of


def _read(data: Mapping[str, Any]) -> Reading:
    """The first sub-question that is a question and does not hold the final number."""
    steps, marker, final = text_of(data, "answer").rpartition("#### ")
    if not marker:
        raise Unusable("wrong-shape", "`answer` has no last line `#### result`")
    final = final.strip().replace(",", "")
    questions = [line.partition(" ** ")[0].strip() for line in steps.splitlines() if " ** " in line]
    good = [q for q in questions if q.endswith("?") and final not in re.findall(r"\d+(?:\.\d+)?", q.replace(",", ""))]
    if not good:
        raise Unusable("no-question", f"none of {len(questions)} steps is a question without the result {final}")
    messages = ({"role": "user", "content": text_of(data, "question")}, {"role": "assistant", "content": good[0]})
    return Reading(messages, rest_of(data, "question", "answer") | {"answer": final})


LAYOUT = Layout(lambda data: False, _read)
