"""Which adapter a continued training begins with, and whether it may: found by the ledger, checked before it trains."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from configs.canonical import short
from configs.errors import SlipwayError
from configs.project import Project
from configs.training import TrainingConfig
from delivery.build.bundle import Bundle
from delivery.build.continued import described, differences, seen, trained_prompts
from delivery.build.dataset import DatasetVersion
from delivery.clients.bundles.images import read_bundle, unpack_adapter
from delivery.progress import Progress, silent
from tasks.data.dataset import read_version
from tasks.data.erasures import erased_in, read_erasures
from tasks.mirror import mirror_of
from tasks.release.site import open_ledger
from tasks.training.train import ParentAdapter

SHOWN = 5


def find_parent(
    project: Project, version: DatasetVersion, revision: str, home: Path, on_progress: Progress = silent
) -> ParentAdapter | None:
    """The adapter that `continue_from` means now; None: the training begins with the base model.

    `live` is the newest adapter on the live one's line that has not learned from this version yet, nor from rows that
    were erased since: the same build again is thus the same training. Raises SlipwayError where a parent's LoRA or base
    model is another one, or where it was trained on rows that this version holds out.
    """
    wanted = project.training.continue_from
    if wanted is None:
        return None
    if wanted == "live":
        bundle = _unlearned(project, version, home, on_progress)
        if bundle is None:
            on_progress(0, 0, "nothing live to continue from: training begins with the base model")
            return None
    else:
        bundle = _read(project, home, wanted)
        if _lost(home, project, bundle):
            what = f"{described(bundle)} learned from rows that were erased since"
            cure = (
                "continue_from: live takes the newest one that did not, and leaving it out begins with the base model"
            )
            raise SlipwayError(what, where="training.yaml: continue_from", cure=cure)
    on_progress(0, 0, f"training begins with the adapter of {described(bundle)}")
    return checked_parent(project, bundle, project.training, version, revision, home)


def checked_parent(
    project: Project, bundle: Bundle, config: TrainingConfig, version: DatasetVersion, revision: str, home: Path
) -> ParentAdapter:
    """The adapter of one bundle, for a training by these settings. Raises SlipwayError with all that is different."""
    problems = differences(bundle, config, revision)
    if bundle.adapter is None or problems:
        what = f"training cannot go on from {described(bundle)}"
        cure = "set it back, or leave continue_from out and train from the base model"
        raise SlipwayError(what, where="training.yaml: continue_from", problems=problems, cure=cure)
    prompts: set[str] = set()
    for ancestor in line(project, home, bundle):
        if ancestor.dataset_version is not None:
            prompts |= trained_prompts(_rows(read_version(home, ancestor.dataset_version), "train"))
    if known := seen(_rows(version, "holdout"), prompts):
        shown = ", ".join(known[:SHOWN]) + (", ..." if len(known) > SHOWN else "")
        what = f"{described(bundle)} was trained on {len(known)} of the rows that this version holds out: {shown}"
        cure = "keep split.salt and split.group_by as they were, with holdout_share, or train from the base model"
        raise SlipwayError(what, where="training.yaml: continue_from", cure=cure)
    return ParentAdapter(bundle=bundle.digest, adapter=bundle.adapter.digest, folder=unpack_adapter(bundle, home))


def line(project: Project, home: Path, bundle: Bundle) -> Iterator[Bundle]:
    """A bundle, the one that its training began with, and so on to the first, which began with the base model."""
    yield bundle
    while bundle.continued_from is not None:
        bundle = _read(project, home, bundle.continued_from)
        yield bundle


def _unlearned(project: Project, version: DatasetVersion, home: Path, on_progress: Progress) -> Bundle | None:
    with closing(open_ledger(project.environment, home)) as ledger:
        row = ledger.route(project.environment.name, project.route)
        live = ledger.bundle(row.live.bundle) if row else None
    if live is None or live.trained is None:
        return None
    for bundle in line(project, home, _read(project, home, live.digest)):
        if bundle.dataset_version == version.digest:
            continue
        if not _lost(home, project, bundle):
            return bundle
        on_progress(0, 0, f"{described(bundle)} learned from rows that were erased since, and is passed over")
    return None


def _read(project: Project, home: Path, digest: str) -> Bundle:
    """The bundle with an adapter behind a digest: a merged model's is in the bundle that it was merged from."""
    mirror_of(project.environment, home).fetch_built(digest)
    bundle = read_bundle(home, digest)
    return _read(project, home, bundle.parent) if bundle.merged is not None and bundle.parent else bundle


def _lost(home: Path, project: Project, bundle: Bundle) -> bool:
    """Whether it, or an adapter before it, learned from a row that was erased; unknown counts as yes."""
    return any(_lost_rows(home, one.dataset_version) for one in line(project, home, bundle))


def _lost_rows(home: Path, version: str | None) -> bool:
    if version is None:
        return False
    folder = home / "datasets" / short(version)
    return bool(erased_in(folder).get("train")) if folder.is_dir() else bool(read_erasures(home))


def _rows(version: DatasetVersion, part: str) -> Iterator[dict[str, Any]]:
    with (version.folder / f"{part}.jsonl").open(encoding="utf-8") as file:
        for text in file:
            yield json.loads(text)
