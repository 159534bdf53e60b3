"""Where items come from: the traffic log, the failed samples of a bundle's evals, and rows that somebody brings.

Collecting twice adds nothing twice: an item's id follows from its request, its sample, or what was said.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configs.canonical import short
from configs.dataset import Source
from configs.errors import Problem, SlipwayError
from configs.project import Project
from delivery.build.bundle import Bundle
from delivery.build.layouts.known import LAYOUTS
from delivery.build.layouts.row import Reading, Unusable
from delivery.build.teaching import FIELD as TAUGHT
from delivery.clients.bundles.images import list_bundles, read_documents
from delivery.clients.reviewable import read_reviewable
from delivery.review.items import AskedAndAnswered, Item, ItemDraft
from evals.report import EvalReport, SampleScore
from evals.samples import Sample
from evals.suites import FOLDER as SHIPPED
from evals.suites import load_suites
from tasks.data.dataset import read_version
from tasks.data.reading import open_source
from tasks.data.sources import locate
from tasks.review.desk import Desk
from tasks.serving.local import environment_folder

DAY_S = 86_400.0
REPORT = "eval-report.json"


@dataclass(frozen=True)
class Collected:
    """What came of it. `left_out`: requests for which something speaks, and that are no items, by reason."""

    seen: int
    new: int
    left_out: dict[str, int] = field(default_factory=dict)
    erased: tuple[Item, ...] = ()  # too old, and approved by nobody


def from_traffic(desk: Desk, log: Path, by: str, now: float) -> Collected:
    """Complaints, broken contracts, disagreements in shadow and a sample out of a traffic log's file or folder.

    Texts that nobody approved are erased when they are older than the recipe keeps them, and are not collected again.
    Raises ConfigError for a log that cannot be read.
    """
    picked = read_reviewable(log, desk.queue.route, desk.rules)
    oldest = now - desk.rules.text_days * DAY_S
    young = [one for one in picked.found if one.at >= oldest]
    left_out = dict(picked.left_out)
    if len(young) < len(picked.found):
        left_out["older-than-text-days"] = len(picked.found) - len(young)
    new = desk.ledger.review.add(desk.queue, young, by, now)
    erased = desk.ledger.review.erase_older(desk.queue, oldest, by, now)
    return Collected(len(young), new, left_out, tuple(erased))


def log_of(project: Project, home: Path) -> Path:
    """Where this environment's own gateway writes. Raises SlipwayError where it writes none."""
    gateway = project.environment.gateway
    if gateway.traffic_log is None:
        raise SlipwayError(
            f"the gateway of environment {project.environment.name} writes no traffic log",
            where="environment.yaml: gateway.traffic_log",
            cure="switch it on (traffic_log: {text: true}), or name a log with --log",
        )
    beside = gateway.table_state or environment_folder(project.environment, home) / "table.json"
    return gateway.traffic_log.folder or beside.parent / "traffic"


def from_evals(desk: Desk, project: Project, home: Path, bundle: str, by: str, now: float) -> Collected:
    """The samples that a bundle failed in its behavioural suites. Raises SlipwayError when there is no such bundle.

    What a person makes of them is never trained on: it is there to be labelled, and to write other rows after.
    """
    documents = read_documents(home, bundle)[1]
    if REPORT not in documents:
        raise SlipwayError(
            f"bundle {bundle} has no {REPORT}", cure="build it again: it was made before bundles had any"
        )
    report = EvalReport.model_validate_json(documents[REPORT])
    manifest = _manifest(home, bundle)
    found = list(_failed(project, home, report, manifest, now))
    return Collected(len(found), desk.ledger.review.add(desk.queue, found, by, now))


def from_rows(desk: Desk, file: Path, by: str, now: float) -> Collected:
    """Conversations or preference pairs out of a file that a dataset could read, as items to be reviewed.

    Of a pair, the rejected answer is the one to be judged and the chosen one is the other. Raises SlipwayError, with
    every row that cannot be read.
    """
    located = locate(Source(path=file.absolute()), Path(), 0)
    found: list[ItemDraft] = []
    problems: list[Problem] = []
    for one in located:
        for row in open_source(one).rows:
            try:
                if row.fault is not None:
                    raise Unusable(*row.fault)
                asked = _asked(LAYOUTS[row.reader].read(row.data))
            except (Unusable, ValidationError) as fault:
                said = str(fault.errors()[0]["msg"]) if isinstance(fault, ValidationError) else str(fault)
                problems.append(Problem(f"{one.name}: row {row.number}", said))
            else:
                why, request = _brought(row.data, by)
                found.append(ItemDraft(origin="hand", why=why, asked=asked, request_id=request, at=now))
    if problems:
        raise SlipwayError(
            f"{len(problems)} row(s) of {file} cannot be reviewed; nothing was added",
            problems=problems[:20],
            cure="a row is a conversation that ends with an answer, or a prompt with chosen and rejected answers",
        )
    return Collected(len(found), desk.ledger.review.add(desk.queue, found, by, now))


def _brought(row: Any, by: str) -> tuple[str, str]:
    """Why a row is looked at, and what its item is called after: the lesson, where a teacher wrote it."""
    said = row.get(TAUGHT) if isinstance(row, dict) else None
    if not isinstance(said, dict) or not isinstance(said.get("lesson"), str):
        return f"brought by {by}", ""
    place = f" from {said['document']}, passage {said.get('passage')}" if said.get("document") else ""
    return f"brought by {by}; taught by {said.get('teacher')}{place}"[:300], said["lesson"]


def _asked(reading: Reading) -> AskedAndAnswered:
    if reading.chosen:
        sides = {"answer": reading.rejected[0]["content"], "other": reading.chosen[0]["content"]}
        return AskedAndAnswered.model_validate({"messages": reading.messages, **sides})
    messages = reading.messages
    if not messages or messages[-1]["role"] != "assistant" or not messages[-1]["content"]:
        raise Unusable("no-answer", "the conversation does not end with an answer in text")
    return AskedAndAnswered(messages=messages[:-1], answer=messages[-1]["content"])


def _manifest(home: Path, reference: str) -> Bundle:
    fitting = [one for one in list_bundles(home) if short(one.digest, 64).startswith(reference.removeprefix("sha256:"))]
    return fitting[0]


def _failed(project: Project, home: Path, report: EvalReport, bundle: Bundle, now: float) -> Iterator[ItemDraft]:
    holdout = read_version(home, bundle.dataset_version).folder / "holdout.jsonl" if bundle.dataset_version else None
    places = (*project.suite_folders, SHIPPED)
    known = [name for name in project.evals.behaviour if name in report.suites]
    for suite in load_suites(known, places, holdout, project.contract):
        samples = {one.id: one for one in suite.samples}
        for score in report.suites[suite.config.name].samples:
            sample = samples.get(score.id)
            if sample is not None and score.score == 0 and score.output:
                yield from _of_sample(suite.config.name, sample, score, bundle, now)


def _of_sample(suite: str, sample: Sample, score: SampleScore, bundle: Bundle, now: float) -> Sequence[ItemDraft]:
    if any(message.content is None for message in sample.messages):
        return ()  # a conversation with gaps: the model's earlier replies are in no report
    expected = sample.expected if isinstance(sample.expected, str) and sample.expected else None
    asked = AskedAndAnswered(
        messages=tuple(message.model_dump() for message in sample.messages), answer=score.output, other=expected
    )
    why = f"failed in suite {suite}" + (f": {score.reason}" if score.reason else "")
    name = f"{suite}/{sample.id}@{short(bundle.digest)}"
    return [ItemDraft(origin="eval", why=why[:300], asked=asked, request_id=name[:120], bundle=bundle.digest, at=now)]
