"""The gate on slices: it refuses what is shown to be worse somewhere, and seldom a candidate that is worse nowhere."""

import random

import pytest

from configs.evals import Gate
from delivery.build.gate import GateFinding, judge
from evals.report import EvalReport, SampleScore
from evals.samples import Sample, SampleTurn
from evals.summaries import drop_p_value, summarise


def report(scores: list[float]) -> EvalReport:
    samples = [SampleScore(id=f"s{n:03}", score=score) for n, score in enumerate(scores)]
    suite = summarise("suite", "v1", "behaviour", samples)
    return EvalReport(subject="x", model="x", system_prompt=None, prompt_tokens_mean=None, suites={"suite": suite})


def found(candidate: list[float], production: list[float], kinds: list[str], **more: object) -> GateFinding:
    asked = {
        f"s{n:03}": Sample(
            id=f"s{n:03}", messages=(SampleTurn(role="user", content=f"{n}?"),), fields={"kind": kind, "n": n}
        )
        for n, kind in enumerate(kinds)
    }
    slices = [{"field": "kind", **{name: more.pop(name) for name in ("field", "max_drop") if name in more}}]
    gate = Gate.model_validate({"suite": "suite", "slices": slices, **more})
    (finding,) = judge([gate], report(candidate), report(production), {"suite": asked}).findings
    return finding


KINDS = ["a"] * 40 + ["b"] * 40 + ["c"] * 8


def test_a_slice_that_is_shown_to_be_worse_fails_though_the_whole_hides_it() -> None:
    candidate = [1.0] * 80 + [0.0] * 8
    said = found(candidate, [1.0] * 88, KINDS)
    assert said.verdict == "fail"
    assert said.limit == "slices by kind max_drop 0.00"
    assert said.sentence.startswith("suite: c (n=8, difference -1.00 [-1.00, -0.")
    assert "(3 slices by kind; corrected together)" in said.sentence


def test_a_few_lost_answers_are_chance_and_the_nearest_slice_is_told() -> None:
    said = found([0.0] * 2 + [1.0] * 86, [1.0] * 88, KINDS)
    assert said.verdict == "pass"
    assert "no slice is shown to drop by more than 0.00; nearest a (n=40, difference -0.05" in said.sentence


def test_a_drop_within_the_margin_is_allowed() -> None:
    candidate = [0.0] * 10 + [1.0] * 78
    assert found(candidate, [1.0] * 88, KINDS).verdict == "fail"
    assert found(candidate, [1.0] * 88, KINDS, max_drop=0.2).verdict == "pass"


def test_slices_that_could_show_nothing_are_an_error_unless_the_gate_says_otherwise() -> None:
    kinds = [str(n // 2) for n in range(20)]
    said = found([1.0] * 20, [1.0] * 20, kinds)
    assert said.verdict == "error"
    assert "no slice by kind has samples enough to show a drop" in said.sentence
    assert found([1.0] * 20, [1.0] * 20, kinds, when_blind="allow").verdict == "pass"


def test_a_field_that_no_sample_has_is_an_error_with_those_that_there_are() -> None:
    said = found([1.0] * 9, [1.0] * 9, ["a"] * 9, field="language")
    assert (said.verdict, said.sentence) == ("error", "suite: no sample has the field 'language'; known are kind, n")


def test_an_equal_candidate_is_refused_in_no_more_than_a_twentieth_of_the_builds() -> None:
    draw, refused, builds = random.Random(1), 0, 60
    kinds = [str(n % 8) for n in range(160)]
    for _ in range(builds):
        one, other = ([float(draw.random() < 0.8) for _ in kinds] for _ in range(2))
        refused += found(one, other, kinds).verdict == "fail"
    assert refused <= 0.05 * builds


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_the_p_value_falls_as_more_is_lost_and_rises_with_the_margin(margin: float) -> None:
    values = [drop_p_value([0.0] * lost + [1.0] * (30 - lost), [1.0] * 30, margin) for lost in range(31)]
    assert values == sorted(values, reverse=True)
    assert drop_p_value([0.0] * 9 + [1.0] * 21, [1.0] * 30, margin + 0.05) >= values[9]


def test_four_lost_pairs_prove_nothing_at_five_per_cent() -> None:
    assert drop_p_value([0.0] * 4, [1.0] * 4) == pytest.approx(1 / 16)
    assert drop_p_value([1.0] * 4, [1.0] * 4) == 1.0
    assert drop_p_value([0.5, 0.4, 0.6], [0.9, 0.8, 0.7]) < 0.1
    assert drop_p_value([0.5, 0.5], [0.75, 0.75]) == 0.25
