"""`slipway check`: what a build and a release of this project would do, before anything is spent on it.

It reads the first rows, renders some of them as the model would get them, and asks the plan and the gate what they can
show. It needs no GPU and no vLLM, and writes nothing but the base model's cache.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.errors import SlipwayError
from configs.project import Project
from delivery.build.memory import MemoryEstimate
from delivery.build.overlap import refuse_overlap
from delivery.build.rows import Example
from delivery.checks.forecast import Outlook, look_ahead
from delivery.progress import Progress, silent
from evals.power import Reach
from tasks.data.dataset import DatasetLook, look_at
from tasks.data.of_project import expected_overlap
from tasks.evals.require import count_samples, gate_reach
from tasks.preflight import warnings_before_release
from tasks.projects.training_time import TrainingTime, training_time
from tasks.review.source import reviewed
from tasks.training.chat import open_chat
from tasks.training.fit import estimate_memory, require_fit
from tasks.training.model import prepare_model
from tasks.training.rows import IGNORED, TokenRow, tokenise

LOOKED_AT = 5000  # rows
SHOWN = 3
RUNS = 60  # of each simulated stage: `slipway plan` takes more and says the same, but for the last digit


@dataclass(frozen=True)
class Shown:
    """One row as the model gets it: (text, whether it carries the loss), in order."""

    id: str
    parts: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Expected:
    """What would happen. `warnings` are sentences on what cannot work as it is meant."""

    look: DatasetLook
    rows: tuple[Shown, ...]
    tokens: tuple[int, ...]  # of the rows that would be kept
    held_out: int
    outlook: Outlook
    training: TrainingTime
    memory: MemoryEstimate
    samples: Mapping[str, int]  # of each suite
    overlap: str  # what the rows to train on share with the suites
    gate: tuple[Reach, ...]  # what each limit can show
    warnings: tuple[str, ...] = field(default=())


def check(project: Project, home: Path, on_progress: Progress = silent) -> Expected:
    """Raises SlipwayError for what would end the build: with the file, the field, the values and the cure."""
    base = prepare_model(project.model, home, on_progress)
    require_fit(project, base)
    kwargs = project.prompts.chat_template_kwargs
    on_progress(0, 0, f"reading up to {LOOKED_AT:,} rows")
    with reviewed(project, home) as approved:
        recipe, folder = approved.recipe, project.dataset_folder
        look = look_at(recipe, folder, base, project.prompts.adapter, LOOKED_AT, LOOKED_AT, kwargs)
    if not look.examples:
        raise SlipwayError("no row would be kept", where="dataset.yaml", cure=_reasons(look))
    overlap = expected_overlap(project, look.examples)
    if look.whole and project.dataset.eval_overlap == "refuse":
        refuse_overlap(project.dataset.name, overlap)
    rows = _rendered(project, base, look.examples[:SHOWN], kwargs)
    tokens = tuple(example.tokens for example in look.examples)
    held_out = _held_out(project, len(look.examples))
    on_progress(0, 0, "simulating the release plan")
    found = look_ahead(project.rollout, runs=RUNS)
    samples = count_samples(project, held_out, os.environ)
    reach = tuple(gate_reach(project.evals, samples))
    return Expected(
        look=look,
        rows=rows,
        tokens=tokens,
        held_out=held_out,
        outlook=found,
        training=training_time(project.training, tokens, held_out, base),
        memory=estimate_memory(project, base),
        samples=samples,
        overlap=overlap.render(),
        gate=reach,
        warnings=tuple(_warnings(project, reach, found)),
    )


def _rendered(
    project: Project, base: Path, examples: Sequence[Example], kwargs: Mapping[str, Any]
) -> tuple[Shown, ...]:
    chat = open_chat(base, kwargs)
    rows = [
        (f"{one.source} row {one.row}", chat.with_system(one.messages, project.prompts.adapter), one.tools)
        for one in examples
        if not one.is_preference
    ]
    if not rows:
        return ()
    made = tokenise(rows, chat, project.training.max_sequence_tokens)
    return tuple(Shown(row.id, tuple(_parts(row, chat.tokenizer))) for row in made)


def _parts(row: TokenRow, tokenizer: Any) -> list[tuple[str, bool]]:
    """Runs of tokens that carry the loss, or do not, as text."""
    parts: list[tuple[str, bool]] = []
    start = 0
    for index in range(1, len(row.labels) + 1):
        if index == len(row.labels) or (row.labels[index] == IGNORED) != (row.labels[start] == IGNORED):
            text = tokenizer.decode(row.input_ids[start:index], skip_special_tokens=False)
            parts.append((text, row.labels[start] != IGNORED))
            start = index
    return parts


def _held_out(project: Project, rows: int) -> int:
    """About how many of the rows looked at nobody trains on."""
    split = project.dataset.split
    return split.holdout_prompts or round(rows * (split.holdout_share or 0))


def _warnings(project: Project, gate: Sequence[Reach], found: Outlook) -> list[str]:
    said = [one.sentence for one in gate if one.is_blind]
    if found.blind_stages:
        said.append(
            f"the release plan is blind in {', '.join(found.blind_stages)}: no candidate, however bad, is noticed"
        )
    return said + warnings_before_release(project.environment, project.rollout)


def _reasons(look: DatasetLook) -> str:
    return "the reasons: " + "; ".join(
        f"{reason} {kind.rows} (row {kind.examples[0].row}: {kind.examples[0].what})"
        for reason, kind in look.report.rejected.items()
    )
