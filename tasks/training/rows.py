"""Rows as the trainer gets them: tokens, labels on what the assistant says, and the order of all epochs.

TRL's `assistant_only_loss` needs generation markers that many chat templates lack, and cuts long rows in silence. Here
the labels come from the template's own rendering of each turn, and a row that does not fit is an error.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from configs.errors import Problem, SlipwayError

IGNORED = -100  # torch's cross entropy leaves these labels out
SHOWN_PROBLEMS = 20
Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class TokenRow:
    """One conversation as the trainer gets it; `spoken` is what each run of labels must decode to."""

    id: str
    input_ids: list[int]
    labels: list[int]  # the token itself, or IGNORED
    spoken: tuple[str, ...]  # per assistant turn: its content and the end-of-turn token


def with_system_prompt(messages: Messages, system_prompt: str) -> list[dict[str, str]]:
    """The conversation as it will be served. A row that brings its own system message keeps that one alone."""
    rows = [{"role": m["role"], "content": m["content"]} for m in messages]
    if rows and rows[0]["role"] == "system":
        return rows
    return [{"role": "system", "content": system_prompt}, *rows]


def tokenise(
    rows: Iterable[tuple[str, Messages]], tokenizer: Any, stop_ids: frozenset[int], max_tokens: int
) -> list[TokenRow]:
    """Every row with its labels. One SlipwayError lists the rows that are too long or cannot be labelled."""
    good: list[TokenRow] = []
    problems: list[Problem] = []
    for row_id, messages in rows:
        row = _tokenise_one(row_id, messages, tokenizer, stop_ids)
        if isinstance(row, Problem):
            problems.append(row)
        elif len(row.input_ids) > max_tokens:
            what = f"{len(row.input_ids)} tokens, and max_sequence_tokens is {max_tokens}"
            cure = "raise max_sequence_tokens, or lower the dataset's filters.max_row_tokens; rows are never cut"
            problems.append(Problem(f"row {row_id}", what, cure))
        else:
            good.append(row)
    if problems:
        more = f", the first {SHOWN_PROBLEMS} are" if len(problems) > SHOWN_PROBLEMS else ""
        raise SlipwayError(f"{len(problems)} row(s) cannot be trained on{more}:", problems=problems[:SHOWN_PROBLEMS])
    if not good:
        raise SlipwayError("there is no row to train on", cure="see the dataset version's rejected.jsonl for reasons")
    return good


def _tokenise_one(row_id: str, messages: Messages, tokenizer: Any, stop_ids: frozenset[int]) -> TokenRow | Problem:
    where = f"row {row_id}"
    text = tokenizer.apply_chat_template(list(messages), tokenize=False)
    spans: list[tuple[int, int]] = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(list(messages[:index]), tokenize=False, add_generation_prompt=True)
        until = tokenizer.apply_chat_template(list(messages[: index + 1]), tokenize=False)
        if not (until.startswith(before) and text.startswith(until)):
            what = f"the chat template renders message {index + 1} differently once more messages follow"
            return Problem(where, what, "use single-turn rows, or a base model whose template renders turns alike")
        spoken = _spoken(until[len(before) :], message["content"], tokenizer, stop_ids)
        if spoken is None:
            what = f"message {index + 1} is not rendered as its content and then a token at which the model stops"
            return Problem(where, what, "use a base model whose template ends the assistant's turn with such a token")
        spans.append((len(before), len(before) + len(spoken)))
    if not spans:
        return Problem(where, "no assistant turn: nothing would carry loss", "give every row an assistant turn")
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    labels, straddling = _labels(encoded["input_ids"], encoded["offset_mapping"], spans)
    if straddling is not None:
        what = f"token {tokenizer.decode([straddling])!r} belongs half to the answer, half to what is around it"
        return Problem(where, what, "remove white space at the answer's start and end")
    return TokenRow(row_id, list(encoded["input_ids"]), labels, tuple(text[a:b] for a, b in spans))


def _spoken(turn: str, content: str, tokenizer: Any, stop_ids: frozenset[int]) -> str | None:
    """The part of a rendered turn that the model itself must produce: the content and the token that ends the turn."""
    body = next((c for c in (content, content.strip()) if c and turn.startswith(c)), None)
    if body is None:
        return None
    rest = tokenizer(turn[len(body) :], add_special_tokens=False, return_offsets_mapping=True)
    if not rest["input_ids"] or rest["input_ids"][0] not in stop_ids:
        return None
    return str(turn[: len(body) + rest["offset_mapping"][0][1]])


def _labels(
    ids: Sequence[int], offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]
) -> tuple[list[int], int | None]:
    """Labels, and a token that lies across the edge of a span, if there is one."""
    labels = [IGNORED] * len(ids)
    for position, (first, last) in enumerate(offsets):
        for start, end in spans:
            if first < end and last > start:
                if first < start or last > end:
                    return labels, ids[position]
                labels[position] = ids[position]
    return labels, None


def order_of(lengths: Sequence[int], batch_size: int, epochs: float, seed: int) -> list[int]:
    """Row numbers in the order of training, all epochs in one list; the same inputs always give the same order.

    Each epoch shuffles the rows, sorts windows of 16 batches by length so that a batch needs little padding, and
    shuffles the batches. The rows that fill no batch come last of all. What a resumed run has to go on from is thus a
    position in this list, and nothing else.
    """
    rng = random.Random(seed)  # noqa: S311 - an order, not a secret
    order: list[int] = []
    odd: list[int] = []
    left = max(1, round(epochs * len(lengths)))
    while left > 0:
        rows = rng.sample(range(len(lengths)), min(left, len(lengths)))
        left -= len(rows)
        window = batch_size * 16
        rows = [
            r for at in range(0, len(rows), window) for r in sorted(rows[at : at + window], key=lengths.__getitem__)
        ]
        full = len(rows) // batch_size * batch_size
        batches = [rows[at : at + batch_size] for at in range(0, full, batch_size)]
        odd += rows[full:]
        rng.shuffle(batches)
        order += [row for batch in batches for row in batch]
    return order + odd
