"""A bundle is put together from what was really trained and evaluated, or not at all."""

import json
from types import SimpleNamespace

import numpy
import pytest
from documents_of import comparison, dataset_manifest, eval_report
from places import ROOT
from safetensors.numpy import save_file

from configs.errors import SlipwayError
from configs.project import load_project
from configs.training import TrainingConfig
from delivery.build.documents.origin import NAMES, PAGE
from delivery.clients.bundles import adapters as adapter_store
from delivery.clients.bundles import images as oci
from delivery.release.routes import alone
from tasks.release.bundle import assemble_bundle, base_bundle, report_file
from tasks.release.site import served_as
from tasks.serving.local import LocalProcesses
from tasks.training.train import TrainedAdapter

SHIPPED = ROOT / "configs" / "tutor"
DATASET = SimpleNamespace(digest="sha256:data", manifest=dataset_manifest())


@pytest.fixture(scope="module")
def project():
    return load_project(SHIPPED)


def train_fake(home, **config):
    """An adapter's files as peft writes them, put where training puts them."""
    source = home / "trained"
    source.mkdir(parents=True)
    plain = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (source / "adapter_config.json").write_text(json.dumps(plain | config))
    names = [f"base_model.model.model.layers.0.self_attn.q_proj.lora_{side}.weight" for side in "AB"]
    save_file({name: numpy.zeros((4, 4), numpy.float32) for name in names}, source / "adapter_model.safetensors")
    adapter = adapter_store.describe(source)
    folder = adapter_store.store(source, adapter, home)
    return TrainedAdapter(
        adapter=adapter,
        folder=folder,
        curve=source / "curve.jsonl",
        picture=source / "curve.png",
        final_loss=0.5,
        trained_tokens=10,
        seconds=1.0,
        skipped=False,
    )


def test_the_bundle_holds_everything_that_must_be_versioned_together(project, tmp_path):
    trained = train_fake(tmp_path)
    bundle = assemble_bundle(project, "sha256:rev", DATASET, trained, eval_report(project.prompts.adapter), tmp_path)
    assert oci.read_bundle(tmp_path, bundle.digest) == bundle
    assert bundle.system_prompt == project.prompts.adapter
    assert (bundle.route, bundle.base_revision, bundle.adapter) == (project.route, "sha256:rev", trained.adapter)
    assert (bundle.dataset_version, bundle.dataset_code) == ("sha256:data", "sha256:" + "7" * 64)
    assert TrainingConfig.model_validate(bundle.training) == project.training
    assert (bundle.evals["guiding"].score, bundle.evals["guiding"].n) == (0.9, 10)
    assert [stage["kind"] for stage in bundle.routing["stages"]] == [s.kind for s in project.rollout.stages]


def test_changing_one_part_makes_a_new_candidate(project, tmp_path):
    trained = train_fake(tmp_path)
    seen = {
        assemble_bundle(project, revision, dataset, trained, scores, tmp_path).digest
        for revision in ("sha256:a", "sha256:b")
        for dataset in (DATASET, None)
        for scores in (None, eval_report(project.prompts.adapter))
    }
    assert len(seen) == 8


def test_the_base_bundle_serves_the_long_prompt_without_adapter(project, tmp_path):
    base = base_bundle(project, "sha256:rev", tmp_path)
    assert (base.adapter, base.training, base.system_prompt) == (None, None, project.prompts.base)
    assert base.served_name == project.model.name
    assert base_bundle(project, "sha256:rev", tmp_path) == oci.read_bundle(tmp_path, base.variant_name)


def test_a_report_made_with_another_prompt_is_refused(project, tmp_path):
    with pytest.raises(SlipwayError, match="another system prompt"):
        assemble_bundle(project, "r", DATASET, train_fake(tmp_path), eval_report("Something else."), tmp_path)
    assert not (tmp_path / "bundles").exists()


def test_an_adapter_that_vllm_would_refuse_is_refused(project, tmp_path):
    with pytest.raises(SlipwayError, match="vLLM would refuse this adapter") as caught:
        assemble_bundle(project, "r", DATASET, train_fake(tmp_path, use_dora=True), None, tmp_path)
    assert "DoRA" in str(caught.value)
    assert not (tmp_path / "bundles").exists()


def test_a_bundle_carries_the_contract_by_which_its_route_is_judged(project, tmp_path):
    released = assemble_bundle(project, "rev", DATASET, train_fake(tmp_path), None, tmp_path)
    base = base_bundle(project, "rev", tmp_path)
    target = LocalProcesses(project.environment, tmp_path)
    here = {"environment": project.environment, "home": tmp_path, "clock": lambda: 0.0}
    site = SimpleNamespace(**here, upstreams=("http://vllm",), target=target)
    for bundle in (released, base):
        served = served_as(bundle, site)
        assert served.contract == project.contract
        assert alone(served, "salt", "epoch").contract == project.contract


def test_a_bundle_is_written_with_its_documents(project, tmp_path):
    trained = train_fake(tmp_path)
    report = eval_report(project.prompts.adapter)
    bundle = assemble_bundle(project, "rev", DATASET, trained, report, tmp_path, comparison=comparison())
    assert report_file(bundle, tmp_path).read_bytes() == oci.read_documents(tmp_path, bundle.digest)[1][PAGE]
    place, written = oci.read_documents(tmp_path, bundle.digest)
    assert (place.parent, set(written)) == (tmp_path / "bundles", set(NAMES))
    assert "Apache-2.0" in written["LICENSES.md"].decode()
    base = base_bundle(project, "rev", tmp_path)
    assert set(oci.read_documents(tmp_path, base.digest)[1]) == set(NAMES) - {"eval-report.json", PAGE}
