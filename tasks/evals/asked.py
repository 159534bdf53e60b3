"""What a project's suites ask: for reports that show questions beside answers, and for slices by a sample's field."""

from pathlib import Path

from configs.project import Project
from evals.samples import Sample
from evals.suites import FOLDER, load_suites


def asked_samples(project: Project, holdout: Path) -> dict[str, dict[str, Sample]]:
    """Suite -> sample's id -> the sample; `holdout` is the dataset version's held-out part.

    Capability tasks are not among them: lm-eval keeps their questions.
    """
    suites = load_suites(project.evals.behaviour, (*project.suite_folders, FOLDER), holdout, project.contract)
    return {suite.config.name: {sample.id: sample for sample in suite.samples} for suite in suites}
