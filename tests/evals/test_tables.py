"""Reports as tables."""

from evals.report import EvalReport, SampleScore
from evals.summaries import summarise
from evals.tables import compare, failures


def report(name: str, scores: list[float | None], tokens: float | None = 120.4) -> EvalReport:
    samples = [
        SampleScore(id=f"s{n}", score=s, reason="" if s else "a | b", output="x\ny") for n, s in enumerate(scores)
    ]
    return EvalReport(
        subject=name,
        model="m",
        system_prompt=None,
        prompt_tokens_mean=tokens,
        suites={"suite": summarise("suite", "v", "behaviour", samples)} if scores else {},
    )


def test_reports_stand_side_by_side_with_intervals() -> None:
    table = compare({"base": report("b", [0.0, 0.0]), "candidate": report("c", [1.0, 1.0, None], tokens=None)})
    assert table.splitlines() == [
        "| suite | base | candidate |",
        "| --- | --- | --- |",
        "| suite | 0.00 [0.00, 0.66] (n=2) | 1.00 [0.34, 1.00] (n=2, 1 not judged) |",
        "| prompt tokens per request | 120 | - |",
    ]


def test_what_was_not_run_or_not_judged_says_so() -> None:
    table = compare({"base": report("b", []), "candidate": report("c", [None])})
    assert "| suite | not run | not judged (1 samples) |" in table


def test_failures_are_listed_with_reason_and_output_in_one_line_each() -> None:
    lines = failures(report("c", [1.0, 0.0, None, 0.0]), "suite", limit=2).splitlines()
    assert lines[2:] == ["| s1 | 0.00 | a \\| b | x y |", "| s2 | - | a \\| b | x y |"]


def test_no_failures_make_no_table() -> None:
    assert failures(report("c", [1.0]), "suite") == ""
