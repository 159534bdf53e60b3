"""What a refresh compares with the last one: digests of all that a build is made of, what people approved since, and
what users ask for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.canonical import digest_of, short
from configs.project import Project
from delivery.build.drift import DriftEvidence, drift_of
from delivery.build.refresh import RefreshDecision, concluded, decide_refresh
from delivery.clients.asked_log import read_asked
from delivery.clients.ledger.review import Queue
from tasks.data.dataset import code_digest
from tasks.data.sources import file_digest, locate_all
from tasks.release.outcome import ReleaseOutcome
from tasks.release.site import open_site_of
from tasks.review.collect import log_of
from tasks.training.model import source_revision

ERASURES = "datasets/erasures.jsonl"  # whose rows no version may have any more


@dataclass(frozen=True)
class RefreshLook:
    """What a refresh found before it began. `nothing` is how one ends that has nothing to do: what is live stays so."""

    decision: RefreshDecision
    inputs: dict[str, str]
    nothing: ReleaseOutcome


def look(project: Project, home: Path, asked_by: str = "") -> RefreshLook:
    """Whether a refresh runs; one that a person asks for always does.

    Raises SlipwayError for a source that is missing, for a route that is not served, and for a traffic log that is to
    be looked at and cannot be read.
    """
    with open_site_of(project, home) as site:
        live = site.require_route(project.route).live
        queue = Queue(environment=site.name, route=project.route)
        approved = site.ledger.review.newly_approved(queue) if reads_review(project) else 0
        gone = site.ledger.review.erased_after_read(queue) if reads_review(project) else 0
        before = site.ledger.last_refresh(site.name, project.route)
    inputs = inputs_of(project, home) | ({"erased review items": str(gone)} if gone else {})
    drift = drift_since(project, home, before.at) if before else None
    enough = project.dataset.review.refresh_at
    found = decide_refresh(inputs, before.inputs if before else None, approved, enough, asked_by, drift)
    outcome = ReleaseOutcome(
        release_id="", route=project.route, bundle=live.bundle, outcome="live", reason=found.reason
    )
    return RefreshLook(found, inputs, outcome)


def drift_since(project: Project, home: Path, moment: float) -> DriftEvidence | None:
    """How the requests since `moment` (UNIX seconds) differ from those before it; None where nobody asks."""
    rules = project.dataset.refresh.drift
    if rules is None:
        return None
    log = project.dataset_folder / rules.log if rules.log is not None else log_of(project, home)
    nothing_yet = rules.log is None and not any(log.glob("*.parquet"))
    before, since = ([], []) if nothing_yet else read_asked(log, project.route, moment, rules.max_users)
    return drift_of(before, since, rules)


def note_look(project: Project, home: Path, found: RefreshLook, by: str, now: float) -> None:
    """A refresh has looked: `slipway status` says what it found, also while it goes on."""
    with open_site_of(project, home) as site:
        said, ended = found.decision.reason, not found.decision.runs
        site.ledger.note_refresh_look(site.name, project.route, by, now, said, ended)


def note_end(
    project: Project, home: Path, found: RefreshLook, by: str, now: float, outcome: ReleaseOutcome
) -> ReleaseOutcome:
    """A refresh has built and released, or was refused; its outcome with the paragraph that says why.

    One whose release has not ended is on record as one that goes on: the next one has the same to do.
    """
    said = concluded(found.decision, short(outcome.bundle), outcome.outcome, outcome.reason)
    with open_site_of(project, home) as site:
        if outcome.outcome == "unfinished":
            site.ledger.note_refresh_look(site.name, project.route, by, now, said, ended=False)
        else:
            site.ledger.note_refresh(site.name, project.route, found.inputs, by, now, said)
    return outcome.model_copy(update={"reason": said})


def reads_review(project: Project) -> bool:
    """Whether the recipe has a `review` source."""
    return any(source.review is not None for source in project.dataset.sources)


def inputs_of(project: Project, home: Path) -> dict[str, str]:
    """Digests by name of all that a build is made of, but for what people approved, which is counted instead, and for
    what is live, which a refresh changes itself.
    """
    recipe = project.dataset.model_dump(mode="json", exclude={"review", "refresh", "license"})
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
    parts["base model"] = source_revision(project.model, home)
    parts["rows"] = dict(_rows(project))
    parts["eval suites"] = dict(_suites(project))
    parts["code that reads rows"] = code_digest()
    erasures = home / ERASURES
    parts["erasures"] = file_digest(erasures) if erasures.is_file() else None
    return {name: digest_of(part) for name, part in parts.items()}


def _rows(project: Project) -> Iterator[tuple[str, str]]:
    sources = [one for one in project.dataset.sources if one.review is None and one.replay is None]
    for one in locate_all(sources, project.dataset_folder):
        yield one.name, "at its revision" if one.path is None else file_digest(one.path)


def _suites(project: Project) -> Iterator[tuple[str, str]]:
    for number, folder in enumerate(project.suite_folders):
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            yield f"{number}/{file.relative_to(folder)}", file_digest(file)
