"""Build: dataset version, adapter, evals, bundle, and the gate that says whether the bundle may be released."""

import os
import time
from contextlib import closing
from pathlib import Path

from prefect import flow, task

from configs.project import Project
from configs.strict import Strict
from delivery.build.bundle import Bundle, adapter_name
from delivery.build.dataset import DatasetVersion
from delivery.build.gate import GateDecision, judge
from delivery.clients.bundles import images as oci
from evals.report import EvalReport
from evals.tables import compare, failures
from flows.reporting import follow, log, picture, show_markdown, show_table
from tasks.data import dataset as datasets
from tasks.evals import evaluate as evals
from tasks.evals.model_server import loaded_adapter, model_server
from tasks.evals.prompt_room import require_room
from tasks.preflight import before_build, load_for
from tasks.release import bundle as bundles
from tasks.release.site import open_ledger
from tasks.training import model
from tasks.training import train as training


class BuildOutcome(Strict):
    """What a build came to. A bundle that the gate refused is kept, and cannot be released."""

    bundle: str
    dataset: DatasetVersion
    adapter: str
    trained: bool  # False: this very adapter had been trained before
    gate: GateDecision
    reports: dict[str, EvalReport]  # base, production, candidate; with an ablation base_adapter_prompt
    curve: Path

    @property
    def passed(self) -> bool:
        """Whether the bundle may be released."""
        return self.gate.passed

    def render(self) -> str:
        """For the terminal: what became of the rows, scores, the gate's findings, and the digest to release."""
        verdict = "may be released" if self.passed else "REFUSED by the eval gate"
        findings = "\n".join(f"  {f.verdict:5} {f.sentence} ({f.limit})" for f in self.gate.findings)
        return f"{self.dataset.render()}\n\n{compare(self.reports)}\n{findings}\nbundle {self.bundle}: {verdict}"


@flow(name="build", flow_run_name="build-{project}")
def build(project: str = "configs/tutor", home: Path = Path(".slipway")) -> BuildOutcome:
    """Turn a dataset and a base model into an evaluated bundle.

    Unchanged steps are skipped: a dataset version, an adapter and an eval report are found again by the content of what
    made them.

    Args:
        project: The folder of YAML files that says what is built.
        home: Where datasets, adapters, bundles and the ledger are kept.
    """
    settings = load_for(Path(project), home, "the build cannot start", lambda found: before_build(found, home))
    base = prepare_model(settings, home)
    version = version_dataset(settings, base, home)
    trained = train_adapter(settings, version, base, home)
    with model_server(settings, base, home, follow("vllm")) as vllm_url:
        reports = {
            **evaluate_production(settings, base, version, vllm_url, home),
            **(evaluate_ablation(settings, base, version, vllm_url, home) if settings.evals.ablation else {}),
            "candidate": evaluate_candidate(settings, base, version, trained, vllm_url, home),
        }
    decision = judge(settings.evals.gates, reports["candidate"], reports["production"])
    bundle = package(settings, base, version, trained, reports["candidate"], decision, home)
    outcome = BuildOutcome(
        bundle=bundle.digest,
        dataset=version,
        adapter=trained.adapter.digest,
        trained=not trained.skipped,
        gate=decision,
        reports=reports,
        curve=trained.curve,
    )
    _show(settings, outcome)
    return outcome


@task
def prepare_model(project: Project, home: Path) -> Path:
    """The base model's folder; fetched or dequantised once. Its tokenizer says whether the prompts leave any room."""
    folder = model.prepare_model(project.model, home, follow("base model"))
    require_room(project.prompts, project.model, folder)
    return folder


@task
def version_dataset(project: Project, base: Path, home: Path) -> DatasetVersion:
    """An immutable dataset version out of the recipe."""
    version = datasets.build_dataset(
        project.dataset, project.dataset_folder, base, project.prompts.adapter, home, follow("dataset")
    )
    log(version.render())
    manifest = version.manifest
    counts = {"read": manifest.read, "kept": manifest.kept, "duplicates": manifest.duplicates, **manifest.rejected}
    parts = [{"what": name, "rows": count} for name, count in counts.items()]
    parts += [{"what": name, "rows": part.rows} for name, part in manifest.parts.items()]
    show_table(f"dataset {manifest.name}", parts, f"dataset version {version.digest}")
    return version


@task
def train_adapter(project: Project, version: DatasetVersion, base: Path, home: Path) -> training.TrainedAdapter:
    """A LoRA on the version's training part, unless this very training has been done."""
    trained = training.train(version, base, project.training, project.prompts.adapter, home, follow("training"))
    how = "found again, nothing in its input has changed" if trained.skipped else f"trained in {trained.seconds:.0f} s"
    show_markdown(
        f"training {project.route}",
        f"adapter `{trained.adapter.digest}` {how}; {trained.trained_tokens} tokens, final loss "
        f"{trained.final_loss:.3f}.\n\n{picture(trained.picture, 'loss curve')}\n\nThe figures: `{trained.curve}`.",
    )
    return trained


@task
def evaluate_production(
    project: Project, base: Path, version: DatasetVersion, vllm_url: str, home: Path
) -> dict[str, EvalReport]:
    """The base model with its long prompt, and what the environment serves now: the same before the first release."""
    bundle = bundles.base_bundle(project, model.model_revision(base), home)
    served = {"base": bundle, "production": _live(project, home) or bundle}
    return {name: _evaluate_bundle(project, base, version, one, name, vllm_url, home) for name, one in served.items()}


@task
def evaluate_ablation(
    project: Project, base: Path, version: DatasetVersion, vllm_url: str, home: Path
) -> dict[str, EvalReport]:
    """The base model with the adapter's prompt."""
    subject = _prompted(project, "base_adapter_prompt", project.model.name, model.model_revision(base))
    return {subject.name: _evaluate(project, base, version, subject, vllm_url, home)}


@task
def evaluate_candidate(
    project: Project, base: Path, version: DatasetVersion, trained: training.TrainedAdapter, vllm_url: str, home: Path
) -> EvalReport:
    """The adapter with its short prompt, exactly as it would be served."""
    name = adapter_name(project.route, trained.adapter.digest)
    with loaded_adapter(project, home, vllm_url, name, trained.folder):
        subject = _prompted(project, "candidate", name, trained.adapter.digest)
        return _evaluate(project, base, version, subject, vllm_url, home)


@task
def package(
    project: Project,
    base: Path,
    version: DatasetVersion,
    trained: training.TrainedAdapter,
    report: EvalReport,
    decision: GateDecision,
    home: Path,
) -> Bundle:
    """The bundle as an image, and the gate's word on it in the ledger."""
    bundle = bundles.assemble_bundle(project, model.model_revision(base), version, trained, report, home)
    with closing(open_ledger(project.environment, home)) as ledger:
        ledger.add_build(bundle, decision, time.time())
    return bundle


def _prompted(project: Project, name: str, served: str, identity: str) -> evals.Subject:
    """Who is served under this name, with the adapter's prompt and limits."""
    return evals.Subject(
        name=name,
        model=served,
        system_prompt=project.prompts.adapter,
        temperature=project.prompts.sampling.temperature,
        max_tokens=project.prompts.sampling.max_tokens,
        identity=identity,
    )


def _live(project: Project, home: Path) -> Bundle | None:
    with closing(open_ledger(project.environment, home)) as ledger:
        row = ledger.route(project.environment.name, project.route)
        return ledger.bundle(row.live.bundle) if row else None


def _evaluate_bundle(
    project: Project, base: Path, version: DatasetVersion, bundle: Bundle, name: str, vllm_url: str, home: Path
) -> EvalReport:
    subject = evals.Subject(
        name=name,
        model=bundle.served_name,
        system_prompt=bundle.system_prompt,
        temperature=bundle.temperature,
        max_tokens=bundle.max_tokens,
        identity=bundle.adapter.digest if bundle.adapter else bundle.base_revision,
    )
    if bundle.adapter is None:
        return _evaluate(project, base, version, subject, vllm_url, home)
    with loaded_adapter(project, home, vllm_url, bundle.served_name, oci.unpack_adapter(bundle, home)):
        return _evaluate(project, base, version, subject, vllm_url, home)


def _evaluate(
    project: Project, base: Path, version: DatasetVersion, subject: evals.Subject, vllm_url: str, home: Path
) -> EvalReport:
    listener = follow(f"evals {subject.name}")
    key = os.environ.get("SLIPWAY_VLLM_API_KEY")
    return evals.evaluate(
        subject, vllm_url, project.evals, base, home, listener, key, holdout=version.folder / "holdout.jsonl"
    )


def _show(project: Project, outcome: BuildOutcome) -> None:
    verdict = "may be released" if outcome.passed else "is **refused** by the eval gate"
    findings = "\n".join(f"- {f.verdict}: {f.sentence} ({f.limit})" for f in outcome.gate.findings)
    wrong = {f.suite for f in outcome.gate.findings if f.verdict != "pass"}
    candidate = outcome.reports["candidate"]
    examples = "\n".join(
        f"### {suite}\n\n{failures(candidate, suite)}" for suite in sorted(wrong) if suite in candidate.suites
    )
    text = f"Bundle `{outcome.bundle}` {verdict}.\n\n{compare(outcome.reports)}\n{findings}\n\n{examples}"
    show_markdown(f"evals {project.route}", text, "base, production and candidate; the gate's findings")
