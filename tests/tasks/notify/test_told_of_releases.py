"""Whatever ends badly is told, once: whoever decides, whoever is killed, and also while the ledger is away."""

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from away_ledger import AWAY, AwayLedger
from receivers import Hooks
from release_fakes import lora_bundle, project
from release_scene import Scene, bad, killed_after, taken_back_by_hand, taken_back_in_the_middle, when

from configs.notifications import Notifications, Secret, Slack, Webhook
from delivery.build.gate import GateDecision
from delivery.release.way_back import TakenBack
from tasks.notify.courier import delivering
from tasks.release.left_behind import finish
from tasks.release.rollback import rollback
from tasks.release.verdict import record_verdict
from tasks.release.way_back import notes
from tasks.release.without_ledger import take_back_without_ledger


def telling(scene: Scene, receivers: Notifications) -> Scene:
    environment = scene.site.environment.model_copy(update={"notifications": receivers})
    scene.site = replace(scene.site, environment=environment)
    return scene


def pager(hooks: Hooks) -> Notifications:
    return {"pager": Webhook(kind="webhook", url=hooks.url, tell=("alert", "approval", "rollback", "refusal", "live"))}


def kinds(hooks: Hooks) -> list[str]:
    return [body["kind"] for _, _, body in hooks.got]


def test_a_release_that_goes_live_is_told_where_that_is_wanted(scene: Scene) -> None:
    with Hooks() as hooks:
        telling(scene, pager(hooks))
        assert scene.release().outcome == "live"
        assert kinds(hooks) == ["live"]


def test_a_release_that_slipway_takes_back_is_told_with_its_reason(scene: Scene) -> None:
    with Hooks() as hooks:
        telling(scene, pager(hooks))
        scene.breaks(scene.new, 4)
        outcome = scene.release()
        told = [body for _, _, body in hooks.got if body["kind"] == "rollback"]
        assert len(told) == 1
        assert told[0]["release_id"] == outcome.release_id
        assert outcome.reason in told[0]["text"]


def test_a_bundle_that_is_refused_is_told_each_time_somebody_asks_for_it(scene: Scene) -> None:
    unfit = lora_bundle(scene.home, 7)
    scene.ledger.add_build(unfit, GateDecision(passed=False, findings=()), scene.world.clock())
    with Hooks() as hooks:
        telling(scene, pager(hooks))
        assert scene.release(unfit).outcome == "refused"
        scene.world.sleep(1)
        assert scene.release(unfit).outcome == "refused"
        assert kinds(hooks) == ["refusal", "refusal"]
        foreign = scene.new.model_copy(update={"route": "another"})
        assert scene.release(foreign).outcome == "refused"
        assert "is for route another" in hooks.got[-1][2]["text"]


def test_a_bundle_that_the_eval_gate_refuses_is_told_when_it_is_built_and_one_that_passes_is_not(home: Path) -> None:
    with Hooks() as hooks:
        tutor = project()
        environment = tutor.environment.model_copy(update={"notifications": pager(hooks)})
        tutor = replace(tutor, environment=environment)
        bundle = lora_bundle(home, 7)
        record_verdict(tutor, bundle, GateDecision(passed=True, findings=()), "", home)
        record_verdict(tutor, bundle, GateDecision(passed=False, findings=()), "format fell from 0.9 to 0.7", home)
        ((_, _, body),) = hooks.got
        assert body["kind"] == "refusal"
        assert "the eval gate refuses bundle" in body["title"]
        assert body["text"] == "format fell from 0.9 to 0.7"


def test_a_persons_rollback_is_told_with_name_and_reason_and_its_repetition_is_not(scene: Scene) -> None:
    assert scene.release().outcome == "live"
    with Hooks() as hooks:
        telling(scene, pager(hooks))
        with delivering(scene.site.environment, scene.ledger, clock=scene.world.clock):
            for _ in range(2):
                rollback(scene.site, "tutor", by="ann", reason="complaints about lesson 4")
        ((_, _, body),) = hooks.got
        assert "is taken back by ann" in body["title"]
        assert "complaints about lesson 4" in body["text"]


def test_a_rollback_without_the_ledger_is_told_at_once_and_not_again_when_it_is_back(scene: Scene) -> None:
    assert scene.release().outcome == "live"
    with Hooks() as hooks, Hooks() as down:
        down.status = 500
        receivers = {**pager(hooks), "down": Webhook(kind="webhook", url=down.url)}
        site = telling(scene, receivers).site
        asked = {"route": "tutor", "release_id": "", "by": "ann", "reason": "v2 is bad", "at": scene.world.clock()}
        taken = TakenBack.model_validate(asked | {"to": "previous", "quarantine": True})
        for _ in range(2):
            done = take_back_without_ledger(
                site.environment, site.home, site.gateways, site.vllm, taken, why=AWAY, on_progress=lambda *said: None
            )
        ((_, _, body),) = hooks.got
        assert body["key"] == f"{done.release_id}/rollback"
        assert "v2 is bad" in body["text"]
        ((_, noted),) = notes(scene.home, "local")
        assert noted.told == ("pager",)
        down.status = 200
        with delivering(site.environment, scene.ledger, clock=scene.world.clock):
            assert finish(site, "tutor") == done.release_id
        assert len(hooks.got) == 1
        assert [body["key"] for _, _, body in down.got] == [f"{done.release_id}/rollback"]
        assert "is taken back by ann" in down.got[0][2]["title"]


def test_a_controller_that_loses_its_ledger_tells_so_and_that_it_takes_its_release_back(scene: Scene) -> None:
    ledger = AwayLedger(scene.ledger.url)
    with Hooks() as hooks:
        site = replace(telling(scene, pager(hooks)).site, ledger=ledger)

        def lose() -> None:
            ledger.away = True
            scene.breaks(scene.new, 3)
            began = scene.world.clock()
            when(scene.world, lambda: scene.world.clock() > began + 10, lambda: setattr(ledger, "away", False))

        sleep = scene.world.sleep

        def sleeping(seconds: float) -> None:
            sleep(seconds)
            if ledger.away:
                time.sleep(0.02)  # the receivers' threads live in real time
            scene.world.on_effect("time")

        when(scene.world, lambda: scene.world.table.routes["tutor"].epoch.endswith("1-canary"), lose)
        outcome = scene.release(site=replace(site, sleep=sleeping))
        assert outcome.outcome == "rolled_back"
        assert sorted(set(kinds(hooks))) == ["alert", "rollback"]
        assert kinds(hooks).count("rollback") == 1
        assert any("the ledger cannot be written" in body["title"] for _, _, body in hooks.got)


@pytest.mark.live
@pytest.mark.parametrize("begin", [bad, taken_back_by_hand, taken_back_in_the_middle], ids=lambda f: f.__name__)
def test_whoever_is_killed_between_record_and_delivery_one_rollback_is_told_once(
    home: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    begin: Callable[[Scene], Callable[[], object]],
) -> None:
    """The killed process cannot deliver: the variable that holds its receiver's address is not set there."""
    receivers: Notifications = {"chat": Slack(kind="slack", url=Secret(env="SLIPWAY_TEST_CHAT"))}

    def beginning(scene: Scene) -> Callable[[], object]:
        act = begin(scene)
        telling(scene, receivers)
        return act

    for effect in range(1, 100):
        place = tmp_path_factory.mktemp("killed")
        shutil.copy(home / "ledger.sqlite", place / "ledger.sqlite")
        monkeypatch.delenv("SLIPWAY_TEST_CHAT", raising=False)
        was_killed = killed_after(place, effect, beginning)
        scene = telling(Scene(place), receivers)
        scene.world.goes_bad = lambda world: begin is bad and world["now"] >= 1_000_004
        scene.world.sleep(20)  # longer than the lease
        with Hooks() as hooks:
            monkeypatch.setenv("SLIPWAY_TEST_CHAT", hooks.url)
            if begin is bad:
                scene.release()
            else:
                rollback(scene.site, "tutor", by="ann", reason="c")
            later = scene.world.clock() + 1000  # than what a killed courier had claimed
            with delivering(scene.site.environment, scene.ledger, clock=lambda later=later: later):
                pass
            told = [body["text"] for _, _, body in hooks.got if "is taken back by" in body["text"]]
            assert len(told) == 1, f"effect {effect}: {told}"
        if not was_killed:
            assert effect > 3
            return
    raise AssertionError("it never ended")
