"""What a refresh compares with the last one: digests of all that a build is made of, and what people approved since."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.canonical import digest_of
from configs.project import Project
from delivery.build.refresh import RefreshDecision, decide_refresh
from delivery.clients.ledger.review import Queue
from tasks.data.dataset import code_digest
from tasks.data.sources import file_digest, locate_all
from tasks.release.outcome import ReleaseOutcome
from tasks.release.site import open_site_of

ERASURES = "datasets/erasures.jsonl"  # whose rows no version may have any more


@dataclass(frozen=True)
class RefreshLook:
    """What a refresh found before it began. `nothing` is how one ends that has nothing to do: what is live stays so."""

    decision: RefreshDecision
    inputs: dict[str, str]
    nothing: ReleaseOutcome


def look(project: Project, home: Path, asked_by: str = "") -> RefreshLook:
    """Whether a refresh runs; one that a person asks for always does.

    Raises SlipwayError for a source that is missing, and for a route that is not served.
    """
    with open_site_of(project, home) as site:
        live = site.require_route(project.route).live
        queue = Queue(environment=site.name, route=project.route)
        approved = site.ledger.review.newly_approved(queue) if reads_review(project) else 0
        gone = site.ledger.review.erased_after_read(queue) if reads_review(project) else 0
        before = site.ledger.last_refresh(site.name, project.route)
    inputs = inputs_of(project, home) | ({"erased review items": str(gone)} if gone else {})
    found = decide_refresh(inputs, before, approved, project.dataset.review.refresh_at, asked_by)
    outcome = ReleaseOutcome(
        release_id="", route=project.route, bundle=live.bundle, outcome="live", reason=found.reason
    )
    return RefreshLook(found, inputs, outcome)


def note(project: Project, home: Path, inputs: dict[str, str], by: str, now: float) -> None:
    """A refresh of these inputs has come to its end, whichever it was."""
    with open_site_of(project, home) as site:
        site.ledger.note_refresh(site.name, project.route, inputs, by, now)


def reads_review(project: Project) -> bool:
    """Whether the recipe has a `review` source."""
    return any(source.review is not None for source in project.dataset.sources)


def inputs_of(project: Project, home: Path) -> dict[str, str]:
    """Digests by name of all that a build is made of, but for what people approved, which is counted instead."""
    recipe = project.dataset.model_dump(mode="json", exclude={"review", "license"})
    parts: dict[str, Any] = {
        name: part if part is None else part.model_dump(mode="json")
        for name, part in (
            ("model.yaml", project.model),
            ("training.yaml", project.training),
            ("prompts.yaml", project.prompts),
            ("evals.yaml", project.evals),
            ("contract.yaml", project.contract),
        )
    }
    parts["dataset.yaml"] = recipe
    parts["rows"] = dict(_rows(project))
    parts["eval suites"] = dict(_suites(project))
    parts["code that reads rows"] = code_digest()
    erasures = home / ERASURES
    parts["erasures"] = file_digest(erasures) if erasures.is_file() else None
    return {name: digest_of(part) for name, part in parts.items()}


def _rows(project: Project) -> Iterator[tuple[str, str]]:
    sources = [source for source in project.dataset.sources if source.review is None]
    for one in locate_all(sources, project.dataset_folder):
        yield one.name, "at its revision" if one.path is None else file_digest(one.path)


def _suites(project: Project) -> Iterator[tuple[str, str]]:
    for number, folder in enumerate(project.suite_folders):
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            yield f"{number}/{file.relative_to(folder)}", file_digest(file)
