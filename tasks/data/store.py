"""Keeps dataset versions on disk: written as a whole or not at all, never changed, checked when they are read."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from configs.canonical import short
from configs.errors import SlipwayError
from delivery.build.dataset import DatasetVersion, Manifest
from delivery.clients.fresh_folder import fresh_folder
from delivery.progress import Progress, silent
from tasks.data.sources import file_digest


def read_version(home: Path, digest: str) -> DatasetVersion:
    """A version by its digest, or the first 12 hex digits of it; every file is compared with its digest."""
    folder = home / "datasets" / short(digest)
    try:
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except FileNotFoundError:
        known = sorted(p.name for p in folder.parent.glob("[0-9a-f]*")) if folder.parent.is_dir() else []
        cure = f"known versions: {', '.join(known)}" if known else "build it first: no version is there yet"
        raise SlipwayError(f"there is no dataset version {short(digest)} in {folder.parent}", cure=cure) from None
    except ValidationError as error:
        raise _changed(folder, "manifest.json", f"it is no manifest: {error.errors()[0]['msg']}") from error
    asked = digest.removeprefix("sha256:")
    if not manifest.digest.removeprefix("sha256:").startswith(asked) or len(asked) < len(short(digest)):
        raise _changed(folder, "manifest.json", f"its digest is {manifest.digest}, expected {digest}")
    for name, expected in manifest.files.items():
        path = folder / name
        found = file_digest(path) if path.is_file() else "missing"
        if found != expected:
            raise _changed(folder, name, f"its digest is {found}, the manifest says {expected}")
    return DatasetVersion(digest=manifest.digest, folder=folder, manifest=manifest)


def keep_version(
    manifest: Manifest, files: Mapping[str, bytes], home: Path, on_progress: Progress = silent
) -> DatasetVersion:
    """Writes the folder beside its place and renames it: it is there as a whole or not at all."""
    root = home / "datasets"
    target = root / short(manifest.digest)
    if target.exists():
        return read_version(home, manifest.digest)
    content = {**files, "manifest.json": manifest.model_dump_json(indent=2).encode() + b"\n"}
    size = sum(map(len, content.values()))
    with fresh_folder(root, f"dataset version {short(manifest.digest)} ({size:,} bytes)") as folder:
        for index, (name, data) in enumerate(content.items()):
            on_progress(index, len(content), f"writing {name}")
            _write(folder / name, data)
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return read_version(home, manifest.digest)  # another process built the same version meanwhile
    return DatasetVersion(digest=manifest.digest, folder=target, manifest=manifest)


def _write(path: Path, data: bytes) -> None:
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # write() names no file
    path.chmod(0o444)


def _changed(folder: Path, name: str, what: str) -> SlipwayError:
    return SlipwayError(
        f"dataset version {folder.name} was changed after it was built",
        where=f"{folder / name}: {what}",
        cure=f"delete {folder} and build it again; a version is never edited, another recipe makes another one",
    )
