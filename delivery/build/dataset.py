"""A dataset version: what was read, by which recipe and code, what came of it, and the digests of its files."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from configs.canonical import digest_of, short
from configs.dataset import DatasetRecipe
from configs.errors import SlipwayError
from configs.strict import Strict
from configs.training import TRAINS_ON, MethodName
from delivery.build.steps import STEPS, StepRecord

Part = Literal["train", "holdout"]
PARTS: tuple[Part, ...] = ("train", "holdout")

LATER: dict[str, Any] = {
    **{"kind": "conversations", "changed": {}, "noticed": {}, "fields": {}, "shared_prompts": 0},
    "steps": [],
}
"""Fields that versions have had since some day, with what older ones mean: their digests stay what they were."""


class SourceFile(Strict):
    """One source as it was read; its name without the folder, so that a moved file is still the same file."""

    name: str
    digest: str
    reader: str
    options: dict[str, Any] = Field(
        default_factory=dict
    )  # template, ignored fields, delimiter: what else decides how it is read


class PartSummary(Strict):
    """One part of a version; tokens by the base model's chat template, system prompt included."""

    rows: int
    prompts: int
    tokens_total: int
    tokens_mean: float
    tokens_max: int


class Manifest(Strict):
    """All that determines a version and all that came out; the version's digest is the digest of this."""

    name: str
    recipe: dict[str, Any]  # without the sources' paths
    sources: tuple[SourceFile, ...]
    system_prompt: str  # it counts towards max_row_tokens
    tokenizer: str  # digest
    code: str  # digest of the code that read and filtered the rows
    read: int
    kept: int
    duplicates: int
    rejected: dict[str, int]  # reason -> rows, duplicates not among them
    parts: dict[Part, PartSummary]
    files: dict[str, str]  # name -> digest of its content
    kind: Literal["conversations", "preferences"] = "conversations"
    changed: dict[str, int] = Field(default_factory=dict)  # kind of change -> rows; a row may be in several
    noticed: dict[str, int] = Field(default_factory=dict)  # kept as they are, and still worth knowing -> rows
    fields: dict[str, int] = Field(default_factory=dict)  # column that is not trained on -> rows that have it
    shared_prompts: int = 0  # prompts that are in both parts, which happens where `split.group_by` is another field
    steps: tuple[StepRecord, ...] = ()  # filters that the recipe asks for, in the order in which rows meet them

    @property
    def digest(self) -> str:
        """`sha256:...`, the version's identity."""
        said = self.model_dump(mode="json")
        sources = [{k: v for k, v in one.items() if k != "options" or v} for one in said["sources"]]
        later = {name for name, absent in LATER.items() if said[name] == absent}
        return digest_of({name: value for name, value in said.items() if name not in later} | {"sources": sources})


class DatasetVersion(Strict):
    """A version on disk: `folder` holds manifest.json, train.jsonl, holdout.jsonl, rejected.jsonl, report.json.

    A row of train.jsonl or holdout.jsonl is {"id", "messages", "fields"} with `tools` where it has any, or, where the
    manifest's `kind` is preferences, {"id", "prompt", "chosen", "rejected", "fields"}: lists of messages, too. An
    assistant message with "weight": 0 is part of the conversation and is not learned.
    """

    digest: str
    folder: Path
    manifest: Manifest
    erased: int = 0  # rows that it lost to erasures since it was built: nobody trains on the rest as if it were whole

    def render(self) -> str:
        """For the terminal: what became of the rows, what was changed, and where those lie that were not kept."""
        found = self.manifest
        rejected = sum(found.rejected.values())
        text = (
            f"dataset {found.name} {short(self.digest)}: {found.read} rows read, {found.kept} kept "
            f"({found.parts['train'].rows} for training, {found.parts['holdout'].rows} held out), "
            f"{found.duplicates} duplicates, {rejected} rejected{_listed(found.rejected, ' ({})')}"
        )
        lost = rejected + found.duplicates
        text += f"; {self.erased} of them erased since" if self.erased else ""
        lines = [text, *([f"  these {lost} with their reasons: {self.folder / 'rejected.jsonl'}"] if lost else [])]
        lines += [
            f"  filter {step.name} (version {step.version}): {step.rejected} rejected, {step.changed} changed"
            for step in found.steps
        ]
        if found.changed:
            lines.append(f"  changed: {_listed(found.changed)}; examples: {self.folder / 'report.json'}")
        if found.noticed:
            lines.append(f"  noticed: {_listed(found.noticed)}{self._about_prompts()}")
        if found.fields:
            lines.append(f"  not trained on: {_listed(found.fields)}")
        if found.shared_prompts:
            lines.append(f"  {found.shared_prompts} held-out prompts are in the training part too, in other groups")
        return "\n".join(lines)

    def _about_prompts(self) -> str:
        if "own-system-prompt" not in self.manifest.noticed:
            return ""
        return "; those with a system prompt of their own are trained with it, while prompts.yaml's is what is served"


def refuse_other_method(version: DatasetVersion, method: MethodName) -> None:
    """Raises SlipwayError where `method` (of training.yaml) does not take the rows of a version."""
    held = version.manifest.kind
    if TRAINS_ON[method] != held:
        fitting = " or ".join(name for name, rows in TRAINS_ON.items() if rows == held)
        raise SlipwayError(
            f"dataset {version.manifest.name!r} holds {held}, which method {method} cannot train on",
            where="training.yaml: method",
            cure=f"method: {fitting}, or name other sources in dataset.yaml",
        )


def _listed(counts: dict[str, int], form: str = "{}") -> str:
    return form.format(", ".join(f"{rows} {name}" for name, rows in counts.items())) if counts else ""


def recipe_without_paths(recipe: DatasetRecipe) -> dict[str, Any]:
    """What of a recipe belongs to the identity: where the files lie does not, their digests come separately;
    nor do the licence and the rules of review and refresh, which change no row.

    Settings that came later count only where they are set, so that a recipe means what it meant.
    """
    said = recipe.model_dump(mode="json", exclude={"sources", "license", "review", "refresh"})
    for part, name, absent in ((said, "eval_overlap", "refuse"), (said["split"], "group_by", None)):
        if part[name] == absent:
            del part[name]
    if said["filters"]["foreign_control_tokens"] == "reject":
        del said["filters"]["foreign_control_tokens"]
    for name in STEPS:
        if said["filters"][name] is None:
            del said["filters"][name]
    return said
