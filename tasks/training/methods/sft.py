"""Supervised fine-tuning: TRL's SFTTrainer on what the assistant says in each row.

TRL has its fast paths for GPUs alone: its fused head scores only tokens that carry loss, and a batch fits at once. What
is done differently here where there is no GPU gives the same loss to the last bits.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from configs.training import TrainingConfig
from tasks.training import ranks
from tasks.training.chat import Chat
from tasks.training.loss_mask import audit as audit_mask
from tasks.training.methods import Batches, Items
from tasks.training.rows import tokenise

PART_TOKENS = 512
SCALED_HEADS = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def read(rows: Iterable[Mapping[str, Any]], chat: Chat, system_prompt: str, config: TrainingConfig) -> Items:
    """Each row's conversation with the prompt in front, as tokens with labels."""
    conversations = ((row["id"], chat.with_system(row["messages"], system_prompt), row.get("tools")) for row in rows)
    token_rows = tokenise(conversations, chat, config.max_sequence_tokens)
    return Items(token_rows, [len(row.input_ids) for row in token_rows], len({row.id for row in token_rows}))


def trainer(
    config: TrainingConfig, arguments: Mapping[str, Any], items: Items, order: Sequence[int], **parts: Any
) -> Any:
    """The trainer over the items in that order; `parts` are the model, its tokenizer, the LoRA and the callbacks."""
    rows = [items.all[number] for number in order]
    data = Dataset.from_dict({"input_ids": [r.input_ids for r in rows], "labels": [r.labels for r in rows]})
    return CpuAwareTrainer(args=SFTConfig(packing=False, **arguments), train_dataset=data, **parts)


def audit(items: Items, batches: Batches, tokenizer: Any) -> dict[str, Any]:
    """The proof of the loss mask over what the trainer's collator really makes of each item."""
    rows, fed = [], []
    for number, batch in batches:
        real = batch["attention_mask"][0].bool()
        rows.append(items.all[number])
        fed.append((batch["input_ids"][0][real].tolist(), batch["labels"][0][real].tolist()))
    return asdict(audit_mask(rows, fed, tokenizer))


class CpuAwareTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer whose loss on a CPU projects only the positions that carry loss onto the vocabulary.

    TRL's fused head does so on GPUs alone; on a CPU it scores every prompt token and throws the result away.
    """

    seen_tokens = 0

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """One batch, on a CPU in parts: its activations, not the model, are what fills the memory there."""
        ours = self.args.device.type == "cpu" and num_items_in_batch is not None
        if not ours or (ranks.count() > 1 and self._is_left_to_trl(model)):
            return super().training_step(model, inputs, num_items_in_batch)
        step = super().training_step
        loss = sum(step(model, part, num_items_in_batch) for part in split_batch(inputs, PART_TOKENS))
        if ranks.count() > 1 and self.accelerator.sync_gradients:
            # The parts, of which processes may have different numbers, pass by the wrapper that would average them.
            ranks.mean_over_all(weight.grad for weight in model.parameters() if weight.grad is not None)
        return loss

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean negative log-likelihood of the labelled tokens, exactly TRL's."""
        self.seen_tokens += int(inputs["attention_mask"].sum())
        causal = self.accelerator.unwrap_model(model).get_base_model()
        if inputs["input_ids"].is_cuda or return_outputs or self._is_left_to_trl(model):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with self.accelerator.autocast():  # it wraps the forward of the whole model, which is not called here
            hidden = causal.base_model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
            ).last_hidden_state
        labels = inputs["labels"][:, 1:]
        mask = labels != -100
        logits = causal.get_output_embeddings()(hidden[:, :-1][mask]).float()
        loss = torch.nn.functional.cross_entropy(logits, labels[mask], reduction="sum")
        if num_items_in_batch is None:
            return loss / mask.sum()
        return loss * ranks.count() / num_items_in_batch  # of all processes, whose mean is taken

    def _is_left_to_trl(self, model: Any) -> bool:
        """Whether the model's head does more than to project."""
        text_config = self.accelerator.unwrap_model(model).get_base_model().config.get_text_config()
        scaled = any(getattr(text_config, name, None) is not None for name in SCALED_HEADS)
        return scaled or bool(self.aux_loss_enabled)


def split_batch(inputs: Mapping[str, torch.Tensor], tokens: int) -> Iterator[dict[str, torch.Tensor]]:
    """Even parts of about so many tokens (or of one row), each without the padding that all of its rows share."""
    rows, width = inputs["input_ids"].shape
    per_part = math.ceil(rows / math.ceil(rows * width / tokens))
    for start in range(0, rows, per_part):
        part = {name: tensor[start : start + per_part] for name, tensor in inputs.items()}
        longest = int(part["attention_mask"].sum(dim=1).max())
        yield {name: tensor[:, :longest] for name, tensor in part.items()}
