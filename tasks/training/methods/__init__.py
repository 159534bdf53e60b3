"""Training methods: rows and settings in, an adapter out, each with its own audit; one file a method.

`method` in training.yaml names one of its modules; the names are listed in `configs.training.MethodName`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from configs.training import TrainingConfig
from tasks.training.chat import Chat

Batches = Iterable[tuple[int, Mapping[str, Any]]]
"""An item's number, and the batch of it alone as the trainer's own collator makes it."""


@dataclass(frozen=True)
class Items:
    """What a method trains on: token rows, or pairs of them."""

    all: Sequence[Any]
    lengths: Sequence[int]  # tokens of each, for batches that need little padding
    rows: int  # of the dataset that they come from


class Method(Protocol):
    """What a module here offers. Its trainer counts `seen_tokens`: all that went through the model, padding not."""

    def read(self, rows: Iterable[Mapping[str, Any]], chat: Chat, system_prompt: str, config: TrainingConfig) -> Items:
        """Rows of train.jsonl to items. Raises one SlipwayError that lists the rows that cannot be used."""

    def trainer(
        self, config: TrainingConfig, arguments: Mapping[str, Any], items: Items, order: Sequence[int], **parts: Any
    ) -> Any:
        """A transformers Trainer over the items in that order, which has every epoch in it."""

    def audit(self, items: Items, batches: Batches, tokenizer: Any) -> dict[str, Any]:
        """What was proven of the loss before a step is spent, as JSON. Raises SlipwayError where it is wrong."""
