"""The demo's summary holds what its readers were promised, and every figure comes from what it was given."""

import json
from pathlib import Path

from configs.errors import SlipwayError
from configs.project import load_project
from delivery.build.gate import GateDecision, GateFinding
from delivery.traffic.records import Record, checked
from demo import summary as demo_summary
from demo.stage import UsersSeen
from demo.story import DemoStory
from demo.summary import ReleaseSummary, StageSummary
from evals.report import EvalReport, SuiteResult


class Build:
    """As much of a build's outcome as the summary reads."""

    def __init__(self, passed: bool) -> None:
        verdict = "pass" if passed else "fail"
        finding = GateFinding(suite="s", limit="min_score 0.90", verdict=verdict, sentence="s: 0.2 is below 0.9")
        self.gate = GateDecision(passed=passed, findings=(finding,))
        self.reports = {name: report(name, 0.5) for name in ("base", "production", "candidate")}
        self.bundle, self.adapter, self.trained, self.passed = "sha256:" + "a" * 64, "sha256:b", True, passed


def report(name: str, score: float) -> EvalReport:
    values = {"score": score, "low": score - 0.1, "high": score + 0.1, "n": 40, "unjudged": 0, "samples": ()}
    suite = SuiteResult.model_validate({"suite": "s", "version": "v", "kind": "behaviour", **values})
    return EvalReport(subject=name, model="m", system_prompt=None, prompt_tokens_mean=1.0, suites={"s": suite})


def record(variant: str, tokens: int | None, *, ok: bool = True, role: str = "served") -> Record:
    who = {"seq": 1, "request_id": "r", "route": "tutor", "epoch": "e", "variant": variant, "role": role, "user": "u"}
    what = {"started_at": 1.0, "duration_s": 1.0, "ttft_s": None, "status": 200, "ok": ok, "prompt_tokens": tokens}
    return checked(Record, {**who, **what})


def test_prompt_tokens_are_those_of_users_requests_before_on_the_base_and_after_on_adapters() -> None:
    records = [
        record("base-1", 240),
        record("base-1", 260),
        record("lora-2", 50),
        record("lora-2", 9000, ok=False),
        record("lora-2", 9000, role="mirror"),
        record("lora-2", None),
    ]
    assert demo_summary.prompt_tokens(records) == {"before": 250.0, "after": 50.0}
    assert demo_summary.prompt_tokens([]) == {"before": None, "after": None}


def test_a_refused_bundle_is_a_release_that_no_user_met_with_the_gate_as_its_only_stage() -> None:
    refused = demo_summary.refused(Build(passed=False))
    assert refused.outcome == "refused"
    assert refused.reason == "s: 0.2 is below 0.9"
    assert [(stage.stage, stage.verdict, stage.requests) for stage in refused.stages] == [("gate", "fail", 40)]
    assert refused.user_requests == refused.failed_user_requests == 0


def test_the_summary_on_disk_is_the_one_that_was_made_and_the_text_shows_its_figures(tmp_path: Path) -> None:
    stage = StageSummary(stage="1-canary", verdict="fail", requests=7, evidence=("7 of 7 failed",))
    gone = ReleaseSummary(
        bundle="sha256:" + "c" * 64,
        outcome="rolled_back",
        reason="errors",
        stages=(stage,),
        breach_to_stable_s=1.5,
        user_requests=90,
        failed_user_requests=0,
    )
    found = demo_summary.summary(
        wall_s=321.04,
        peak_rss_gib=5.678,
        prompt_tokens={"before": 250.0, "after": 50.0},
        builds={"good": Build(passed=True)},
        releases=[gone],
        rollback=demo_summary.taken_back(0.731, UsersSeen(requests=12, failures=0, skipped=3)),
    )
    assert json.loads(demo_summary.write(found, tmp_path).read_text()) == found
    text = demo_summary.render(found)
    assert found["manual_rollback"]["skipped_user_requests"] == 3
    assert found["evals"]["candidate"]["s"] == {"score": 0.5, "interval": [0.4, 0.6], "n": 40}
    for figure in ("321.0 s", "5.68 GiB", "200 saved", "0.73 s", "1.50 s", "7 of 7 failed", "0.50 [0.40, 0.60] n=40"):
        assert figure in text, figure


def test_a_story_that_ended_early_has_a_summary_of_what_there_is_and_says_where_and_why() -> None:
    story = DemoStory(Path("home"), load_project(Path("configs/tutor")))
    story.chapter("release: shadow, canary, full, watch")
    nothing = story.summary(1.0, KeyboardInterrupt())
    assert nothing["failed"] == {"chapter": "release: shadow, canary, full, watch", "why": "KeyboardInterrupt"}
    assert (nothing["evals"], nothing["releases"], nothing["manual_rollback"]) == ({}, [], None)
    story.builds["good"] = Build(passed=True)  # type: ignore[assignment]
    some = story.summary(1.0, SlipwayError("3 of 90 users' requests failed"))
    assert some["failed"]["why"] == "3 of 90 users' requests failed"
    assert some["builds"]["good"]["passed"]
    assert json.loads(json.dumps(some)) == some


def test_a_story_that_came_to_its_end_did_not_fail() -> None:
    assert DemoStory(Path("home"), load_project(Path("configs/tutor"))).summary(1.0)["failed"] is None
