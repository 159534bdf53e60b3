"""Adapters on disk, one read-only folder per content digest: nothing in it is ever changed in place."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from configs.canonical import digest_of, short
from configs.errors import Problem, SlipwayError
from delivery.build.bundle import Adapter, Merged
from delivery.build.servable import problems_with_files
from delivery.clients.fresh_folder import discard, fresh_folder

FILES = ("adapter_config.json", "adapter_model.safetensors")


def file_digest(path: Path) -> str:
    """`sha256:...` of a file's content."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_files(files: Mapping[str, str]) -> str:
    """An adapter's digest from the digests of its files."""
    return digest_of(dict(files))


def describe(folder: Path) -> Adapter:
    """The adapter that a folder holds. Raises SlipwayError when one of the two files is missing or not readable."""
    problems = [Problem(name, "the file is missing") for name in FILES if not (folder / name).is_file()]
    problems += problems_with_files(path.name for path in folder.glob("*"))
    if problems:
        raise SlipwayError(f"{folder} is no adapter", problems=problems)
    files = {name: file_digest(folder / name) for name in FILES}
    return Adapter(digest=digest_of_files(files), rank=_rank(folder / FILES[0]), files=files)


def _rank(path: Path) -> int:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SlipwayError(f"{path} is not peft's configuration of a LoRA: {error!r}") from error


def problems_of(adapter: Adapter | Merged, folder: Path) -> list[Problem]:
    """What differs between a folder and the adapter that it should hold; empty when it is whole."""
    if not folder.is_dir():
        return [Problem(str(folder), "the folder is missing")]
    found = {path.name for path in folder.iterdir()}
    problems = [Problem(str(folder / name), "does not belong here") for name in sorted(found - set(adapter.files))]
    for name, digest in sorted(adapter.files.items()):
        if name not in found:
            problems.append(Problem(str(folder / name), "the file is missing"))
        elif (folder / name).is_symlink():
            problems.append(Problem(str(folder / name), "it is a link, not a file"))
        elif (actual := file_digest(folder / name)) != digest:
            problems.append(Problem(str(folder / name), f"its digest is {actual}, and should be {digest}"))
    if digest_of_files(adapter.files) != adapter.digest:
        problems.append(Problem(str(folder), f"the files' digests do not give {adapter.digest}"))
    return problems


def adapter_folder(adapter: Adapter, home: Path) -> Path:
    """Where the adapter lives below the state folder."""
    return home / "adapters" / short(adapter.digest)


def store(source: Path, adapter: Adapter, home: Path) -> Path:
    """Copies an adapter's files to their place, verified and atomic; a whole copy that is there is left alone."""
    return store_at(source, adapter, adapter_folder(adapter, home))


def store_at(source: Path, adapter: Adapter, place: Path) -> Path:
    """As `store`, to any folder."""
    if not problems_of(adapter, place):
        return place
    with fresh_folder(place.parent, f"adapter {short(adapter.digest)}") as fresh:
        for name in adapter.files:
            with (source / name).open("rb") as read, (fresh / name).open("wb") as write:
                shutil.copyfileobj(read, write)
                write.flush()
                os.fsync(write.fileno())
            (fresh / name).chmod(0o444)
        problems = problems_of(adapter, fresh)
        if problems:
            raise SlipwayError(f"{source} does not hold adapter {short(adapter.digest)}", problems=problems)
        discard(place)
        fresh.replace(place)
        place.chmod(0o555)
    return place
