"""Build: dataset version, adapter, evals, bundle, and the gate that says whether the bundle may be released."""

import os
from pathlib import Path

from prefect import flow, task
from prefect.states import Failed

from configs.canonical import short
from configs.project import Project
from configs.strict import Strict
from delivery.build.bundle import Bundle
from delivery.build.comparison import ReportBasis
from delivery.build.dataset import DatasetVersion, refuse_other_method
from delivery.build.gate import GateDecision, judge
from evals.report import EvalReport
from evals.samples import Sample
from evals.tables import compare, failures
from flows.evaluations import (
    evaluate_ablation,
    evaluate_base,
    evaluate_candidate,
    evaluate_noise,
    evaluate_production,
)
from flows.names import named
from flows.reporting import Outcome, follow, log, picture, result_of, show_markdown, show_table
from tasks.data.of_project import judge_overlap, version_of
from tasks.evals.asked import asked_samples
from tasks.evals.model_server import model_server
from tasks.evals.prompt_room import require_room
from tasks.evals.require import count_samples, gate_reach
from tasks.mirror import mirror_of
from tasks.preflight import before_build, load_for
from tasks.release import bundle as bundles
from tasks.release.verdict import record_verdict
from tasks.training import model
from tasks.training import train as training
from tasks.training.fit import require_fit
from tasks.training.template import system_place


class BuildOutcome(Strict):
    """What a build came to. A bundle that the gate refused is kept, and cannot be released."""

    bundle: str
    dataset: DatasetVersion
    adapter: str
    trained: bool  # False: this very adapter had been trained before
    gate: GateDecision
    reports: dict[str, EvalReport]  # base, production, candidate; with an ablation base_adapter_prompt
    curve: Path
    page: Path  # the report that a person reads

    @property
    def passed(self) -> bool:
        """Whether the bundle may be released."""
        return self.gate.passed

    def render(self) -> str:
        """For the terminal: what became of the rows, scores, the gate's findings, and the digest to release."""
        verdict = "may be released" if self.passed else "REFUSED by the eval gate"
        findings = "\n".join(f"  {f.verdict:5} {f.sentence} ({f.limit})" for f in self.gate.findings)
        end = f"report {self.page}\nbundle {self.bundle}: {verdict}"
        return f"{self.dataset.render()}\n\n{compare(self.reports)}\n{findings}\n{end}"


ended: Outcome[BuildOutcome] = Outcome()  # of the build that this process runs


@flow(name="build", flow_run_name=named("build"))
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
            "base": evaluate_base(settings, base, version, vllm_url, home),
            "production": evaluate_production(settings, base, version, vllm_url, home),
        }
        again = evaluate_noise(settings, base, version, vllm_url, home) if settings.evals.noise_run else None
        if settings.evals.ablation:
            reports["base_adapter_prompt"] = evaluate_ablation(settings, base, version, vllm_url, home)
        reports["candidate"] = evaluate_candidate(settings, base, version, trained, vllm_url, home)
    asked = asked_samples(settings, version.folder / "holdout.jsonl")
    decision = result_of(gate(settings, reports, asked, again, return_state=True))
    bundle = package(settings, base, version, trained, reports, asked, decision, home)
    outcome = BuildOutcome(
        bundle=bundle.digest,
        dataset=version,
        adapter=trained.adapter.digest,
        trained=not trained.skipped,
        gate=decision,
        reports=reports,
        curve=trained.curve,
        page=bundles.report_file(bundle, home),
    )
    ended.keep(outcome)
    _show(settings, outcome)
    if outcome.passed:
        return outcome
    return Failed(name="Refused", message=refusal(decision), data=outcome)  # type: ignore[return-value] # a state, with it


@task(task_run_name="base model")
def prepare_model(project: Project, home: Path) -> Path:
    """The base model's folder; fetched or dequantised once. It must fit prompts, settings and vLLM."""
    folder = model.prepare_model(project.model, home, follow("base model"))
    require_fit(project, folder)
    require_room(project.prompts, project.model, folder)
    return folder


@task(task_run_name="dataset version")
def version_dataset(project: Project, base: Path, home: Path) -> DatasetVersion:
    """An immutable dataset version out of the recipe, whose rows to train on hold no question of the eval suites."""
    version = version_of(project, base, home, follow("dataset"))
    mirror_of(project.environment, home).keep_dataset(version)
    log(version.render())
    refuse_other_method(version, project.training.method)
    manifest = version.manifest
    counts = {"read": manifest.read, "kept": manifest.kept, "duplicates": manifest.duplicates, **manifest.rejected}
    parts = [{"what": name, "rows": count} for name, count in counts.items()]
    parts += [{"what": name, "rows": part.rows} for name, part in manifest.parts.items()]
    parts += [{"what": name, "rows": count} for name, count in (manifest.changed | manifest.noticed).items()]
    show_table(f"dataset {manifest.name}", parts, f"dataset version {version.digest}")
    log(judge_overlap(project, version).render())
    samples = count_samples(project, manifest.parts["holdout"].rows, os.environ)
    for one in (one for one in gate_reach(project.evals, samples) if one.is_blind):
        log(f"the gate is blind: {one.sentence}")
    return version


@task(task_run_name="training")
def train_adapter(project: Project, version: DatasetVersion, base: Path, home: Path) -> training.TrainedAdapter:
    """A LoRA on the version's training part, unless this very training has been done."""
    prompts = project.prompts
    settings, kwargs = project.training, prompts.chat_template_kwargs
    key = training.training_key(version, model.model_revision(base), settings, prompts.adapter, kwargs)
    mirror = mirror_of(project.environment, home)
    with mirror.training(key, follow("training")) as listener:
        trained = training.train(version, base, settings, prompts.adapter, home, listener, kwargs)
    mirror.keep_training(key, trained)
    how = "found again, nothing in its input has changed" if trained.skipped else f"trained in {trained.seconds:.0f} s"
    show_markdown(
        f"training {project.route}",
        f"adapter `{trained.adapter.digest}` {how}; {trained.trained_tokens} tokens, final loss "
        f"{trained.final_loss:.3f}.\n\n{picture(trained.picture, 'loss curve')}\n\nThe figures: `{trained.curve}`.",
    )
    return trained


@task(task_run_name="gate")
def gate(
    project: Project, reports: dict[str, EvalReport], asked: dict[str, dict[str, Sample]], again: EvalReport | None
) -> GateDecision:
    """Candidate against production; the task fails when the bundle may not be released."""
    decision = judge(project.evals.gates, reports["candidate"], reports["production"], asked, again)
    if decision.passed:
        return decision
    return Failed(name="Refused", message=refusal(decision), data=decision)  # type: ignore[return-value] # a state, with it


def refusal(decision: GateDecision) -> str:
    """What the gate has against a candidate, in one line."""
    return "; ".join(finding.sentence for finding in decision.findings if finding.verdict != "pass")


@task(task_run_name="packaging")
def package(
    project: Project,
    base: Path,
    version: DatasetVersion,
    trained: training.TrainedAdapter,
    reports: dict[str, EvalReport],
    asked: dict[str, dict[str, Sample]],
    decision: GateDecision,
    home: Path,
) -> Bundle:
    """The bundle as an image, the report that a person reads, and the gate's word on it in the ledger."""
    place = system_place(base, project.prompts.chat_template_kwargs)
    comparison = ReportBasis(
        decision=decision,
        production=reports["production"],
        base=reports["base"],
        asked=asked,
        trained_tokens=trained.trained_tokens,
        final_loss=trained.final_loss,
    )
    revision, report = model.model_revision(base), reports["candidate"]
    bundle = bundles.assemble_bundle(project, revision, version, trained, report, home, place, comparison)
    mirror_of(project.environment, home).keep_bundle(bundle.digest)
    record_verdict(project, bundle, decision, refusal(decision), home)
    return bundle


def _show(project: Project, outcome: BuildOutcome) -> None:
    verdict = "may be released" if outcome.passed else "is **refused** by the eval gate"
    findings = "\n".join(f"- {f.verdict}: {f.sentence} ({f.limit})" for f in outcome.gate.findings)
    wrong = {f.suite for f in outcome.gate.findings if f.verdict != "pass"}
    candidate = outcome.reports["candidate"]
    examples = "\n".join(
        f"### {suite}\n\n{failures(candidate, suite)}" for suite in sorted(wrong) if suite in candidate.suites
    )
    whole = outcome.page.resolve()
    told = (
        f"The whole report, with intervals drawn and the worst answers beside production's, is one file: "
        f"[{whole.name}]({whole.as_uri()}), `{whole}`. From anywhere: "
        f"`slipway show {short(outcome.bundle)} report.html > report.html`."
    )
    text = f"Bundle `{outcome.bundle}` {verdict}. {told}\n\n{compare(outcome.reports)}\n{findings}\n\n{examples}"
    show_markdown(f"evals {project.route}", text, "base, production and candidate; the gate's findings")
