"""Eval reports and gate decisions as markdown tables, for artifacts and for the terminal."""

from collections.abc import Mapping

from evals.report import EvalReport, SuiteResult


def compare(reports: Mapping[str, EvalReport]) -> str:
    """One row a suite, one column a report ("base", "production", "candidate"), in the mapping's order.

    A cell is `score [low, high]`, with n, and how many samples could not be judged.
    """
    suites = list(dict.fromkeys(name for report in reports.values() for name in report.suites))
    rows = [["suite", *reports]]
    for suite in suites:
        rows.append([suite, *(_cell(report.suites.get(suite)) for report in reports.values())])
    rows.append(["prompt tokens per request", *(_tokens(report) for report in reports.values())])
    return _markdown(rows)


def failures(report: EvalReport, suite: str, limit: int = 5) -> str:
    """The first samples of a suite that did not get the full score, with reason and output; "" when all did."""
    result = report.suites[suite]
    wrong = [s for s in result.samples if s.score is None or s.score < 1][:limit]
    if not wrong:
        return ""
    rows = [["sample", "score", "reason", "output"]]
    rows += [[s.id, "-" if s.score is None else f"{s.score:.2f}", s.reason, s.output] for s in wrong]
    return _markdown(rows)


def _cell(result: SuiteResult | None) -> str:
    if result is None:
        return "not run"
    if result.score is None:
        return f"not judged ({result.unjudged} samples)"
    unjudged = f", {result.unjudged} not judged" if result.unjudged else ""
    return f"{result.score:.2f} [{result.low:.2f}, {result.high:.2f}] (n={result.n}{unjudged})"


def _tokens(report: EvalReport) -> str:
    return "-" if report.prompt_tokens_mean is None else f"{report.prompt_tokens_mean:.0f}"


def _markdown(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines) + "\n"


def _escaped(cell: str) -> str:
    return " ".join(cell.replace("\\", "\\\\").replace("|", "\\|").split())
