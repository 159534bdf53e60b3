"""Where a candidate became worse: by slices of a suite, and answer by answer."""

from delivery.build.comparison import worst
from delivery.build.slices import slices
from evals.report import EvalReport, SampleScore
from evals.samples import Sample, SampleTurn
from evals.summaries import summarise


def report(**suites: list[float | None]) -> EvalReport:
    found = {}
    for suite, scores in suites.items():
        samples = [
            SampleScore(id=f"s{n}", score=score, reason="" if score == 1 else f"not {suite}", output=f"{suite} {n}")
            for n, score in enumerate(scores)
        ]
        found[suite] = summarise(suite, "v1", "behaviour", samples)
    return EvalReport(subject="x", model="x", system_prompt=None, prompt_tokens_mean=None, suites=found)


def asked(count: int, **fields: list[str]) -> dict[str, Sample]:
    return {
        f"s{n}": Sample(
            id=f"s{n}",
            messages=(SampleTurn(role="user", content=f"question {n}"),),
            fields={name: values[n] for name, values in fields.items()},
        )
        for n in range(count)
    }


def test_a_suite_is_cut_by_each_field_of_few_values() -> None:
    samples = {"guides": asked(6, kind=["a", "a", "a", "b", "b", "b"], answer=["1", "2", "3", "4", "5", "6"])}
    found = slices(report(guides=[1, 1, 1, 0, 0, 1]), report(guides=[1.0] * 6), samples)
    assert [(one.field, one.value, one.n) for one in found] == [("kind", "a", 3), ("kind", "b", 3)]
    assert found[0].difference is not None
    assert found[0].difference.value == 0
    assert found[1].difference is not None
    assert round(found[1].difference.value, 2) == -0.67


def test_suites_that_ask_the_same_share_a_regression_and_the_worst_comes_first() -> None:
    new, old = report(guides=[1, 0, 0], short=[1, 0, 1]), report(guides=[1.0] * 3, short=[1.0] * 3)
    first, second = worst(new, old, {"guides": asked(3), "short": asked(3)})
    assert (first.id, first.suites, first.reasons) == (
        "s1",
        ["guides", "short"],
        ["guides: not guides", "short: not short"],
    )
    assert (second.id, second.suites, second.candidate, second.production) == ("s2", ["guides"], "guides 2", "guides 2")


def test_what_could_not_be_judged_counts_against_the_candidate_alone() -> None:
    assert [one.id for one in worst(report(guides=[None, 1]), report(guides=[1.0, None]), {})] == ["s0"]
    assert worst(report(guides=[0.0]), report(guides=[0.0]), {}) == []


def test_of_those_that_fail_alike_no_more_than_three_are_shown() -> None:
    new, old = report(guides=[0.0] * 6 + [1.0], short=[1.0] * 6 + [0.0]), report(guides=[1.0] * 7, short=[1.0] * 7)
    samples = {"guides": asked(7), "short": asked(7)}
    assert [one.id for one in worst(new, old, samples)] == ["s0", "s1", "s2", "s6"]
