"""What CI reads of a build and a release says the same as the outcome, whatever stands in it."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import SlipwayError
from delivery.build.gate import GateDecision, GateFinding
from delivery.release.state import StageRecord
from flows.cli.ci import junit, require_places, summary, write_reports
from tasks.release.outcome import ReleaseOutcome

BUNDLE = "sha256:" + "ab12" * 16


def gate(*verdicts: str, sentence: str = "tone: 0.71 of 0.90 | n=42") -> GateDecision:
    findings = [
        GateFinding.model_validate(
            {"suite": f"suite{n}", "limit": "min_score 0.90", "verdict": verdict, "sentence": sentence}
        )
        for n, verdict in enumerate(verdicts)
    ]
    return GateDecision(passed=all(verdict == "pass" for verdict in verdicts), findings=tuple(findings))


def released(
    outcome: str, *verdicts: str, reason: str = "all stages passed", release_id: str = "bot-1"
) -> ReleaseOutcome:
    stages = [
        StageRecord.model_validate(
            {
                "stage": f"{n}-canary",
                "share_bp": 500,
                "verdict": verdict,
                "requests": 12,
                "stable_requests": 240,
                "seconds": 61.5,
                "evidence": ("error rate 70 % (7 of 10)",),
            }
        )
        for n, verdict in enumerate(verdicts)
    ]
    return ReleaseOutcome.model_validate(
        {
            "release_id": release_id,
            "route": "bot",
            "bundle": BUNDLE,
            "outcome": outcome,
            "reason": reason,
            "stages": stages,
            "user_requests": 252,
            "failed_user_requests": 0,
        }
    )


def failures(text: str) -> list[str]:
    root = ET.fromstring(text)
    for suite in root:
        assert suite.get("tests") == str(len(suite))
        assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
    return [str(case.get("name")) for case in root.iter("testcase") if case.find("failure") is not None]


def test_a_live_release_has_no_failure() -> None:
    text = junit("bot", gate("pass", "pass"), released("live", "pass", "pass"))
    assert failures(text) == []
    assert [suite.get("name") for suite in ET.fromstring(text)] == ["eval gate", "release"]


def test_each_limit_and_stage_that_did_not_pass_is_a_failure_with_its_evidence() -> None:
    text = junit("bot", gate("pass", "error"), released("rolled_back", "pass", "fail", reason="fail: errors"))
    assert failures(text) == ["min_score 0.90", "1-canary 5 %", "ends live"]
    assert "error rate 70 % (7 of 10)" in text
    assert 'message="fail: errors"' in text


def test_a_build_that_the_gate_refuses_fails_by_its_limits_alone() -> None:
    refused = released("refused", release_id="", reason="the eval gate refused bundle ab12")
    assert failures(junit("bot", gate("fail"), refused)) == ["min_score 0.90"]
    assert failures(junit("bot", None, refused)) == ["ends live"], "a bundle that no gate ever saw still fails"


@given(st.text())
def test_whatever_a_model_said_the_files_can_be_read(said: str) -> None:
    decision, outcome = gate("fail", sentence=said), released("rolled_back", "fail", reason=said)
    ET.fromstring(junit("bot", decision, outcome).encode("utf-8", "replace"))
    rows = [line for line in summary("bot", BUNDLE, decision, outcome).splitlines() if line.startswith("|")]
    assert len(rows) == 6, "two tables of one row"


def test_the_summary_says_the_end_its_reason_and_both_tables() -> None:
    text = summary("bot", BUNDLE, gate("pass"), released("live", "pass"))
    assert text.startswith("## bot ab12ab12ab12: live\n\nall stages passed\n")
    assert "| pass | min_score 0.90 | tone: 0.71 of 0.90 \\| n=42 |" in text
    assert "| 0-canary | 5 % | pass | 12 beside 240 | 62 s |" in text
    assert "252 requests of users, 0 failed." in text


def test_a_summary_is_appended_and_a_test_report_written_anew(tmp_path: Path) -> None:
    xml, markdown = tmp_path / "slipway.xml", tmp_path / "summary.md"
    markdown.write_text("# what others said\n")
    for _ in range(2):
        write_reports(xml, markdown, "bot", BUNDLE, gate("pass"))
    assert markdown.read_text().startswith("# what others said\n## bot ab12ab12ab12: may be released\n")
    assert markdown.read_text().count("## bot") == 2
    assert failures(xml.read_text()) == []


def test_a_missing_folder_is_told_before_anything_begins(tmp_path: Path) -> None:
    require_places(None, tmp_path / "there.xml")
    with pytest.raises(SlipwayError, match="its folder is missing"):
        require_places(None, tmp_path / "no" / "there.xml")
