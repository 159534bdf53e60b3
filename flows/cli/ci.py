"""What CI shows of a build and a release: JUnit XML for its list of tests, Markdown for the pull request."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.canonical import short
from configs.errors import SlipwayError
from flows.cli.options import project_of

if TYPE_CHECKING:
    from delivery.build.gate import GateDecision
    from tasks.release.outcome import ReleaseOutcome

JUnit = Annotated[Path | None, typer.Option(help="Write JUnit XML: a test for each limit of the gate and each stage.")]
Summary = Annotated[Path | None, typer.Option(help="Append a summary in Markdown, as for $GITHUB_STEP_SUMMARY.")]
NOT_XML = {
    number: "\ufffd" for number in (*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF)
}  # XML 1.0 cannot say them


def require_places(*files: Path | None) -> None:
    """The folders of the files are there, before hours are spent. Raises SlipwayError."""
    for file in files:
        if file is not None and not file.resolve().parent.is_dir():
            raise SlipwayError("the report cannot be written: its folder is missing", where=str(file.parent))


def write_release(
    junit_file: Path | None, summary_file: Path | None, project: Path, home: Path, outcome: "ReleaseOutcome"
) -> None:
    """The reports on a release, and on what the gate last said of its bundle. Raises SlipwayError."""
    from contextlib import closing

    from tasks.release.site import open_ledger

    if junit_file is None and summary_file is None:
        return
    settings = project_of(project)
    with closing(open_ledger(settings.environment, home)) as ledger:
        gate = ledger.gate(outcome.bundle)
    write_reports(junit_file, summary_file, settings.route, outcome.bundle, gate, outcome)


def write_reports(
    junit_file: Path | None,
    summary_file: Path | None,
    route: str,
    bundle: str,
    gate: "GateDecision | None",
    outcome: "ReleaseOutcome | None" = None,
) -> None:
    """The reports that were asked for. Raises SlipwayError for a file that cannot be written."""
    try:
        if junit_file is not None:
            junit_file.write_text(junit(route, gate, outcome), encoding="utf-8")
        if summary_file is not None:
            with summary_file.open("a", encoding="utf-8") as file:
                file.write(summary(route, bundle, gate, outcome))
    except OSError as error:
        raise SlipwayError(f"the report cannot be written: {error.strerror}", where=str(error.filename)) from error


def junit(route: str, gate: "GateDecision | None", outcome: "ReleaseOutcome | None") -> str:
    """A suite `eval gate` with a test for each limit; a suite `release` with one for each stage and one for its end."""
    root = ET.Element("testsuites", name=f"slipway {route}")
    if gate is not None:
        suite = ET.SubElement(root, "testsuite", name="eval gate")
        for finding in gate.findings:
            _case(suite, f"gate.{finding.suite}", finding.limit, "" if finding.verdict == "pass" else finding.sentence)
    if outcome is not None and (outcome.release_id or gate is None):
        suite = ET.SubElement(root, "testsuite", name="release")
        for stage in outcome.stages:
            against = "" if stage.verdict == "pass" else "\n".join(stage.evidence) or stage.verdict
            _case(suite, f"release.{route}", f"{stage.stage} {stage.share_bp / 100:g} %", against, stage.seconds)
        _case(suite, f"release.{route}", "ends live", "" if outcome.outcome == "live" else outcome.reason)
    for suite in root:
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(len(suite.findall("testcase/failure"))))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, group: str, name: str, against: str, seconds: float = 0.0) -> None:
    case = ET.SubElement(suite, "testcase", classname=group, name=name, time=f"{seconds:.3f}")
    if against:
        text = against.translate(NOT_XML)
        ET.SubElement(case, "failure", message=text.splitlines()[0]).text = text


def summary(route: str, bundle: str, gate: "GateDecision | None", outcome: "ReleaseOutcome | None") -> str:
    """A heading with the end, its reason, the limits of the gate and the stages as tables."""
    end = outcome.outcome.replace("_", " ") if outcome else "may be released" if gate and gate.passed else "refused"
    lines = [f"## {route} {short(bundle)}: {end}", ""]
    if outcome is not None and outcome.reason:
        lines += [_cell(outcome.reason), ""]
    if gate is not None:
        rows = [(finding.verdict, finding.limit, finding.sentence) for finding in gate.findings]
        lines += _table(("gate", "limit", "what was found"), rows)
    if outcome is not None and outcome.stages:
        stages = [
            (
                stage.stage,
                f"{stage.share_bp / 100:g} %",
                stage.verdict,
                f"{stage.requests} beside {stage.stable_requests}",
                f"{stage.seconds:.0f} s",
            )
            for stage in outcome.stages
        ]
        lines += _table(("stage", "share", "verdict", "requests, beside stable's", "time"), stages)
        lines += [f"{outcome.user_requests} requests of users, {outcome.failed_user_requests} failed.", ""]
    return "\n".join(lines) + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *rows]
    return [*(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines), ""]


def _cell(text: str) -> str:
    """Text that stays in its cell and is shown as it is."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.split())
