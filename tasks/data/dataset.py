"""Builds dataset versions: reads the sources, applies the rules, and puts the result where nobody changes it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import configs.dataset
import delivery.build.dataset
import delivery.build.readers
import tasks.data.sources
from configs.canonical import canonical_json, digest_bytes, digest_of
from configs.dataset import DatasetRecipe
from configs.errors import Problem, SlipwayError
from delivery.build.dataset import (
    PARTS,
    DatasetVersion,
    Example,
    Manifest,
    Part,
    RawRow,
    Sifted,
    SourceFile,
    divide,
    recipe_without_paths,
    sift,
    summary_of,
)
from delivery.build.readers import Message
from delivery.progress import Progress, silent
from tasks.data.sources import distinct_names, file_digest, locate_all, read_rows
from tasks.data.store import keep_version, read_version

SHOWN = 5  # rejected rows that an error names; all of them would bury the message

__all__ = ["build_dataset", "code_digest", "open_tokenizer", "read_version"]


def build_dataset(
    recipe: DatasetRecipe,
    folder: Path,
    tokenizer_folder: Path,
    system_prompt: str,
    home: Path,
    on_progress: Progress = silent,
) -> DatasetVersion:
    """The version of these rows and this recipe; written once, found again afterwards.

    `folder` is where the recipe's relative paths start. Raises SlipwayError, with nothing left behind, for sources that
    are missing, empty or mostly unusable, for a split without rows on one side, and when the version cannot be written.
    """
    rows: list[RawRow] = []
    sources = []
    paths = locate_all(recipe.sources, folder)
    for source, path, name in zip(recipe.sources, paths, distinct_names(paths), strict=True):
        sources.append(SourceFile(name=name, digest=file_digest(path), reader=source.reader))
        rows += read_rows(path, source.reader, name)
        on_progress(0, len(rows), f"reading {path.name}")
    count_tokens, special_tokens, tokenizer = open_tokenizer(tokenizer_folder, system_prompt)
    sifted = sift(_reported(rows, on_progress), recipe.filters, count_tokens, special_tokens)
    _refuse_bad_input(recipe, sources, len(rows), sifted)
    parts = divide(sifted.examples, recipe.split)
    _refuse_empty_part(recipe, folder, parts)
    files = _files(parts, sifted)
    reasons = sifted.by_reason()
    manifest = Manifest(
        name=recipe.name,
        recipe=recipe_without_paths(recipe),
        sources=tuple(sources),
        system_prompt=system_prompt,
        tokenizer=tokenizer,
        code=code_digest(),
        read=len(rows),
        kept=len(sifted.examples),
        duplicates=reasons.pop("duplicate", 0),
        rejected=reasons,
        parts={part: summary_of(parts[part]) for part in PARTS},
        files={name: digest_bytes(content) for name, content in files.items()},
    )
    return keep_version(manifest, files, home, on_progress)


def code_digest() -> str:
    """Digest of the source that reads, filters and splits: another version of it makes other dataset versions."""
    modules = (configs.dataset, delivery.build.dataset, delivery.build.readers, tasks.data.sources)
    return digest_of({m.__name__: digest_bytes(Path(str(m.__file__)).read_bytes()) for m in modules})


def open_tokenizer(folder: Path, system_prompt: str) -> tuple[Callable[[Sequence[Message]], int], list[str], str]:
    """How to count a row's tokens, the tokens that no text may hold, and the tokenizer's digest."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not tokenizer.chat_template:
        raise SlipwayError(
            f"the tokenizer in {folder} has no chat template", cure="use an instruct model, or add chat_template.jinja"
        )

    def count(messages: Sequence[Message]) -> int:
        prompt = [] if messages[0]["role"] == "system" else [{"role": "system", "content": system_prompt}]
        text = tokenizer.apply_chat_template([*prompt, *messages], tokenize=False)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    identity = {"tokenizer": file_digest(folder / "tokenizer.json"), "chat_template": str(tokenizer.chat_template)}
    return count, list(tokenizer.all_special_tokens), digest_of(identity)


def _reported(rows: Sequence[RawRow], on_progress: Progress) -> Iterator[RawRow]:
    for index, row in enumerate(rows):
        if index % 100 == 0:
            on_progress(index, len(rows), "filtering rows")
        yield row
    on_progress(len(rows), len(rows), "filtering rows")


def _refuse_bad_input(recipe: DatasetRecipe, sources: Sequence[SourceFile], read: int, sifted: Sifted) -> None:
    bad = [row for row in sifted.rejected if row.reason != "duplicate"]
    share = len(bad) / read
    if sifted.examples and share <= recipe.max_rejected_share:
        return
    shown = [Problem(f"{row.source}: row {row.row}", f"{row.reason}: {row.detail}") for row in bad[:SHOWN]]
    if len(bad) > SHOWN:
        counts = ", ".join(f"{n} {reason}" for reason, n in sifted.by_reason().items() if reason != "duplicate")
        shown.append(Problem("", f"... and {len(bad) - SHOWN} more; in all: {counts}"))
    names = ", ".join(source.name for source in sources)
    raise SlipwayError(
        f"dataset {recipe.name!r}: {len(bad)} of {read} rows of {names} are unusable ({share:.1%}, "
        f"max_rejected_share is {recipe.max_rejected_share:.1%}), {len(sifted.examples)} are left",
        problems=shown,
        cure="correct the rows, or change `reader`, `filters` or max_rejected_share in dataset.yaml",
    )


def _refuse_empty_part(recipe: DatasetRecipe, folder: Path, parts: Mapping[Part, Sequence[Example]]) -> None:
    for part in PARTS:
        if not parts[part]:
            prompts = len({example.prompt for rows in parts.values() for example in rows})
            size = recipe.split.model_dump(exclude={"salt"}, exclude_none=True)
            raise SlipwayError(
                f"dataset {recipe.name!r}: the split leaves no rows for {part}: {prompts} different prompts, {size}",
                where=f"{folder / 'dataset.yaml'}: split",
                cure="set holdout_prompts (or holdout_share) so that both parts get prompts",
            )


def _files(parts: Mapping[Part, Sequence[Example]], sifted: Sifted) -> dict[str, bytes]:
    files = {f"{part}.jsonl": _lines(example.as_row() for example in parts[part]) for part in PARTS}
    rejected = (
        {"source": r.source, "row": r.row, "reason": r.reason, "detail": r.detail, "data": r.data}
        for r in sifted.rejected
    )
    return files | {"rejected.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in rejected)}


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(canonical_json(row) + b"\n" for row in rows)
