"""The recipe of a dataset version: sources, filters, split."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from configs.strict import Strict


class Source(Strict):
    """One file of rows (JSONL or parquet, told by its suffix)."""

    path: Path = Field(description="relative to the YAML file's folder, or absolute; ${NAME} from the environment")
    reader: Literal["messages", "prompt-completion", "gsm8k-socratic"] = Field(
        "messages", description="how a row is turned into chat messages"
    )


class Filters(Strict):
    """What a row must satisfy; a row that does not is rejected and kept with the reason."""

    max_row_tokens: int = Field(512, ge=8, description="prompt and answer by the base model's chat template")
    min_answer_chars: int = Field(1, ge=0)
    max_answer_chars: int = Field(20_000, ge=1)
    drop_exact_duplicates: bool = True


class Split(Strict):
    """Rows go to the held-out part by a keyed hash of their prompt, so a prompt is never in both parts."""

    salt: str = "slipway"
    holdout_share: float | None = Field(None, gt=0, lt=1)
    holdout_prompts: int | None = Field(None, ge=1, description="exactly so many prompts, the smallest hashes")

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.holdout_share is None) == (self.holdout_prompts is None):
            raise ValueError("exactly one of holdout_share, holdout_prompts is needed -> keep one of them")
        return self


class DatasetRecipe(Strict):
    """All that determines a dataset version besides the rows themselves."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    sources: tuple[Source, ...] = Field(min_length=1)
    filters: Filters = Filters()
    split: Split
    max_rejected_share: float = Field(
        0.2, ge=0, le=1, description="a build stops when more than this share of the rows is rejected"
    )
