"""Where the rows of a recipe lie: a file, a folder or glob of files, a folder of the `datasets` library, or the hub."""

import glob
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from configs.dataset import Source
from configs.errors import SlipwayError, require_all
from delivery.build.layouts.known import unknown_reader
from tasks.data.formats.known import format_by_name, require_format

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NO_DATA = re.compile(r"(?i)\..*|readme.*|licen[sc]e.*|notice.*|.*\.(md|rst|ya?ml|py)")  # what lies beside data
SHOWN = 10


@dataclass(frozen=True)
class Located:
    """One file of rows; for a dataset on the hub `path` is None. `name` is without the folder: a file may move."""

    source: Source
    path: Path | None
    format: str
    name: str


def locate_all(sources: Sequence[Source], folder: Path) -> list[Located]:
    """Where each source lies. Raises one SlipwayError with the problems of all that cannot be located."""
    require_all(
        "the dataset cannot be read",
        [partial(locate, source, folder, index) for index, source in enumerate(sources)],
    )
    found = [one for index, source in enumerate(sources) for one in locate(source, folder, index)]
    names = [one.name for one in found]
    return [
        one if names.count(one.name) == 1 else Located(one.source, one.path, one.format, f"{index}:{one.name}")
        for index, one in enumerate(found)
    ]


def locate(source: Source, folder: Path, index: int) -> list[Located]:
    """The files of one source: ${NAME} filled from the environment, relative paths from the recipe's folder."""
    where = f"{folder / 'dataset.yaml'}: sources.{index}"
    if source.reader is not None and (problem := unknown_reader(source.reader)):
        raise SlipwayError(problem.what, where=f"{where}.reader", cure=problem.cure)
    if source.review is not None:
        what = "what people approved lies in a project's ledger, and was not taken out of it"
        raise SlipwayError(what, where=f"{where}.review", cure="build by the project: slipway build --project FOLDER")
    if source.replay is not None and source.path is None:
        what = "which rows were trained on before is known to a project's state folder, and was not looked up"
        raise SlipwayError(what, where=f"{where}.replay", cure="build by the project: slipway build --project FOLDER")
    if source.hub is not None:
        return [Located(source, None, "hub", f"{source.hub}@{source.revision}")]
    path = folder / _filled_in(str(source.path), f"{where}.path")
    place = f"{where}.path"
    if os.path.isfile(path):  # unlike is_file, False for a name that is too long
        return [_file(source, path, place)]
    if os.path.isdir(path):
        return _saved(source, path, place) or _folder(source, path, place)
    matching = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if os.path.isfile(name))
    if matching:
        return [_file(source, one, place) for one in matching]
    raise SlipwayError(
        f"the dataset file {path} does not exist", where=place, cure=f"correct the path; {_neighbours(path)}"
    )


def file_digest(path: Path) -> str:
    """`sha256:...` of a file's content."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _filled_in(text: str, where: str) -> str:
    for name in _VARIABLE.findall(text):
        if not os.environ.get(name):
            raise SlipwayError(
                f"the environment variable {name} is not set",
                where=f"{where}: {text}",
                cure=f"export {name}=<the folder that holds {text.partition('}/')[2] or 'the data'}>",
            )
    return _VARIABLE.sub(lambda match: os.environ[match[1]], text)


def _file(source: Source, path: Path, where: str) -> Located:
    if source.split is not None:
        cure = "take `split` out, or name a folder that `save_to_disk` wrote"
        raise SlipwayError(f"{path} is a file and has no splits", where=where, cure=cure)
    return Located(source, path, require_format(path, source.format, where), path.name)


def _folder(source: Source, path: Path, where: str) -> list[Located]:
    """All files in a folder and below it; one that no reader reads is told rather than left out."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    data = [f for f in files if source.format is not None or format_by_name(f) or not _NO_DATA.fullmatch(f.name)]
    if not data:
        cure = f"correct the path; {_neighbours(path / '*')}"
        raise SlipwayError(f"the folder {path} holds no file of rows", where=where, cure=cure)
    odd = [str(f.relative_to(path)) for f in data if source.format is None and format_by_name(f) is None]
    if odd:
        cure = f"name the files that are meant, e.g. path: {source.path}/*{data[0].suffix}"
        raise SlipwayError(f"the folder {path} holds what no reader reads: {_some(odd)}", where=where, cure=cure)
    return [_file(source, file, where) for file in data]


def _saved(source: Source, path: Path, where: str) -> list[Located]:
    """The Arrow files of a folder that the `datasets` library wrote (save_to_disk); none where it is another folder."""
    if (path / "dataset_dict.json").is_file():
        splits = json.loads((path / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        if source.split is None or source.split not in splits:
            cure = f"split: one of {', '.join(splits)}"
            raise SlipwayError(f"{path} has several splits, and `split` is {source.split!r}", where=where, cure=cure)
        path = path / source.split
    elif not (path / "state.json").is_file():
        return []
    elif source.split is not None:
        raise SlipwayError(f"{path} holds one split alone", where=where, cure="take `split` out")
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    files = [path / one["filename"] for one in state["_data_files"]]
    if missing := [file for file in files if not file.is_file()]:
        raise SlipwayError(
            f"{missing[0]} does not exist", where=where, cure="save the dataset again: a file is missing"
        )
    return [Located(source, file, "arrow", file.name) for file in files]


def _neighbours(path: Path) -> str:
    if not os.path.isdir(path.parent):
        return f"there is no folder {path.parent}"
    return f"{path.parent} holds: {_some(sorted(p.name for p in path.parent.iterdir() if p.is_file())) or 'no files'}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
