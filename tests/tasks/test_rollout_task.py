"""The controller's verbs against gateways, vLLM and users that keep their state outside of it."""

import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from release_fakes import PLAN, FakeVllm, World, base_bundle, lora_bundle, project, site_of

from configs.errors import SlipwayError
from configs.rollout import RolloutPlan
from delivery.bundle import Bundle
from delivery.clients.ledger import LeaseHeldError, Ledger
from delivery.gate import Finding, GateDecision
from delivery.release import Decision
from flows.explain import render
from tasks.explain import explain_decision
from tasks.rollback import is_left_behind, rollback
from tasks.rollout import ReleaseOutcome, approve, bootstrap, run_release, watch_live
from tasks.site import Site, is_dead, own_name


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once; migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    Ledger(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def home(tmp_path: Path, empty_ledger: Path) -> Path:
    shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
    return tmp_path


class Scene:
    """A served route and one bundle to release."""

    def __init__(self, home: Path, ledger: type[Ledger] = Ledger, url: str = "", busy_timeout_s: float = 0.05):
        self.home = home
        self.world = World(home / "world")
        self.ledger = ledger(url or f"sqlite:///{home}/ledger.sqlite", busy_timeout_s=busy_timeout_s)
        self.site = site_of(self.world, home, self.ledger)
        self.base, self.new = base_bundle(), self.built(1)
        self.plan = PLAN
        self.said: list[str] = []
        self.decisions: list[Decision] = []
        bootstrap(self.site, "tutor", self.base)

    def built(self, seed: int) -> Bundle:
        """A bundle that the eval gate let through."""
        bundle = lora_bundle(self.home, seed)
        self.ledger.add_build(bundle, GateDecision(passed=True, findings=()), self.world.clock())
        return bundle

    def release(self, bundle: Bundle | None = None, site: Site | None = None) -> ReleaseOutcome:
        return run_release(
            project(self.plan),
            bundle or self.new,
            site or self.site,
            on_progress=lambda done, total, text: self.said.append(text),
            on_decision=self.decisions.append,
        )

    def breaks(self, bundle: Bundle, after_s: float) -> None:
        """The bundle's answers fail from so many seconds from now on."""
        at = self.world.clock() + after_s
        self.world.change("breaks", bad_variant=bundle.variant_name)
        self.world.goes_bad = lambda world: bool(world["now"] >= at)

    def serves(self) -> set[str]:
        return set(self.world.table.routes["tutor"].variants)


@pytest.fixture
def scene(home: Path) -> Scene:
    return Scene(home)


def when(world: World, moment: Callable[[], bool], then: Callable[[], None]) -> None:
    """Does something once, the first time that a moment is seen while time passes."""
    done = []
    before = world.on_effect

    def on_effect(effect: str) -> None:
        before(effect)
        if not done and moment():
            done.append(1)
            then()

    world.on_effect = on_effect


def test_every_recorded_decision_can_be_explained_from_the_ledger(scene: Scene) -> None:
    scene.breaks(scene.new, after_s=4)
    released = scene.release()
    last = explain_decision(scene.ledger, scene.site.name, "tutor")
    assert (last.release_id, last.verdict) == (released.release_id, "fail")
    assert released.reason == last.reason
    every = [explain_decision(scene.ledger, scene.site.name, "tutor", tick=t + 1) for t in range(last.of_ticks)]
    assert all(one.differences == () for one in every)
    assert {one.who for one in every} == {scene.site.owner}
    assert "computed again from the recorded values: the same" in render(last)


def test_what_cannot_be_explained_is_named_with_what_can(scene: Scene) -> None:
    with pytest.raises(SlipwayError, match="route tutor has no release"):
        explain_decision(scene.ledger, scene.site.name, "tutor")
    released = scene.release()
    with pytest.raises(SlipwayError, match="no tick 9999"):
        explain_decision(scene.ledger, scene.site.name, "tutor", tick=9999)
    with pytest.raises(SlipwayError) as error:
        explain_decision(scene.ledger, scene.site.name, "tutor", "r0")
    assert released.release_id in str(error.value.cure)


def test_a_route_starts_with_its_base(scene: Scene) -> None:
    assert scene.serves() == {scene.base.variant_name}
    revision = scene.world.table.revision
    bootstrap(scene.site, "tutor", scene.base)
    assert scene.world.table.revision == revision  # nothing to change


def test_a_good_bundle_goes_live_and_no_user_sees_a_failure(scene: Scene) -> None:
    outcome = scene.release()
    assert (outcome.outcome, outcome.failed_user_requests) == ("live", 0)
    assert [stage.stage for stage in outcome.stages] == ["0-shadow", "1-canary", "2-full", "3-watch"]
    assert all(stage.verdict == "pass" and stage.evidence for stage in outcome.stages)
    assert scene.serves() == {scene.new.variant_name}
    pointers = scene.ledger.route("local", "tutor")
    assert pointers is not None
    assert (pointers.live.bundle, pointers.previous and pointers.previous.bundle) == (
        scene.new.digest,
        scene.base.digest,
    )
    assert scene.ledger.holder("local") is None


def test_releasing_what_is_live_does_nothing(scene: Scene) -> None:
    first = scene.release()
    revision = scene.world.table.revision
    outcome = scene.release()
    assert (outcome.outcome, outcome.release_id) == ("live", first.release_id)
    assert scene.world.table.revision == revision


def test_a_bundle_that_breaks_in_canary_is_rolled_back_without_a_failed_user(scene: Scene) -> None:
    when(
        scene.world,
        lambda: (route := scene.world.table.routes["tutor"]).candidate is not None and route.epoch.endswith("1-canary"),
        lambda: scene.breaks(scene.new, 0.0),
    )
    outcome = scene.release()
    assert (outcome.outcome, outcome.failed_user_requests) == ("rolled_back", 0)
    assert scene.world.read()["failed_users"] == 0
    assert "error rate" in outcome.reason
    assert scene.serves() == {scene.base.variant_name}
    assert scene.ledger.quarantined(scene.new.digest)
    assert scene.new.served_name not in scene.world.models
    assert outcome.breach_to_stable_s is not None
    assert outcome.breach_to_stable_s <= 2 * scene.plan.tick_s
    assert outcome.decision_to_stable_s == 0
    again = scene.release()
    assert again.outcome == "refused"
    assert "quarantined" in again.reason


def test_a_bundle_that_breaks_after_the_commit_is_rolled_back_too(scene: Scene) -> None:
    when(
        scene.world,
        lambda: scene.world.table.routes["tutor"].holdback is not None,
        lambda: scene.breaks(scene.new, 0.0),
    )
    outcome = scene.release()
    assert outcome.outcome == "rolled_back"
    pointers = scene.ledger.route("local", "tutor")
    assert pointers is not None
    assert pointers.live.bundle == scene.base.digest


def test_every_decision_is_on_record_with_what_it_compared(scene: Scene) -> None:
    outcome = scene.release()
    rows = scene.ledger.decisions(outcome.release_id)
    assert [row["phase"] for row in rows][-1] == "live"
    passes = [row for row in rows if row["verdict"] == "pass"]
    assert len(passes) == 5  # each stage, and the end
    for row in passes[:4]:
        assert row["results"][0]["candidate_requests"] >= 10
        assert row["results"][0]["limit"] == 0.2
        assert row["who"] == "me"
    assert len(rows) < 20  # changes, not seconds


def test_the_base_model_with_another_prompt_can_be_released_without_an_adapter(scene: Scene) -> None:
    other = scene.base.model_copy(update={"system_prompt": "another prompt"})
    assert scene.release(other).outcome == "live"
    assert scene.serves() == {other.variant_name}


def test_a_bundle_for_another_place_is_refused(scene: Scene) -> None:
    elsewhere = scene.new.model_copy(update={"route": "essays"})
    assert scene.release(elsewhere).outcome == "refused"
    foreign = scene.new.model_copy(update={"base_model": "llama"})
    assert "needs base model llama" in scene.release(foreign).reason


def test_what_vllm_cannot_serve_is_refused_before_it_is_loaded(scene: Scene) -> None:
    vllm = project().environment.vllm.model_copy(update={"max_lora_rank": 8})
    narrow = replace(scene.site, environment=project().environment.model_copy(update={"vllm": vllm}))
    wide = lora_bundle(scene.home, 3, rank=32)
    scene.ledger.add_build(wide, GateDecision(passed=True, findings=()), scene.world.clock())
    outcome = scene.release(wide, site=narrow)
    assert outcome.outcome == "refused"
    assert "vLLM cannot serve it" in outcome.reason
    assert "32" in outcome.reason
    assert wide.served_name not in scene.world.models
    assert scene.release(site=narrow).outcome == "live"


def test_what_the_eval_gate_did_not_let_through_is_refused(scene: Scene) -> None:
    unknown = lora_bundle(scene.home, 4)
    assert "never judged by the eval gate" in scene.release(unknown).reason
    finding = Finding(suite="x", limit="min_score 0.9", verdict="fail", sentence="gives the answer away")
    scene.ledger.add_build(unknown, GateDecision(passed=False, findings=(finding,)), scene.world.clock())
    outcome = scene.release(unknown)
    assert outcome.outcome == "refused"
    assert "gives the answer away" in outcome.reason


def test_an_adapter_that_vllm_refuses_ends_the_release_with_its_words(scene: Scene) -> None:
    vllm = scene.site.vllm("")
    assert isinstance(vllm, FakeVllm)
    vllm.refuses = "rank 64 is above the maximum"
    outcome = scene.release()
    assert outcome.outcome == "rolled_back"
    assert "rank 64 is above the maximum" in outcome.reason
    assert scene.ledger.quarantined(scene.new.digest) == ""
    assert scene.serves() == {scene.base.variant_name}


def test_a_second_controller_is_refused_with_the_name_of_the_first(scene: Scene) -> None:
    scene.ledger.acquire("local", "ann@elsewhere:1:2:3", 30, scene.world.clock())
    with pytest.raises(LeaseHeldError, match="ann@elsewhere"):
        scene.release()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_of_two_controller_processes_one_releases_and_the_other_is_refused(
    home: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("new_postgres")() if kind == "postgres" else f"sqlite:///{home}/ledger.sqlite"
    scene = Scene(home, url=url)
    scene.ledger.close()  # a connection must not be shared with a forked child
    children = []
    for number in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                mine = Ledger(url, busy_timeout_s=5)
                site = replace(site_of(scene.world, home, mine), owner=own_name())
                site.take_lease()
                (home / f"has-{number}").touch()
                while len(list(home.glob("has-*")) + list(home.glob("refused-*"))) < 2:
                    time.sleep(0.01)
                os._exit(0)
            except LeaseHeldError:
                (home / f"refused-{number}").touch()
                os._exit(3)
            except BaseException:  # noqa: BLE001 - a forked child must not return into pytest
                os._exit(1)
        children.append(pid)
    statuses = sorted(os.WEXITSTATUS(os.waitpid(pid, 0)[1]) for pid in children)
    assert statuses == [0, 3]


def test_a_controller_that_was_stopped_and_wakes_behind_another_one_does_nothing_any_more(scene: Scene) -> None:
    def another_takes_over() -> None:
        scene.world.change("asleep", now=scene.world.clock() + 40)
        other = site_of(scene.world, scene.home, scene.ledger, owner="bob@elsewhere:1:2:3")
        assert scene.release(site=other).outcome == "live"

    when(scene.world, in_canary_of(scene), another_takes_over)
    with pytest.raises(LeaseHeldError, match="nobody does"):  # the other one has finished and gone
        scene.release(site=replace(scene.site, owner="ann@elsewhere:1:2:3"))
    assert scene.ledger.release_that_made_live("local", "tutor", scene.new.digest) is not None
    assert scene.serves() == {scene.new.variant_name}


def test_a_release_goes_live_and_back_on_postgres(home: Path, new_postgres: Callable[[], str]) -> None:
    scene = Scene(home, url=new_postgres(), busy_timeout_s=2)
    assert scene.release().outcome == "live"
    assert rollback(scene.site, "tutor", by="ann", reason="a try").outcome == "rolled_back"
    assert scene.serves() == {scene.base.variant_name}
    assert scene.ledger.quarantined(scene.new.digest)


def test_an_owner_is_dead_only_when_its_process_has_ended_here() -> None:
    mine = own_name()
    assert not is_dead(mine)
    host, pid, started, rest = mine.rsplit(":", 3)
    assert is_dead(f"{host}:{pid}:{int(started) - 1000}:{rest}")
    assert is_dead(f"{host}:999999999:{started}:{rest}")
    assert not is_dead(f"me@another-host:999999999:{started}:{rest}")
    assert not is_dead("somebody")


# -- a person rolls back --------------------------------------------------------------------------------------------


def test_a_finished_release_is_undone_in_one_call(scene: Scene) -> None:
    scene.release()
    done = rollback(scene.site, "tutor", by="ann", reason="users complain")
    assert (done.outcome, done.serves) == ("rolled_back", scene.base.variant_name)
    assert done.to_stable_s is not None
    assert done.to_stable_s < 1
    assert scene.serves() == {scene.base.variant_name}
    pointers = scene.ledger.route("local", "tutor")
    assert pointers is not None
    assert pointers.live.bundle == scene.base.digest
    assert "users complain" in scene.ledger.quarantined(scene.new.digest)
    assert scene.new.served_name not in scene.world.models


def test_a_second_rollback_finds_nothing_to_do(scene: Scene) -> None:
    scene.release()
    rollback(scene.site, "tutor", by="ann", reason="users complain")
    revision = scene.world.table.revision
    again = rollback(scene.site, "tutor", by="ann", reason="users complain")
    assert again.outcome == "nothing_to_do"
    assert scene.world.table.revision == revision


def test_rollbacks_go_back_through_the_history(scene: Scene) -> None:
    second = scene.built(2)
    scene.release()
    scene.release(second)
    assert scene.serves() == {second.variant_name}
    assert rollback(scene.site, "tutor", by="ann", reason="one back").serves == scene.new.variant_name
    assert scene.new.served_name in scene.world.models
    assert rollback(scene.site, "tutor", by="ann", reason="two back").serves == scene.base.variant_name


def test_a_rollback_to_the_base_skips_the_history(scene: Scene) -> None:
    second = scene.built(2)
    scene.release()
    scene.release(second)
    done = rollback(scene.site, "tutor", by="ann", reason="all of it is bad", to="base")
    assert done.serves == scene.base.variant_name
    assert scene.serves() == {scene.base.variant_name}
    pointers = scene.ledger.route("local", "tutor")
    assert pointers is not None
    assert pointers.live.bundle == scene.base.digest


def test_a_previous_adapter_that_vllm_forgot_is_loaded_before_its_traffic(scene: Scene) -> None:
    second = scene.built(2)
    scene.release()
    scene.release(second)
    scene.world.restart_vllm()
    rollback(scene.site, "tutor", by="ann", reason="back")
    assert scene.serves() == {scene.new.variant_name}
    assert scene.new.served_name in scene.world.models


def test_a_rollback_during_a_release_is_obeyed_by_its_controller(scene: Scene) -> None:
    other = site_of(scene.world, scene.home, scene.ledger, owner="ann")
    outcomes = []

    def in_canary() -> bool:
        return scene.world.table.routes["tutor"].epoch.endswith("1-canary")

    def ask() -> None:
        busy = replace(other, sleep=lambda seconds: (_ for _ in ()).throw(TimeoutError))
        with pytest.raises(TimeoutError):  # the controller has the lease: the caller would wait for it
            rollback(busy, "tutor", by="ann", reason="stop")
        outcomes.append(scene.serves())

    when(scene.world, in_canary, ask)
    outcome = scene.release()
    assert outcomes == [{scene.base.variant_name}]  # the routing change did not wait for the controller
    assert outcome.outcome == "rolled_back"
    assert "ann: stop" in outcome.reason
    assert scene.serves() == {scene.base.variant_name}


def test_a_rollback_needs_a_name_and_a_reason(scene: Scene) -> None:
    scene.release()
    with pytest.raises(SlipwayError, match="reason"):
        rollback(scene.site, "tutor", by="ann", reason="")


# -- approvals, superseding, watching -------------------------------------------------------------------------------


def with_approval(plan: RolloutPlan) -> RolloutPlan:
    stages = (plan.stages[0], plan.stages[1].model_copy(update={"approval": True}), *plan.stages[2:])
    return plan.model_copy(update={"stages": stages})


def test_a_release_waits_for_an_approval_and_goes_on(scene: Scene) -> None:
    scene.plan = with_approval(PLAN)

    with pytest.raises(SlipwayError, match="nothing on route"):
        approve(scene.site, "tutor", approved=True, by="ann", reason="fine")
    when(
        scene.world,
        lambda: waits_for_approval(scene),
        lambda: approve(scene.site, "tutor", approved=True, by="ann", reason="fine") and None,
    )
    assert scene.release().outcome == "live"
    assert any("a named person must approve" in text for text in scene.said)


def waits_for_approval(scene: Scene) -> bool:
    found = scene.ledger.unfinished("local", "tutor")
    return found is not None and found.awaiting_approval


def test_a_rejection_by_a_named_person_takes_the_release_back_with_his_words(scene: Scene) -> None:
    scene.plan = with_approval(PLAN)

    def reject() -> None:
        approve(scene.site, "tutor", approved=False, by="ann", reason="the tone is off")

    when(scene.world, lambda: waits_for_approval(scene), reject)
    outcome = scene.release()
    assert outcome.outcome == "rolled_back"
    assert "ann: the tone is off" in outcome.reason


def test_an_answer_is_heard_before_the_next_tick(scene: Scene) -> None:
    scene.plan = with_approval(PLAN).model_copy(update={"tick_s": 30, "max_hold_s": 600})
    answered_at: list[float] = []

    def answer() -> None:
        approve(scene.site, "tutor", approved=True, by="ann", reason="fine")
        answered_at.append(scene.world.clock())

    def sleep(seconds: float) -> None:
        scene.world.sleep(seconds)
        if waits_for_approval(scene) and not answered_at:
            answer()

    scene.release(site=replace(scene.site, sleep=sleep))
    found = scene.ledger.decisions(scene.ledger.releases("local")[0]["id"])
    entered = next(row["at"] for row in found if row["stage_index"] == 2)
    assert entered - answered_at[0] < 1


def test_a_newer_bundle_supersedes_a_release_that_waits_for_approval_while_its_controller_runs(scene: Scene) -> None:
    scene.plan = with_approval(PLAN)
    second, refused = scene.built(2), lora_bundle(scene.home, 3)
    newer = site_of(scene.world, scene.home, scene.ledger, owner="bob")
    newer = replace(newer, sleep=lambda seconds: (_ for _ in ()).throw(TimeoutError))  # it would wait for the first

    def come() -> None:
        with pytest.raises(LeaseHeldError):  # what the gate never saw supersedes nothing
            scene.release(refused, site=replace(scene.site, owner="carol", sleep=scene.world.sleep))
        with pytest.raises(TimeoutError):
            scene.release(second, site=newer)

    when(scene.world, lambda: waits_for_approval(scene), come)
    outcome = scene.release()
    assert outcome.outcome == "rolled_back"
    assert f"superseded by bundle {second.digest[7:19]}" in outcome.reason
    assert scene.ledger.quarantined(scene.new.digest) == ""
    scene.plan = PLAN
    assert scene.release(second).outcome == "live"


def test_a_bundle_that_is_refused_leaves_an_unfinished_release_alone(scene: Scene) -> None:
    killed_while(scene, in_canary_of(scene))
    outcome = scene.release(lora_bundle(scene.home, 3))
    assert (outcome.outcome, outcome.release_id) == ("refused", "")
    assert scene.release().outcome == "live"


class KilledError(BaseException):
    """Ends a controller in the middle, as a signal would."""


def killed_while(scene: Scene, moment: Callable[[], bool], bundle: Bundle | None = None) -> None:
    def die() -> None:
        raise KilledError

    when(scene.world, moment, die)
    with pytest.raises(KilledError):
        scene.release(bundle, site=replace(scene.site, owner="killed"))
    scene.world.on_effect = lambda effect: None
    scene.ledger.release_lease("local", "killed", 0)


def in_canary_of(scene: Scene) -> Callable[[], bool]:
    return lambda: scene.world.table.routes["tutor"].epoch.endswith("1-canary")


def test_a_newer_bundle_supersedes_an_unfinished_release(scene: Scene) -> None:
    killed_while(scene, in_canary_of(scene))
    second = scene.built(2)
    outcome = scene.release(second)
    assert outcome.outcome == "live"
    phases = {row["bundle"]: row["phase"] for row in scene.ledger.releases("local")}
    assert phases == {scene.new.digest: "rolled_back", second.digest: "live"}
    assert scene.ledger.quarantined(scene.new.digest) == ""  # it did nothing wrong


def test_an_unfinished_release_of_the_same_bundle_goes_on(scene: Scene) -> None:
    killed_while(scene, in_canary_of(scene))
    release_id = scene.ledger.releases("local")[0]["id"]
    outcome = scene.release()
    assert (outcome.release_id, outcome.outcome) == (release_id, "live")


def test_a_rollback_finishes_what_a_killed_controller_left(scene: Scene) -> None:
    killed_while(scene, in_canary_of(scene))
    done = rollback(scene.site, "tutor", by="ann", reason="nobody watches it")
    assert (done.outcome, done.serves) == ("rolled_back", scene.base.variant_name)
    assert scene.ledger.unfinished("local", "tutor") is None


def test_a_rollback_that_lost_its_controller_before_the_routing_change_is_noticed_and_done(scene: Scene) -> None:
    scene.release()
    scene.breaks(scene.new, 4)

    class Killed(Noticed):
        """Its controller dies with the way back on record and nothing of it applied."""

        def record(self, decision: Decision, *arguments: Any, **more: Any) -> int:
            number = super().record(decision, *arguments, **more)
            if decision.state.phase == "rolling_back":
                raise KilledError
            return number

    dying = Killed(scene.ledger.url)
    with pytest.raises(KilledError):
        watch_live(replace(scene.site, ledger=dying, owner="killed"), "tutor", 60, holdback_bp=500)
    scene.ledger.acquire("local", "killed@elsewhere:1:2:3", 30, scene.world.clock())  # a real kill keeps it
    scene.world.sleep(20)
    assert scene.world.table.routes["tutor"].stable == scene.new.variant_name
    assert not is_left_behind(scene.site, "tutor")  # it may yet come
    scene.world.sleep(20)
    assert is_left_behind(scene.site, "tutor")
    bootstrap(scene.site, "tutor", scene.base)  # what the supervisor does then
    assert scene.serves() == {scene.base.variant_name}
    assert not is_left_behind(scene.site, "tutor")
    assert rollback(scene.site, "tutor", by="ann", reason="make it complete").outcome == "rolled_back"


def test_while_a_release_is_under_way_there_is_no_other_watch(scene: Scene) -> None:
    killed_while(scene, in_canary_of(scene))
    with pytest.raises(SlipwayError, match="under way"):
        watch_live(scene.site, "tutor", 5)


def test_a_start_after_a_crash_restores_what_is_live(scene: Scene) -> None:
    scene.release()
    scene.world.restart_vllm()
    scene.world.change("lost", table=None)
    bootstrap(scene.site, "tutor", scene.base)
    assert scene.serves() == {scene.new.variant_name}
    assert scene.new.served_name in scene.world.models
    assert scene.world.table.revision > 1


def test_a_watch_of_a_good_release_leaves_it_live(scene: Scene) -> None:
    assert watch_live(scene.site, "tutor", 5) is None  # nothing was released yet
    scene.release()
    outcome = watch_live(scene.site, "tutor", 20, holdback_bp=500)
    assert outcome is not None
    assert outcome.outcome == "live"
    assert scene.serves() == {scene.new.variant_name}


def test_a_watch_takes_back_what_goes_bad(scene: Scene) -> None:
    scene.release()
    scene.breaks(scene.new, 5)
    outcome = watch_live(scene.site, "tutor", 60, holdback_bp=500)
    assert outcome is not None
    assert outcome.outcome == "rolled_back"
    assert scene.serves() == {scene.base.variant_name}


# -- what may fail around it ----------------------------------------------------------------------------------------


def test_vllm_restarting_in_a_canary_costs_no_release(scene: Scene) -> None:
    when(scene.world, in_canary_of(scene), scene.world.restart_vllm)
    outcome = scene.release()
    assert outcome.outcome == "live"
    assert outcome.failed_user_requests == 0


def test_a_gateway_restarting_in_a_canary_costs_no_release(scene: Scene) -> None:
    when(scene.world, in_canary_of(scene), scene.world.restart_gateway)
    assert scene.release().outcome == "live"


def test_while_the_ledger_is_locked_nothing_is_renewed_and_stable_takes_over(scene: Scene) -> None:
    other = sqlite3.connect(scene.home / "ledger.sqlite", isolation_level=None)
    exposed = []

    def lock() -> None:
        other.execute("BEGIN IMMEDIATE")
        locked_at, sleep = scene.world.clock(), scene.world.sleep

        def sleeping(seconds: float) -> None:
            sleep(seconds)
            state = scene.world.read()
            exposed.append(state["now"] < state["lease_until"])
            if state["now"] > locked_at + 25:
                other.execute("ROLLBACK")
                scene.world.sleep = sleep  # type: ignore[method-assign]

        scene.world.sleep = sleeping  # type: ignore[method-assign]

    site = replace(scene.site, sleep=lambda seconds: scene.world.sleep(seconds))
    when(scene.world, in_canary_of(scene), lock)
    outcome = scene.release(site=site)
    assert exposed[0]
    assert not exposed[-1]  # the lease ended, all traffic is stable's
    assert any("not renewing" in text for text in scene.said)
    assert outcome.outcome == "live"  # and afterwards the release goes on


def test_a_candidate_that_breaks_while_the_ledger_is_locked_still_loses_its_traffic(scene: Scene) -> None:
    other = sqlite3.connect(scene.home / "ledger.sqlite", isolation_level=None)
    served = []

    def lock() -> None:
        other.execute("BEGIN IMMEDIATE")
        scene.breaks(scene.new, 0)
        locked_at, sleep = scene.world.clock(), scene.world.sleep

        def sleeping(seconds: float) -> None:
            sleep(seconds)
            served.append(scene.serves())
            if other.in_transaction and scene.world.clock() > locked_at + 10:
                scene.world.restart_gateway()  # what was seen of the candidate is gone
                other.execute("ROLLBACK")

        scene.world.sleep = sleeping  # type: ignore[method-assign]

    site = replace(scene.site, sleep=lambda seconds: scene.world.sleep(seconds))
    when(scene.world, in_canary_of(scene), lock)
    outcome = scene.release(site=site)
    off = served.index({scene.base.variant_name})
    assert served[off:] == [{scene.base.variant_name}] * len(served[off:])
    assert outcome.outcome == "rolled_back"
    assert scene.ledger.newest_table("local") == scene.world.table
    assert scene.ledger.quarantined(scene.new.digest)


# -- kill -9 after every single effect ------------------------------------------------------------------------------


class Noticed(Ledger):
    """Tells when something is on record and nothing of it is applied yet."""

    on_record: Callable[[str], None] = staticmethod(lambda effect: None)

    def record(self, *arguments: Any, **more: Any) -> int:
        number = super().record(*arguments, **more)
        self.on_record("record")
        return number

    def add_command(self, *arguments: Any, **more: Any) -> None:
        super().add_command(*arguments, **more)
        self.on_record("record")

    def add_table(self, *arguments: Any, **more: Any) -> None:
        super().add_table(*arguments, **more)
        self.on_record("record")


def killed_after(home: Path, effect: int, begin: Callable[[Scene], Callable[[], object]]) -> bool:
    """A child process kills itself right after the n-th effect of what `begin` returns; whether it came so far."""
    pid = os.fork()
    if pid == 0:
        try:
            scene = Scene(home, Noticed)
            scene.site = replace(scene.site, owner=own_name())
            act, seen = begin(scene), 0

            def count(text: str) -> None:
                nonlocal seen
                seen += text in ("record", "put", "load", "unload")
                if seen >= effect:
                    os.kill(os.getpid(), signal.SIGKILL)

            scene.world.on_effect, Noticed.on_record = count, staticmethod(count)
            act()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a forked child must not return into pytest
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def good(scene: Scene) -> Callable[[], object]:
    return scene.release


def bad(scene: Scene) -> Callable[[], object]:
    scene.breaks(scene.new, 4)
    return scene.release


def taken_back_by_hand(scene: Scene) -> Callable[[], object]:
    assert scene.release().outcome == "live"
    return lambda: rollback(scene.site, "tutor", by="ann", reason="complaints")


def taken_back_in_the_middle(scene: Scene) -> Callable[[], object]:
    """Of a release whose own controller was killed in the canary."""
    when(scene.world, in_canary_of(scene), interrupt)
    with pytest.raises(KeyboardInterrupt):
        scene.release()
    scene.world.on_effect = lambda effect: None
    return lambda: rollback(scene.site, "tutor", by="ann", reason="complaints")


def watched_until_it_broke(scene: Scene) -> Callable[[], object]:
    assert scene.release().outcome == "live"
    scene.breaks(scene.new, 4)
    return lambda: watch_live(scene.site, "tutor", 60, holdback_bp=500)


def interrupt() -> None:
    raise KeyboardInterrupt


def written_so_far(ledger: Ledger) -> dict[str, list[str]]:
    """By table, the rows of which none may ever change or go."""
    found: dict[str, list[str]] = {}
    for line in ledger.export():
        found.setdefault(json.loads(line)["table"], []).append(line)
    return {name: found.get(name, []) for name in ("decisions", "applied", "commands", "approvals", "bundles")}


BEGINNINGS = [good, bad, taken_back_by_hand, taken_back_in_the_middle, watched_until_it_broke]


@pytest.mark.live
@pytest.mark.parametrize("begin", BEGINNINGS, ids=lambda f: f.__name__)
def test_whoever_is_killed_after_any_effect_does_no_harm_and_all_ends_as_it_would_have(
    home: Path, tmp_path_factory: pytest.TempPathFactory, begin: Callable[[Scene], Callable[[], object]]
) -> None:
    for effect in range(1, 100):
        place = tmp_path_factory.mktemp("killed")
        shutil.copy(home / "ledger.sqlite", place / "ledger.sqlite")
        was_killed = killed_after(place, effect, begin)
        scene = Scene(place)  # starts the environment again, which must not disturb the release
        before = written_so_far(scene.ledger)
        if begin is bad:
            scene.world.goes_bad = lambda world: world["now"] >= 1_000_004
        elif begin is watched_until_it_broke:
            scene.world.goes_bad = lambda world: True
        scene.world.sleep(20)  # longer than the lease, with nobody there
        state, table = scene.world.read(), scene.world.table.routes["tutor"]
        assert table.candidate is None or state["lease_until"] <= state["now"]
        if not was_killed:
            pass
        elif begin in (good, bad):
            outcome = scene.release().outcome
            # refused: it was over already
            assert outcome in (("rolled_back", "refused") if begin is bad else ("live",))
        elif begin is watched_until_it_broke:
            watched = watch_live(scene.site, "tutor", 60, holdback_bp=500)
            assert watched is None or watched.outcome == "rolled_back"  # none: it was over already
        else:
            again = rollback(scene.site, "tutor", by="ann", reason="complaints")
            assert again.outcome in ("rolled_back", "nothing_to_do")
        phases = [row["phase"] for row in scene.ledger.releases("local")]
        assert phases[-1] == ("live" if begin is good else "rolled_back")
        assert scene.serves() == {(scene.new if begin is good else scene.base).variant_name}, f"effect {effect}"
        state = scene.world.read()
        # what is live and breaks has users and nobody behind it, as long as nobody watches
        assert state["failed_users"] == 0 or begin is watched_until_it_broke
        assert state["put"] == sorted(state["put"])
        after = written_so_far(scene.ledger)
        assert all(after[name][: len(rows)] == rows for name, rows in before.items()), "the ledger lost something"
        if not was_killed:
            assert effect > 4
            return
    raise AssertionError("it never ended")
