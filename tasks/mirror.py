"""What a build makes is kept in the environment's store too, and found there by one whose disk is empty.

Pulled when it is needed: a training's checkpoints, eval results, a bundle. Pushed as soon as it is whole: at each
checkpoint, after each step. Without a store in environment.yaml all of this does nothing.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from configs.canonical import short
from configs.environment import Environment
from configs.errors import SlipwayError
from configs.store import StoreConfig
from delivery.build.bundle import Adapter
from delivery.build.dataset import DatasetVersion
from delivery.clients.bundles import adapters as adapter_store
from delivery.clients.bundles.images import find_bundle, read_bundle
from delivery.clients.fresh_folder import fresh_folder
from delivery.clients.store.errors import DamagedError, StoreAwayError
from delivery.progress import Progress, silent
from tasks.training.train import TrainedAdapter, alone

if TYPE_CHECKING:
    from delivery.clients.store.items import Store

CHECKPOINT = re.compile(r"checkpoints/checkpoint-(\d+)/complete")
DONE = "done.json"


def mirror_of(environment: Environment, home: Path) -> "StoreMirror":
    """The state folder's mirror, as environment.yaml says."""
    return StoreMirror(environment.store, home.absolute())


class StoreMirror:
    """One state folder beside one store. Everything raises StoreError, and does nothing where no store is named."""

    def __init__(self, config: StoreConfig | None, home: Path):
        self._home = home
        self._store = None if config is None else _open(config)

    def require(self) -> None:
        """Raises StoreError when it cannot be listed, written and deleted from."""
        if self._store is not None:
            self._store.require()

    def keep_dataset(self, version: DatasetVersion) -> None:
        """A dataset version, once it is built."""
        self._keep("datasets", version.folder)

    def keep_bundle(self, digest: str) -> None:
        """A bundle's image layout, once it is packaged and signed."""
        if self._store is not None:
            self._keep("bundles", find_bundle(self._home, digest))

    def fetch_bundle(self, reference: str) -> None:
        """The bundle of this digest, or of the only one in the store that begins so, unless it is here."""
        if self._store is None:
            return
        wanted = re.sub(r"^(sha256:|lora-|base-|merged-)", "", reference)
        names = [short(wanted)] if len(wanted) >= 12 else self._begin("bundles", wanted)
        for name in names:
            place = self._home / "bundles" / name
            if not place.is_dir() and self._store.fetch("bundles", name, place, read_only=True):
                place.chmod(0o755)
                try:
                    read_bundle(self._home, name)  # verified, every byte
                except SlipwayError as error:
                    shutil.rmtree(place)
                    where, cure = f"{self._store.url}/bundles/{name}", "delete it there, and build it again"
                    raise DamagedError(f"the store's copy is refused: {error.what}", where=where, cure=cure) from error

    def fetch_built(self, reference: str) -> None:
        """A bundle with the dataset version behind it: what it takes to train, merge or ask it again."""
        self.fetch_bundle(reference)
        version = None if self._store is None else read_bundle(self._home, reference).dataset_version
        if self._store is not None and version is not None:
            place = self._home / "datasets" / short(version)
            if not place.is_dir():  # where the store has none either, whoever reads it says so
                self._store.fetch("datasets", place.name, place, read_only=True)

    @contextmanager
    def evals(self) -> Iterator[None]:
        """Results that others have stored are here inside; those that are new go there afterwards."""
        if self._store is None:
            yield
            return
        folder = self._home / "evals"
        for name in self._store.names("evals"):
            if not (folder / f"{name}.json").is_file():
                fetched = folder / f".{name}.fetched"
                self._store.fetch("evals", name, fetched, read_only=False)
                (fetched / f"{name}.json").replace(folder / f"{name}.json")
                shutil.rmtree(fetched)
        before = set(folder.glob("*.json"))
        try:
            yield
        finally:
            for path in sorted(set(folder.glob("*.json")) - before):
                self._store.put("evals", path.stem, folder, [path])

    @contextmanager
    def training(self, key: str, on_progress: Progress = silent) -> Iterator[Progress]:
        """Inside, the training of this key goes on where any machine left it; yields who is to listen to it.

        While it trains, each checkpoint goes to the store; one that cannot is told, and the next one is tried. At the
        end everything must get there, or it raises.
        """
        if self._store is None:
            yield on_progress
            return
        folder = self._home / "trainings" / short(key)
        self._fetch_training(self._store, folder, on_progress)
        kept = _newest(_whole(folder))

        def listen(done: int, total: int, text: str) -> None:
            nonlocal kept
            on_progress(done, total, text)
            newest = _newest(_whole(folder))
            if newest > kept and total:
                kept = newest  # also where it fails: the store is tried at each checkpoint, not at each step
                on_progress(done, total, self._try_to_keep(folder, f"checkpoint {newest:g}"))

        try:
            yield listen
        except BaseException:
            on_progress(0, 0, self._try_to_keep(folder, "what is left of the training"))
            raise

    def keep_training(self, key: str, trained: TrainedAdapter) -> None:
        """The adapter and what tells of its training; the store has its checkpoints no more afterwards."""
        if self._store is not None:
            self._keep("adapters", trained.folder)
            self._keep_training(self._home / "trainings" / short(key))

    def _keep(self, kind: str, folder: Path) -> None:
        if self._store is not None:
            self._store.put(kind, folder.name, folder, _files(folder))

    def _begin(self, kind: str, text: str) -> list[str]:
        names = [name for name in self._store.names(kind) if name.startswith(text)] if self._store and text else []
        return names if len(names) == 1 else []

    def _fetch_training(self, store: "Store", folder: Path, on_progress: Progress) -> None:
        index = store.index("trainings", folder.name)
        if index is None:
            return
        theirs, ours = _newest(index.files), _newest(_whole(folder))
        if theirs > ours:
            what = "the finished training" if theirs == float("inf") else f"checkpoint {theirs:g}"
            on_progress(0, 0, f"fetching {what} from the store")
            with alone(folder):
                store.fetch("trainings", folder.name, folder, read_only=False)
        done = folder / DONE
        if done.is_file():
            adapter = Adapter.model_validate(json.loads(done.read_text(encoding="utf-8"))["adapter"])
            place = adapter_store.adapter_folder(adapter, self._home)
            if adapter_store.problems_of(adapter, place):
                store.fetch("adapters", place.name, place, read_only=True)

    def _try_to_keep(self, folder: Path, what: str) -> str:
        try:
            self._keep_training(folder)
        except StoreAwayError as error:
            return f"{what} is on this disk alone: {error.what}"
        except SlipwayError as error:
            return f"{what} is on this disk alone: {error.render()}"
        return f"{what} is in the store"

    def _keep_training(self, folder: Path) -> None:
        """As it is now: what is written meanwhile, and checkpoints that are deleted, leave the snapshot as it is."""
        if self._store is None or not folder.is_dir():
            return
        with fresh_folder(folder.parent, "a snapshot of the training") as snapshot:
            for name in _whole(folder):
                place = snapshot / name
                place.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # of a checkpoint that is too old by now: the mark went first
                    _link(folder / name, place)
            names = _whole(snapshot)
            self._store.put("trainings", folder.name, snapshot, [snapshot / name for name in names])


def _open(config: StoreConfig) -> "Store":
    from delivery.clients.store.items import Store  # late: a rollback must not wait for S3's client to be imported

    return Store(config)


def _whole(folder: Path) -> list[str]:
    """Paths inside a training's folder that are worth keeping: reports, logs, and whole checkpoints."""
    names = [path.relative_to(folder).as_posix() for path in _files(folder)]
    marks = {name.removesuffix("complete") for name in names if CHECKPOINT.fullmatch(name)}
    return [
        name
        for name in names
        if name.startswith(tuple(marks)) or ("/" not in name and name != "lock" and not name.endswith(".tmp"))
    ]


def _newest(names: Iterable[str]) -> float:
    """How far a training with these files is: its newest whole checkpoint, infinity when it is done, 0 for none."""
    found = list(names)
    steps = [float(match[1]) for name in found if (match := CHECKPOINT.fullmatch(name))]
    return float("inf") if DONE in found else max(steps, default=0.0)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _link(source: Path, place: Path) -> None:
    """The same bytes under another name; what is appended to afterwards is copied."""
    if source.parent.name.startswith("checkpoint-"):
        with suppress(OSError):  # a file system without links
            os.link(source, place)
            return
    shutil.copyfile(source, place)
