"""Reads dataset versions for people: their rows for a comparison, where a row lies, and a summary of one version."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.canonical import short
from delivery.build.dataset import PARTS, DatasetVersion, Manifest, Part
from delivery.build.version_difference import RowFacts, VersionDifference, compare_versions
from tasks.data.store import read_version


def versions(home: Path) -> list[tuple[Path, Manifest]]:
    """Folder and manifest of all versions, the newest first. What is no version is left out."""
    found = []
    for folder in (home / "datasets").glob("[0-9a-f]*"):
        try:
            manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
        except (OSError, ValueError):  # not one of ours, or damaged: `read_version` says so when it is asked for
            continue
        if folder.name == short(manifest.digest):
            found.append((folder, manifest))
    return sorted(found, key=lambda one: (one[0] / "manifest.json").stat().st_mtime_ns, reverse=True)


def rows_of(version: DatasetVersion, part: Part) -> Iterator[dict[str, Any]]:
    """Row by row."""
    with (version.folder / f"{part}.jsonl").open("rb") as file:
        for line in file:
            yield json.loads(line)


def difference(home: Path, before: str, after: str) -> VersionDifference:
    """Between two versions by digest. Raises SlipwayError where one is not there or was changed."""
    found = [read_version(home, digest) for digest in (before, after)]
    facts = []
    for version in found:
        facts.append(RowFacts())
        for part in PARTS:
            for row in rows_of(version, part):
                facts[-1].add(part, row)
    return compare_versions(found[0].manifest, found[1].manifest, *facts)


def shown(version: DatasetVersion) -> str:
    """What a version is made of, what became of the rows, and examples of each reason."""
    manifest = version.manifest
    lines = [version.render(), "", "recipe"]
    lines += [f"  {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in manifest.recipe.items()]
    lines += [f"source  {one.name}, read as {one.reader}, {one.digest}" for one in manifest.sources]
    for step in manifest.steps:
        by = "".join(f", {name} {number}" for name, number in step.packages.items())
        lines.append(f"step    {step.name}, version {step.version}, code {short(step.code)}{by}")
    for part in PARTS:
        one = manifest.parts[part]
        lines.append(
            f"part    {part}: {one.rows} rows, {one.prompts} prompts, {one.tokens_total:,} tokens "
            f"(mean {one.tokens_mean:g}, most {one.tokens_max})"
        )
    report = json.loads((version.folder / "report.json").read_bytes())
    for kind, found in report["rejected"].items():
        lines.append(f"rejected {kind}: {found['rows']}")
        lines += [f"    row {row['row']} of {row['source']}: {row['what'][:200]}" for row in found["examples"]]
    return "\n".join(lines)
