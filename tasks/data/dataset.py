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

from configs.canonical import digest_bytes, digest_of
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
from delivery.build.overlap import SuiteQuestion
from delivery.build.report import RowReport, RowTally, as_json
from delivery.build.rows import Example, RawRow, Rejected
from delivery.build.sift import sifted
from delivery.build.split import Splitter
from delivery.build.steps import PERSONAL_DATA, RowStep
from delivery.progress import Progress, silent
from tasks.data.bad_input import NO_FAULT, SHOWN, refuse_bad_rows, refuse_empty_part, refuse_mixture
from tasks.data.erasures import ErasedRows, read_erasures
from tasks.data.filters.known import near_duplicate_record, row_steps, steps_of
from tasks.data.kept import KeptRows
from tasks.data.reading import open_source
from tasks.data.sources import Located, locate_all
from tasks.data.store import VersionDraft, VersionFile, new_version, read_version
from tasks.data.tokens import ChatTokenizer, open_tokenizer

REPORTED_EVERY = 1000  # rows
TRAIN, HOLDOUT, OUT = 0, 1, 2  # where a kept row goes: TRAIN and HOLDOUT are places in PARTS
REJECTED, QUARANTINE = "rejected.jsonl", "quarantine.jsonl"
ROOT = Path(__file__).parents[2]
CODE = (
    *("configs/dataset.py", "delivery/build/rows.py", "delivery/build/sift.py", "delivery/build/conversation.py"),
    *("delivery/build/split.py", "delivery/build/text.py"),
    *("delivery/build/layouts/*.py", "tasks/data/formats/*.py", "tasks/data/reading.py", "tasks/data/hub.py"),
    *("tasks/data/sources.py", "tasks/data/tokens.py"),
)

__all__ = ["DatasetLook", "build_dataset", "code_digest", "look_at", "open_tokenizer", "read_version"]


@dataclass
class _Pass:
    """What the first pass over the rows leaves behind."""

    splitter: Splitter
    tally: RowTally = field(default_factory=RowTally)
    sources: list[SourceFile] = field(default_factory=list)
    bad: list[Rejected] = field(default_factory=list)  # the first few, duplicates not among them
    tokens: "array[int]" = field(default_factory=lambda: array("I"))
    steps: tuple[RowStep, ...] = ()


@dataclass(frozen=True)
class DatasetLook:
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
    asked: Sequence[SuiteQuestion] = (),
) -> DatasetVersion:
    """The version of these rows and this recipe; written once, found again afterwards.

    `folder` is where the recipe's relative paths start. `asked` are the eval suites' questions, for recipes that drop
    the rows that hold them. Raises SlipwayError, with nothing left behind, for sources that
    are missing, empty or mostly unusable, for a split without rows on one side, and when the version cannot be written.
    """
    located = locate_all(recipe.sources, folder)
    tokenizer = open_tokenizer(tokenizer_folder, system_prompt, chat_template_kwargs)
    with new_version(home, recipe.name) as draft:
        found = _Pass(Splitter(recipe.split), steps=steps_of(recipe, asked))
        erased = ErasedRows(read_erasures(home))
        kept = KeptRows(draft.folder / "kept", recipe.filters.near_duplicates)
        _sift_into(draft, kept, found, recipe, located, tokenizer, erased, on_progress)
        refuse_bad_rows(recipe, found.tally, found.bad, [source.name for source in found.sources])
        refuse_mixture(recipe, found.tally)
        sides = _sides(draft, kept, found, on_progress)
        parts = {part: _summary(found, sides, part) for part in PARTS}
        refuse_empty_part(recipe, folder, parts, found.splitter.units)
        _divide_into(draft, kept, sides, on_progress)
        manifest = _manifest(recipe, system_prompt, tokenizer, found, sides, parts, draft)
        return draft.keep(manifest)


def look_at(
    recipe: DatasetRecipe,
    folder: Path,
    tokenizer_folder: Path,
    system_prompt: str,
    at_most: int,
    shown: int = 3,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> DatasetLook:
    """What a build would make of the first `at_most` rows, without writing anything. Raises as `build_dataset` does."""
    tokenizer = open_tokenizer(tokenizer_folder, system_prompt, chat_template_kwargs)
    sources: list[SourceFile] = []
    tally = RowTally()
    examples: list[Example] = []
    rows = _rows(locate_all(recipe.sources, folder), sources, silent)
    steps = row_steps(recipe.filters)
    for outcome in _outcomes(islice(rows, at_most), recipe, tokenizer, Splitter(recipe.split), steps):
        tally.add(outcome)
        if isinstance(outcome, Example) and len(examples) < shown:
            examples.append(outcome)
    return DatasetLook(tally.report(), tuple(examples), tuple(sources), whole=next(rows, None) is None)


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
    rows: Iterator[RawRow],
    recipe: DatasetRecipe,
    tokenizer: ChatTokenizer,
    splitter: Splitter,
    steps: Sequence[RowStep],
) -> Iterator[Example | Rejected]:
    """Each row's outcome; the splitter has heard of those that are kept."""
    control = tokenizer.control_tokens()
    for outcome in sifted(rows, recipe.filters, tokenizer.count_all, control, tokenizer.system_prompt, steps):
        if isinstance(outcome, Example):
            try:
                splitter.add(outcome)
            except Unusable as fault:
                yield Rejected(outcome.source, outcome.row, fault.reason, fault.detail, outcome.as_row())
                continue
        yield outcome


def _sift_into(
    draft: VersionDraft,
    kept: KeptRows,
    found: _Pass,
    recipe: DatasetRecipe,
    located: Sequence[Located],
    tokenizer: ChatTokenizer,
    erased: ErasedRows,
    on_progress: Progress,
) -> None:
    rejected = _rejected_files(draft, recipe)
    rows = _rows(located, found.sources, on_progress)
    steps = found.steps
    if erased:
        rows, steps = map(erased.without_text, rows), (*steps, erased.step())
    with kept:
        for outcome in _outcomes(rows, recipe, tokenizer, found.splitter, steps):
            found.tally.add(outcome)
            if isinstance(outcome, Example):
                found.tokens.append(outcome.tokens)
                kept.add(outcome)
                continue
            if outcome.reason not in NO_FAULT and len(found.bad) < SHOWN:
                found.bad.append(outcome)
            rejected.get(outcome.reason, rejected[""]).write(as_line(outcome))


def _rejected_files(draft: VersionDraft, recipe: DatasetRecipe) -> dict[str, VersionFile]:
    """Reason -> file; "" has all others. What holds personal data lies apart, readable by its owner alone."""
    files = {"": draft.file(REJECTED)}
    personal = recipe.filters.personal_data
    if personal is not None and personal.action == "quarantine":
        files[PERSONAL_DATA] = draft.file(QUARANTINE, mode=0o400)
    return files


def as_line(row: Rejected) -> bytes:
    """A line of rejected.jsonl."""
    said = {name: getattr(row, name) for name in ("source", "row", "reason", "detail", "data")}
    return json.dumps(said).encode() + b"\n"


def _sides(draft: VersionDraft, kept: KeptRows, found: _Pass, on_progress: Progress) -> Sequence[int]:
    """Of each kept row TRAIN, HOLDOUT, or OUT where it says nearly the same as another one."""
    held = found.splitter.held_out()
    sides = bytearray(held)
    on_progress(0, 0, "comparing rows")
    for number, row, reason in kept.near_duplicates(held):
        sides[number] = OUT
        found.tally.take_back(row, reason)
        draft.opened(REJECTED).write(as_line(reason))
    return sides


def _divide_into(draft: VersionDraft, kept: KeptRows, sides: Sequence[int], on_progress: Progress) -> None:
    parts = [draft.file(f"{part}.jsonl") for part in PARTS]
    for number, (line, side) in enumerate(zip(kept.lines(), sides, strict=True)):
        if number % REPORTED_EVERY == 0:
            on_progress(number, len(sides), "writing rows")
        if side != OUT:
            parts[side].write(line)
    kept.path.unlink()
    on_progress(len(sides), len(sides), "writing rows")


def _manifest(
    recipe: DatasetRecipe,
    system_prompt: str,
    tokenizer: ChatTokenizer,
    found: _Pass,
    sides: Sequence[int],
    parts: dict[Part, PartSummary],
    draft: VersionDraft,
) -> Manifest:
    report = found.tally.report()
    reasons = report.counts("rejected")
    near = near_duplicate_record(recipe.filters)
    records = [*(step.record for step in found.steps), *([near] if near else [])]
    steps = tuple(one.counted(reasons, report.counts("changed")) for one in records)
    said = as_json(report) | ({"steps": [step.model_dump(mode="json") for step in steps]} if steps else {})
    draft.file("report.json").write(json.dumps(said, indent=1, ensure_ascii=False).encode() + b"\n")
    prompts = [set(compress(found.splitter.prompts, [one == side for one in sides])) for side in (TRAIN, HOLDOUT)]
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
        steps=steps,
    )


def _summary(found: _Pass, sides: Sequence[int], part: Part) -> PartSummary:
    chosen = [side == PARTS.index(part) for side in sides]
    tokens = array("I", compress(found.tokens, chosen))
    return PartSummary(
        rows=len(tokens),
        prompts=len(set(compress(found.splitter.prompts, chosen))),
        tokens_total=sum(tokens),
        tokens_mean=round(sum(tokens) / max(1, len(tokens)), 2),
        tokens_max=max(tokens, default=0),
    )
