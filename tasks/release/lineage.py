"""From rows to who learned from them, and back: versions, adapters, bundles, and what of those is live.

An adapter is known by its training, and where that was cleaned up by the bundles that have it.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from configs.canonical import short
from configs.environment import Environment
from configs.errors import SlipwayError
from configs.strict import Strict
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
    serving: tuple[str, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether users talk to it, by the ledgers and notes below this state folder."""
        return any(why.startswith("live") for why in self.serving)

    def render(self) -> str:
        """One line."""
        bundles = f"in bundle {', '.join(self.bundles)}" if self.bundles else "in no bundle"
        state = "; ".join(self.serving) if self.serving else "not live"
        return f"adapter {self.adapter} learned from {self.version}, {bundles}: {state}"


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
    """The adapters that were trained on one of these versions (names of folders), those that are live first."""
    wanted = set(trained)
    made: dict[tuple[str, str], list[str]] = {key: [] for key in _trainings(home) if key[1] in wanted}
    for bundle in list_bundles(home):
        version = short(bundle.dataset_version or "")
        if version in wanted and bundle.trained is not None:
            origin = next((b for b in list_bundles(home) if b.digest == bundle.parent), bundle)
            adapter = (origin.adapter or bundle.trained).digest
            made.setdefault((short(adapter), version), []).append(short(bundle.digest))
    why = [(need.bundle, need.why) for need in needs(environment, home)] if made else []
    found = [
        Learner(
            adapter=adapter,
            version=version,
            bundles=tuple(bundles),
            serving=tuple(dict.fromkeys(reason for bundle, reason in why if bundle in bundles)),
        )
        for (adapter, version), bundles in made.items()
    ]
    return sorted(found, key=lambda one: (not one.is_live, one.adapter))


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
    lines += [f"  source {one.name}, read as {one.reader}, {one.digest}" for one in manifest.sources]
    lines += [f"  filter {step.name} took {step.rejected} rows and changed {step.changed}" for step in manifest.steps]
    lines += [f"  erased since: {len(ids)} of the {part} rows" for part, ids in gone.items() if ids]
    return "\n".join(lines)


def _trainings(home: Path) -> list[tuple[str, str]]:
    """Adapter and dataset version of every finished training."""
    found = []
    for folder in sorted((home / "trainings").glob("[0-9a-f]*")):
        try:
            adapter = json.loads((folder / "done.json").read_bytes())["adapter"]["digest"]
            rows = Path(json.loads((folder / "run.json").read_bytes())["rows"])
        except (OSError, ValueError, KeyError, TypeError):  # killed on its way: there is no adapter of it
            continue
        found.append((short(adapter), rows.parent.name))
    return found


def _holds(path: Path, wanted: bytes, row: str) -> bool:
    with path.open("rb") as file:
        return any(wanted in line and json.loads(line)["id"] == row for line in file)
