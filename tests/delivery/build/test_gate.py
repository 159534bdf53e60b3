"""The eval gate: what passes, what fails, and what cannot be told and therefore does not pass."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.evals import Gate
from delivery.build.gate import GateDecision, judge
from evals.report import EvalReport, SampleScore
from evals.summaries import summarise

Scores = list[float | None]


def report(scores: Scores | None, version: str = "sha256:1", ids: str = "s") -> EvalReport:
    suites = {}
    if scores is not None:
        samples = [
            SampleScore(id=f"{ids}{n}", score=score, reason="" if score is not None else "reply 1 is empty")
            for n, score in enumerate(scores)
        ]
        suites["suite"] = summarise("suite", version, "behaviour", samples)
    return EvalReport(subject="x", model="x", system_prompt=None, prompt_tokens_mean=None, suites=suites)


def decide(candidate: Scores | None, production: Scores | None, **limits: Any) -> GateDecision:
    return judge([Gate(suite="suite", **limits)], report(candidate), report(production))


def of(ones: int, zeros: int, unjudged: int = 0) -> Scores:
    return [1.0] * ones + [0.0] * zeros + [None] * unjudged


def test_a_score_that_reaches_its_limit_passes() -> None:
    decision = decide(of(36, 4), of(0, 40), min_score=0.9)
    assert decision.passed
    (finding,) = decision.findings
    assert finding.limit == "min_score 0.90"
    assert finding.sentence == (
        "suite: candidate 0.90 [0.77, 0.96] reaches the required 0.90 (n=40; production 0.00 [0.00, 0.09])"
    )


def test_a_score_below_its_limit_fails_with_the_values() -> None:
    decision = decide(of(5, 36), of(0, 41), min_score=0.9)
    assert not decision.passed
    assert decision.findings[0].verdict == "fail"
    assert "suite: candidate 0.12 [0.05, 0.26] is below the required 0.90 (n=41" in decision.findings[0].sentence


def test_a_strict_limit_must_be_reached_by_the_whole_interval() -> None:
    assert decide(of(40, 0), of(40, 0), min_score=0.95).passed
    assert not decide(of(40, 0), of(40, 0), min_score=0.95, strict=True).passed
    assert decide(of(100, 0), of(100, 0), min_score=0.95, strict=True).passed


def test_a_drop_passes_only_when_a_larger_one_is_excluded() -> None:
    assert decide(of(40, 0), of(40, 0), max_drop=0.1).passed
    few = decide(of(40, 0), of(40, 0), max_drop=0.05)
    assert few.findings[0].verdict == "error"
    assert "difference +0.00 [-0.09, +0.09]: a drop of more than 0.05 cannot be excluded with so few samples" in (
        few.findings[0].sentence
    )


def test_a_limit_that_so_few_samples_cannot_show_is_an_error_unless_the_gate_says_otherwise() -> None:
    for limits in ({"max_drop": 0.05}, {"min_gain": 0.95}, {"min_score": 0.95, "strict": True}):
        old = of(0, 40) if "min_gain" in limits else of(40, 0)
        (finding,) = decide(of(40, 0), old, **limits).findings
        assert finding.verdict == "error"
        assert "the gate cannot tell: " in finding.sentence
        assert "say when_blind: allow" in finding.sentence
        allowed = decide(of(40, 0), old, **limits, when_blind="allow")
        assert allowed.passed
        assert "and the gate says when_blind: allow" in allowed.findings[0].sentence


def test_what_is_plainly_better_passes_a_margin_that_an_equal_candidate_could_not() -> None:
    assert decide(of(40, 0), of(20, 20), max_drop=0.05).passed
    assert decide(of(40, 0), of(40, 0), max_drop=0.05).findings[0].verdict == "error"


def test_what_is_plainly_worse_fails_however_few_samples_there_are() -> None:
    assert decide(of(10, 30), of(40, 0), max_drop=0.05).findings[0].verdict == "fail"
    assert decide(of(37, 3), of(40, 0), max_drop=0.05, when_blind="allow").findings[0].verdict == "fail"
    assert decide(of(30, 10), of(40, 0), min_score=0.95, strict=True, when_blind="allow").findings[0].verdict == "fail"


def test_scores_between_right_and_wrong_are_judged_by_their_interval_alone() -> None:
    assert decide([0.7] * 10, [0.7] * 10, max_drop=0.01).passed


def test_a_clear_drop_is_called_one() -> None:
    sentence = decide(of(10, 30), of(40, 0), max_drop=0.1).findings[0].sentence
    assert "it drops by more than the allowed 0.10 (40 pairs)" in sentence


def test_a_gain_must_be_shown() -> None:
    assert decide(of(40, 0), of(0, 40), min_gain=0.5).passed
    assert not decide(of(21, 19), of(20, 20), min_gain=0.0).passed


def test_pairs_count_and_not_only_means() -> None:
    same = decide([1.0, 0.0] * 50, [1.0, 0.0] * 50, max_drop=0.05)
    crossed = decide([1.0, 0.0] * 50, [0.0, 1.0] * 50, max_drop=0.05)
    assert same.passed
    assert not crossed.passed


def test_each_limit_of_a_gate_is_a_finding() -> None:
    decision = decide(of(40, 0), of(0, 40), min_score=0.9, max_drop=0.1, min_gain=0.5)
    assert [finding.limit for finding in decision.findings] == ["min_score 0.90", "max_drop 0.10", "min_gain 0.50"]


@pytest.mark.parametrize("limits", [{"min_score": 0.0}, {"max_drop": 1.0}])
def test_a_suite_that_the_candidate_lacks_is_an_error(limits: dict[str, float]) -> None:
    decision = decide(None, of(9, 0), **limits)
    assert not decision.passed
    assert decision.findings[0].verdict == "error"
    assert "the candidate was not evaluated on it" in decision.findings[0].sentence


def test_production_is_needed_for_a_comparison_alone() -> None:
    assert decide(of(9, 0), None, max_drop=1.0).findings[0].verdict == "error"
    assert decide(of(9, 0), None, min_score=0.5).passed


def test_another_version_of_the_suite_is_an_error() -> None:
    new, old = report(of(9, 0)), report(of(9, 0), version="sha256:2")
    for gate in (Gate(suite="suite", min_score=0.0), Gate(suite="suite", max_drop=1.0)):
        (finding,) = judge([gate], new, old).findings
        assert finding.verdict == "error"
        assert "version" in finding.sentence


def test_other_samples_are_an_error() -> None:
    gate = Gate(suite="suite", max_drop=1.0)
    assert judge([gate], report(of(9, 0)), report(of(9, 0), ids="t")).findings[0].verdict == "error"


@pytest.mark.parametrize("scores", [of(0, 0, 9), of(0, 0, 0), of(17, 0, 3)])
def test_answers_that_nobody_could_judge_are_an_error(scores: Scores) -> None:
    decision = decide(scores, of(len(scores), 0), min_score=0.0)
    assert decision.findings[0].verdict == "error"
    assert "could be judged" in decision.findings[0].sentence or "not be judged" in decision.findings[0].sentence


def test_the_reason_why_nothing_could_be_judged_is_shown() -> None:
    assert 'e.g. "reply 1 is empty"' in decide(of(0, 0, 9), of(9, 0), min_score=0.0).findings[0].sentence


def test_a_few_unjudged_answers_count_against_the_candidate() -> None:
    decision = decide(of(18, 0, 2), of(18, 2), min_score=0.95)
    assert "candidate 0.90 [0.70, 0.97] is below the required 0.95" in decision.findings[0].sentence
    assert "2 unjudged of candidate counted against the candidate" in decision.findings[0].sentence


def test_productions_unjudged_answers_count_as_right() -> None:
    assert decide(of(40, 0), of(0, 0, 40), max_drop=0.1).findings[0].verdict == "error"
    assert decide(of(40, 0), of(0, 1, 39), max_drop=0.1).passed
    assert not decide(of(20, 20), of(0, 1, 39), max_drop=0.1).passed


def test_no_gate_is_no_pass() -> None:
    assert not judge([], report(of(9, 0)), report(of(9, 0))).passed


def test_one_failing_gate_fails_the_whole() -> None:
    gates = [Gate(suite="suite", min_score=0.5), Gate(suite="other", min_score=0.5)]
    decision = judge(gates, report(of(9, 0)), report(of(9, 0)))
    assert [finding.verdict for finding in decision.findings] == ["pass", "error"]
    assert not decision.passed


SCORE = st.sampled_from([0.0, 1.0, None]) | st.floats(0, 1)


@settings(deadline=None)  # importing scipy on the first call takes longer than a call may
@given(st.lists(st.tuples(SCORE, SCORE), max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_whatever_the_scores_each_limit_gets_a_verdict(
    pairs: list[tuple[float | None, float | None]], score: float, drop: float
) -> None:
    decision = decide([a for a, _ in pairs], [b for _, b in pairs], min_score=score, max_drop=drop)
    assert len(decision.findings) == 2
    assert "nan" not in " ".join(finding.sentence for finding in decision.findings).lower()
    if not any(a is not None for a, _ in pairs):
        assert not decision.passed


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40), st.integers(0, 39))
def test_a_better_answer_never_turns_a_pass_into_a_fail(pairs: list[tuple[bool, bool]], which: int) -> None:
    before: Scores = [float(a) for a, _ in pairs]
    production: Scores = [float(b) for _, b in pairs]
    after = list(before)
    after[which % len(after)] = 1.0
    limits = {"min_score": 0.6, "max_drop": 0.2}
    assert decide(after, production, **limits).passed or not decide(before, production, **limits).passed


def lower(scores: Scores) -> EvalReport:
    samples = [SampleScore(id=f"s{n:03}", score=score) for n, score in enumerate(scores)]
    suite = summarise("suite", "sha256:1", "capability", samples, better="lower")
    return EvalReport(subject="x", model="x", system_prompt=None, prompt_tokens_mean=None, suites={"suite": suite})


def test_where_lower_is_better_a_rise_is_refused_and_a_fall_passes() -> None:
    low, high = lower(of(100, 100)), lower(of(180, 20))
    gate = Gate(suite="suite", max_drop=0.1, min_gain=0.2)
    worse, better = judge([gate], high, low), judge([gate], low, high)
    assert [f.verdict for f in worse.findings] == ["fail", "fail"]
    assert "lower is better: it rises by more than the allowed 0.10" in worse.findings[0].sentence
    assert [f.verdict for f in better.findings] == ["pass", "pass"]


def test_a_floor_where_lower_is_better_is_an_error_and_a_ceiling_holds() -> None:
    found = judge([Gate(suite="suite", min_score=0.1, max_score=0.6)], lower(of(50, 50)), lower(of(50, 50)))
    assert [f.verdict for f in found.findings] == ["error", "pass"]
    assert "give max_score" in found.findings[0].sentence
    assert not judge([Gate(suite="suite", max_score=0.4)], lower(of(50, 50)), lower(of(50, 50))).passed
    assert decide(of(40, 0), of(40, 0), max_score=0.4).findings[0].verdict == "error"


def test_where_lower_is_better_an_unjudged_answer_counts_as_high() -> None:
    found = judge([Gate(suite="suite", max_score=0.05)], lower(of(0, 95, 5)), lower(of(0, 100)))
    assert found.passed
    assert not judge([Gate(suite="suite", max_score=0.04)], lower(of(0, 95, 5)), lower(of(0, 100))).passed


def test_an_unjudged_answer_on_a_scale_without_ends_is_an_error() -> None:
    found = judge([Gate(suite="suite", max_drop=0.5)], lower([3.5] * 30 + [None]), lower([3.0] * 31))
    assert found.findings[0].verdict == "error"
    assert "not from 0 to 1" in found.findings[0].sentence


def classes(said: list[str | None], measure: str = "macro_f1") -> EvalReport:
    samples = []
    for n, one in enumerate(said):
        wanted = "yes" if n % 4 == 0 else "no"
        score = None if one is None else float(one == wanted)
        samples.append(SampleScore(id=f"s{n:03}", score=score, expected=wanted, said=one))
    suite = summarise("suite", "sha256:1", "behaviour", samples, measure)
    return EvalReport(subject="x", model="x", system_prompt=None, prompt_tokens_mean=None, suites={"suite": suite})


def test_macro_f1_is_gated_with_an_interval_against_production() -> None:
    right: list[str | None] = ["yes" if n % 4 == 0 else "no" for n in range(200)]
    always_no: list[str | None] = ["no"] * 200
    gate = Gate(suite="suite", max_drop=0.1)
    assert judge([gate], classes(right), classes(right)).passed
    lost = judge([gate], classes(always_no), classes(right))
    assert lost.findings[0].verdict == "fail"  # though its accuracy is 0.75
    assert "candidate 0.43" in lost.findings[0].sentence
    assert not judge([gate], classes(right[:12]), classes(right[:12])).passed  # so few can show no such margin
    assert judge([gate], classes(right), classes(always_no)).passed


def test_an_unjudged_answer_counts_against_the_candidates_class() -> None:
    right: list[str | None] = ["yes" if n % 4 == 0 else "no" for n in range(200)]
    holes = [None if n % 20 == 0 else one for n, one in enumerate(right)]
    found = judge([Gate(suite="suite", min_score=0.95)], classes(holes), classes(right))
    assert found.findings[0].verdict == "fail"  # ten of fifty "yes" are missed: F1 0.89, macro-F1 0.94
    assert judge([Gate(suite="suite", max_drop=0.01)], classes(right, "f1:yes"), classes(right)).findings[
        0
    ].verdict == ("error")
