"""TRL's SFTTrainer, and what it does differently where there is no GPU; the loss is the same to the last bits.

TRL has its fast paths for GPUs alone: its fused head scores only tokens that carry loss, and a batch fits at once.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from trl import SFTTrainer

PART_TOKENS = 512
SCALED_HEADS = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


class CpuAwareTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer whose loss on a CPU projects only the positions that carry loss onto the vocabulary.

    TRL's fused head does so on GPUs alone; on a CPU it scores every prompt token and throws the result away.
    """

    seen_tokens = 0

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """One batch, on a CPU in parts: its activations, not the model, are what fills the memory there."""
        if self.args.device.type != "cpu" or num_items_in_batch is None:
            return super().training_step(model, inputs, num_items_in_batch)
        step = super().training_step
        return sum(step(model, part, num_items_in_batch) for part in split_batch(inputs, PART_TOKENS))

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean negative log-likelihood of the labelled tokens, exactly TRL's."""
        self.seen_tokens += int(inputs["attention_mask"].sum())
        causal = self.accelerator.unwrap_model(model).get_base_model()
        text_config = causal.config.get_text_config()
        scaled = any(getattr(text_config, name, None) is not None for name in SCALED_HEADS)
        if inputs["input_ids"].is_cuda or scaled or self.aux_loss_enabled or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        hidden = causal.base_model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
        ).last_hidden_state
        labels = inputs["labels"][:, 1:]
        mask = labels != -100
        logits = causal.get_output_embeddings()(hidden[:, :-1][mask]).float()
        count = mask.sum() if num_items_in_batch is None else num_items_in_batch
        return torch.nn.functional.cross_entropy(logits, labels[mask], reduction="sum") / count


def split_batch(inputs: Mapping[str, torch.Tensor], tokens: int) -> Iterator[dict[str, torch.Tensor]]:
    """Even parts of about so many tokens (or of one row), each without the padding that all of its rows share."""
    rows, width = inputs["input_ids"].shape
    per_part = math.ceil(rows / math.ceil(rows * width / tokens))
    for start in range(0, rows, per_part):
        part = {name: tensor[start : start + per_part] for name, tensor in inputs.items()}
        longest = int(part["attention_mask"].sum(dim=1).max())
        yield {name: tensor[:, :longest] for name, tensor in part.items()}


def computes_in_bf16() -> bool:
    """Whether this machine multiplies bf16 in hardware: a GPU, or a CPU with the instructions for it.

    On such a CPU it is twice as fast as float32; on one without, bf16 is emulated and much slower. The LoRA's own
    weights are float32 either way.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
