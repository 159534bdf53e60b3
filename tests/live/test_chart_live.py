"""The chart on a real Kubernetes: what its values say is what users get, typed by hand or committed by a release."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chart_world import ChartWorld, chart_world
from git_follower import Follower
from git_world import origin_in
from helm import HelmError
from release_child import PLAN, TOKEN
from target_worlds import TargetWorld, local_world

from configs.gitops import GitOps
from delivery.clients.bundles.images import unpack_adapter
from delivery.progress import silent
from tasks.release.rollback import rollback
from tasks.release.site import open_site_of
from tasks.serving import environment
from tasks.serving.gitops.steps import with_default

FILE = "environments/production/release.yaml"
WATCHED = PLAN.model_copy(
    update={"max_hold_s": 600, "stages": tuple(one.model_copy(update={"approval": True}) for one in PLAN.stages)}
)

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChartWorld]:
    with chart_world(tmp_path_factory.mktemp("chart")) as found:
        yield found


def route(world: ChartWorld, **said: Any) -> dict[str, Any]:
    """The values with something else about the route."""
    return world.values | {"routes": {"tutor": world.values["routes"]["tutor"] | said}}


def test_what_the_values_say_is_what_users_get_and_a_wrong_value_changes_nothing(world: ChartWorld) -> None:
    assert world.served() == {"base-1": 40}
    world.sync(route(world, candidate={"variant": "tutor-1", "mode": "canary", "share_percent": 50}))
    found = world.served(100)
    assert set(found) == {"base-1", "tutor-1"}
    assert 25 < found["tutor-1"] < 75
    with pytest.raises(HelmError, match="share_percent"):
        world.sync(route(world, candidate={"variant": "tutor-1", "mode": "canary", "share_percent": "half"}))
    assert set(world.served(100)) == {"base-1", "tutor-1"}
    assert world.failed == []


@pytest.mark.timeout(900)
def test_a_release_that_is_committed_step_by_step_is_what_users_of_the_cluster_get_and_so_are_both_ways_back(
    world: ChartWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_ADMIN_TOKEN", TOKEN)
    origin = origin_in(tmp_path)
    follower = Follower(world, origin, FILE)
    with local_world(tmp_path) as here:
        gitops = GitOps(repository=origin.url, file=FILE)
        said = here.project.environment.model_copy(update={"gitops": gitops})
        here.project = replace(here.project, environment=said, rollout=WATCHED)
        environment.start(here.project, here.home, silent, attached=True)
        bundle = here.built()
        world.offer(unpack_adapter(bundle, here.home))
        there = TargetWorld(here.project, here.home, (world.url("gateway"),), lambda: None)
        with there.users(), open_site_of(here.project, here.home) as site:
            base, new = site.require_route("tutor").live.name, bundle.variant_name
            with here.users(), follower.at_work(here.project, site):
                outcome = here.release(bundle, silent)
            assert (outcome.outcome, follower.wrong) == ("live", []), outcome.reason
            shadow, canary, full = follower.seen.values()
            assert ({*shadow}, {*canary}) == ({base}, {base, new})
            assert new in full
            follower.users_after_s(new)
            live = origin.show(FILE)
            assert live is not None
            origin.push(FILE, with_default(live, "tutor", None))
            quick_s = follower.users_after_s(base)
            origin.push(FILE, live)
            follower.users_after_s(new)
            assert rollback(site, "tutor", by="ann", reason="users complain").outcome == "rolled_back"
            full_s = follower.users_after_s(base)
    assert origin.log()[0].startswith("tutor: take back release")
    assert (follower.wrong, world.failed, here.failed, there.failed) == ([], [], [], [])
    print(f"{there.asked} requests on the cluster, 0 failed; back quickly {quick_s:.0f} s, by revert {full_s:.0f} s")
