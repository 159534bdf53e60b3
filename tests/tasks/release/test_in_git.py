"""Each step of a release is a commit before users see it; a way back is users' first, and a revert after it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from git_world import Origin, origin_in
from release_scene import Scene, in_canary_of, when

from configs.canonical import short
from configs.gitops import GitOps
from tasks.release.rollback import rollback

pytestmark = pytest.mark.live

FILE = "environments/local/release.yaml"


@pytest.fixture
def origin(tmp_path: Path, scene: Scene) -> Origin:
    """The scene's environment is committed there."""
    found = origin_in(tmp_path)
    gitops = GitOps(repository=found.url, file=FILE)
    environment = scene.site.environment.model_copy(update={"gitops": gitops})
    scene.site = replace(scene.site, environment=environment)
    return found


def said(origin: Origin) -> dict[str, Any]:
    """The route, as the file has it."""
    text = origin.show(FILE)
    assert text is not None
    return dict(yaml.safe_load(text)["routes"]["tutor"])


def adapters(origin: Origin) -> dict[str, Any]:
    """Those that every vLLM has."""
    return dict(yaml.safe_load(origin.show(FILE) or "")["adapters"])


def titles(origin: Origin) -> list[str]:
    return [message.splitlines()[0] for message in origin.log()]


class Heard(list[str]):
    """What is said, and what somebody does about it."""

    def __init__(self, word: str, then: Callable[[], None]):
        super().__init__()
        self._word, self._then = word, then

    def append(self, text: str) -> None:
        if self._word in text and not any(self._word in one for one in self):
            self._then()
        super().append(text)


def test_a_release_is_one_commit_a_step_with_its_evidence_and_users_never_get_one_before_it(
    scene: Scene, origin: Origin
) -> None:
    early = []

    def table_is_said(effect: str) -> None:
        route = scene.world.table.routes["tutor"] if effect == "put" else None
        if route is not None and route.candidate is not None:
            share = said(origin)["candidate"]["share_percent"] * 100
            early.extend([effect] if share not in (route.candidate.share_bp, route.candidate.mirror_bp) else [])

    scene.world.on_effect = table_is_said
    assert scene.release().outcome == "live"
    assert early == []
    new = short(scene.new.digest)
    assert titles(origin)[::-1][:4] == [
        "somebody changes README.md",
        f"tutor: all users on {scene.base.variant_name}",
        f"tutor: shadow 50 % of {new}",
        f"tutor: canary 20 % of {new}",
    ]
    newest = origin.log()[0]
    assert newest.startswith(f"tutor: all users on {scene.new.variant_name}")
    assert f"Slipway-Bundle: {scene.new.digest}" in newest
    assert "stage 1-canary: pass after" in newest
    assert any("- pass: error rate 0 %" in message for message in origin.log())
    file = yaml.safe_load(origin.show(FILE) or "")
    assert scene.new.adapter is not None
    assert file["adapters"] == {scene.new.served_name: {"digest": scene.new.adapter.digest, "bundle": scene.new.digest}}
    assert (said(origin)["default"], said(origin)["base"]) == (scene.new.variant_name, scene.base.variant_name)


def test_while_pushes_are_refused_users_stay_where_they_are_and_it_goes_on_by_itself(
    scene: Scene, origin: Origin
) -> None:
    when(scene.world, in_canary_of(scene), lambda: origin.protect("main is protected"))
    scene.said = Heard("main is protected", origin.open)
    assert scene.release().outcome == "live"
    assert any("users stay where they are, because the step is not in Git" in text for text in scene.said)
    assert said(origin)["default"] == scene.new.variant_name


def test_a_release_that_breaks_is_reverted_and_the_file_is_what_it_was(scene: Scene, origin: Origin) -> None:
    scene.breaks(scene.new, 4)
    assert scene.release().outcome == "rolled_back"
    assert scene.serves() == {scene.base.variant_name}
    assert titles(origin)[0].startswith("tutor: take back release")
    first = next(m for m in origin.log() if "This is what is served before the release of" in m)
    assert first.startswith(f"tutor: all users on {scene.base.variant_name}")
    assert said(origin)["default"] is None
    assert "candidate" not in said(origin)
    assert "Slipway-Reverts: " in origin.log()[0]


def test_a_live_release_taken_back_by_hand_is_reverted_whole(scene: Scene, origin: Origin) -> None:
    scene.release()
    done = rollback(scene.site, "tutor", by="ann", reason="users complain")
    assert done.outcome == "rolled_back"
    assert said(origin)["default"] is None
    assert set(adapters(origin)) == {scene.new.served_name}, "gateways that are not replaced yet still ask for it"
    assert "users complain" in origin.log()[0]
    assert "Slipway-Reverts: " in origin.log()[0]


def test_releases_are_taken_back_one_after_the_other_and_the_file_always_has_the_adapters_that_it_names(
    scene: Scene, origin: Origin
) -> None:
    second, third = scene.built(2), scene.built(3)
    for bundle in (scene.new, second, third):
        scene.release(bundle)
        assert {one["model"] for one in said(origin)["variants"].values()} - {"base"} <= {*adapters(origin)}
    assert scene.new.served_name not in adapters(origin), "it was dropped when the third release began"
    for bundle, left in ((third, second), (second, scene.new)):
        done = rollback(scene.site, "tutor", by="ann", reason="users complain", release=bundle.digest)
        assert done.outcome == "rolled_back", done.problem
        assert said(origin)["default"] == left.variant_name
        assert left.served_name in adapters(origin)


def test_a_quick_rollback_is_default_null(scene: Scene, origin: Origin) -> None:
    second = scene.built(2)
    scene.release()
    scene.release(second)
    rollback(scene.site, "tutor", by="ann", reason="all of it is bad", to="base")
    assert said(origin)["default"] is None
    assert "candidate" not in said(origin)
    assert scene.serves() == {scene.base.variant_name}


def test_a_rollback_waits_for_no_repository_and_is_committed_when_it_is_back(scene: Scene, origin: Origin) -> None:
    scene.release()
    hidden = origin.bare.rename(origin.bare.with_suffix(".away"))
    texts: list[str] = []

    def come_back(done: int, total: int, text: str) -> None:
        texts.append(text)
        if "Git does not say so yet" in text:
            assert scene.serves() == {scene.base.variant_name}
            hidden.rename(origin.bare)

    done = rollback(scene.site, "tutor", by="ann", reason="users complain", on_progress=come_back)
    assert done.outcome == "rolled_back"
    assert done.to_stable_s is not None
    assert done.to_stable_s < 1
    assert any("Git does not say so yet" in text for text in texts)
    assert said(origin)["default"] is None


def test_two_ledgers_never_take_each_others_steps_back(scene: Scene, origin: Origin) -> None:
    other = yaml.safe_dump(
        {"routes": {"tutor": {"epoch": "another", "candidate": {"variant": "x"}, "variants": {"x": {"model": "m"}}}}}
    )
    origin.push(FILE, other)
    scene.said = Heard("is under way on route tutor", lambda: origin.push(FILE, "routes: {}\n"))
    assert scene.release().outcome == "live"
    assert any("release another is under way on route tutor, by another controller" in text for text in scene.said)
