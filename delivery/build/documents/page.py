"""The report that a person reads: one file of HTML without a script, which asks nothing of any server or network."""

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from configs.canonical import short
from delivery.build.bundle import Bundle
from delivery.build.comparison import Regression, ReportBasis, worst
from delivery.build.documents.origin import DocumentBasis
from delivery.build.pairs import between
from delivery.build.slices import slices
from evals.estimate import Estimate
from evals.report import EvalReport, SuiteResult

TEMPLATES, TEMPLATE = Path(__file__).parent, "report.html.j2"
WORDS = {"pass": "kept", "fail": "not kept", "error": "cannot be told"}


def page(bundle: Bundle, origin: DocumentBasis, report: EvalReport, comparison: ReportBasis) -> bytes:
    """report.html of a candidate's evals beside production's; the same arguments give the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["short"] = short
    others = {"base": comparison.base, "production": comparison.production, "candidate": report}
    reports = {name: one for name, one in others.items() if one is not None}
    text = environment.get_template(TEMPLATE).render(
        bundle=bundle,
        origin=origin,
        comparison=comparison,
        findings=[
            (one, WORDS[one.verdict])
            for one in sorted(comparison.decision.findings, key=lambda one: one.verdict == "pass")
        ],
        kept=sum(one.verdict == "pass" for one in comparison.decision.findings),
        suites=[_row(name, reports, comparison) for name in report.suites],
        slices=[
            (one, _shown(one.production), _shown(one.candidate), one.difference)
            for one in slices(report, comparison.production, comparison.asked)
        ],
        regressions=[_turns(one) for one in worst(report, comparison.production, comparison.asked)],
        settings=yaml.safe_dump(bundle.training, sort_keys=False) if bundle.training else "",
        saved=_saved(reports),
        reports=reports,
        answers=sum(len(one.samples) for name, one in report.suites.items() if "/" not in name),
    )
    return text.encode()


def _row(name: str, reports: dict[str, EvalReport], comparison: ReportBasis) -> dict[str, Any]:
    """One suite: each report's interval, and by how much the candidate differs from production."""
    new, old = reports["candidate"].suites[name], comparison.production.suites.get(name)
    shown = {who: _shown(one.suites[name]) for who, one in reports.items() if name in one.suites}
    fits = all(found is None or (found.low >= 0 and found.high <= 1) for found in shown.values())
    unjudged = {who: one.suites[name].unjudged for who, one in reports.items() if name in one.suites}
    difference = between(new, old) if old is not None else None
    return {
        "name": name,
        "better": new.better,
        "shown": shown,
        "fits": fits,
        "unjudged": unjudged,
        "difference": difference,
        "mark": _mark(difference, new.better),
    }


def _shown(result: SuiteResult) -> Estimate | None:
    if result.score is None or result.low is None or result.high is None:
        return None
    return Estimate(result.score, result.low, result.high, result.n)


def _mark(found: Estimate | None, better: str) -> str:
    """Whether a difference is shown, by its interval."""
    if found is None or found.low <= 0 <= found.high:
        return "same"
    return "better" if (found.low > 0) == (better == "higher") else "worse"


def _turns(one: Regression) -> dict[str, Any]:
    """A conversation as it went with each of the two: what was asked, and what they said in its gaps."""
    return {
        "one": one,
        "production": _filled(one, one.production),
        "candidate": _filled(one, one.candidate),
    }


def _filled(one: Regression, output: str) -> list[tuple[str, str]]:
    replies = output.split("\n---\n")
    if one.asked is None:
        return [("assistant", reply) for reply in replies]
    turns = []
    for message in one.asked.messages:
        if message.content is not None:
            turns.append((message.role, message.content))
        else:
            turns.append(("assistant", replies.pop(0) if len(replies) > 1 else ""))
    return [*turns, ("assistant", "\n---\n".join(replies))]


def _saved(reports: dict[str, EvalReport]) -> float | None:
    """Prompt tokens a request that the candidate needs less than production."""
    new, old = (reports[name].prompt_tokens_mean for name in ("candidate", "production"))
    return None if new is None or old is None else old - new
