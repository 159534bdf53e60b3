"""Two environments' ledgers: what one serves, and whether the other may have it."""

from dataclasses import replace
from typing import Any

from release_fakes import project
from release_scene import Scene

from configs.gitops import GitOps
from configs.project import Project
from delivery.clients.ledger.ledger import Ledger
from tasks.release.promotion import may_be_promoted, render
from tasks.release.rollback import rollback


def next_one(**rules: Any) -> Project:
    """The same route in an environment that asks for something."""
    there = project()
    gitops = GitOps.model_validate({"repository": "file:///x.git", "file": "a.yaml", "promotion": rules})
    return replace(there, environment=there.environment.model_copy(update={"name": "staging", "gitops": gitops}))


def test_a_bundle_goes_from_one_ledger_to_the_next_by_its_digest(scene: Scene) -> None:
    staging = Ledger(f"sqlite:///{scene.home}/staging.sqlite")
    here = (project(), scene.ledger)
    there = (next_one(soak_s=100), staging)
    none_yet = may_be_promoted(here, there, scene.world.clock())
    assert (none_yet.standing, none_yet.reasons) == ("refuse", ("local serves what no release brought there",))
    scene.release()
    now = scene.world.clock()
    assert may_be_promoted(here, there, now + 10).standing == "wait"
    found = may_be_promoted(here, there, now + 200)
    assert (found.standing, found.bundle) == ("promote", scene.new.digest)
    assert f"slipway release {scene.new.digest[7:19]} --project staging" in render(found, "staging")
    strict = (next_one(least_scores={"safety": 0.9}), staging)
    refused = may_be_promoted(here, strict, now + 200)
    assert refused.reasons == ("safety: the bundle has no score, 0.9 is asked for",)
    rollback(scene.site, "tutor", by="ann", reason="users complain")
    assert may_be_promoted(here, there, now + 900).standing == "refuse"
    staging.close()
