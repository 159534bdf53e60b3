"""Whether a refresh has anything to do: when an input changed, when enough was approved, or when a person asks."""

from collections.abc import Mapping

from configs.strict import Strict


class RefreshDecision(Strict):
    """`reason` is a paragraph for people."""

    runs: bool
    reason: str


def decide_refresh(
    inputs: Mapping[str, str],
    before: Mapping[str, str] | None,
    newly_approved: int,
    refresh_at: int | None,
    asked_by: str = "",
) -> RefreshDecision:
    """`inputs` are digests by name, `before` those of the last refresh that came to its end (None: there was none).

    `newly_approved` counts approved items that no dataset version has read; `refresh_at` of them make a refresh run.
    `asked_by` is the person who wants it now; empty: the schedule.
    """
    reasons = [f"{asked_by} asked for it"] if asked_by else []
    if before is None:
        reasons.append("no refresh of this route has come to its end before")
    changed = sorted(name for name in {*inputs, *before} if inputs.get(name) != before.get(name)) if before else []
    if changed:
        reasons.append(f"changed since the last refresh: {', '.join(changed)}")
    if refresh_at is not None and newly_approved >= refresh_at:
        limit = f"review.refresh_at is {refresh_at}"
        reasons.append(f"{newly_approved} items were approved that no dataset version has read yet ({limit})")
    if reasons:
        return RefreshDecision(runs=True, reason=f"The refresh runs: {'; '.join(reasons)}.")
    return RefreshDecision(runs=False, reason=_nothing(inputs, newly_approved, refresh_at))


def _nothing(inputs: Mapping[str, str], newly_approved: int, refresh_at: int | None) -> str:
    names = ", ".join(sorted(inputs))
    said = f"The refresh does nothing: since the last one nothing has changed in {names}."
    if refresh_at is None and not newly_approved:
        return said
    limit = "no number of them makes" if refresh_at is None else f"{refresh_at} of them make"
    waiting = f"{newly_approved} items were approved that no dataset version has read yet"
    return f"{said} {waiting}; {limit} it run (review.refresh_at)."
