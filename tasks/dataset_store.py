"""Keeps dataset versions on disk: written as a whole or not at all, never changed, checked when they are read."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from configs.canonical import short
from configs.errors import SlipwayError
from delivery.dataset import DatasetVersion, Manifest
from delivery.progress import Progress, silent
from tasks.sources import file_digest

_TEMPORARY = ".building-"


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
    try:
        with _building(root) as folder:
            for index, (name, data) in enumerate(content.items()):
                on_progress(index, len(content), f"writing {name}")
                _write(folder / name, data)
            os.rename(folder, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process built the same version meanwhile
            return read_version(home, manifest.digest)
        raise SlipwayError(
            f"cannot write dataset version {target} ({size} bytes): {error.strerror or error}",
            where=str(error.filename or root),
            cure=f"make room: {_free(root)} bytes are free; nothing of the version was left behind",
        ) from error
    return DatasetVersion(digest=manifest.digest, folder=target, manifest=manifest)


@contextmanager
def _building(root: Path) -> Iterator[Path]:
    """A temporary folder that goes away whatever happens; those of processes that were killed are swept first."""
    root.mkdir(parents=True, exist_ok=True)
    for stale in root.glob(_TEMPORARY + "*"):
        if not _alive(int(stale.name.removeprefix(_TEMPORARY).partition("-")[0])):
            shutil.rmtree(stale)
    folder = Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{os.getpid()}-", dir=root))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # write() names no file
    path.chmod(0o444)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _free(root: Path) -> str:
    return f"{shutil.disk_usage(root).free:,}" if root.is_dir() else "no"


def _changed(folder: Path, name: str, what: str) -> SlipwayError:
    return SlipwayError(
        f"dataset version {folder.name} was changed after it was built",
        where=f"{folder / name}: {what}",
        cure=f"delete {folder} and build it again; a version is never edited, another recipe makes another one",
    )
