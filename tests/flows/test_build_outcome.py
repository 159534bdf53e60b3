"""What a build leaves on the terminal."""

from pathlib import Path

from delivery.build.dataset import DatasetVersion, Manifest, PartSummary
from delivery.build.gate import GateDecision
from flows.build import BuildOutcome

PART = PartSummary(rows=40, prompts=40, tokens_total=400, tokens_mean=10, tokens_max=12)


def test_a_build_says_how_many_rows_were_left_out_why_and_where_they_lie() -> None:
    manifest = Manifest(
        name="sums",
        recipe={},
        sources=(),
        system_prompt="",
        tokenizer="",
        code="",
        read=86,
        kept=80,
        duplicates=1,
        rejected={"too-long": 5},
        parts={"train": PART, "holdout": PART},
        files={},
    )
    version = DatasetVersion(digest=manifest.digest, folder=Path("datasets/abc"), manifest=manifest)
    outcome = BuildOutcome(
        bundle="sha256:1",
        dataset=version,
        adapter="sha256:2",
        trained=True,
        gate=GateDecision(passed=True, findings=()),
        reports={},
        curve=Path("curve.png"),
        page=Path("reports/1.html"),
    )
    text = outcome.render()
    assert "report reports/1.html\nbundle sha256:1: may be released" in text
    assert "86 rows read, 80 kept (40 for training, 40 held out), 1 duplicates, 5 rejected (5 too-long)" in text
    assert "these 6 with their reasons: datasets/abc/rejected.jsonl" in text
