"""What every target promises: the same tests pass on processes, containers, pods, what others run, and several."""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import httpx
import pytest
from docker_world import docker_world
from pods_world import pods_world
from release_child import TOKEN
from stub_project import until
from target_worlds import TargetWorld, combined_world, external_world, local_world

from configs.canonical import short
from configs.errors import require_all
from delivery.clients.bundles.images import unpack_adapter
from delivery.progress import silent
from flows.cli.status import as_dict, render
from tasks.evals.model_server import loaded_adapter, model_server
from tasks.preflight import before_build, before_release, before_up
from tasks.release.rollback import rollback
from tasks.release.site import open_site_of
from tasks.serving import environment
from tasks.serving import local as serving

pytestmark = pytest.mark.live

WORLDS = {
    "local processes": local_world,
    "containers": docker_world,
    "pods": pods_world,
    "replicas that others run": external_world,
    "several of these at once": combined_world,
}


@pytest.fixture(params=WORLDS.values(), ids=WORLDS.keys())
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TargetWorld]:
    """An environment that is up."""
    monkeypatch.setenv("SLIPWAY_ADMIN_TOKEN", TOKEN)
    with request.param(tmp_path) as found:
        require_all("it cannot start", before_up(found.project, found.home))
        environment.start(found.project, found.home, silent, attached=True)
        yield found


def test_a_release_goes_live_and_back_on_every_replica_while_users_notice_nothing(world: TargetWorld) -> None:
    bundle = world.built()
    require_all("it cannot be released", before_release(world.project, world.home, accept_blind_plan=True))
    unready: list[str] = []

    def watched(done: int, total: int, text: str) -> None:
        if "canary" in text:
            unready.extend(str(models) for models in world.models() if bundle.served_name not in models)

    with world.users():
        outcome = world.release(bundle, watched)
        assert (outcome.outcome, outcome.failed_user_requests) == ("live", 0), outcome.reason
        with open_site_of(world.project, world.home) as site:
            path = site.target.place(unpack_adapter(bundle, world.home))
            loaded = [models[bundle.served_name] for models in world.models()]
            assert loaded == [site.target.path_on(url, path) for url in site.target.replicas]
            done = rollback(site, "tutor", by="ann", reason="a try")
    assert done.outcome == "rolled_back", done.problem
    assert done.to_stable_s is not None
    assert done.to_stable_s < 20  # a busy machine gets some seconds; users notice nothing meanwhile
    assert world.asked > 50
    assert world.failed == []
    assert unready == []
    assert all(bundle.served_name not in models for models in world.models())


def test_up_serves_users_again_and_again_and_says_who_is_ready(world: TargetWorld) -> None:
    for _ in range(2):
        with httpx.Client(timeout=60, trust_env=False) as http:
            for user in range(4):
                world.ask(http, user)
        assert world.failed == []
        environment.start(world.project, world.home, silent, attached=True)
    found = environment.status(world.project, world.home)
    assert all(part.healthy for part in found.parts)
    assert (found.revision, found.behind) == (1, ())
    assert len(found.parts) == len(world.target.replicas) + len(world.target.gateways)
    assert "table      revision 1: base-" in render(found)
    json.dumps(as_dict(found))


def test_a_replica_that_lost_the_live_adapter_has_it_again_soon_without_anybody_doing_anything(
    world: TargetWorld,
) -> None:
    bundle = world.built()
    with world.users():
        assert world.release(bundle, silent).outcome == "live"
    before = world.models()
    world.lose_adapters()

    def whole_again() -> bool:
        try:
            return world.models() == before
        except Exception:  # noqa: BLE001 - it restarts
            return False

    until(whole_again, 300)


def test_an_adapter_is_placed_under_its_digest_and_evaluated_from_there(world: TargetWorld) -> None:
    bundle = world.built()
    assert bundle.adapter is not None
    folder = unpack_adapter(bundle, world.home)
    path = PurePosixPath(world.target.place(folder))
    assert path.is_absolute()
    assert path.name == short(bundle.adapter.digest)
    require_all("it cannot be built", before_build(world.project, world.home))
    with model_server(world.project, world.base, world.home, silent) as url:
        assert url in world.target.replicas
        with loaded_adapter(world.project, world.home, url, bundle.served_name, folder):
            told = world.target.path_on(url, str(path))
            assert {models.get(bundle.served_name) for models in world.models()} >= {told}
    assert all(bundle.served_name not in models for models in world.models())


def test_down_ends_what_up_started_and_nothing_else(world: TargetWorld) -> None:
    assert set(environment.stop(world.project, world.home)) == world.started
    assert environment.stop(world.project, world.home) == ()
    folder = serving.environment_folder(world.project.environment, world.home)
    assert not list(folder.glob("*.pid"))
    assert {part.url for part in world.target.state() if part.healthy} == world.stays
