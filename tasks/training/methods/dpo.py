"""Direct preference optimisation: TRL's DPOTrainer on pairs of a chosen and a rejected answer to one conversation.

The reference model is the base model itself: the LoRA is switched off while it is asked.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from configs.errors import Problem, SlipwayError
from configs.training import TrainingConfig
from tasks.training.chat import Chat, UntrainableError, control_tokens
from tasks.training.methods import Batches, Items
from tasks.training.rows import forged, refuse_any, too_long

SAMPLES = 5


@dataclass(frozen=True)
class TokenPair:
    """A prompt's tokens as vLLM sends them, and both answers with their stop tokens."""

    id: str
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    chosen: str
    rejected: str


def read(rows: Iterable[Mapping[str, Any]], chat: Chat, system_prompt: str, config: TrainingConfig) -> Items:
    """Rows with `prompt`, `chosen` and `rejected`, each a list of messages; the last two hold one answer each.

    `messages` may stand for the prompt, and for prompt and chosen answer where the latter is not there. All may stand
    among the row's other `fields`.
    """
    pairs: list[TokenPair] = []
    problems: list[Problem] = []
    control = control_tokens(chat.tokenizer, chat.stop_ids)
    for row in rows:
        found = _pair(row, chat, system_prompt, control)
        if isinstance(found, Problem):
            problems.append(found)
        elif _length(found) > config.max_sequence_tokens:
            problems.append(too_long(found.id, _length(found), config.max_sequence_tokens))
        else:
            pairs.append(found)
    refuse_any(problems)
    if not pairs:
        raise SlipwayError("there is no pair to train on", cure="see the dataset version's rejected.jsonl for reasons")
    return Items(pairs, [_length(pair) for pair in pairs], len(pairs))


def trainer(
    config: TrainingConfig, arguments: Mapping[str, Any], items: Items, order: Sequence[int], **parts: Any
) -> Any:
    """The trainer over the pairs in that order."""
    pairs = [items.all[number] for number in order]
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    data = Dataset.from_dict({name: [getattr(pair, name) for pair in pairs] for name in names})
    arguments = DPOConfig(beta=config.dpo.beta, **arguments)
    return PairTrainer(args=arguments, train_dataset=data, **parts)


def audit(items: Items, batches: Batches, tokenizer: Any) -> dict[str, Any]:
    """Decodes what the collator makes of each pair: same prompt, no loss on it, and the loss on both answers whole."""
    samples: list[dict[str, Any]] = []
    counts = {"rows": 0, "tokens": 0, "loss_tokens": 0}
    for number, batch in batches:
        pair = items.all[number]
        (asked, chosen), (asked_again, rejected) = (_split(batch, at, tokenizer) for at in (0, 1))
        prompt = _decode(tokenizer, pair.prompt_ids)
        found = {"prompt": asked, "prompt again": asked_again, "chosen": chosen, "rejected": rejected}
        wanted = {"prompt": prompt, "prompt again": prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        wrong = [
            Problem(name, f"would be {found[name]!r}, and should be {wanted[name]!r}")
            for name in found
            if found[name].lstrip(" ") != wanted[name].lstrip(" ")  # a decoder may add one
        ]
        if wrong:
            cure = "a version of TRL that treats pairs otherwise; compare the locks"
            what = f"the pair of row {pair.id} would be trained wrongly; nothing was trained"
            raise SlipwayError(what, problems=wrong, cure=cure)
        counts["rows"] += 1
        counts["tokens"] += int(batch["attention_mask"].sum())
        counts["loss_tokens"] += int(batch["completion_mask"].sum())
        if len(samples) < SAMPLES:
            samples.append({"id": pair.id, **found})
    return {**counts, "samples": samples}


class PairTrainer(DPOTrainer):  # type: ignore[misc]
    """DPOTrainer on pairs that are tokens already."""

    seen_tokens = 0

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        """TRL would render each answer with the template's own beginning, which vLLM's prompt has or has not."""
        return dataset

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
        """TRL's, with the tokens counted."""
        self.seen_tokens += int(inputs["attention_mask"].sum())
        return super().compute_loss(model, inputs, *arguments, **named)


def _pair(row: Mapping[str, Any], chat: Chat, system_prompt: str, control: Sequence[str]) -> TokenPair | Problem:
    where = f"row {row['id']}"
    given: dict[str, Any] = {**row.get("fields", {}), **row}
    sides: list[Any] = [given.get(name) for name in ("prompt", "chosen", "rejected")]
    prompt, chosen, rejected = sides
    if not prompt and given.get("messages"):
        *before, last = given["messages"]
        prompt, chosen = (given["messages"], chosen) if chosen else (before, [last])
    missing = [name for name, value in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected)) if not value]
    if missing:
        what = f"it has no {', '.join(missing)}, found {sorted(given)}"
        return Problem(where, what, "give preference pairs, or set `method: sft` in training.yaml")
    if not (_is_answer(chosen) and _is_answer(rejected)):
        cure = "put all that comes before the last answer into `prompt`"
        return Problem(where, "`chosen` and `rejected` must hold exactly one message of the assistant each", cure)
    for messages in (prompt, chosen, rejected):
        if (typed := forged(row["id"], messages, control)) is not None:
            return typed
    chat, before = chat.with_tools(row.get("tools")), chat.with_system(prompt, system_prompt)
    try:
        good, bad = (chat.answer(before, side[0]) for side in (chosen, rejected))
    except UntrainableError as error:
        return Problem(where, error.what, error.cure)
    if good.target == bad.target:
        return Problem(where, "both answers are the same, so neither is preferred", "leave the row out")
    return TokenPair(row["id"], good.prompt_ids, good.target_ids, bad.target_ids, good.target, bad.target)


def _is_answer(side: Any) -> bool:
    return len(side) == 1 and side[0].get("role") == "assistant"


def _length(pair: TokenPair) -> int:
    return len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))


def _split(batch: Mapping[str, Any], at: int, tokenizer: Any) -> tuple[str, str]:
    """One sequence of a batch as text: what carries no loss, and what does."""
    real = batch["attention_mask"][at].bool()
    ids, loss = batch["input_ids"][at][real], batch["completion_mask"][at][real].bool()
    return _decode(tokenizer, ids[~loss].tolist()), _decode(tokenizer, ids[loss].tolist())


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
