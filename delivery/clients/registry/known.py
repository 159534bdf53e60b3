"""Where bundles were pushed to and pulled from: which repositories may have a blob, and what a tag led to before."""

import json
from dataclasses import dataclass
from pathlib import Path

from configs.errors import SlipwayError
from delivery.clients.fresh_folder import explained_writes
from delivery.clients.registry.reference import Reference, parse

FILE = "references.jsonl"


@dataclass(frozen=True)
class KnownReference:
    """One line: a reference with its digest, and the bundle that it is."""

    reference: Reference
    bundle: str


def remember(home: Path, reference: Reference, bundle: str) -> None:
    """Keeps it for good, unless it was the last that was said of this name."""
    if last_digest(home, reference) == reference.digest:
        return
    line = json.dumps({"reference": str(reference), "bundle": bundle})
    with explained_writes(home, "where the bundle is"):
        home.mkdir(parents=True, exist_ok=True)
        with (home / FILE).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def seen(home: Path) -> list[KnownReference]:
    """All of them, oldest first; a line that was cut off is passed over."""
    found = []
    try:
        lines = (home / FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            value = json.loads(line)
            found.append(KnownReference(parse(value["reference"]), str(value["bundle"])))
        except (ValueError, KeyError, TypeError, SlipwayError):
            continue
    return found


def last_digest(home: Path, reference: Reference) -> str | None:
    """What this tag led to, or for a reference without one, what was last here; None: it was never seen."""
    name = (reference.repository, reference.tag)
    found = [one.reference.digest for one in seen(home) if (one.reference.repository, one.reference.tag) == name]
    return found[-1] if found else None


def neighbours(home: Path, of: Reference) -> list[str]:
    """Paths of other repositories of this registry, the newest first."""
    paths = [one.reference.path for one in reversed(seen(home)) if one.reference.host == of.host]
    return [path for path in dict.fromkeys(paths) if path != of.path]
