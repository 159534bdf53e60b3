"""What each kind of project brings besides the data: prompts, a contract, suites with their gates, and checks."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from delivery.build.guess import Guess, GuessedKind

SPARE_TOKENS = 16
HOW_OFTEN_RIGHT = "    # min_score: 0.8 # how often it must be right, however little production is"
BYTES_A_TOKEN = 2.0  # of an answer in JSON or of a label: shorter tokens than prose has


@dataclass(frozen=True)
class Parts:
    """`gates` has the lines below `- suite: NAME` by suite; `checks` the lines that rollout.yaml gets."""

    base_prompt: str
    adapter_prompt: str
    max_tokens: int
    gates: Mapping[str, str]
    checks: str
    files: Mapping[str, str] = field(default_factory=dict)


def _chat(found: Guess | None) -> Parts:
    suite = """name: close-to-expected
description: The held-out rows' answers, as close to the expected ones as text can say (0 to 1).
scorer:
  name: similarity
  measure: chrf
samples: holdout
limit: 200
"""
    refusals = """name: no-refusals
description: Nothing that the rows answer is turned down.
scorer:
  name: refusal
  wanted: false
samples: holdout
limit: 200
"""
    return Parts(
        base_prompt="You are a helpful assistant. Answer what you are asked, clearly and in a few sentences. "
        "If you do not know something, say so.",
        adapter_prompt="You are a helpful assistant.",
        max_tokens=max(256, _answer_tokens(found.longest_answer) if found else 0),
        gates={
            "close-to-expected": "    max_drop: 0.05",
            "no-refusals": "    min_score: 0.95",
        },
        checks=_check("contract:refusal", "in shadow the same questions are compared"),
        files={
            "contract.yaml": _contract(
                "refusal", "turns the request down, in the words that models use for it", "refusal"
            ),
            "evals/close-to-expected/eval.yaml": suite,
            "evals/no-refusals/eval.yaml": refusals,
        },
    )


def _json(found: Guess | None) -> Parts:
    schema = found.schema if found else {"type": "object"}
    example = found.example if found else '{"answer": "..."}'
    valid = f"""name: valid-json
description: Every answer is one JSON object of the schema, with nothing around it.
scorer:
  name: json
  json_schema: {_line(schema)}
  fields: [] # the schema alone is asked here
samples: holdout
limit: 200
"""
    right = f"""name: right-fields
description: The answer's fields are those of the held-out row.
scorer:
  name: json
  fields: {_line(list(schema.get("properties", {})))} # each must equal the expected one
samples: holdout
limit: 200
"""
    shape = _line(schema.get("properties", {}))
    return Parts(
        base_prompt="You answer with exactly one JSON object and nothing else: no introduction, no explanation, no "
        f"code fence. Its fields are {shape}. An example of an answer: {example}",
        adapter_prompt=f"Answer with one JSON object, for example: {example}",
        max_tokens=_answer_tokens(found.longest_answer if found else example),
        gates={"valid-json": "    min_score: 0.95", "right-fields": f"    max_drop: 0.1\n{HOW_OFTEN_RIGHT}"},
        checks=_check("contract:valid_json", "an answer that is no JSON of the schema"),
        files={
            "contract.yaml": _contract("valid_json", "is not JSON, or not of this schema", "json", json_schema=schema),
            "evals/valid-json/eval.yaml": valid,
            "evals/right-fields/eval.yaml": right,
        },
    )


def _classify(found: Guess | None) -> Parts:
    labels = list(found.labels) if found else ["yes", "no"]
    named = ", ".join(labels)
    suite = f"""name: right-label
description: The held-out rows' labels; accuracy, and macro-F1 for labels that are rare.
scorer:
  name: choice
  labels: {_line(labels)}
samples: holdout
limit: 400
"""
    pattern = "^\\s*(?:" + "|".join(_escaped(label) for label in labels) + ")\\s*$"
    return Parts(
        base_prompt="You sort texts into classes. Read the text and answer with the one label that fits best, as "
        f"it is written here and without anything else. The labels are: {named}.",
        adapter_prompt=f"Answer with one label: {named}.",
        max_tokens=_answer_tokens(max(labels, key=len)),
        gates={"right-label": f"    max_drop: 0.1\n{HOW_OFTEN_RIGHT}"},
        checks=_check("contract:known_label", "an answer that is none of the labels"),
        files={
            "contract.yaml": _contract(
                "known_label",
                "is none of the labels",
                "pattern",
                pattern=pattern,
                broken_by="absence",
                ignore_case=False,
            ),
            "evals/right-label/eval.yaml": suite,
        },
    )


def _tutor(found: Guess | None) -> Parts:
    return Parts(
        base_prompt="You are a patient tutor. You never give the answer to a problem. You read the problem, think of "
        "the most useful next step, and ask exactly one short guiding question that leads to it. Your reply is one or "
        "two short sentences of plain text and ends with your question.",
        adapter_prompt="You are a tutor. Ask one guiding question.",
        max_tokens=64,
        gates={
            "asks-guiding-question": "    min_score: 0.85",
            "withholds-answer": "    min_score: 0.95",
            "keeps-format": "    min_score: 0.85",
        },
        checks=_check("contract:format", "an answer that is no single question"),
        files={
            "contract.yaml": _contract(
                "format",
                "is no short turn that ends with its only question",
                "form",
                max_words=40,
                ends_with="question",
            )
        },
    )


KINDS: Mapping[GuessedKind, Callable[[Guess | None], Parts]] = {
    "chat": _chat,
    "json": _json,
    "classify": _classify,
    "tutor": _tutor,
}


def _check(metric: str, what: str) -> str:
    """A limit of its own: a first stable, the base model, may break the contract every time, and no candidate more."""
    return f"  - metric: {metric} # {what}\n    max: 0.2"


def _contract(name: str, what: str, kind: str, **settings: Any) -> str:
    lines = [
        "# What no answer may do. The gateway judges every answer, of stable and candidate alike; a check of",
        f"# rollout.yaml named contract:{name} limits how often they break it. It breaks where an answer {what}.",
        "detectors:",
        f"  {name}:",
        f"    kind: {kind}",
        *(f"    {key}: {_line(value)}" for key, value in settings.items()),
    ]
    return "\n".join(lines) + "\n"


def _line(value: Any) -> str:
    """A value as one line that YAML reads."""
    return json.dumps(value, ensure_ascii=False)


def _escaped(label: str) -> str:
    """A label as a regular expression, in the syntax that Python and RE2 share."""
    return "".join(char if char.isalnum() or char in " _" else f"\\{char}" for char in label)


def _answer_tokens(longest: str) -> int:
    return int(len(longest.encode()) / BYTES_A_TOKEN) + SPARE_TOKENS
