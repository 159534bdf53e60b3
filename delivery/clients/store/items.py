"""Items of a store: folders of files under `URL/KIND/NAME/`, each file by its digest, and an index that makes it whole.

The index is written last. What a killed run left without one counts as nothing, and costs nothing but its room until
the same item is put there again; what it had sent already is not sent twice. Nothing that is read is believed: every
file's digest is compared before the item gets its place on disk.
"""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import fsspec
from pydantic import Field, ValidationError, field_validator

from configs.canonical import short
from configs.store import StoreConfig
from configs.strict import Strict
from delivery.clients.bundles.adapters import file_digest
from delivery.clients.fresh_folder import discard, fresh_folder
from delivery.clients.store.errors import DamagedError
from delivery.clients.store.explained import explained, lacks_bucket

INDEX = "index.json"


class StoredFile(Strict):
    """One file of an item."""

    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Index(Strict):
    """What an item consists of, by the files' paths inside it."""

    format: Literal[1] = 1
    files: dict[str, StoredFile]

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, StoredFile]) -> dict[str, StoredFile]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or str(path) != name or name == ".":
                raise ValueError(f"{name!r} is no path inside an item")
        return files


class Store:
    """One place that keeps items. Every method raises StoreError, and OSError for the disk of this machine."""

    def __init__(self, config: StoreConfig):
        self.url, self._root, self._files = config.url, config.root, _open(config)

    def require(self) -> None:
        """Proves that it can be listed, written and deleted from."""
        probe = f"{self._root}/.probe"
        with explained("take a file", self.url):
            self._make(self._root)
            self._files.pipe_file(probe, b"slipway")
            self._files.rm_file(probe)

    def names(self, kind: str) -> tuple[str, ...]:
        """Of the items of this kind, sorted; one that lacks its index is not among them."""
        with explained(f"list {kind}", self.url):
            found = self._files.find(f"{self._root}/{kind}")
        paths = [PurePosixPath(path) for path in found]
        return tuple(sorted(path.parent.name for path in paths if path.name == INDEX))

    def index(self, kind: str, name: str) -> Index | None:
        """None when there is no such item, or nobody finished writing it."""
        path = f"{self._item(kind, name)}/{INDEX}"
        with explained(f"give {kind}/{name}", self.url):
            try:
                content = self._files.cat_file(path)
            except FileNotFoundError as error:
                if lacks_bucket(error):
                    raise
                return None
        try:
            return Index.model_validate_json(content)
        except ValidationError:  # a shared volume shows a file that is being written
            return None

    def put(self, kind: str, name: str, folder: Path, files: Iterable[Path]) -> int:
        """Makes the item these files of a folder; the number of those that had to be sent.

        Files that the item had before and has no more are deleted, once the new index is there. Raises
        FileNotFoundError when one of the files goes away meanwhile; the item is then what it was.
        """
        item, before = self._item(kind, name), self.index(kind, name)
        found = {
            path.relative_to(folder).as_posix(): StoredFile(digest=file_digest(path), size=path.stat().st_size)
            for path in sorted(files)
        }
        index = Index(files=found)
        if index == before:
            return 0
        sent = sum(self._send(folder / path, item, file) for path, file in found.items())
        with explained(f"take {kind}/{name}", self.url):
            self._files.pipe_file(f"{item}/{INDEX}", index.model_dump_json().encode())
            old = {file.digest for file in before.files.values()} if before else set()
            for digest in sorted(old - {file.digest for file in found.values()}):
                self._forget(_blob(item, digest))
        return sent

    def fetch(self, kind: str, name: str, place: Path, *, read_only: bool) -> bool:
        """Whether there was such an item; it is at `place` then, whole, instead of what was there.

        Raises DamagedError when a file is missing or is not what its digest says; `place` is left as it was.
        """
        index = self.index(kind, name)
        if index is None:
            return False
        item = self._item(kind, name)
        with fresh_folder(place.parent, f"{kind}/{name} of the store") as fresh:
            for path, file in index.files.items():
                self._receive(_blob(item, file.digest), file, fresh / path)
                (fresh / path).chmod(0o444 if read_only else 0o644)
            discard(place)
            fresh.replace(place)
        if read_only:
            place.chmod(0o555)
        return True

    def _send(self, path: Path, item: str, file: StoredFile) -> bool:
        blob = _blob(item, file.digest)
        known = self._size(blob)
        if known == file.size:
            return False
        with path.open("rb"):  # one that went away is this machine's trouble, not the store's
            pass
        with explained(f"take {path.name}", self.url):
            self._make(f"{item}/files")
            self._files.put_file(str(path), blob)
        if self._size(blob) != file.size:
            raise DamagedError(f"{path} changed while it was sent", where=self.url, cure="repeat the command")
        return True

    def _receive(self, blob: str, file: StoredFile, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with explained(f"give {path.name}", self.url):
            self._files.get_file(blob, str(path))
        found = file_digest(path)
        if found != file.digest:
            raise DamagedError(
                f"the store gave other bytes for {path.name}: their digest is {found}, it should be {file.digest}",
                where=f"{self.url}: {blob}",
                cure="delete this file there: the machine that has the item, or the next build, puts it there again",
            )

    def _size(self, blob: str) -> int | None:
        with explained("say what it has", self.url):
            try:
                return int(self._files.info(blob)["size"])
            except FileNotFoundError:
                return None

    def _forget(self, blob: str) -> None:
        try:
            self._files.rm_file(blob)
        except FileNotFoundError:  # another run of the same training was faster
            return

    def _make(self, folder: str) -> None:
        """A folder where there are such things; buckets are made by people."""
        if "file" in self._files.protocol:
            self._files.makedirs(folder, exist_ok=True)

    def _item(self, kind: str, name: str) -> str:
        return f"{self._root}/{kind}/{name}"


def _blob(item: str, digest: str) -> str:
    return f"{item}/files/{short(digest, 64)}"


def _open(config: StoreConfig) -> Any:
    if config.scheme == "file":
        return fsspec.filesystem("file")
    network = {
        "connect_timeout": max(1.0, config.timeout_s / 10),
        "read_timeout": config.timeout_s,
        "retries": {"max_attempts": config.tries, "mode": "standard"},
    }
    return fsspec.filesystem(
        "s3",
        endpoint_url=config.endpoint_url,
        config_kwargs=network,
        use_listings_cache=False,  # others write there too
    )
