"""A merged model as a folder below home/merged/, by the digest of its files; peft does the merging."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from configs.canonical import short
from configs.errors import SlipwayError
from configs.strict import Strict
from delivery.build.bundle import Merged
from delivery.clients.bundles.adapters import digest_of_files, file_digest, problems_of
from delivery.clients.bundles.layers import MERGED_SETTINGS, MERGED_WEIGHTS
from delivery.clients.fresh_folder import fresh_folder
from delivery.progress import Progress, silent
from tasks import child
from tasks.training.train import worker_environment

Dtype = Literal["auto", "float32"]


class MergedModel(Strict):
    """A merged model on disk, and what merging changed on some texts: rounding to the base model's number format."""

    merged: Merged
    folder: Path
    size: int  # bytes
    positions: int  # tokens that were compared
    same: int  # of them, with the same likeliest next token
    largest: float  # change of a logit


def merge(
    base: Path,
    adapter: Path,
    texts: Sequence[str],
    home: Path,
    on_progress: Progress = silent,
    dtype: Dtype = "auto",
) -> MergedModel:
    """Merges, in a process of its own. The same base, adapter and `dtype` give the same bytes. Raises SlipwayError.

    `dtype` is the number format of the weights: `auto` is the base model's; in bfloat16 most of a small adapter's
    numbers are rounded away, in float32 none is, at twice the size.
    """
    with fresh_folder(home.absolute() / "merged", "a merged model") as work:
        target, result, spec = work / "model", work / "result.json", work / "spec.json"
        order: dict[str, Any] = {
            "base": str(base),
            "adapter": str(adapter),
            "texts": list(texts),
            "beside": MERGED_SETTINGS,
        }
        order["dtype"] = dtype
        spec.write_text(json.dumps(order | {"target": str(target), "result": str(result)}), encoding="utf-8")
        log = home.absolute() / "merged" / "merge.log"

        def relay(event: child.WorkerEvent) -> None:
            on_progress(0, 0, event["text"])

        child.call("tasks.training.merge_worker", spec, log, relay, worker_environment())
        merged = _describe(target)
        place = home.absolute() / "merged" / short(merged.digest)
        if problems_of(merged, place):
            target.rename(place)
        measured = json.loads(result.read_text(encoding="utf-8"))
    size = sum((place / name).stat().st_size for name in merged.files)
    return MergedModel(merged=merged, folder=place, size=size, **measured)


def _describe(folder: Path) -> Merged:
    names = sorted(path.name for path in folder.iterdir())
    unknown = sorted(set(names) - {MERGED_WEIGHTS, *MERGED_SETTINGS})
    if unknown or MERGED_WEIGHTS not in names:
        raise SlipwayError(
            f"the merged model is not one file of weights with known settings: {', '.join(unknown) or 'no weights'}",
            where=str(folder),
            cure="release the adapter instead: merged models of this kind are not packaged",
        )
    for name in names:
        (folder / name).chmod(0o444)
    files = {name: file_digest(folder / name) for name in names}
    return Merged(digest=digest_of_files(files), files=files)
