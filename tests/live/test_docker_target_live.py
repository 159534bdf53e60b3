"""Two real vLLM and two gateways in containers: a release and its rollback under users' traffic, one replica killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from docker_images import engine, image
from docker_world import container_names, docker_environment, users_urls
from live_world import eventually
from places import SUPPORT
from random_loras import TINY_LORA
from release_child import PLAN, TOKEN
from stub_project import stub_project
from target_worlds import TargetWorld

from benchmarks.tiny_bundle import tiny_bundle
from configs.errors import require_all
from delivery.build.gate import GateDecision
from delivery.clients.bundles.adapters import describe, store_at
from delivery.clients.bundles.images import write_bundle
from delivery.clients.vllm import VllmUnavailableError
from delivery.progress import silent
from tasks.preflight import before_release, before_up
from tasks.release.rollback import rollback
from tasks.release.site import open_site_of
from tasks.serving import environment

pytestmark = pytest.mark.live

USERS = 4  # each with one request at a time
PATIENT = PLAN.model_copy(
    update={
        "lease_s": 30,
        "monitor_timeout_s": 20,
        "max_hold_s": 180,
        "stages": tuple(stage.model_copy(update={"min_requests": 5}) for stage in PLAN.stages),
    }
)
"""A vLLM that is restarted beside another one on two cores is away for most of a minute."""
TINY = """
import sys
from pathlib import Path
from tiny_model import save_tiny_model
save_tiny_model(Path(sys.argv[1]), context_tokens=4096, hidden_size=64)
"""


@pytest.mark.timeout(600)
def test_containers_are_released_to_and_taken_back_while_one_is_killed_and_users_notice_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_ADMIN_TOKEN", TOKEN)
    client = engine()
    model, lora = _tiny(tmp_path)
    settings = docker_environment(
        vllm_image=image("vllm"), gateway_image=image("gateway"), vllm_memory_gib=3, gateway_memory_gib=0.5
    )
    settings["vllm"] = {"cpu_kv_cache_gib": 0.25, "start_timeout_s": 240}
    project = stub_project(tmp_path, rollout=PATIENT.model_dump(mode="json"), model=model, environment=settings)
    home, names = tmp_path / "home", container_names(project)
    world = TargetWorld(project, home, users_urls(project), lambda: None)
    folder = store_at(lora, describe(lora), tmp_path / "adapter")
    bundle = tiny_bundle("Answer shortly.", describe(folder))
    write_bundle(bundle, folder, home)
    killed: list[float] = []

    def kill_in_the_canary(done: int, total: int, text: str) -> None:
        if "canary" in text and not killed:
            client.api.kill(names[1])
            killed.append(time.monotonic())

    try:
        require_all("it cannot start", before_up(project, home))
        environment.start(project, home, silent)
        require_all("not now", before_release(project, home, accept_blind_plan=True))
        with world.users(at_once=USERS), open_site_of(project, home) as site:
            site.ledger.add_build(bundle, GateDecision(passed=True, findings=()), time.time())
            outcome = world.release(bundle, kill_in_the_canary)
            assert killed
            assert outcome.outcome == "live", (outcome, world.asked, world.failed[:3])
            roots = eventually(lambda: _roots(world, bundle.served_name), 150, "the killed one serves it too")
            assert {Path(root).parent for root in roots} == {Path("/adapters")}
            done = rollback(site, "tutor", by="ann", reason="a try")
        assert done.outcome == "rolled_back", done.problem
        assert done.to_stable_s is not None
        assert done.to_stable_s < PATIENT.lease_s
        assert world.asked > 40
        assert len(world.failed) <= USERS, "what was inside the killed one, and nothing else"
        assert all(bundle.served_name not in models for models in world.models())
        assert client.api.inspect_container(names[1])["State"]["Running"]
        print(
            world.asked,
            "requests,",
            len(world.failed),
            "failed; to stable",
            done.to_stable_s,
            "s;",
            outcome.seconds,
            "s",
        )
    finally:
        environment.stop(project, home)


def _roots(world: TargetWorld, model: str) -> set[str] | None:
    """Where the replicas have the model; None as long as one of them does not serve it."""
    try:
        found = world.models()
    except VllmUnavailableError:
        return None
    return {models[model] for models in found} if all(model in models for models in found) else None


def _tiny(folder: Path) -> tuple[Path, Path]:
    """A model and an adapter of a few thousand weights, made in child processes (torch stays out of this one)."""
    model, lora = folder / "tiny", folder / "lora"
    env = os.environ | {"PYTHONPATH": str(SUPPORT)}
    for command in ([TINY, str(model)], [TINY_LORA, str(model), str(lora), "1"]):
        subprocess.run([sys.executable, "-c", *command], env=env, check=True, capture_output=True, timeout=300)
    for path in model.iterdir():
        path.chmod(0o644)  # saved for their owner alone
    return model, lora
