"""The evals of a build as its steps: of the base model, of what is live, of the candidate, and of its prompt alone."""

from contextlib import closing
from pathlib import Path

from prefect import task

from configs.project import Project
from delivery.build.bundle import Bundle, adapter_name
from delivery.build.dataset import DatasetVersion
from delivery.clients.bundles import images as oci
from evals.report import EvalReport
from flows.reporting import follow
from tasks.evals.evaluate import Subject
from tasks.evals.model_server import loaded_adapter
from tasks.evals.of_project import evaluate_for, subject_of
from tasks.mirror import mirror_of
from tasks.release import bundle as bundles
from tasks.release.site import open_ledger
from tasks.training import model
from tasks.training import train as training
from tasks.training.template import system_place


@task(task_run_name="evals of the base model")
def evaluate_base(project: Project, base: Path, version: DatasetVersion, vllm_url: str, home: Path) -> EvalReport:
    """The base model with its long prompt: what a quick rollback falls back to."""
    return _evaluate_bundle(project, base, version, _base_bundle(project, base, home), "base", vllm_url, home)


@task(task_run_name="evals of production")
def evaluate_production(project: Project, base: Path, version: DatasetVersion, vllm_url: str, home: Path) -> EvalReport:
    """What the environment serves now: the base model before the first release, whose answers are known then."""
    bundle = _live(project, home) or _base_bundle(project, base, home)
    return _evaluate_bundle(project, base, version, bundle, "production", vllm_url, home)


@task(task_run_name="evals of production, again")
def evaluate_noise(project: Project, base: Path, version: DatasetVersion, vllm_url: str, home: Path) -> EvalReport:
    """The same once more in other batches: what differs is the serving stack's own doing."""
    bundle = _live(project, home) or _base_bundle(project, base, home)
    return _evaluate_bundle(project, base, version, bundle, "production, again", vllm_url, home, again=True)


@task(task_run_name="evals of the base model with the adapter's prompt")
def evaluate_ablation(project: Project, base: Path, version: DatasetVersion, vllm_url: str, home: Path) -> EvalReport:
    """What training adds to the prompt alone."""
    subject = _prompted(project, base, "base_adapter_prompt", project.model.name, model.model_revision(base))
    return _evaluate(project, base, version, subject, vllm_url, home)


@task(task_run_name="evals of the candidate")
def evaluate_candidate(
    project: Project, base: Path, version: DatasetVersion, trained: training.TrainedAdapter, vllm_url: str, home: Path
) -> EvalReport:
    """The adapter with its short prompt, exactly as it would be served."""
    name = adapter_name(project.route, trained.adapter.digest)
    with loaded_adapter(project, home, vllm_url, name, trained.folder):
        subject = _prompted(project, base, "candidate", name, trained.adapter.digest)
        return _evaluate(project, base, version, subject, vllm_url, home)


def _prompted(project: Project, base: Path, name: str, served: str, identity: str) -> Subject:
    """Who is served under this name, with the adapter's prompt and limits."""
    return Subject(
        name=name,
        model=served,
        system_prompt=project.prompts.adapter,
        temperature=project.prompts.sampling.temperature,
        max_tokens=project.prompts.sampling.max_tokens,
        identity=identity,
        chat_template_kwargs=project.prompts.chat_template_kwargs,
        system_place=system_place(base, project.prompts.chat_template_kwargs),
    )


def _base_bundle(project: Project, base: Path, home: Path) -> Bundle:
    """The base model with its long prompt, which stands where its chat template has a place for it."""
    place = system_place(base, project.prompts.chat_template_kwargs)
    return bundles.base_bundle(project, model.model_revision(base), home, place)


def _live(project: Project, home: Path) -> Bundle | None:
    with closing(open_ledger(project.environment, home)) as ledger:
        row = ledger.route(project.environment.name, project.route)
        return ledger.bundle(row.live.bundle) if row else None


def _evaluate_bundle(
    project: Project,
    base: Path,
    version: DatasetVersion,
    bundle: Bundle,
    name: str,
    vllm_url: str,
    home: Path,
    *,
    again: bool = False,
) -> EvalReport:
    subject = subject_of(bundle, name)
    if bundle.adapter is None:
        return _evaluate(project, base, version, subject, vllm_url, home, again=again)
    mirror_of(project.environment, home).fetch_bundle(bundle.digest)
    with loaded_adapter(project, home, vllm_url, bundle.served_name, oci.unpack_adapter(bundle, home)):
        return _evaluate(project, base, version, subject, vllm_url, home, again=again)


def _evaluate(
    project: Project,
    base: Path,
    version: DatasetVersion,
    subject: Subject,
    vllm_url: str,
    home: Path,
    *,
    again: bool = False,
) -> EvalReport:
    with mirror_of(project.environment, home).evals():
        listener = follow(f"evals {subject.name}")
        return evaluate_for(project, subject, vllm_url, base, version, home, listener, again=again)
