"""Builds dataset versions: reads the sources, applies the rules, and puts the result where nobody changes it.

Rows go by one at a time: those that are kept wait in a file until it is known who is held out, so that a million of
them need no more memory than a thousand do, but for some numbers.
"""

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from pathlib import Path
from typing import Any

from configs.canonical import canonical_json, digest_bytes, digest_of
from configs.dataset import DatasetRecipe
from delivery.build.dataset import (
    PARTS,
    DatasetVersion,
    Manifest,
    Part,
    PartSummary,
    SourceFile,
    recipe_without_paths,
)
from delivery.build.layouts.row import Unusable
from delivery.build.report import RowReport, RowTally, as_json
from delivery.build.rows import Example, RawRow, Rejected
from delivery.build.sift import sifted
from delivery.build.split import Splitter
from delivery.progress import Progress, silent
from tasks.data.bad_input import SHOWN, refuse_bad_rows, refuse_empty_part, refuse_mixture
from tasks.data.reading import open_source
from tasks.data.sources import Located, locate_all
from tasks.data.store import VersionDraft, new_version, read_version
from tasks.data.tokens import ChatTokenizer, open_tokenizer

REPORTED_EVERY = 1000  # rows
ROOT = Path(__file__).parents[2]
CODE = (
    *("configs/dataset.py", "delivery/build/rows.py", "delivery/build/sift.py", "delivery/build/conversation.py"),
    *("delivery/build/split.py", "delivery/build/text.py"),
    *("delivery/build/layouts/*.py", "tasks/data/formats/*.py", "tasks/data/reading.py", "tasks/data/hub.py"),
    *("tasks/data/sources.py", "tasks/data/tokens.py"),
)

__all__ = ["Look", "build_dataset", "code_digest", "look_at", "open_tokenizer", "read_version"]


@dataclass
class _Pass:
    """What the first pass over the rows leaves behind."""

    splitter: Splitter
    tally: RowTally = field(default_factory=RowTally)
    sources: list[SourceFile] = field(default_factory=list)
    bad: list[Rejected] = field(default_factory=list)  # the first few, duplicates not among them
    tokens: "array[int]" = field(default_factory=lambda: array("I"))


@dataclass(frozen=True)
class Look:
    """What a build would make of the first rows: counts with examples, and the first rows that it would keep."""

    report: RowReport
    examples: tuple[Example, ...]
    sources: tuple[SourceFile, ...]
    whole: bool  # False: there are more rows than were looked at


def build_dataset(
    recipe: DatasetRecipe,
    folder: Path,
    tokenizer_folder: Path,
    system_prompt: str,
    home: Path,
    on_progress: Progress = silent,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> DatasetVersion:
    """The version of these rows and this recipe; written once, found again afterwards.

    `folder` is where the recipe's relative paths start. Raises SlipwayError, with nothing left behind, for sources that
    are missing, empty or mostly unusable, for a split without rows on one side, and when the version cannot be written.
    """
    located = locate_all(recipe.sources, folder)
    tokenizer = open_tokenizer(tokenizer_folder, system_prompt, chat_template_kwargs)
    with new_version(home, recipe.name) as draft:
        found = _Pass(Splitter(recipe.split))
        _sift_into(draft, found, recipe, located, tokenizer, on_progress)
        refuse_bad_rows(recipe, found.tally, found.bad, [source.name for source in found.sources])
        refuse_mixture(recipe, found.tally)
        held = found.splitter.held_out()
        parts = {part: _summary(found, held, part) for part in PARTS}
        refuse_empty_part(recipe, folder, parts, found.splitter.units)
        _divide_into(draft, held, on_progress)
        manifest = _manifest(recipe, system_prompt, tokenizer, found, held, parts, draft)
        return draft.keep(manifest)


def look_at(
    recipe: DatasetRecipe,
    folder: Path,
    tokenizer_folder: Path,
    system_prompt: str,
    at_most: int,
    shown: int = 3,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Look:
    """What a build would make of the first `at_most` rows, without writing anything. Raises as `build_dataset` does."""
    tokenizer = open_tokenizer(tokenizer_folder, system_prompt, chat_template_kwargs)
    sources: list[SourceFile] = []
    tally = RowTally()
    examples: list[Example] = []
    rows = _rows(locate_all(recipe.sources, folder), sources, silent)
    for outcome in _outcomes(islice(rows, at_most), recipe, tokenizer, Splitter(recipe.split)):
        tally.add(outcome)
        if isinstance(outcome, Example) and len(examples) < shown:
            examples.append(outcome)
    return Look(tally.report(), tuple(examples), tuple(sources), whole=next(rows, None) is None)


def code_digest() -> str:
    """Digest of the source that reads, filters and splits: another version of it makes other dataset versions."""
    files = sorted(path for pattern in CODE for path in ROOT.glob(pattern))
    return digest_of({str(path.relative_to(ROOT)): digest_bytes(path.read_bytes()) for path in files})


def _rows(located: Sequence[Located], sources: list[SourceFile], on_progress: Progress) -> Iterator[RawRow]:
    """All rows; each source is added to `sources` before its rows come."""
    read = 0
    for one in located:
        opened = open_source(one)
        sources.append(opened.file)
        for row in opened.rows:
            if read % REPORTED_EVERY == 0:
                on_progress(read, 0, f"reading {one.name}")
            read += 1
            yield row


def _outcomes(
    rows: Iterator[RawRow], recipe: DatasetRecipe, tokenizer: ChatTokenizer, splitter: Splitter
) -> Iterator[Example | Rejected]:
    """Each row's outcome; the splitter has heard of those that are kept."""
    control = tokenizer.control_tokens()
    for outcome in sifted(rows, recipe.filters, tokenizer.count_all, control, tokenizer.system_prompt):
        if isinstance(outcome, Example):
            try:
                splitter.add(outcome)
            except Unusable as fault:
                yield Rejected(outcome.source, outcome.row, fault.reason, fault.detail, outcome.as_row())
                continue
        yield outcome


def _sift_into(
    draft: VersionDraft,
    found: _Pass,
    recipe: DatasetRecipe,
    located: Sequence[Located],
    tokenizer: ChatTokenizer,
    on_progress: Progress,
) -> None:
    rejected = draft.file("rejected.jsonl")
    with _kept(draft).open("wb") as kept:
        for outcome in _outcomes(_rows(located, found.sources, on_progress), recipe, tokenizer, found.splitter):
            found.tally.add(outcome)
            if isinstance(outcome, Example):
                found.tokens.append(outcome.tokens)
                kept.write(canonical_json(outcome.as_row()) + b"\n")
                continue
            if outcome.reason != "duplicate" and len(found.bad) < SHOWN:
                found.bad.append(outcome)
            said = {name: getattr(outcome, name) for name in ("source", "row", "reason", "detail", "data")}
            rejected.write(json.dumps(said).encode() + b"\n")


def _kept(draft: VersionDraft) -> Path:
    return draft.folder / "kept"


def _divide_into(draft: VersionDraft, held: Sequence[bool], on_progress: Progress) -> None:
    parts = {part: draft.file(f"{part}.jsonl") for part in PARTS}
    with _kept(draft).open("rb") as kept:
        for number, (line, out) in enumerate(zip(kept, held, strict=True)):
            if number % REPORTED_EVERY == 0:
                on_progress(number, len(held), "writing rows")
            parts["holdout" if out else "train"].write(line)
    _kept(draft).unlink()
    on_progress(len(held), len(held), "writing rows")


def _manifest(
    recipe: DatasetRecipe,
    system_prompt: str,
    tokenizer: ChatTokenizer,
    found: _Pass,
    held: Sequence[bool],
    parts: dict[Part, PartSummary],
    draft: VersionDraft,
) -> Manifest:
    report = found.tally.report()
    draft.file("report.json").write(json.dumps(as_json(report), indent=1, ensure_ascii=False).encode() + b"\n")
    reasons = report.counts("rejected")
    prompts = [set(compress(found.splitter.prompts, [out is side for out in held])) for side in (True, False)]
    return Manifest(
        name=recipe.name,
        recipe=recipe_without_paths(recipe),
        sources=tuple(found.sources),
        system_prompt=system_prompt,
        tokenizer=tokenizer.digest,
        code=code_digest(),
        read=report.read,
        kept=report.kept,
        duplicates=reasons.pop("duplicate", 0),
        rejected=reasons,
        parts=parts,
        files=draft.close_files(),
        kind="preferences" if report.preferences else "conversations",
        changed=report.counts("changed"),
        noticed=report.counts("noticed"),
        fields=report.fields,
        shared_prompts=len(prompts[0] & prompts[1]),
    )


def _summary(found: _Pass, held: Sequence[bool], part: Part) -> PartSummary:
    chosen = [out is (part == "holdout") for out in held]
    tokens = array("I", compress(found.tokens, chosen))
    return PartSummary(
        rows=len(tokens),
        prompts=len(set(compress(found.splitter.prompts, chosen))),
        tokens_total=sum(tokens),
        tokens_mean=round(sum(tokens) / max(1, len(tokens)), 2),
        tokens_max=max(tokens, default=0),
    )
