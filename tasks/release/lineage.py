"""From rows to who learned from them, and back: versions, adapters, bundles, and what of those is live.

An adapter is known by its training, and where that was cleaned up by the bundles that have it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from configs.canonical import short
from configs.environment import Environment
from configs.errors import SlipwayError
from configs.strict import Strict
from delivery.build.bundle import Bundle
from delivery.build.dataset import PARTS, Part
from delivery.clients.bundles.images import list_bundles, read_bundle
from tasks.data.erasures import erased_in
from tasks.data.looking import versions
from tasks.data.store import read_version
from tasks.release.clean_up import needs


class Held(Strict):
    """A version that has a row, or had it before an erasure."""

    version: str  # the name of its folder
    name: str
    part: Part
    erased: bool = False


class Learner(Strict):
    """An adapter that was trained on a version. `serving`: why its bundles are needed, e.g. that they are live."""

    adapter: str
    version: str
    bundles: tuple[str, ...] = ()
    through: str = ""  # the adapter that did, where this one's training began with it
    serving: tuple[str, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether users talk to it, by the ledgers and notes below this state folder."""
        return any(why.startswith("live") for why in self.serving)

    def render(self) -> str:
        """One line."""
        bundles = f"in bundle {', '.join(self.bundles)}" if self.bundles else "in no bundle"
        state = "; ".join(self.serving) if self.serving else "not live"
        how = f"began with adapter {self.through}, which learned" if self.through else "learned"
        return f"adapter {self.adapter} {how} from {self.version}, {bundles}: {state}"


class RowLineage(Strict):
    """Where a row is, and who learned from it."""

    row: str
    held: tuple[Held, ...]
    learners: tuple[Learner, ...]

    def render(self) -> str:
        """For people."""
        parts = {"train": "to train on", "holdout": "held out"}
        lines = [f"row {self.row}"]
        for one in self.held:
            since = ", erased since" if one.erased else ""
            lines.append(f"  in dataset version {one.version} ({one.name}), {parts[one.part]}{since}")
        lines += [f"  {one.render()}" for one in self.learners] or ["  no adapter learned from it"]
        return "\n".join(lines)


def row_lineage(environment: Environment, home: Path, row: str) -> RowLineage:
    """Raises SlipwayError for a row that no version has."""
    held: list[Held] = []
    wanted = f'"id":"{row}"'.encode()
    for folder, manifest in versions(home):
        gone = erased_in(folder)
        for part in PARTS:
            erased = row in gone.get(part, ())
            if erased or _holds(folder / f"{part}.jsonl", wanted, row):
                held.append(Held(version=folder.name, name=manifest.name, part=part, erased=erased))
    if not held:
        cure = "a row's id is the 16 hex digits under `id` in train.jsonl or holdout.jsonl"
        raise SlipwayError(f"no dataset version in {home / 'datasets'} has a row {row}", where="--row", cure=cure)
    trained = {one.version for one in held if one.part == "train"}
    return RowLineage(row=row, held=tuple(held), learners=tuple(learners(environment, home, trained)))


def learners(environment: Environment, home: Path, trained: Iterable[str]) -> list[Learner]:
    """The adapters that were trained on one of these versions (names of folders), those that are live first.

    Who began with such an adapter has learned from its rows as well.
    """
    wanted, bundles = set(trained), list_bundles(home)
    holding = _holding(bundles)
    made = {(adapter, version): "" for adapter, version in _trainings(home) if version in wanted}
    for adapter, held in holding.items():
        made |= {(adapter, version): "" for one in held if (version := short(one.dataset_version or "")) in wanted}
    _follow(made, _began_with(home, bundles))
    why = [(need.bundle, need.why) for need in needs(environment, home)] if made else []
    found = []
    for (adapter, version), through in made.items():
        names = tuple(
            short(one.digest)
            for one in holding.get(adapter, ())
            if through or short(one.dataset_version or "") == version
        )
        serving = tuple(dict.fromkeys(reason for bundle, reason in why if bundle in names))
        found.append(Learner(adapter=adapter, version=version, bundles=names, through=through, serving=serving))
    return sorted(found, key=lambda one: (not one.is_live, one.adapter))


def _holding(bundles: Sequence[Bundle]) -> dict[str, list[Bundle]]:
    """Adapter -> bundles that have it, merged ones too."""
    adapters = {one.digest: one.adapter for one in bundles}
    found: dict[str, list[Bundle]] = {}
    for bundle in bundles:
        if bundle.trained is not None:
            adapter = adapters.get(bundle.parent or "") or bundle.trained
            found.setdefault(short(adapter.digest), []).append(bundle)
    return found


def _began_with(home: Path, bundles: Sequence[Bundle]) -> dict[str, str]:
    """Adapter -> the adapter that its training began with, where it was not a fresh one."""
    adapters = {one.digest: short(one.adapter.digest) for one in bundles if one.adapter is not None}
    found = {
        adapters[one.digest]: adapters[one.continued_from]
        for one in bundles
        if one.adapter is not None and one.continued_from in adapters
    }
    return found | {adapter: Path(parent).name for adapter, _, parent in _finished(home) if parent}


def _follow(made: dict[tuple[str, str], str], began_with: Mapping[str, str]) -> None:
    """Adds who began with one of these adapters, and so on, with the version that the first of them was trained on."""
    fresh = list(made)
    while fresh:
        adapter, version = fresh.pop()
        for child, parent in began_with.items():
            if parent == adapter and child not in [known for known, _ in made]:
                made[child, version] = adapter
                fresh.append((child, version))


def quoted_in(home: Path, versions_held: Iterable[str]) -> list[str]:
    """Bundles whose eval reports asked held-out rows of these versions."""
    wanted = set(versions_held)
    return [short(one.digest) for one in list_bundles(home) if short(one.dataset_version or "") in wanted]


def bundle_rows(home: Path, reference: str) -> str:
    """For people: which rows are behind a bundle. Raises SlipwayError where the bundle or its version is not there."""
    bundle = read_bundle(home, reference)
    if bundle.dataset_version is None:
        return f"bundle {short(bundle.digest)} is the base model with a prompt: no rows are behind it"
    version = read_version(home, bundle.dataset_version)
    manifest, gone = version.manifest, erased_in(version.folder)
    lines = [
        f"bundle {short(bundle.digest)} of {bundle.route} learned from {manifest.parts['train'].rows} rows of dataset "
        f"{manifest.name} {short(version.digest)}: {version.folder / 'train.jsonl'}"
    ]
    if bundle.continued_from is not None:
        lines.append(
            f"  its training began with the adapter of bundle {short(bundle.continued_from)}, whose rows count too"
        )
    lines += [f"  source {one.name}, read as {one.reader}, {one.digest}" for one in manifest.sources]
    lines += [f"  filter {step.name} took {step.rejected} rows and changed {step.changed}" for step in manifest.steps]
    lines += [f"  erased since: {len(ids)} of the {part} rows" for part, ids in gone.items() if ids]
    return "\n".join(lines)


def _trainings(home: Path) -> list[tuple[str, str]]:
    """Adapter and dataset version of every finished training."""
    return [(adapter, version) for adapter, version, _ in _finished(home)]


def _finished(home: Path) -> Iterator[tuple[str, str, str | None]]:
    """Adapter, dataset version, and the folder of the adapter that the training began with."""
    for folder in sorted((home / "trainings").glob("[0-9a-f]*")):
        try:
            adapter = json.loads((folder / "done.json").read_bytes())["adapter"]["digest"]
            run = json.loads((folder / "run.json").read_bytes())
            rows = Path(run["rows"])
        except (OSError, ValueError, KeyError, TypeError):  # killed on its way: there is no adapter of it
            continue
        yield short(adapter), rows.parent.name, run.get("parent")


def _holds(path: Path, wanted: bytes, row: str) -> bool:
    with path.open("rb") as file:
        return any(wanted in line and json.loads(line)["id"] == row for line in file)
