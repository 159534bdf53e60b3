"""What a new project can be told from a look at its data: how its rows are read, what they ask for, and its labels.

Nothing here is a rule of the product: a guess is written into YAML files, with a comment, for a person to correct.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from configs.dataset import Turn
from configs.errors import ConfigError, Problem
from delivery.build.layouts import columns
from delivery.build.layouts.known import LAYOUTS, recognise
from delivery.build.layouts.row import Reading, Unusable

GuessedKind = Literal["chat", "json", "classify", "tutor"]
QUESTIONS = (
    *("question", "query", "prompt", "stem", "text", "sentence", "review", "utterance", "content", "message"),
    *("input", "instruction", "body", "title", "description"),
)
ANSWERS = (
    *("answer", "label", "gold", "class", "category", "intent", "sentiment", "target", "output", "completion"),
    *("response", "reply", "topic", "tag", "answer_idx", "correct", "solution"),
)
CHOICES = ("choices", "options", "endings", "candidates", "answers")
MOST_LABELS = 50  # more different answers are no classes
MOST_ENUM = 20  # a JSON field with at most so many different texts is listed in its schema
REASONED = "</think>"
ROWS_A_LABEL = 3  # on the average, for answers to be called labels


@dataclass(frozen=True)
class Guess:
    """`reader` or `turns` say how a row becomes messages; `labels` and `schema` what its answers have in common."""

    kind: GuessedKind
    reader: str | None
    turns: tuple[Turn, ...]
    labels: tuple[str, ...]  # of `classify`, the most frequent first
    schema: dict[str, Any]  # of `json`: a JSON Schema that all answers seen follow
    example: str  # one answer
    longest_answer: str
    longest_bytes: int  # of a row's messages together
    own_system_prompts: int  # rows that bring one
    rows: int  # that were looked at and could be read
    has_reasoning: bool  # whether an answer reasons before it answers


def guess(
    rows: Sequence[Mapping[str, Any]], kind: GuessedKind | None, question: str | None = None, answer: str | None = None
) -> Guess:
    """Looks at some rows. Raises ConfigError where they cannot be told, with what to name."""
    reader, turns = _reading(rows, kind, question, answer)
    readings = [found for row in rows if (found := _read(row, reader, turns)) is not None]
    answers = [text for reading in readings if (text := _answer(reading))]
    if not answers:
        cure = "name the fields: --question FIELD --answer FIELD"
        raise ConfigError(f"none of the first {len(rows)} rows holds an answer to learn", where="--data", cure=cure)
    kind = kind or _kind(answers)
    return Guess(
        kind=kind,
        reader=reader,
        turns=turns,
        labels=_labels(answers) if kind == "classify" else (),
        schema=_schema(answers) if kind == "json" else {},
        example=answers[0],
        longest_answer=max(answers, key=len),
        longest_bytes=max(sum(len(str(m["content"]).encode()) for m in reading.messages) for reading in readings),
        own_system_prompts=sum(any(m["role"] == "system" for m in reading.messages) for reading in readings),
        rows=len(readings),
        has_reasoning=any(REASONED in text for text in answers),
    )


def _reading(
    rows: Sequence[Mapping[str, Any]], kind: GuessedKind | None, question: str | None, answer: str | None
) -> tuple[str | None, tuple[Turn, ...]]:
    """A reader's name, or the messages that a row's fields make."""
    if question is None and answer is None:
        found = recognise(rows)
        if not isinstance(found, Problem):
            return found, ()
    fields = Counter(str(name) for row in rows for name in row)
    known = [name for name, count in fields.items() if count == len(rows)]
    asked = question or _first(known, QUESTIONS)
    answered = answer or _first([name for name in known if name != asked], ANSWERS)
    problems = [
        Problem(option, f"{name!r} is no field of every row", f"fields: {', '.join(known)}")
        for option, name in (("--question", question), ("--answer", answer))
        if name is not None and name not in known
    ]
    if not problems and (asked is None or answered is None):
        what = f"the rows' fields {', '.join(fields)} do not tell what is asked and what is answered"
        problems = [Problem("--data", what, "name them: --question FIELD --answer FIELD")]
    if problems or asked is None or answered is None:
        raise ConfigError("the shape of the data is not known", problems=problems)
    choices = next((name for name in known if name.lower() in CHOICES and _is_list(rows, name)), None)
    return None, _turns(rows, kind, asked, answered, choices)


def _turns(
    rows: Sequence[Mapping[str, Any]], kind: GuessedKind | None, asked: str, answered: str, choices: str | None
) -> tuple[Turn, ...]:
    """One question and its answer: with choices the letter of the right one, for a JSON bot in an object."""
    content = f"{{{asked}}}\n{{{choices}|lettered}}" if choices else f"{{{asked}}}"
    by_letter = choices is not None and all(str(row[answered]).isdigit() for row in rows)
    name = "choice" if choices else answered
    if kind == "json":
        value = f'"{{{answered}|letter}}"' if by_letter else f"{{{answered}|json}}"
        answer = f'{{{{"{name}": {value}}}}}'
    else:
        answer = f"{{{answered}|letter}}" if by_letter else f"{{{answered}}}"
    return (Turn(role="user", content=content), Turn(role="assistant", content=answer))


def _first(known: Sequence[str], names: Sequence[str]) -> str | None:
    by_name = {name.lower(): name for name in known}
    return next((by_name[name] for name in names if name in by_name), None)


def _is_list(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(isinstance(row[name], list) or str(row[name]).lstrip().startswith("[") for row in rows)


def _read(row: Mapping[str, Any], reader: str | None, turns: tuple[Turn, ...]) -> Reading | None:
    try:
        return LAYOUTS[reader].read(row) if reader is not None else columns.read(row, turns)
    except Unusable:
        return None  # `check` lists such rows with their reasons


def _answer(reading: Reading) -> str | None:
    turns = reading.chosen or reading.messages
    return next((str(m["content"]) for m in reversed(turns) if m["role"] == "assistant"), None)


def _kind(answers: Sequence[str]) -> GuessedKind:
    if all(isinstance(_object(text), dict) for text in answers):
        return "json"
    different = len(set(answers))
    return "classify" if 2 <= different <= min(MOST_LABELS, len(answers) / ROWS_A_LABEL) else "chat"


def _labels(answers: Sequence[str]) -> tuple[str, ...]:
    counts = Counter(text.strip() for text in answers)
    if len(counts) > MOST_LABELS:
        what = f"the answers are {len(counts)} different texts among {len(answers)} rows, which are no labels"
        raise ConfigError(what, where="--kind classify", cure="take --kind chat, or name the label's field: --answer")
    return tuple(label for label, _ in counts.most_common())


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _schema(answers: Sequence[str]) -> dict[str, Any]:
    """A JSON Schema of the objects seen: their fields' types, which always stand there, and short lists of texts."""
    objects = [_object(text) for text in answers]
    wrong = next((text for text, found in zip(answers, objects, strict=True) if not isinstance(found, dict)), None)
    if wrong is not None:
        cure = "take --kind chat, or name the fields: --question FIELD --answer FIELD makes an object of the answer"
        raise ConfigError(f"an answer is no JSON object: {wrong[:80]!r}", where="--kind json", cure=cure)
    names = list(dict.fromkeys(name for found in objects for name in found))
    return {
        "type": "object",
        "properties": {name: _property([found[name] for found in objects if name in found]) for name in names},
        "required": [name for name in names if all(name in found for found in objects)],
        "additionalProperties": False,
    }


def _property(values: Sequence[Any]) -> dict[str, Any]:
    kinds = sorted({_json_type(value) for value in values})
    if kinds == ["integer", "number"]:
        kinds = ["number"]
    if kinds == ["string"] and len(set(values)) <= min(MOST_ENUM, len(values) / ROWS_A_LABEL):
        return {"enum": sorted(set(values))}
    return {"type": kinds[0] if len(kinds) == 1 else kinds}


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "object"
