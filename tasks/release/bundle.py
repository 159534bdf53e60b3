"""Puts everything that must be versioned together into one bundle, and writes it as an image."""

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

from configs.canonical import short
from configs.errors import SlipwayError
from configs.project import Project
from configs.prompts import SystemPlace
from delivery.build.bundle import Bundle, SuiteScore
from delivery.build.comparison import ReportBasis
from delivery.build.dataset import DatasetVersion
from delivery.build.documents.origin import PAGE, DocumentBasis, Licenses
from delivery.build.documents.written import documents
from delivery.build.servable import problems_with
from delivery.clients.bundles import images as oci
from delivery.clients.bundles.safetensors_header import read_shapes
from delivery.clients.fresh_folder import explained_writes
from evals.report import EvalReport
from tasks.release.published import sign_layout
from tasks.training.train import TrainedAdapter


def assemble_bundle(
    project: Project,
    model_revision: str,
    dataset: DatasetVersion | None,
    trained: TrainedAdapter | None,
    report: EvalReport | None,
    home: Path,
    system_place: SystemPlace = "system",
    comparison: ReportBasis | None = None,
) -> Bundle:
    """The bundle, written to home/bundles/, and signed where a key is named.

    Without `trained` it is the base model with its long prompt. `comparison` makes the report that a person reads; it
    lies in home/reports/ too, where the last gate's word on a bundle that was there before replaces an older one.
    Raises SlipwayError when vLLM could not serve the adapter, or when the report judged another prompt.
    """
    prompt = project.prompts.base if trained is None else project.prompts.adapter
    if report is not None and report.system_prompt is not None and report.system_prompt != prompt:
        raise SlipwayError(
            "the eval report was made with another system prompt than the bundle's",
            where=f"{project.folder}/prompts.yaml",
            cure="evaluate what is served: run the evals again",
        )
    if trained is not None:
        _check_servable(trained, project.environment.vllm.max_lora_rank)
    bundle = Bundle(
        route=project.route,
        base_model=project.model.name,
        base_revision=model_revision,
        adapter=trained.adapter if trained else None,
        dataset_version=dataset.digest if dataset else None,
        dataset_code=dataset.manifest.code if dataset else None,
        training=project.training.model_dump(mode="json") if trained else None,
        system_prompt=prompt,
        temperature=project.prompts.sampling.temperature,
        max_tokens=project.prompts.sampling.max_tokens,
        chat_template_kwargs=project.prompts.chat_template_kwargs,
        system_place=system_place,
        evals=scores(report),
        routing=_routing(project, is_released=trained is not None),
    )
    written = documents(bundle, _origin(project, dataset, trained, report), comparison)
    if PAGE in written:
        _put(report_file(bundle, home), written[PAGE])
    layout = oci.write_bundle(bundle, trained.folder if trained else None, home, written)
    sign_layout(layout, project.environment.signatures)
    return bundle


def report_file(bundle: Bundle, home: Path) -> Path:
    """Where the report on a bundle lies for whoever wants to read it."""
    return home / "reports" / f"{short(bundle.digest)}.html"


def _put(place: Path, content: bytes) -> None:
    with explained_writes(place.parent, "the report"):
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            fresh.write_bytes(content)
            fresh.replace(place)
        finally:
            fresh.unlink(missing_ok=True)


def base_bundle(project: Project, model_revision: str, home: Path, system_place: SystemPlace = "system") -> Bundle:
    """The base model with its long prompt: what production starts with, and what a quick rollback serves."""
    return assemble_bundle(project, model_revision, None, None, None, home, system_place)


def _origin(
    project: Project, dataset: DatasetVersion | None, trained: TrainedAdapter | None, report: EvalReport | None
) -> DocumentBasis:
    model = project.model
    return DocumentBasis(
        builder=importlib.metadata.version("slipway"),
        base_source=model.hub or model.package or model.name,
        licenses=Licenses(adapter=project.license, base_model=model.license, data=project.dataset.license),
        dataset=dataset.manifest if dataset else None,
        report=report,
        trainer=trained.made_of if trained else {},
    )


def _check_servable(trained: TrainedAdapter, max_lora_rank: int) -> None:
    config = json.loads((trained.folder / "adapter_config.json").read_text(encoding="utf-8"))
    shapes = read_shapes(trained.folder / "adapter_model.safetensors")
    problems = problems_with(config, shapes, max_lora_rank)
    if problems:
        raise SlipwayError("vLLM would refuse this adapter", where=str(trained.folder), problems=problems)


def scores(report: EvalReport | None) -> dict[str, SuiteScore]:
    """A report as a bundle remembers it."""
    suites = report.suites if report else {}
    return {
        name: SuiteScore(version=s.version, score=s.score, low=s.low, high=s.high, n=s.n) for name, s in suites.items()
    }


def _routing(project: Project, *, is_released: bool) -> dict[str, Any]:
    """How the route's answers are judged, and how far traffic is moved at a time on the bundle's way through."""
    fields = {"kind", "share_bp", "mirror_bp"}
    rules: dict[str, Any] = {}
    if project.contract is not None:
        rules["contract"] = project.contract.model_dump(mode="json")
    if is_released:
        rules["stages"] = [stage.model_dump(mode="json", include=fields) for stage in project.rollout.stages]
    return rules
