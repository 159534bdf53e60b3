"""A merged model goes through a release as its own candidate, on a vLLM of its own, and back."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from release_child import TOKEN
from stub_vllm import StubVllm
from target_worlds import TargetWorld, local_world

from configs.canonical import short
from configs.errors import SlipwayError
from delivery.build.bundle import Bundle, Merged
from delivery.build.gate import GateDecision
from delivery.clients.bundles.adapters import digest_of_files, file_digest
from delivery.clients.bundles.images import write_bundle
from delivery.progress import silent
from tasks.release.outcome import ReleaseOutcome
from tasks.release.rollback import rollback
from tasks.release.run import run_release
from tasks.release.site import open_ledger, open_site_of
from tasks.serving import environment

pytestmark = pytest.mark.live


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TargetWorld]:
    monkeypatch.setenv("SLIPWAY_ADMIN_TOKEN", TOKEN)
    with local_world(tmp_path) as found:
        environment.start(found.project, found.home, silent, attached=True)
        yield found


def merged(world: TargetWorld) -> tuple[Bundle, Path]:
    """Of an adapter's bundle, with the folder of its weights, judged by the gate."""
    parent = world.built(1)
    fresh = world.home / "merged" / "fresh"
    fresh.mkdir(parents=True)
    (fresh / "config.json").write_text("{}")
    (fresh / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    files = {path.name: file_digest(path) for path in fresh.iterdir()}
    weights = Merged(digest=digest_of_files(files), files=files)
    folder = fresh.rename(fresh.with_name(short(weights.digest)))
    bundle = parent.model_copy(update={"adapter": None, "merged": weights, "parent": parent.digest})
    write_bundle(bundle, folder, world.home)
    ledger = open_ledger(world.project.environment, world.home)
    ledger.add_build(bundle, GateDecision(passed=True, findings=()), time.time())
    ledger.close()
    return bundle, folder


def release(world: TargetWorld, bundle: Bundle, *upstreams: str) -> ReleaseOutcome:
    with open_site_of(world.project, world.home) as site:
        return run_release(world.project, bundle, site, candidate_upstreams=upstreams or None)


def test_a_merged_model_is_released_on_its_own_vllm_stays_after_a_restart_and_is_taken_back(world: TargetWorld) -> None:
    bundle, folder = merged(world)
    with StubVllm(0, bundle.served_name, str(folder)) as own:
        with world.users():
            outcome = release(world, bundle, own.url)
            assert (outcome.outcome, outcome.failed_user_requests) == ("live", 0), outcome.reason
            environment.start(world.project, world.home, silent, attached=True)
            with open_site_of(world.project, world.home) as site:
                assert site.require_route("tutor").live.variant.upstreams == (own.url,)
                done = rollback(site, "tutor", by="ann", reason="a try")
        assert done.outcome == "rolled_back", done.problem
        asked = [body for path, body in own.posts if path == "/v1/chat/completions"]
        assert {body["model"] for body in asked} == {bundle.served_name}
        assert not [path for path, _ in own.posts if "lora" in path]
    assert world.failed == []


def test_nothing_begins_on_a_vllm_that_serves_another_model_or_other_bytes(world: TargetWorld) -> None:
    bundle, folder = merged(world)
    refused = release(world, bundle)
    assert refused.outcome == "refused"
    assert "needs a vLLM of its own: name it with --candidate-upstream" in refused.reason
    with (
        StubVllm(0, "base", str(folder)) as other_name,
        StubVllm(0, bundle.served_name, "/models/another") as other_folder,
        StubVllm(0, bundle.served_name, str(folder)) as own,
    ):
        for url, why in ((other_name.url, "it serves base, not tutor-"), (other_folder.url, "/models/another")):
            with pytest.raises(SlipwayError, match=why):
                release(world, bundle, own.url, url)
        (folder / "model.safetensors").write_bytes(b"flipped")
        with pytest.raises(SlipwayError, match="its digest is"):
            release(world, bundle, own.url)
    with open_site_of(world.project, world.home) as site:
        assert site.ledger.releases("local", "tutor") == []
