"""How a row of each known layout becomes chat messages, and what is wrong with a row that does not."""

import re
from collections.abc import Callable, Mapping
from typing import Any

Message = dict[str, str]
"""`role` and `content`, nothing else."""

Reading = tuple[tuple[Message, ...], dict[str, Any]]
"""The messages, and the row's other fields, which training does not use."""


class Unusable(Exception):  # noqa: N818  a verdict on one row, caught where rows are sifted
    """`reason` is one of a few words to count by, `detail` a sentence with the values."""

    def __init__(self, reason: str, detail: str):
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


def _from_messages(data: dict[str, Any]) -> Reading:
    found = data.get("messages")
    if not isinstance(found, list | tuple):
        raise Unusable("wrong-shape", f"`messages` must be a list, found {_kind(data, 'messages')}")
    messages = []
    for index, item in enumerate(found):
        if not isinstance(item, dict):
            raise Unusable("wrong-shape", f"messages.{index} must be an object, found {type(item).__name__}")
        given = {key: value for key, value in item.items() if value is not None}
        if unknown := given.keys() - {"role", "content"}:
            raise Unusable("wrong-shape", f"messages.{index} has what training cannot use: {sorted(unknown)}")
        messages.append({key: _text(given, key, f"messages.{index}.") for key in ("role", "content")})
    return tuple(messages), _rest(data, "messages")


def _from_prompt_completion(data: dict[str, Any]) -> Reading:
    messages = (
        {"role": "user", "content": _text(data, "prompt")},
        {"role": "assistant", "content": _text(data, "completion")},
    )
    return messages, _rest(data, "prompt", "completion")


def _from_gsm8k_socratic(data: dict[str, Any]) -> Reading:
    """The tutor's first turn: the first sub-question that is a question and does not hold the final number."""
    steps, marker, final = _text(data, "answer").rpartition("#### ")
    if not marker:
        raise Unusable("wrong-shape", "`answer` has no last line `#### result`")
    final = final.strip().replace(",", "")
    questions = [line.partition(" ** ")[0].strip() for line in steps.splitlines() if " ** " in line]
    good = [q for q in questions if q.endswith("?") and final not in re.findall(r"\d+(?:\.\d+)?", q.replace(",", ""))]
    if not good:
        raise Unusable("no-question", f"none of {len(questions)} steps is a question without the result {final}")
    messages = ({"role": "user", "content": _text(data, "question")}, {"role": "assistant", "content": good[0]})
    return messages, _rest(data, "question", "answer") | {"answer": final}


READERS: dict[str, Callable[[dict[str, Any]], Reading]] = {
    "messages": _from_messages,
    "prompt-completion": _from_prompt_completion,
    "gsm8k-socratic": _from_gsm8k_socratic,
}


def _text(data: Mapping[str, Any], key: str, where: str = "") -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise Unusable("wrong-shape", f"`{where}{key}` must be text, found {_kind(data, key)}")
    return value


def _kind(data: Mapping[str, Any], key: str) -> str:
    if key in data:
        return type(data[key]).__name__
    return f"no such field among {sorted(map(str, data))}"


def _rest(data: dict[str, Any], *used: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in used and value is not None}
