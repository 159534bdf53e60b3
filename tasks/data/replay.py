"""The `replay` sources of a recipe: rows that an earlier version was trained on, against forgetting.

They pass the recipe's filters, its split and the erasures like any others: a row that is there already is a duplicate,
and one that was erased does not come back.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from heapq import nsmallest
from math import ceil
from pathlib import Path
from typing import Any

from configs.canonical import short
from configs.dataset import DatasetRecipe, Source
from configs.errors import SlipwayError
from configs.project import Project
from delivery.build.dataset import DatasetVersion
from delivery.clients.fresh_folder import fresh_folder
from tasks.data.store import read_version
from tasks.mirror import mirror_of
from tasks.release.site import open_ledger


@dataclass(frozen=True)
class ReplayWay:
    """A recipe without `replay` sources; `only`: the digest that must come of it, None where any will do."""

    recipe: DatasetRecipe
    only: str | None = None


@contextmanager
def replayed(project: Project, recipe: DatasetRecipe, home: Path) -> Iterator[list[ReplayWay]]:
    """The recipe with its `replay` sources as files, which go away afterwards; one without such stays as it is.

    Ways are tried in turn. The version that is live comes first, with what it replayed itself: the same build again is
    thus the same version. Before the first release there is nothing to replay, and the source is left out.
    """
    if all(source.replay is None for source in recipe.sources):
        yield [ReplayWay(recipe)]
        return
    live = _live(project, home) if any(source.replay == "live" for source in recipe.sources) else None
    with fresh_folder(home / "datasets", "the rows to replay") as folder:
        folder.chmod(0o700)
        ways = [ReplayWay(found, live.digest)] if live and (found := _again(live, recipe, home, folder)) else []
        yield [*ways, ReplayWay(_filled(recipe, live.digest if live else None, home, folder))]


def _live(project: Project, home: Path) -> DatasetVersion | None:
    """The version behind what users talk to."""
    with closing(open_ledger(project.environment, home)) as ledger:
        row = ledger.route(project.environment.name, project.route)
        bundle = ledger.bundle(row.live.bundle) if row else None
    if bundle is None or bundle.dataset_version is None:
        return None
    mirror_of(project.environment, home).fetch_built(bundle.digest)
    return read_version(home, bundle.dataset_version)


def _replayed_by(version: DatasetVersion, recipe: DatasetRecipe) -> str | None:
    """What `replay: live` was when a version was built."""
    named = {source.replay for source in recipe.sources}
    found = [one.options["replay"] for one in version.manifest.sources if "replay" in one.options]
    return next((digest for digest in found if digest not in named), None)


def _again(live: DatasetVersion, recipe: DatasetRecipe, home: Path, folder: Path) -> DatasetRecipe | None:
    """The recipe as it was when the live version was built; None where what that one replayed is not here any more."""
    before = _replayed_by(live, recipe)
    if before is None:
        rest = tuple(source for source in recipe.sources if source.replay != "live")
        return _filled(recipe.model_copy(update={"sources": rest}), None, home, folder) if rest else None
    return _filled(recipe, before, home, folder) if (home / "datasets" / short(before)).is_dir() else None


def _filled(recipe: DatasetRecipe, live: str | None, home: Path, folder: Path) -> DatasetRecipe:
    sources = []
    for source in recipe.sources:
        digest = live if source.replay == "live" else source.replay
        if source.replay is None:
            sources.append(source)
        elif digest is not None:
            sources.append(_written(source, read_version(home, digest), folder))
    if not sources:
        what = f"dataset {recipe.name!r} replays what is live alone, and nothing is live yet"
        raise SlipwayError(what, where="dataset.yaml: sources", cure="name a source of rows beside `replay`")
    return recipe.model_copy(update={"sources": tuple(sources)})


def _written(source: Source, version: DatasetVersion, folder: Path) -> Source:
    """The source as a file of rows: those whose ids come first when they are hashed with the version's digest."""
    with (version.folder / "train.jsonl").open(encoding="utf-8") as lines:
        ids = [json.loads(text)["id"] for text in lines]
        chosen = set(nsmallest(ceil((source.share or 0) * len(ids)), ids, key=lambda one: _rank(one, version.digest)))
        lines.seek(0)
        rows = [row for row in map(json.loads, lines) if row["id"] in chosen]
    file = folder / f"replay-{short(version.digest)}.jsonl"
    file.write_text("".join(json.dumps(_raw(row), ensure_ascii=False) + "\n" for row in rows), "utf-8")
    reader = "preference" if version.manifest.kind == "preferences" else "messages"
    return source.model_copy(update={"path": file.absolute(), "reader": reader, "replay": version.digest})


def _rank(row: str, version: str) -> bytes:
    return blake2b(row.encode(), key=version.encode()[:64], digest_size=8).digest()


def _raw(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of train.jsonl as a reader takes it; its other columns stand beside the messages again."""
    return {**row["fields"], **{name: value for name, value in row.items() if name not in ("id", "fields")}}
