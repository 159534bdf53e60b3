"""The `review` sources of a recipe: what people approved, as files that a dataset version reads like any others."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from configs.dataset import DatasetRecipe, Source
from configs.errors import SlipwayError
from configs.project import Project
from delivery.clients.fresh_folder import fresh_folder
from delivery.review.rows import RowKind, rows_of
from tasks.review.desk import Desk, open_desk

READERS: dict[RowKind, str] = {"conversations": "messages", "preferences": "preference"}


@dataclass(frozen=True)
class Reviewed:
    """A recipe whose `review` sources are files, and the items in them."""

    recipe: DatasetRecipe
    items: tuple[str, ...] = ()


@contextmanager
def reviewed(project: Project, home: Path) -> Iterator[Reviewed]:
    """The project's recipe to build with; the files go away afterwards. One without `review` sources stays as it is.

    A source of which nothing is approved yet is left out. Raises SlipwayError where no other source is left.
    """
    recipe = project.dataset
    if all(source.review is None for source in recipe.sources):
        yield Reviewed(recipe)
        return
    with open_desk(project, home) as desk, fresh_folder(home / "review", "the rows that people approved") as folder:
        folder.chmod(0o700)
        sources: list[Source] = []
        items: dict[str, None] = {}
        for source in recipe.sources:
            ids, made = _written(desk, source, folder)
            items |= dict.fromkeys(ids)
            sources += [made] if made is not None else []
        if not sources:
            raise SlipwayError(
                f"dataset {recipe.name!r} reads what people approved, and nothing is approved yet",
                where="dataset.yaml: sources",
                cure="slipway review collect, then slipway review next; slipway review list shows what waits",
            )
        yield Reviewed(recipe.model_copy(update={"sources": tuple(sources)}), tuple(items))


def mark_read(project: Project, home: Path, items: tuple[str, ...], version: str) -> None:
    """Notes on record that a dataset version has read these items."""
    if items:
        with open_desk(project, home) as desk:
            desk.ledger.review.mark_read(desk.queue, items, version)


def _written(desk: Desk, source: Source, folder: Path) -> tuple[list[str], Source | None]:
    """The items and their file; none of which the digest would change with the order of decisions."""
    if source.review is None:
        return [], source
    rows = sorted(rows_of(desk.ledger.review.approved(desk.queue), source.review))
    if not rows:
        return [], None
    file = folder / f"review-{source.review}.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for _, row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return [item for item, _ in rows], Source(path=file.absolute(), reader=READERS[source.review], ignore=source.ignore)
