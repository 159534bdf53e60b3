"""Releases whose shadow is judged by a model over HTTP: good, partial, biased, down, slow, and out of its mind."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from release_fakes import PLAN, FakeGateway, World, base_bundle, lora_bundle, project, site_of
from stub_judge import Behaviour, StubJudge, always_a, garbage, prefers

from configs.checks import Check
from configs.errors import SlipwayError
from configs.judge import Judge
from configs.rollout import RolloutPlan, Stage
from delivery.build.gate import GateDecision
from delivery.clients.gateway import GatewayError
from delivery.clients.judge import JudgeClient
from delivery.clients.ledger.ledger import Ledger, LedgerError
from delivery.release.state import Decision, ReleaseState
from delivery.traffic.pairs import PairPage
from flows.cli.explain import render
from tasks.release.controller import Controller
from tasks.release.explain import explain_decision
from tasks.release.judge import RETRY_S, in_thread, open_judge
from tasks.release.outcome import ReleaseOutcome
from tasks.release.run import run_release
from tasks.release.site import Site
from tasks.release.start import bootstrap

pytestmark = pytest.mark.live

STAGES = (Stage(kind="shadow", mirror_bp=10_000, min_requests=15, max_duration_s=50), *PLAN.stages[1:])
HOLD_S = 30.0
CHECKS = (Check(metric="error_rate", max=0.2), Check(metric="judge", max=0.75, stages=("shadow",)))


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    Ledger(f"sqlite:///{path}").close()
    return path


class Scene:
    """A served route, a bundle to release, and a plan with a judge."""

    def __init__(self, home: Path, judge: StubJudge, **settings: Any):
        self.world = World(home / "world", requests_a_second=4)
        self.world.says = lambda request_id: (f"stable to {request_id}", f"candidate to {request_id}")
        self.judge = judge
        self.ledger = Ledger(f"sqlite:///{home}/ledger.sqlite", busy_timeout_s=0.05)
        site = site_of(self.world, home, self.ledger)
        self.site = replace(site, judge=lambda judge: JudgeClient(judge, again_after_s=0.01))
        self.new = lora_bundle(home)
        self.ledger.add_build(self.new, GateDecision(passed=True, findings=()), self.world.clock())
        judged_by = Judge.model_validate({"base_url": judge.url, "model": "wise", "timeout_s": 5} | settings)
        self.plan = RolloutPlan.model_validate(
            PLAN.model_dump() | {"max_hold_s": HOLD_S, "stages": STAGES, "checks": CHECKS, "judge": judged_by}
        )
        self.said: list[str] = []
        self.decisions: list[Decision] = []
        bootstrap(self.site, "tutor", base_bundle())

    def release(self, site: Site | None = None) -> ReleaseOutcome:
        return run_release(
            project(self.plan),
            self.new,
            site or self.site,
            on_progress=lambda done, total, text: self.said.append(text),
            on_decision=self.decisions.append,
        )

    def asked_about(self) -> list[str]:
        """The requests, once for each question."""
        return [shown["conversation"][0]["content"] for shown in self.judge.shown]


@pytest.fixture
def judge() -> Iterator[StubJudge]:
    with StubJudge(prefers("nothing that anybody says")) as one:
        yield one


@pytest.fixture
def scene(tmp_path: Path, empty_ledger: Path, judge: StubJudge) -> Scene:
    shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
    return Scene(tmp_path, judge)


def with_settings(scene: Scene, **settings: Any) -> Scene:
    assert scene.plan.judge is not None
    judged_by = Judge.model_validate(scene.plan.judge.model_dump() | settings)
    scene.plan = scene.plan.model_copy(update={"judge": judged_by})
    return scene


# -- what follows from what the judge says --------------------------------------------------------------------------


@pytest.mark.parametrize("behave", [prefers("candidate"), prefers("nothing")])
def test_a_candidate_that_no_judge_likes_less_goes_live(scene: Scene, behave: Behaviour) -> None:
    scene.judge.behave = behave
    outcome = scene.release()
    assert outcome.outcome == "live"
    shadow = outcome.stages[0]
    assert shadow.verdict == "pass"
    assert any("the judge prefers stable in 0 of" in sentence for sentence in shadow.evidence)


def test_a_candidate_whose_answers_are_worse_is_rolled_back_in_shadow(scene: Scene) -> None:
    scene.judge.behave = prefers("stable")
    outcome = scene.release()
    assert (outcome.outcome, [stage.stage for stage in outcome.stages]) == ("rolled_back", ["0-shadow"])
    assert "the judge prefers stable in" in outcome.reason
    last = explain_decision(scene.ledger, scene.site.name, "tutor")
    assert last.differences == ()
    assert "judge <= 0.75 (else rollback): fail" in render(last)
    assert f"asked about {len(set(scene.asked_about()))} pairs in this release" in render(last)


def test_a_judge_that_always_prefers_the_first_answer_passes_nobody(scene: Scene) -> None:
    with_settings(scene, pairs_per_release=30)
    scene.judge.behave = always_a
    outcome = scene.release()
    assert outcome.outcome == "rolled_back"
    assert "0-shadow did not pass within 50 s" in outcome.reason
    assert "in 30 more its choice followed their order" in outcome.reason


def test_a_judge_that_merely_warns_alerts_and_lets_the_release_go_on(scene: Scene) -> None:
    scene.judge.behave = prefers("stable")
    checks = (CHECKS[0], CHECKS[1].model_copy(update={"on_fail": "warn"}))
    stages = (scene.plan.stages[0].model_copy(update={"min_duration_s": 8}), *scene.plan.stages[1:])
    scene.plan = scene.plan.model_copy(update={"checks": checks, "stages": stages})
    assert scene.release().outcome == "live"
    assert any(text.startswith("warning: fail: the judge prefers stable") for text in scene.said)


def test_equal_answers_are_ties_that_cost_nothing(scene: Scene) -> None:
    scene.world.says = lambda request_id: ("the same", "the same")
    assert scene.release().outcome == "live"
    assert scene.judge.bodies == []


# -- what it costs --------------------------------------------------------------------------------------------------


def test_both_orders_are_asked_of_so_many_pairs_a_tick_and_so_many_a_release(scene: Scene) -> None:
    with_settings(scene, pairs_per_tick=2, pairs_per_release=5)
    assert scene.release().outcome == "rolled_back"
    asked = scene.asked_about()
    assert (len(asked), len(set(asked))) == (10, 5)
    orders = {(shown["answer_A"].split()[0], shown["answer_B"].split()[0]) for shown in scene.judge.shown}
    assert orders == {("stable", "candidate"), ("candidate", "stable")}
    assert any("no more are asked after 5 in this release" in d.reason for d in scene.decisions)


def test_texts_are_asked_of_the_gateway_in_shadow_alone(scene: Scene) -> None:
    with_settings(scene, share_bp=3000)
    assert scene.release().outcome == "live"
    rows = [json.loads(line) for line in scene.ledger.export()]
    tables = [one["row"]["table"] for one in rows if one["table"] == "routing_revisions"]
    candidates = [table["routes"]["tutor"]["candidate"] for table in tables]
    captured = [(one["mirror_bp"], one["capture_bp"]) for one in candidates if one is not None]
    assert captured == [(10_000, 3000), (0, 0), (0, 0)]


def test_what_the_ledger_knows_is_not_asked_again_by_the_next_controller(scene: Scene) -> None:
    class Killed(BaseException):
        pass

    def dies(decision: Decision) -> None:
        if decision.state.evidence.judging.asked >= 8:
            raise Killed

    with_settings(scene, pairs_per_tick=4)
    with pytest.raises(Killed):
        run_release(project(scene.plan), scene.new, scene.site, on_decision=dies)
    before = set(scene.asked_about())
    scene.judge.bodies.clear(), scene.judge.shown.clear()
    assert scene.release(replace(scene.site, owner="another")).outcome == "live"
    after = set(scene.asked_about())
    assert before
    assert after
    assert not before & after


def test_a_judgement_outlasts_a_ledger_that_cannot_take_it(scene: Scene) -> None:
    """The decision is lost, what was paid for is not."""
    refusals = []
    record = scene.ledger.record

    class Forgetful(Ledger):
        def record(self, decision: Decision, *arguments: Any, **more: Any) -> int:
            if decision.state.evidence.judging.asked and len(refusals) < 3:
                refusals.append(decision.state.evidence.judging.asked)
                raise LedgerError("the disk is full")
            return record(decision, *arguments, **more)

    forgetful = Forgetful(scene.ledger.url)
    assert scene.release(replace(scene.site, ledger=forgetful)).outcome == "live"
    assert len(refusals) == 3
    asked = scene.asked_about()
    assert len(asked) == 2 * len(set(asked))


# -- a judge that is no help ----------------------------------------------------------------------------------------


def test_a_judge_that_is_down_holds_the_release_alerts_and_ends_it_at_last(scene: Scene) -> None:
    scene.judge.behave = lambda shown: 503
    outcome = scene.release()
    assert outcome.outcome == "rolled_back"
    assert "held for more than 30 s" in outcome.reason
    assert "the judge does not answer: HTTP 503" in outcome.reason
    assert {d.verdict for d in scene.decisions if d.state.phase == "stage" and d.state.clocks.stage_s > 10} == {"error"}
    assert any(text.startswith("nothing judged for 6 s") for text in scene.said)
    batches = 8 + HOLD_S / RETRY_S + 1  # the first one of eight pairs, then a single one now and then
    assert len(scene.judge.bodies) <= 2 * 2 * batches  # both orders, each tried twice


def test_a_judge_that_comes_back_is_asked_on(scene: Scene) -> None:
    down_until = scene.world.clock() + 25
    scene.judge.behave = lambda shown: 500 if scene.world.clock() < down_until else '{"better": "tie"}'
    outcome = scene.release()
    assert outcome.outcome == "live"
    assert outcome.stages[0].seconds > 25


def test_a_gateway_whose_pairs_cannot_be_read_is_an_error_only_as_long_as_that_lasts(scene: Scene) -> None:
    """Afterwards nobody is asked, all answers being equal; that is no reason to go on holding."""
    scene.world.says = lambda request_id: ("the same", "the same")
    down_until = scene.world.clock() + 10

    class Hiding(FakeGateway):
        def pairs(self, after: int, limit: int = 200) -> PairPage:
            if self.world.clock() < down_until:
                raise GatewayError("the gateway's admin API cannot be reached")
            return super().pairs(after, limit)

    hiding = Hiding(scene.world)
    outcome = scene.release(replace(scene.site, gateways={"gw": hiding}))  # type: ignore[dict-item]
    assert outcome.outcome == "live"
    assert any("no pairs can be read" in decision.reason for decision in scene.decisions)


def test_what_the_judge_says_in_words_of_its_own_is_no_pass(scene: Scene) -> None:
    scene.judge.behave = garbage
    outcome = scene.release()
    assert outcome.outcome == "rolled_back"
    assert "replies was A, B or tie" in outcome.reason
    assert len(scene.judge.bodies) < 2 * (
        8 + HOLD_S / RETRY_S + 1
    )  # one pair now and then, to see whether it is better


def test_a_slow_judge_neither_slows_a_tick_nor_a_rollback(scene: Scene) -> None:
    """The real thread: the judge holds every question while the candidate breaks."""
    scene.judge.hold()
    at = scene.world.clock() + 4
    scene.world.change("breaks", bad_variant=scene.new.variant_name)
    scene.world.goes_bad = lambda world: bool(world["now"] >= at)
    with_settings(scene, timeout_s=600)
    outcome = scene.release(replace(scene.site, background=in_thread))
    assert outcome.outcome == "rolled_back"
    assert "error rate" in outcome.reason
    assert scene.judge.bodies
    assert scene.judge.at_once == len(scene.judge.bodies)  # nobody has had a reply, or has waited for one


def test_a_judge_that_is_always_late_is_an_error_and_its_questions_are_counted(scene: Scene) -> None:
    with_settings(scene, timeout_s=0.05, pairs_per_tick=1)
    scene.judge.hold()
    outcome = scene.release()
    assert outcome.outcome == "rolled_back"
    assert "no reply within 0.05 s" in outcome.reason
    asked = [d.state.evidence.judging.asked for d in scene.decisions]
    assert 0 < len(set(scene.asked_about())) <= max(asked)  # given up before it arrived, it was asked all the same


def test_a_fault_in_asking_is_the_checks_error_and_not_the_controllers(scene: Scene) -> None:
    class Broken:
        def ask(self, questions: object) -> Any:
            raise ZeroDivisionError("oh")

    outcome = scene.release(replace(scene.site, judge=lambda settings: Broken()))
    assert outcome.outcome == "rolled_back"
    assert "asking the judge failed: ZeroDivisionError: oh" in outcome.reason


def test_a_key_that_is_not_there_is_found_before_a_release_begins(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_settings(scene, api_key_env="SLIPWAY_TEST_JUDGE_KEY")
    with_key = replace(scene.site, judge=open_judge)
    monkeypatch.delenv("SLIPWAY_TEST_JUDGE_KEY", raising=False)
    with pytest.raises(SlipwayError, match="not in the environment variable SLIPWAY_TEST_JUDGE_KEY"):
        scene.release(with_key)
    assert scene.ledger.releases("local", "tutor") == []
    monkeypatch.setenv("SLIPWAY_TEST_JUDGE_KEY", "sk-1")
    assert scene.release(with_key).outcome == "live"
    assert set(scene.judge.keys) == {"Bearer sk-1"}
    written = "".join(path.read_text(errors="replace") for path in scene.site.home.rglob("*") if path.is_file())
    assert "sk-1" not in written


def test_a_plan_without_a_judge_reads_no_pairs(scene: Scene) -> None:
    controller = Controller(scene.site, PLAN)
    assert controller._lookout.judging is None


def test_what_a_tick_knows_of_the_judge_goes_into_the_state(scene: Scene) -> None:
    scene.release()
    released = scene.ledger.releases("local", "tutor")[0]
    state: ReleaseState = scene.ledger.state(released["id"])
    assert 0 < state.evidence.judging.asked <= len(set(scene.asked_about()))
