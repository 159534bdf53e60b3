"""Rows as the trainer gets them: tokens, labels on what the assistant says, and the order of all epochs.

TRL's `assistant_only_loss` needs generation markers that many chat templates lack, cuts long rows in silence, and
trains later turns behind another history than the one that is served. Here each answer stands behind the prompt that
vLLM would send, and a row that does not fit is an error.
"""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from configs.errors import Problem, SlipwayError
from delivery.build.layouts.row import Tools
from tasks.training.chat import Chat, Messages, Spoken, UntrainableError, control_tokens

IGNORED = -100  # torch's cross entropy leaves these labels out
SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class TokenRow:
    """A conversation as the trainer gets it, or a part of one; `spoken` is what each run of labels must decode to."""

    id: str
    input_ids: list[int]
    labels: list[int]  # the token itself, or IGNORED
    spoken: tuple[str, ...]  # per assistant turn: what the model must produce, the stop token included


def tokenise(rows: Iterable[tuple[str, Messages, Tools | None]], chat: Chat, max_tokens: int) -> list[TokenRow]:
    """Every row with its labels: one TokenRow each, or several where the template renders earlier turns differently.

    One SlipwayError lists the rows that are too long or cannot be labelled.
    """
    good: list[TokenRow] = []
    problems: list[Problem] = []
    control = control_tokens(chat.tokenizer, chat.stop_ids)
    for row_id, messages, tools in rows:
        found = _tokenise_one(row_id, messages, chat.with_tools(tools), control)
        if isinstance(found, Problem):
            problems.append(found)
            continue
        problems += [too_long(row_id, len(r.input_ids), max_tokens) for r in found if len(r.input_ids) > max_tokens][:1]
        good += found
    refuse_any(problems)
    if not good:
        raise SlipwayError("there is no row to train on", cure="see the dataset version's rejected.jsonl for reasons")
    return good


def too_long(row_id: str, tokens: int, max_tokens: int) -> Problem:
    """A row that would not fit."""
    what = f"{tokens} tokens, and max_sequence_tokens is {max_tokens}"
    cure = "raise max_sequence_tokens, or lower the dataset's filters.max_row_tokens; rows are never cut"
    return Problem(f"row {row_id}", what, cure)


def forged(row_id: str, messages: Messages, control: Sequence[str]) -> Problem | None:
    """Control tokens that somebody has typed: vLLM would take them for its own, so that the row says something else."""
    for number, message in enumerate(messages, 1):
        text = message["content"] + json.dumps(message.get("tool_calls", ""), ensure_ascii=False)
        found = [token for token in control if token in text]
        if found:
            what = f"message {number} holds the control token {', '.join(found)} as text"
            return Problem(f"row {row_id}", what, "leave the row out, or take the token out of its text")
    return None


def refuse_any(problems: Sequence[Problem]) -> None:
    """Raises one SlipwayError with the first of them."""
    if problems:
        more = f", the first {SHOWN_PROBLEMS} are" if len(problems) > SHOWN_PROBLEMS else ""
        raise SlipwayError(f"{len(problems)} row(s) cannot be trained on{more}:", problems=problems[:SHOWN_PROBLEMS])


def _tokenise_one(row_id: str, messages: Messages, chat: Chat, control: Sequence[str]) -> list[TokenRow] | Problem:
    if (typed := forged(row_id, messages, control)) is not None:
        return typed
    said = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    turns = [index for index in said if messages[index].get("weight") != 0]
    if not turns:
        return Problem(f"row {row_id}", "no assistant turn: nothing would carry loss", "give it an assistant turn")
    spoken = []
    for index in turns:
        try:
            spoken.append(chat.answer(messages[:index], messages[index]))
        except UntrainableError as error:
            return Problem(f"row {row_id}: message {index + 1}", error.what, error.cure)
    return list(_joined(row_id, spoken))


def _joined(row_id: str, turns: Iterable[Spoken]) -> Iterator[TokenRow]:
    """The turns of one conversation in one row, as long as the next prompt begins with all that came before."""
    row: TokenRow | None = None
    for turn in turns:
        known = row.input_ids if row else []
        if row and turn.prompt_ids[: len(known)] != known:
            yield row
            row, known = None, []
        labels = row.labels if row else []
        masked = [IGNORED] * (len(turn.prompt_ids) - len(known))
        row = TokenRow(
            row_id,
            turn.prompt_ids + turn.target_ids,
            labels + masked + turn.target_ids,
            (*(row.spoken if row else ()), turn.target),
        )
    if row:
        yield row


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
