"""A bundle's adapter merged into its base model: a bundle of its own, judged beside its parent by the eval gate."""

import importlib.metadata
import json
from dataclasses import replace
from pathlib import Path

from configs.canonical import short
from configs.errors import SlipwayError
from configs.project import Project
from configs.strict import Strict
from delivery.build.bundle import Bundle
from delivery.build.dataset import DatasetVersion
from delivery.build.documents.origin import EVAL_REPORT, DocumentBasis, Licenses
from delivery.build.documents.written import documents
from delivery.build.gate import GateDecision, judge
from delivery.clients.bundles.images import read_bundle, read_documents, unpack_adapter, write_bundle
from delivery.clients.fresh_folder import remove_whole
from delivery.progress import Progress, silent
from evals.report import EvalReport
from evals.tables import compare
from tasks.data.dataset import read_version
from tasks.evals.asked import asked_samples
from tasks.evals.model_server import apart, model_server
from tasks.evals.of_project import evaluate_for, subject_of
from tasks.mirror import mirror_of
from tasks.release.bundle import scores
from tasks.release.published import sign_layout
from tasks.release.rebuild import base_of
from tasks.release.verdict import record_verdict
from tasks.training.merge import Dtype, MergedModel, merge
from tasks.training.train import TRAINER_PACKAGES

TEXTS = 16  # held-out rows on which the merged model is compared with base and adapter


class MergeOutcome(Strict):
    """What merging came to. Sizes in bytes."""

    bundle: str
    parent: str
    model: MergedModel
    adapter_size: int
    gate: GateDecision
    reports: dict[str, EvalReport]  # parent, merged

    def render(self) -> str:
        """For people: what it saves, what it costs, what the gate says."""
        model = self.model
        verdict = "passes the eval gate" if self.gate.passed else "REFUSED by the eval gate"
        findings = "\n".join(f"  {f.verdict:5} {f.sentence} ({f.limit})" for f in self.gate.findings)
        return (
            f"saves: vLLM multiplies no LoRA beside the weights, and needs no LoRA slot for it (not measured)\n"
            f"costs: {_mib(model.size)} of its own instead of {_mib(self.adapter_size)} beside a base model that "
            f"others share, and a vLLM process of its own\n"
            f"rounding: {model.same} of {model.positions} tokens have the same likeliest successor, a logit changes by "
            f"{model.largest:.3f} at most\n"
            f"model: {model.folder}\n\n{compare(self.reports)}\n"
            f"the eval gate, with the parent in production's place:\n{findings}\n"
            f"bundle {self.bundle}, merged from {short(self.parent)}: {verdict}"
        )


def merge_bundle(
    project: Project, home: Path, reference: str, on_progress: Progress = silent, dtype: Dtype = "auto"
) -> MergeOutcome:
    """Merges, evaluates through a vLLM of its own, judges beside the parent's own eval report, packages.

    Raises SlipwayError where there is no adapter, no eval report of it, or no vLLM.
    """
    mirror_of(project.environment, home).fetch_built(reference)
    parent = read_bundle(home, reference)
    report = _report_of(parent, home)
    base, version = base_of(parent, project, home, on_progress), read_version(home, str(parent.dataset_version))
    adapter = unpack_adapter(parent, home)
    model = merge(base, adapter, _texts(version), home, on_progress, dtype)
    bundle = parent.model_copy(update={"adapter": None, "merged": model.merged, "parent": parent.digest, "evals": {}})
    found = _evaluated(project, bundle, model.folder, version, home, on_progress)
    asked = asked_samples(project, version.folder / "holdout.jsonl")
    decision = judge(project.evals.gates, found, report, asked)
    bundle = bundle.model_copy(update={"evals": scores(found)})
    layout = write_bundle(bundle, model.folder, home, documents(bundle, _origin(project, version, found)))
    sign_layout(layout, project.environment.signatures)
    against = "; ".join(finding.sentence for finding in decision.findings if finding.verdict != "pass")
    record_verdict(project, bundle, decision, against, home)
    return MergeOutcome(
        bundle=bundle.digest,
        parent=parent.digest,
        model=model,
        adapter_size=sum(path.stat().st_size for path in adapter.iterdir()),
        gate=decision,
        reports={"parent": report, "merged": found},
    )


def _report_of(parent: Bundle, home: Path) -> EvalReport:
    if parent.adapter is None:
        what = "is merged already" if parent.merged else "has no adapter"
        raise SlipwayError(f"bundle {short(parent.digest)} {what}", cure="name one with an adapter: slipway bundles")
    _, written = read_documents(home, parent.digest)
    if EVAL_REPORT not in written:
        what = f"bundle {short(parent.digest)} holds no eval report that a merged model could be compared with"
        raise SlipwayError(what, cure="build it again with evals: slipway build")
    return EvalReport.model_validate_json(written[EVAL_REPORT])


def _texts(version: DatasetVersion) -> list[str]:
    lines = (version.folder / "holdout.jsonl").read_text(encoding="utf-8").splitlines()[:TEXTS]
    rows = [json.loads(line) for line in lines]
    return ["\n".join(str(m["content"]) for m in row.get("messages") or row["prompt"]) for row in rows]


def _evaluated(
    project: Project, bundle: Bundle, folder: Path, version: DatasetVersion, home: Path, on_progress: Progress
) -> EvalReport:
    """Asked as it would be served, on a vLLM that runs for this alone."""
    own = _of_its_own(project, bundle)
    with model_server(own, folder, home, on_progress) as url:
        found = evaluate_for(own, subject_of(bundle, "merged"), url, folder, version, home, on_progress)
    remove_whole(home / "environments" / own.environment.name)  # its log; after an error it stays
    return found


def _of_its_own(project: Project, bundle: Bundle) -> Project:
    """The same settings of vLLM, beside whatever the environment runs."""
    own = apart(project, f"merge-{short(bundle.digest)}")
    return replace(own, model=project.model.model_copy(update={"name": bundle.served_name}))


def _origin(project: Project, version: DatasetVersion, report: EvalReport) -> DocumentBasis:
    model = project.model
    return DocumentBasis(
        builder=importlib.metadata.version("slipway"),
        base_source=model.hub or model.package or model.name,
        licenses=Licenses(
            adapter=_both(model.license, project.license), base_model=model.license, data=project.dataset.license
        ),
        dataset=version.manifest,
        report=report,
        trainer={"versions": {name: importlib.metadata.version(name) for name in TRAINER_PACKAGES}},
    )


def _both(base: str | None, adapter: str | None) -> str | None:
    """A merged model is under both licences; unknown where one is."""
    if base is None or adapter is None:
        return None
    return base if base == adapter else f"({base}) AND ({adapter})"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
