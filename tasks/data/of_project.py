"""A project's dataset version, with the questions that its eval suites ask."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from configs.project import Project
from delivery.build.dataset import DatasetVersion
from delivery.build.overlap import Overlap, find_overlap, refuse_overlap
from delivery.build.rows import Example
from delivery.build.split import divide
from delivery.progress import Progress, silent
from evals.suites import FOLDER as SHIPPED_SUITES
from tasks.data.dataset import OtherVersionError, build_dataset
from tasks.data.overlap import eval_overlap, questions_of, texts_of, write_matches
from tasks.data.replay import replayed
from tasks.review.source import mark_read, reviewed


def version_of(project: Project, base: Path, home: Path, on_progress: Progress = silent) -> DatasetVersion:
    """The version that the project's recipe makes of its sources now; `base` is the base model's folder.

    Raises SlipwayError as `build_dataset` does, and where nothing is approved that the recipe reads.
    """
    recipe, prompts = project.dataset, project.prompts
    asked = questions_of(project.evals, _folders(project), project.contract) if recipe.eval_overlap == "drop" else ()
    folder, kwargs = project.dataset_folder, prompts.chat_template_kwargs
    with reviewed(project, home) as found, replayed(project, found.recipe, home) as ways:
        for way in ways:
            with suppress(OtherVersionError):
                given = (way.recipe, folder, base, prompts.adapter, home, on_progress, kwargs, asked, way.only)
                version = build_dataset(*given)
                break
    mark_read(project, home, found.items, version.digest)
    return version


def expected_overlap(project: Project, examples: Sequence[Example]) -> Overlap:
    """What rows that are yet to become a version share with the eval suites, as far as they would be trained on."""
    rows = ((one.id, texts_of(one.as_row())) for one in divide(examples, project.dataset.split)["train"])
    return find_overlap(questions_of(project.evals, _folders(project), project.contract), rows)


def judge_overlap(project: Project, version: DatasetVersion) -> Overlap:
    """What the training part shares with the eval suites; every match is written beside the version.

    Raises SlipwayError where there is any, and the recipe does not allow it.
    """
    overlap = eval_overlap(version, project.evals, _folders(project), project.contract)
    listed = write_matches(version, overlap)
    if project.dataset.eval_overlap != "allow":
        refuse_overlap(project.dataset.name, overlap, str(listed or ""))
    return overlap


def _folders(project: Project) -> tuple[Path, ...]:
    return (*project.suite_folders, SHIPPED_SUITES)
