"""Keeps dataset versions on disk: written as a whole or not at all, never changed, checked when they are read."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from configs.canonical import short
from configs.errors import SlipwayError
from delivery.build.dataset import DatasetVersion, Manifest
from delivery.clients.fresh_folder import fresh_folder
from tasks.data.erasures import erased_files
from tasks.data.sources import file_digest

UNFINISHED = ".erasing"  # at the end of the name of a file that takes another one's place


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
    since = erased_files(folder)
    for name, expected in manifest.files.items():
        path = folder / name
        found = file_digest(path) if path.is_file() else "missing"
        expected = since.files.get(name, expected) if since else expected
        if found != expected and path.with_name(name + UNFINISHED).exists():
            cure = "give the order again: slipway dataset erase"
            raise SlipwayError(f"an erasure of rows of {folder} was not finished", cure=cure)
        if found != expected:
            raise _changed(folder, name, f"its digest is {found}, the manifest says {expected}")
    lost = sum(len(ids) for ids in since.rows.values()) if since else 0
    return DatasetVersion(digest=manifest.digest, folder=folder, manifest=manifest, erased=lost)


class VersionFile:
    """A file that is written piece by piece; its digest is known when it is closed."""

    def __init__(self, path: Path, mode: int = 0o444):
        self.path, self._mode = path, mode
        self._file, self._hash = path.open("wb"), hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Appends. Raises OSError that names the file."""
        self._hash.update(data)
        with self._named():
            self._file.write(data)

    def close(self) -> str:
        """Puts it on the disk, read-only; returns `sha256:...`."""
        with self._named():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self.path.chmod(self._mode)
        return f"sha256:{self._hash.hexdigest()}"

    def abandon(self) -> None:
        """Closes it, whatever is in it."""
        try:
            self._file.close()
        except OSError:  # its buffer found no room, which was told before
            os.close(self._file.fileno()) if not self._file.closed else None

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error  # write() names no file


class VersionDraft:
    """A folder that becomes a version, or goes away."""

    def __init__(self, folder: Path, home: Path):
        self.folder, self._home = folder, home
        self._files: dict[str, VersionFile] = {}

    def file(self, name: str, mode: int = 0o444) -> VersionFile:
        """A new file of the version; `mode` holds once it is complete."""
        self._files[name] = VersionFile(self.folder / name, mode)
        return self._files[name]

    def opened(self, name: str) -> VersionFile:
        """A file that was opened before."""
        return self._files[name]

    def close_files(self) -> dict[str, str]:
        """Name -> digest of all files that were opened."""
        return {name: file.close() for name, file in self._files.items()}

    def keep(self, manifest: Manifest) -> DatasetVersion:
        """Adds the manifest and renames the folder into place, unless the version is there already."""
        target = self._home / "datasets" / short(manifest.digest)
        if target.exists():
            return read_version(self._home, manifest.digest)
        file = VersionFile(self.folder / "manifest.json")
        file.write(manifest.model_dump_json(indent=2).encode() + b"\n")
        file.close()
        try:
            self.folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return read_version(self._home, manifest.digest)  # another process built the same version meanwhile
        return DatasetVersion(digest=manifest.digest, folder=target, manifest=manifest)

    def abandon(self) -> None:
        """Closes what is open."""
        for file in self._files.values():
            file.abandon()


@contextmanager
def new_version(home: Path, name: str) -> Iterator[VersionDraft]:
    """A draft beside the versions' places; what is not kept goes away. Raises SlipwayError when the disk is full."""
    with fresh_folder(home / "datasets", f"dataset version of {name}") as folder:
        draft = VersionDraft(folder, home)
        try:
            yield draft
        finally:
            draft.abandon()


def _changed(folder: Path, name: str, what: str) -> SlipwayError:
    return SlipwayError(
        f"dataset version {folder.name} was changed after it was built",
        where=f"{folder / name}: {what}",
        cure=f"delete {folder} and build it again; a version is never edited, another recipe makes another one",
    )
