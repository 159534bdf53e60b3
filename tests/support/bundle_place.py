"""A bundle with an adapter where vLLM is a stub: for what is done with bundles afterwards."""

import json
from pathlib import Path
from typing import Any

from documents_of import eval_report
from stub_project import stub_project
from tiny_lora import save_tiny_lora
from tiny_model import conversation, save_tiny_model

from configs.project import Project
from delivery.build.bundle import Bundle, SuiteScore
from delivery.build.documents.origin import DocumentBasis
from delivery.build.documents.written import documents
from delivery.clients.bundles.adapters import describe
from delivery.clients.bundles.images import write_bundle
from tasks.data.dataset import build_dataset
from tasks.training.model import model_revision


class Place:
    """A project whose vLLM is a stub, and a bundle with an adapter and an eval report."""

    def __init__(self, folder: Path, min_score: float):
        rows = [{"messages": conversation(number)} for number in range(8)]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe: dict[str, Any] = {
            "name": "rows",
            "sources": [{"path": str(folder / "rows.jsonl"), "reader": "messages"}],
        }
        recipe |= {"split": {"holdout_prompts": 2}, "eval_overlap": "allow"}
        gates = [{"suite": "keeps-format", "min_score": min_score}]
        evals = {"behaviour": ["keeps-format"], "gates": gates}
        self.model, self.home = save_tiny_model(folder / "tiny"), folder / "home"
        self.project = stub_project(
            folder, model=self.model, dataset=recipe, evals=evals, training={"max_sequence_tokens": 512}
        )
        self.folder, prompt = folder / "project", self.project.prompts.adapter
        where = self.project.dataset_folder
        self.version = build_dataset(self.project.dataset, where, self.model, prompt, self.home)
        self.parent = self.packaged(save_tiny_lora(folder / "lora"), self.project)

    def packaged(self, adapter: Path, project: Project, *, with_report: bool = True) -> Bundle:
        bundle = Bundle(
            route=project.route,
            base_model=project.model.name,
            base_revision=model_revision(self.model),
            adapter=describe(adapter),
            dataset_version=self.version.digest,
            dataset_code=self.version.manifest.code,
            training=project.training.model_dump(mode="json"),
            system_prompt=project.prompts.adapter,
            temperature=0.0,
            max_tokens=16 if with_report else 17,
            evals={"guiding": SuiteScore(version="v1", score=0.9, low=0.8, high=1.0, n=10)},
        )
        origin = DocumentBasis(builder="0.1.0", base_source="base", report=eval_report() if with_report else None)
        write_bundle(bundle, adapter, self.home, documents(bundle, origin))
        return bundle
