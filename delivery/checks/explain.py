"""A decision again, from the ledger: its verdict follows from what was recorded, or the record says otherwise."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from configs.errors import SlipwayError
from configs.strict import Strict
from delivery.checks.findings import Finding
from delivery.checks.verdicts import CheckResult, Facts, Judgement, conclude


class Explanation(Strict):
    """One recorded decision, and the same computed again from its values. `at` is UNIX seconds."""

    release_id: str
    tick: int  # of the release's recorded decisions, from 1
    of_ticks: int
    at: float
    who: str
    phase: str
    stage_index: int
    verdict: str
    reason: str
    counts: dict[str, Any]
    actions: tuple[dict[str, Any], ...]
    again: Judgement | None  # None: nothing was judged in this tick
    differences: tuple[str, ...] = ()  # between what was recorded and what follows from it; none is the rule


def explain(row: Mapping[str, Any], tick: int, of_ticks: int) -> Explanation:
    """A row of the ledger's decisions. Raises SlipwayError when another version of Slipway judged it."""
    counts = {name: value for name, value in row["counts"].items() if name != "facts"}
    again, differences = _again(row)
    return Explanation(
        release_id=row["release_id"],
        tick=tick,
        of_ticks=of_ticks,
        at=row["at"],
        who=row["who"],
        phase=row["phase"],
        stage_index=row["stage_index"],
        verdict=row["verdict"],
        reason=row["reason"],
        counts=counts,
        actions=tuple(row["actions"]),
        again=again,
        differences=differences,
    )


def _again(row: Mapping[str, Any]) -> tuple[Judgement | None, tuple[str, ...]]:
    if not row["counts"].get("facts"):
        return None, ()
    try:
        recorded = [CheckResult.model_validate(result) for result in row["results"]]
        facts = Facts.model_validate(row["counts"]["facts"])
    except ValidationError as error:
        raise SlipwayError(
            f"decision {row['id']} was judged by another version of Slipway, in other terms",
            where=f"release {row['release_id']}",
            cure="read it as it is: slipway export",
        ) from error
    findings = [Finding.model_validate({n: getattr(one, n) for n in Finding.model_fields}) for one in recorded]
    again = conclude(findings, facts)
    differences = [] if again.verdict == row["verdict"] else [f"verdict {row['verdict']}, now {again.verdict}"]
    for before, now in zip(recorded, again.results, strict=True):
        values = [name for name in CheckResult.model_fields if name != "sentence"]  # a new version may word it anew
        changed = [name for name in values if getattr(before, name) != getattr(now, name)]
        differences += [f"{now.check}: {n} {getattr(before, n)!r}, now {getattr(now, n)!r}" for n in changed]
    return again, tuple(differences)
