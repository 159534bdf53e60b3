"""The proof, before a training step is spent, of which tokens carry the loss.

A wrong mask trains without complaint: the loss falls, and the model learns to write the user's turns, or never to stop.
This audit shares no code with what made the labels: it decodes what the trainer really feeds.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from configs.errors import Problem, SlipwayError
from tasks.training.rows import IGNORED, TokenRow


@dataclass(frozen=True)
class MaskAudit:
    """What was proven, over all rows."""

    rows: int
    turns: int
    tokens: int
    loss_tokens: int
    end_of_turn: tuple[str, ...]  # the tokens that end an assistant turn, all of them trained
    samples: tuple[dict[str, Any], ...]  # the first rows: id, loss_on (a text per turn), no_loss_on


def audit(
    rows: Sequence[TokenRow], fed: Iterable[tuple[Sequence[int], Sequence[int]]], tokenizer: Any, samples: int = 5
) -> MaskAudit:
    """Checks (input_ids, labels) of every row, as they leave the trainer's own collator, without its padding.

    Each run of labels must decode to exactly one assistant turn with its end-of-turn token, in order, and all else
    must be masked. Raises a SlipwayError that names the first row that differs and shows both texts.
    """
    shown: list[dict[str, Any]] = []
    ends: set[str] = set()
    turns, tokens, loss_tokens = 0, 0, 0
    for row, (ids, labels) in zip(rows, fed, strict=True):
        runs = _check(row, ids, labels, tokenizer)
        ends.update(_decode(tokenizer, run[-1:]) for run in runs)
        turns, tokens, loss_tokens = turns + len(runs), tokens + len(ids), loss_tokens + sum(map(len, runs))
        if len(shown) < samples:
            masked = [token for token, label in zip(ids, labels, strict=True) if label == IGNORED]
            loss_on = [_decode(tokenizer, run) for run in runs]
            shown.append({"id": row.id, "loss_on": loss_on, "no_loss_on": _decode(tokenizer, masked)})
    return MaskAudit(len(rows), turns, tokens, loss_tokens, tuple(sorted(ends)), tuple(shown))


def _check(row: TokenRow, ids: Sequence[int], labels: Sequence[int], tokenizer: Any) -> list[list[int]]:
    if list(ids) != row.input_ids:
        raise _refused(row, Problem("tokens", "the trainer would feed other tokens than the row's"))
    for token, label in zip(ids, labels, strict=True):
        if label not in (IGNORED, token):
            raise _refused(row, Problem("labels", f"token {token} is labelled {label}"))
    runs = list(_runs(labels))
    decoded = [_decode(tokenizer, run) for run in runs]
    if [text.lstrip(" ") for text in decoded] != [text.lstrip(" ") for text in row.spoken]:  # a decoder may add one
        raise _refused(row, Problem("the loss would be on", repr(decoded)), Problem("but belongs on", repr(row.spoken)))
    return runs


def _runs(labels: Sequence[int]) -> Iterator[list[int]]:
    run: list[int] = []
    for label in [*labels, IGNORED]:
        if label != IGNORED:
            run.append(label)
        elif run:
            yield run
            run = []


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _refused(row: TokenRow, *problems: Problem) -> SlipwayError:
    return SlipwayError(
        f"the loss mask of row {row.id} is wrong; nothing was trained",
        problems=problems,
        cure="a chat template or a version of TRL that treats turns otherwise; compare the base model and the locks",
    )
