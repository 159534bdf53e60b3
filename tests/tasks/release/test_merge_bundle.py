"""`slipway merge`: a merged model is a bundle with a parent, judged by the gate, and not released as an adapter."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from bundle_place import Place
from typer.testing import CliRunner

from configs.canonical import short
from configs.errors import SlipwayError
from configs.retention import Retention
from delivery.build.bundle import Bundle
from delivery.clients.bundles.images import read_bundle, read_documents, unpack_adapter
from flows.cli.main import app
from tasks.release.clean_up import clean
from tasks.release.merge import merge_bundle
from tasks.release.refusals import why_not_here
from tasks.release.site import open_ledger

pytestmark = pytest.mark.live


def test_a_merged_model_is_a_bundle_of_its_own_with_its_parent_and_its_own_scores(tmp_path: Path) -> None:
    place = Place(tmp_path, min_score=0.0)
    found = merge_bundle(place.project, place.home, place.parent.digest)
    merged = read_bundle(place.home, found.bundle)
    assert (merged.parent, merged.adapter, merged.merged) == (place.parent.digest, None, found.model.merged)
    assert merged.evals.keys() == {"keeps-format"}
    assert merged.variant_name == f"merged-{short(merged.digest)}"
    assert merged.served_name not in (place.parent.served_name, place.parent.base_model)
    statement = json.loads(read_documents(place.home, merged.digest)[1]["provenance.intoto.json"])
    materials = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {"sha256": place.parent.digest[7:]} in [one["digest"] for one in materials]
    assert {one["name"] for one in statement["subject"]} >= {"model.safetensors", "config.json", "tokenizer.json"}
    with closing(open_ledger(place.project.environment, place.home)) as ledger:
        assert ledger.gate(merged.digest) == found.gate
    assert found.gate.passed
    assert "saves:" in found.render()
    assert not list((place.home / "environments").glob("merge-*"))
    _is_not_released_as_an_adapter(place, merged)
    _keeps_its_parent(place, merged)


def _is_not_released_as_an_adapter(place: Place, merged: Bundle) -> None:
    assert "needs a vLLM of its own" in why_not_here(place.project, merged)
    words = ["release", short(merged.digest), "--project", str(place.folder), "--home", str(place.home)]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, SlipwayError)
    assert f"slipway release {short(place.parent.digest)}" in str(done.exception)
    with pytest.raises(SlipwayError, match="is a merged model and has no adapter"):
        unpack_adapter(merged, place.home)
    with pytest.raises(SlipwayError, match="is merged already"):
        merge_bundle(place.project, place.home, merged.digest)


def _keeps_its_parent(place: Place, merged: Bundle) -> None:
    """`slipway gc` long afterwards: the newest bundle stays, with model and parent."""
    policy = Retention(keep_bundles=1, keep_days=1)
    found = clean(place.project.environment, place.home, policy, 5e9, dry_run=True)
    gone = {(one.ref.kind, one.ref.name) for one in found.cleanup.removals}
    assert merged.merged is not None
    assert not gone & {("bundle", short(place.parent.digest)), ("merged", short(merged.merged.digest))}


def test_the_gate_refuses_a_merged_model_and_the_command_says_so_with_status_1(tmp_path: Path) -> None:
    place = Place(tmp_path, min_score=1.0)
    words = ["merge", short(place.parent.digest), "--project", str(place.folder), "--home", str(place.home)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1, done.output
    assert "REFUSED by the eval gate" in done.stdout


def test_a_bundle_without_an_eval_report_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    place = Place(tmp_path, min_score=0.0)
    plain = place.packaged(tmp_path / "lora", place.project, with_report=False)
    with pytest.raises(SlipwayError, match="holds no eval report"):
        merge_bundle(place.project, place.home, plain.digest)
