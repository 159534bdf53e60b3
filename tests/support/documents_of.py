"""What a documented bundle is made from in tests: a dataset version's manifest and an eval report."""

from delivery.build.comparison import ReportBasis
from delivery.build.dataset import Manifest, PartSummary, SourceFile
from delivery.build.gate import GateDecision, GateFinding
from evals.report import EvalReport, SampleScore, SuiteResult


def dataset_manifest(name: str = "rows") -> Manifest:
    part = PartSummary(rows=8, prompts=8, tokens_total=80, tokens_mean=10.0, tokens_max=12)
    return Manifest(
        name=name,
        recipe={"name": name},
        sources=(SourceFile(name="rows.jsonl", digest="sha256:" + "5" * 64, reader="messages"),),
        system_prompt="Ask.",
        tokenizer="sha256:" + "6" * 64,
        code="sha256:" + "7" * 64,
        read=12,
        kept=10,
        duplicates=1,
        rejected={"too-long": 1},
        parts={"train": part, "holdout": part.model_copy(update={"rows": 2})},
        files={},
    )


def eval_report(system_prompt: str = "Ask.", score: float = 0.9) -> EvalReport:
    samples = (SampleScore(id="1", score=score, output="What comes next?"),)
    suite = SuiteResult(
        suite="guiding",
        version="v1",
        kind="behaviour",
        score=score,
        low=0.8,
        high=1.0,
        n=10,
        unjudged=0,
        samples=samples,
    )
    return EvalReport(
        subject="candidate",
        model="tutor-x",
        system_prompt=system_prompt,
        prompt_tokens_mean=50.0,
        suites={"guiding": suite},
    )


def comparison(score: float = 0.9) -> ReportBasis:
    """A gate that was passed, beside a production that answers the same."""
    decision = GateDecision(
        passed=True,
        findings=(GateFinding(suite="guiding", limit="min_score 0.50", verdict="pass", sentence="guiding: reaches"),),
    )
    return ReportBasis(decision=decision, production=eval_report(score=score), trained_tokens=1234, final_loss=0.5)
