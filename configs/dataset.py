"""The recipe of a dataset version: sources, filters, split."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from configs.filters import AnswerFilter, LanguageFilter, LengthFilter, NearDuplicateFilter, PersonalDataFilter
from configs.licenses import License, license_field
from configs.refresh import Refresh
from configs.review import Review
from configs.strict import Strict

COMMIT = r"^[0-9a-f]{40}$"


class Turn(Strict):
    """One message made of a row's fields: `{question}`, `{choices|lettered}`, `{{` for a brace."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class Source(Strict):
    """Where rows come from: files, a folder of the `datasets` library, the hub, what people approved, or what was
    trained on before.
    """

    path: Path | None = Field(
        None, description="relative to the YAML file's folder, or absolute; ${NAME} from the environment; * ? [] match"
    )
    hub: str | None = Field(None, pattern=r"^[\w.-]+(/[\w.-]+)?$", description="a dataset's name on the hub")
    review: Literal["conversations", "preferences"] | None = Field(
        None, description="what people approved in the review queue; preferences are the answers that they rewrote"
    )
    replay: str | None = Field(
        None,
        pattern=r"^(live|sha256:[0-9a-f]{64})$",
        description="live, or a version's digest: rows that were trained on before, against forgetting",
    )
    share: float | None = Field(None, gt=0, le=1, description="with `replay`: of that version's rows to train on")
    revision: str | None = Field(None, pattern=COMMIT, description="with `hub`: the commit, 40 hex digits")
    subset: str | None = Field(None, description="with `hub`: the configuration, where the dataset has several")
    split: str | None = Field(None, pattern=r"^[\w.-]+$", description="with `hub` or a `datasets` folder: e.g. train")
    format: str | None = Field(None, description="the kind of file, e.g. jsonl or csv; told by the suffix otherwise")
    delimiter: str | None = Field(None, min_length=1, max_length=1, description="of a CSV file; a comma otherwise")
    reader: str | None = Field(
        None, description="how a row is turned into chat messages, e.g. messages or sharegpt; recognised otherwise"
    )
    messages: tuple[Turn, ...] = Field((), description="instead of a reader: the messages, made of the row's fields")
    ignore: tuple[str, ...] = Field((), description="fields that are left out on purpose, though they mean something")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.path, self.hub, self.review, self.replay)) != 1:
            raise ValueError("exactly one of path, hub, review, replay is needed -> keep one of them")
        if (self.replay is None) != (self.share is None):
            raise ValueError("replay and share belong together -> share: 0.2 replays every fifth row")
        if self.hub is not None and (self.revision is None or self.split is None):
            raise ValueError(
                "a hub dataset needs `revision` (a commit, 40 hex digits) and `split` -> a branch or a tag may move, "
                "so it cannot be the identity of a dataset version"
            )
        if self.hub is None and (self.revision is not None or self.subset is not None):
            raise ValueError("revision and subset belong to `hub` -> take them out, or name the dataset with hub")
        if self.reader is not None and self.messages:
            raise ValueError("reader and messages are two ways to say one thing -> keep one of them")
        return self


class Filters(Strict):
    """What a row must satisfy; a row that does not is rejected and kept with the reason."""

    max_row_tokens: int = Field(512, ge=8, description="prompt and answer by the base model's chat template")
    min_answer_chars: int = Field(1, ge=0)
    max_answer_chars: int = Field(20_000, ge=1)
    drop_exact_duplicates: bool = True
    foreign_control_tokens: Literal["reject", "keep"] = Field(
        "reject", description="text that some other model takes for a control token; the base model's own never pass"
    )
    length: LengthFilter | None = None
    language: LanguageFilter | None = None
    answers: AnswerFilter | None = None
    personal_data: PersonalDataFilter | None = None
    near_duplicates: NearDuplicateFilter | None = None


class Split(Strict):
    """Rows go to the held-out part by a keyed hash of their prompt, so a prompt is never in both parts."""

    salt: str = "slipway"
    holdout_share: float | None = Field(None, gt=0, lt=1)
    holdout_prompts: int | None = Field(
        None, ge=1, description="exactly so many prompts (or groups), the smallest hashes"
    )
    group_by: str | None = Field(
        None, min_length=1, description="a field, e.g. user_id or meta.document: its rows stay together, not a prompt's"
    )

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
    eval_overlap: Literal["refuse", "drop", "allow"] = Field(
        "refuse", description="rows to train on that hold questions of the project's eval suites: drop rejects them"
    )
    review: Review = Review()
    refresh: Refresh = Refresh()
    license: License = license_field("the rows, of all sources together")
