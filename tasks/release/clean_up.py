"""Looks at what a state folder holds and who needs it, and removes what `delivery.release.retention` says may go.

A folder is taken away as a whole, and who needs it is asked again right before: a release may have begun meanwhile.
"""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from configs.canonical import short
from configs.environment import Environment
from configs.errors import Problem, SlipwayError
from configs.retention import Retention
from delivery.build.bundle import Bundle
from delivery.build.dataset import Manifest
from delivery.clients.bundles.images import damaged_bundles, list_bundles
from delivery.clients.fresh_folder import remove_whole
from delivery.clients.ledger.ledger import Ledger
from delivery.progress import Progress, silent
from delivery.release.retention import Cleanup, KeptKind, Need, Ref, Stored, clean_up
from tasks.release.site import open_ledger
from tasks.release.way_back import folder_of, routes_with_way_back, way_back

FOLDERS: dict[KeptKind, str] = {
    "bundle": "bundles",
    "dataset": "datasets",
    "adapter": "adapters",
    "merged": "merged",
    "training": "trainings",
    "evals": "evals",
}


@dataclass(frozen=True)
class Cleaned:
    """What was decided, what of it was done, and what cannot be told: damaged bundles are left to people."""

    cleanup: Cleanup
    removed: tuple[Ref, ...]
    left_alone: tuple[Problem, ...]


def clean(
    environment: Environment,
    home: Path,
    policy: Retention,
    now: float,
    *,
    dry_run: bool,
    on_progress: Progress = silent,
) -> Cleaned:
    """Decides, and unless `dry_run` removes. `now`: UNIX seconds.

    Raises SlipwayError where the ledger of an environment below this state folder cannot be asked: what it needs would
    be unknown. A kill in between leaves every bundle whole or gone.
    """
    if not home.is_dir():
        raise SlipwayError(f"there is no state folder {home}", where="--home", cure="name the one that you build in")
    stored = look(home)
    cleanup = clean_up(stored, needs(environment, home), policy, now)
    removed: list[Ref] = []
    if not dry_run:
        for one in cleanup.removals:
            again = clean_up(stored, needs(environment, home), policy, now) if one.ref.kind == "bundle" else cleanup
            if one.ref in [other.ref for other in again.removals]:
                _remove(place_of(home, one.ref))
                removed.append(one.ref)
                on_progress(len(removed), len(cleanup.removals), f"removed {one.ref.kind} {one.ref.name}")
    return Cleaned(cleanup, tuple(removed), tuple(damaged_bundles(home)))


def place_of(home: Path, ref: Ref) -> Path:
    """Where a thing lies."""
    return home / FOLDERS[ref.kind] / (f"{ref.name}.json" if ref.kind == "evals" else ref.name)


# -- who needs what ---------------------------------------------------------------------------------------------------


def needs(environment: Environment, home: Path) -> list[Need]:
    """Of every environment below the state folder: the ledgers', and those that are noted beside them."""
    found: list[Need] = []
    for name, opened in ledgers(environment, home).items():
        with closing(opened()) as ledger:
            found += [_need(ledger, digest, why) for digest, why in ledger.needs()]
        found += _noted(home, name)
    return found


def ledgers(environment: Environment, home: Path) -> dict[str, Callable[[], Ledger]]:
    """By environment. One that serves something and has its ledger elsewhere is not known here: nothing goes then."""
    found: dict[str, Callable[[], Ledger]] = {}
    if environment.ledger_url is not None or (folder_of(home, environment.name) / "ledger.sqlite").is_file():
        found[environment.name] = lambda: open_ledger(environment, home)
    strangers = []
    for folder in sorted((home / "environments").glob("*")):
        if folder.name in found or not folder.is_dir():
            continue
        if (folder / "ledger.sqlite").is_file():
            found[folder.name] = lambda folder=folder: Ledger(f"sqlite:///{folder.absolute() / 'ledger.sqlite'}")  # type: ignore[misc]
        elif routes_with_way_back(home, folder.name):
            strangers.append(Problem(str(folder), "its ledger is elsewhere, so nobody knows here what it needs"))
    if strangers:
        cure = "give each environment with a ledger of its own a state folder of its own, and clean up there"
        raise SlipwayError("nothing is removed: not every ledger can be asked", problems=strangers, cure=cure)
    return found


def _need(ledger: Ledger, digest: str, why: str) -> Need:
    bundle = ledger.bundle(digest)
    return Need(bundle=short(digest), why=why, refers_to=_refers_to(bundle) if bundle else ())


def _noted(home: Path, environment: str) -> Iterator[Need]:
    for route in routes_with_way_back(home, environment):
        note = way_back(home, environment, route)
        if note is None:
            where = str(folder_of(home, environment) / f"way-back-{route}.json")
            cure = "`slipway up` writes it anew"
            raise SlipwayError("nothing is removed: a note of what is live cannot be read", where=where, cure=cure)
        for served, why in ((note.live, "live"), (note.to, "what a rollback goes back to"), (note.base, "the base")):
            yield Need(bundle=short(served.bundle), why=f"{why} by the note on {route} in {environment}")


def _refers_to(bundle: Bundle) -> tuple[Ref, ...]:
    refs = [Ref(kind="adapter", name=short(bundle.adapter.digest))] if bundle.adapter else []
    refs += [Ref(kind="merged", name=short(bundle.merged.digest))] if bundle.merged else []
    refs += [Ref(kind="bundle", name=short(bundle.parent))] if bundle.parent else []
    refs += [Ref(kind="dataset", name=short(bundle.dataset_version))] if bundle.dataset_version else []
    return tuple(refs)


# -- what is there ----------------------------------------------------------------------------------------------------


def look(home: Path) -> list[Stored]:
    """Everything of the kinds that are cleaned up; folders of other names, and damaged bundles, are not in it."""
    trainings = list(_trainings(home))
    made = {ref.name: one.ref for one in trainings for ref in one.refers_to}
    merged = [_stored("merged", folder) for folder in _folders(home, "merged")]
    return [*_bundles(home), *_datasets(home), *_adapters(home, made), *merged, *trainings, *_evals(home)]


def _bundles(home: Path) -> Iterator[Stored]:
    for bundle in list_bundles(home):
        folder = home / "bundles" / short(bundle.digest)
        yield _stored("bundle", folder, of=bundle.route, refers_to=_refers_to(bundle))


def _datasets(home: Path) -> Iterator[Stored]:
    for folder in _folders(home, "dataset"):
        try:
            manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
        except (OSError, ValueError):  # not one of ours, or damaged: people look at it
            continue
        yield _stored("dataset", folder, of=manifest.name)


def _adapters(home: Path, made: dict[str, Ref]) -> Iterator[Stored]:
    """An adapter keeps the training that it came of: it is found again there, with its curve."""
    for folder in _folders(home, "adapter"):
        yield _stored("adapter", folder, refers_to=(made[folder.name],) if folder.name in made else ())


def _trainings(home: Path) -> Iterator[Stored]:
    for folder in _folders(home, "training"):
        try:
            digest = json.loads((folder / "done.json").read_bytes())["adapter"]["digest"]
            refs: tuple[Ref, ...] = (Ref(kind="adapter", name=short(digest)),)
        except (OSError, ValueError, KeyError, TypeError):  # killed on its way: checkpoints and logs
            refs = ()
        yield _stored("training", folder, refers_to=refs, is_busy=_is_locked(folder / "lock"))


def _evals(home: Path) -> Iterator[Stored]:
    for file in sorted((home / "evals").glob("[0-9a-f]*.json")):
        yield _stored("evals", file)


def _folders(home: Path, kind: KeptKind) -> list[Path]:
    return sorted(path for path in (home / FOLDERS[kind]).glob("[0-9a-f]*") if path.is_dir() and not path.is_symlink())


def _stored(
    kind: KeptKind, place: Path, of: str = "", refers_to: tuple[Ref, ...] = (), *, is_busy: bool = False
) -> Stored:
    inside = [path for path in place.rglob("*") if path.is_file()] if place.is_dir() else [place]
    return Stored(
        ref=Ref(kind=kind, name=place.stem if kind == "evals" else place.name),
        size=sum(path.stat().st_size for path in inside),
        changed_at=max(path.stat().st_mtime for path in (place, *inside)),
        of=of,
        refers_to=refers_to,
        is_busy=is_busy,
    )


def _is_locked(lock: Path) -> bool:
    """Whether a training runs there; where locks are not known, one may."""
    if not lock.exists():
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _remove(place: Path) -> None:
    if place.is_dir():
        remove_whole(place)
    else:
        place.unlink(missing_ok=True)
