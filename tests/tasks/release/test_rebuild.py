"""`slipway rebuild`: a bundle's adapter is trained again from its manifest, and what differs is said."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stub_project import stub_project
from tiny_model import conversation, save_tiny_model
from typer.testing import CliRunner

from configs.canonical import short
from configs.errors import SlipwayError
from configs.project import Project
from delivery.build.bundle import Bundle
from delivery.clients.fresh_folder import discard
from flows.cli.main import app
from tasks.data.dataset import build_dataset
from tasks.release.bundle import assemble_bundle, base_bundle
from tasks.release.rebuild import rebuild
from tasks.training.model import model_revision, prepare_model
from tasks.training.train import train

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]

TRAINING = {
    "lora": {"rank": 4, "alpha": 8, "target_modules": ["q_proj"]},
    "max_steps": 3,
    "batch_size": 4,
    "learning_rate": 0.01,
}


class Built:
    """A project on a tiny model, its state folder, and a bundle that was really trained there."""

    def __init__(self, folder: Path):
        rows = [{"messages": conversation(number)} for number in range(18)]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe: dict[str, Any] = {
            "name": "rows",
            "sources": [{"path": str(folder / "rows.jsonl"), "reader": "messages"}],
        }
        recipe |= {"split": {"holdout_prompts": 2}, "eval_overlap": "allow"}
        model = save_tiny_model(folder / "tiny")
        self.project = stub_project(folder, model=model, training=TRAINING, dataset=recipe)
        self.folder, self.home = folder / "project", folder / "home"
        self.base = prepare_model(self.project.model, self.home)
        prompt = self.project.prompts.adapter
        self.version = build_dataset(self.project.dataset, self.project.dataset_folder, self.base, prompt, self.home)
        self.trained = train(self.version, self.base, self.project.training, prompt, self.home)
        self.bundle = self.packaged(self.project)

    def packaged(self, project: Project) -> Bundle:
        return assemble_bundle(project, model_revision(self.base), self.version, self.trained, None, self.home)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("rebuild"))


def test_the_same_rows_settings_and_code_give_the_same_bytes_but_for_rounding_at_most(built: Built) -> None:
    """On a busy machine threads may add up in another order: then the tensors are near, and the status says it."""
    place = ["--project", str(built.folder), "--home", str(built.home)]
    done = CliRunner().invoke(app, ["rebuild", short(built.bundle.digest), *place])
    differing = [float(number) for number in re.findall(r": (\S+) of its norm", done.stdout)]
    assert max(differing, default=0.0) < 1e-3, done.output
    assert done.exit_code == (1 if differing else 0), done.output
    assert ("the same bytes in every file" in done.stdout) == (not differing), done.output
    assert "code and packages are those that it was trained with" in done.stdout
    assert list((built.home / "rebuilds").iterdir()) == []


def test_a_bundle_whose_manifest_tells_of_another_seed_is_found_out(built: Built) -> None:
    settings = built.project.training.model_copy(update={"seed": 99})
    forged = built.packaged(replace(built.project, training=settings))
    found = rebuild(built.project, built.home, forged.digest)
    assert found.comparison.files == ("adapter_model.safetensors",)
    assert found.adapter != built.trained.adapter.digest
    assert 0 < len(found.comparison.tensors) <= found.comparison.compared == 4
    assert found.comparison.tensors[0].relative > 0.01
    assert "tensors differ" in found.render()


def test_the_base_model_was_not_trained(built: Built) -> None:
    base = base_bundle(built.project, model_revision(built.base), built.home)
    with pytest.raises(SlipwayError, match="was not trained"):
        rebuild(built.project, built.home, base.digest)


def test_another_base_model_is_refused_with_both_revisions(built: Built) -> None:
    other = built.bundle.model_copy(update={"base_revision": "sha256:" + "1" * 64})
    from delivery.clients.bundles.images import write_bundle

    write_bundle(other, built.trained.folder, built.home)
    with pytest.raises(SlipwayError, match="another base model") as caught:
        rebuild(built.project, built.home, other.digest)
    assert model_revision(built.base) in caught.value.where
    assert other.base_revision in caught.value.where


def test_without_its_rows_it_is_said_which_are_missing(built: Built, tmp_path: Path) -> None:
    shutil.copytree(built.home, tmp_path / "home")
    discard(tmp_path / "home" / "datasets" / short(built.version.digest))
    with pytest.raises(SlipwayError, match=f"no dataset version {short(built.version.digest)}"):
        rebuild(built.project, tmp_path / "home", built.bundle.digest)
