"""A project's own evals of whoever is served: its suites, its contract, the rows that a dataset version held out."""

import os
from collections.abc import Mapping
from pathlib import Path

from configs.project import Project
from delivery.build.bundle import Bundle
from delivery.build.dataset import DatasetVersion
from delivery.progress import Progress
from evals.report import EvalReport
from evals.suites import FOLDER as SHIPPED_SUITES
from tasks.evals.engine import engine_of
from tasks.evals.evaluate import Subject, evaluate
from tasks.evals.model_server import API_KEY


def subject_of(bundle: Bundle, name: str) -> Subject:
    """Whom the evals ask: a bundle as it is served. `name` is the report's."""
    weights = bundle.adapter or bundle.merged
    return Subject(
        name=name,
        model=bundle.served_name,
        system_prompt=bundle.system_prompt,
        temperature=bundle.temperature,
        max_tokens=bundle.max_tokens,
        identity=weights.digest if weights else bundle.base_revision,
        chat_template_kwargs=bundle.chat_template_kwargs,
        system_place=bundle.system_place,
    )


def evaluate_for(
    project: Project,
    subject: Subject,
    vllm_url: str,
    model: Path,
    version: DatasetVersion,
    home: Path,
    on_progress: Progress,
    *,
    engine: Mapping[str, str] | None = None,
    again: bool = False,
) -> EvalReport:
    """Asks one subject at a vLLM that serves it; `model` is the folder of what that vLLM loads.

    `engine` is what an answer can depend on beside the subject, where the caller knows it already. `again`: see
    `evaluate`.
    """
    key = os.environ.get(API_KEY)
    return evaluate(
        subject,
        vllm_url,
        project.evals,
        model,
        home,
        on_progress,
        key,
        holdout=version.folder / "holdout.jsonl",
        suites_folders=(*project.suite_folders, SHIPPED_SUITES),
        contract=project.contract,
        engine=engine_of(project, model, home, vllm_url, key) if engine is None else engine,
        again=again,
    )
