"""Two real vLLM and two gateways started by hand, one controller: a release and its rollback under users' traffic."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from release_child import PLAN, TOKEN
from stub_project import stub_project
from target_worlds import TargetWorld, others

from benchmarks.tiny_bundle import tiny_bundle
from configs.errors import require_all
from delivery.build.gate import GateDecision
from delivery.clients.bundles.adapters import describe, store_at
from delivery.clients.bundles.images import write_bundle
from delivery.clients.processes import local as processes
from delivery.progress import silent
from tasks.preflight import before_release
from tasks.release.rollback import rollback
from tasks.release.site import open_site_of
from tasks.serving import environment

pytestmark = pytest.mark.live

PATIENT = PLAN.model_copy(
    update={
        "lease_s": 30,
        "monitor_timeout_s": 20,
        "max_hold_s": 600,
        "stages": tuple(stage.model_copy(update={"min_requests": 5}) for stage in PLAN.stages),
    }
)
"""Two vLLM on two cores answer a few requests a second."""


@pytest.mark.timeout(1500)
def test_what_others_run_is_released_to_and_taken_back_while_users_notice_nothing(
    vllm, start_vllm: Callable, base_model: Path, tiny_loras, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_ADMIN_TOKEN", TOKEN)
    home, mounted = tmp_path / "home", tmp_path / "mnt"
    (home / "adapters").mkdir(parents=True)
    mounted.symlink_to(home / "adapters")  # another path on their side
    second = start_vllm(tmp_path / "second")
    try:
        with others(tmp_path, [vllm.url, second.url]) as there:
            there.mounted = str(mounted)
            project = stub_project(
                tmp_path, rollout=PATIENT.model_dump(mode="json"), model=base_model, environment=there.environment()
            )
            world = TargetWorld(project, home, tuple(there.users_urls), lambda: None)
            folder = store_at(tiny_loras[0], describe(tiny_loras[0]), tmp_path / "adapter")
            bundle = tiny_bundle("Answer shortly.", describe(folder))
            write_bundle(bundle, folder, home)
            try:
                environment.start(project, home, silent, attached=True)
                require_all("not now", before_release(project, home, accept_blind_plan=True))
                with world.users(at_once=8), open_site_of(project, home) as site:
                    site.ledger.add_build(bundle, GateDecision(passed=True, findings=()), time.time())
                    outcome = world.release(bundle, silent)
                    assert outcome.outcome == "live", (outcome, world.asked, world.failed[:3])
                    roots = {models[bundle.served_name] for models in world.models()}
                    assert {Path(root).parent for root in roots} == {mounted}
                    done = rollback(site, "tutor", by="ann", reason="a try")
                assert done.outcome == "rolled_back", done.problem
                assert done.to_stable_s is not None
                assert done.to_stable_s < PATIENT.lease_s
                assert world.asked > 40
                assert world.failed == []
                assert all(bundle.served_name not in models for models in world.models())
                print(world.asked, "requests, 0 failed; to stable", done.to_stable_s, "s;", outcome.seconds, "s")
            finally:
                environment.stop(project, home)
    finally:
        processes.stop("vllm", tmp_path / "second")
