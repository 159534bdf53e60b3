"""What the demo leaves behind: a summary for people, and the same for machines in summary.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from configs.canonical import short
from configs.strict import Strict
from delivery.traffic.records import Record
from demo.stage import UsersSeen
from evals.report import EvalReport

if TYPE_CHECKING:
    from flows.build import BuildOutcome
    from tasks.release.outcome import ReleaseOutcome


class StageSummary(Strict):
    """One step of a bundle's way, its verdict, and what the verdict rests on."""

    stage: str
    verdict: str
    requests: int
    evidence: tuple[str, ...]
    share_bp: int = 0
    stable_requests: int = 0
    seconds: float | None = None


class ReleaseSummary(Strict):
    """One bundle's way, to where it came."""

    bundle: str
    outcome: str  # live, rolled_back, refused
    reason: str
    stages: tuple[StageSummary, ...]
    breach_to_stable_s: float | None = None
    decision_to_stable_s: float | None = None
    user_requests: int = 0
    failed_user_requests: int = 0
    skipped_user_requests: int = 0  # not sent, because too many were under way


class RollbackSummary(Strict):
    """`slipway rollback`, and what its users counted."""

    command_to_stable_s: float
    user_requests: int
    failed_user_requests: int
    skipped_user_requests: int


def taken_back(command_to_stable_s: float, seen: UsersSeen) -> RollbackSummary:
    """A rollback by hand; `seen` is what its users counted."""
    return RollbackSummary(
        command_to_stable_s=round(command_to_stable_s, 2),
        user_requests=seen.requests,
        failed_user_requests=seen.failures,
        skipped_user_requests=seen.skipped,
    )


def released(outcome: "ReleaseOutcome", seen: UsersSeen) -> ReleaseSummary:
    """A release that took place; `seen` is what its users counted."""
    return ReleaseSummary(
        bundle=outcome.bundle,
        outcome=outcome.outcome,
        reason=outcome.reason,
        stages=tuple(
            StageSummary(
                stage=stage.stage,
                verdict=stage.verdict,
                requests=stage.requests,
                evidence=stage.evidence,
                share_bp=stage.share_bp,
                stable_requests=stage.stable_requests,
                seconds=round(stage.seconds, 2),
            )
            for stage in outcome.stages
        ),
        breach_to_stable_s=_rounded(outcome.breach_to_stable_s),
        decision_to_stable_s=_rounded(outcome.decision_to_stable_s),
        user_requests=seen.requests,
        failed_user_requests=seen.failures,
        skipped_user_requests=seen.skipped,
    )


def refused(built: "BuildOutcome") -> ReleaseSummary:
    """A bundle that the eval gate kept from being released: no user met it."""
    wrong = [f for f in built.gate.findings if f.verdict != "pass"]
    judged = sum(result.n for result in built.reports["candidate"].suites.values())
    gate = StageSummary(
        stage="gate",
        verdict="fail" if any(f.verdict == "fail" for f in wrong) else "error" if wrong else "pass",
        requests=judged,
        evidence=tuple(f"{f.verdict}: {f.sentence} ({f.limit})" for f in built.gate.findings),
    )
    return ReleaseSummary(
        bundle=built.bundle, outcome="refused", reason="; ".join(f.sentence for f in wrong), stages=(gate,)
    )


def prompt_tokens(records: Sequence[Record]) -> dict[str, float | None]:
    """Mean prompt tokens of the requests that users made: of the base model (before) and of adapters (after)."""
    served = [r for r in records if r.ok and r.prompt_tokens is not None and r.role == "served"]
    before = [r.prompt_tokens for r in served if r.variant.startswith("base-")]
    after = [r.prompt_tokens for r in served if not r.variant.startswith("base-")]
    return {"before": _mean(before), "after": _mean(after)}


def summary(
    *,
    wall_s: float,
    peak_rss_gib: float,
    prompt_tokens: Mapping[str, float | None] | None,
    builds: "Mapping[str, BuildOutcome]",
    releases: Sequence[ReleaseSummary],
    rollback: RollbackSummary | None,
) -> dict[str, Any]:
    """Everything as plain data. `evals` are those of the last build: base, what was live then, and its candidate.

    None, and nothing of a kind, for what there is not yet.
    """
    reports = list(builds.values())[-1].reports if builds else {}
    return {
        "wall_s": round(wall_s, 1),
        "peak_rss_gib": round(peak_rss_gib, 2),
        "prompt_tokens_per_request": prompt_tokens and dict(prompt_tokens),
        "evals": {name: _scores(report) for name, report in reports.items()},
        "builds": {
            name: {
                "bundle": built.bundle,
                "adapter": built.adapter,
                "trained": built.trained,
                "passed": built.passed,
                "findings": [f.model_dump(mode="json") for f in built.gate.findings],
                "evals": {role: _scores(report) for role, report in built.reports.items()},
            }
            for name, built in builds.items()
        },
        "releases": [release.model_dump(mode="json") for release in releases],
        "manual_rollback": rollback and rollback.model_dump(mode="json"),
    }


def write(found: dict[str, Any], home: Path) -> Path:
    """Writes summary.json; where it is."""
    path = home / "summary.json"
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return path


def render(found: dict[str, Any]) -> str:
    """The summary of a whole story for people."""
    lines = ["", "== summary", "", "eval scores with 95 % intervals (the last build's)", ""]
    lines += _table(found["evals"])
    for release in found["releases"]:
        lines += ["", f"bundle {short(release['bundle'])}: {release['outcome']} - {release['reason']}"]
        for stage in release["stages"]:
            lines.append(f"  {stage['stage']:10} {stage['verdict']:12} {stage['requests']:5} requests")
            lines += [f"      {sentence}" for sentence in stage["evidence"]]
        if release["breach_to_stable_s"] is not None:
            lines.append(f"  first bad answer to 100 % stable: {release['breach_to_stable_s']:.2f} s")
        if release["user_requests"]:
            lines.append(f"  users' requests {release['user_requests']}, failed {release['failed_user_requests']}")
    tokens = found["prompt_tokens_per_request"]
    saved = (tokens["before"] or 0) - (tokens["after"] or 0)
    lines += [
        "",
        f"prompt tokens per request: {tokens['before']} before, {tokens['after']} after ({saved:.0f} saved)",
        f"slipway rollback, from the command to 100 % stable: {found['manual_rollback']['command_to_stable_s']} s",
        f"wall time {found['wall_s']} s, peak memory {found['peak_rss_gib']} GiB",
    ]
    return "\n".join(lines)


def _table(evals: Mapping[str, Mapping[str, Any]]) -> list[str]:
    suites = list(dict.fromkeys(name for scores in evals.values() for name in scores))
    lines = [f"{'':28}" + "".join(f"{name:>26}" for name in evals)]
    for suite in suites:
        lines.append(f"{suite:28}" + "".join(f"{_cell(scores.get(suite)):>26}" for scores in evals.values()))
    return lines


def _cell(score: Mapping[str, Any] | None) -> str:
    if score is None or score["score"] is None:
        return "-"
    low, high = score["interval"]
    return f"{score['score']:.2f} [{low:.2f}, {high:.2f}] n={score['n']}"


def _scores(report: EvalReport) -> dict[str, Any]:
    return {
        name: {"score": _rounded(r.score), "interval": [_rounded(r.low), _rounded(r.high)], "n": r.n}
        for name, r in report.suites.items()
    }


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), 1) if known else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
