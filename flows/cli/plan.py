"""What `slipway plan` prints: per stage and check what can be detected, how long a pass takes, how often it errs."""

from delivery.checks.forecast import CheckOutlook, Outlook, StageOutlook

RARELY = 0.9


def render(found: Outlook) -> str:
    """For people."""
    lines = [f"with {found.requests_per_s:g} requests/s, error budget {found.alpha:g} a stage, power 0.8", ""]
    for stage in found.stages:
        lines += [*_stage(stage), ""]
    if found.blind_stages:
        lines.append(f"blind: in {', '.join(found.blind_stages)} no candidate, however bad, is rolled back in time")
    if found.empty_stages:
        lines.append(f"too few users: {', '.join(found.empty_stages)} may well reach nobody -> a larger share_bp")
    return "\n".join(lines).rstrip()


def _stage(stage: StageOutlook) -> list[str]:
    passes = f"passes in {stage.pass_probability:.0%} of runs"
    if stage.requests_to_pass is not None and stage.seconds_to_pass is not None:
        passes += f", after {stage.requests_to_pass:.0f} candidate requests or {stage.seconds_to_pass:.0f} s (median)"
    if stage.pass_probability < RARELY:
        passes += " - too rarely: wider limits, a larger share, or more time"
    return [
        f"{stage.stage}  {stage.candidate_requests_per_s:g} candidate requests/s",
        *_reach(stage),
        f"  an equal candidate {passes}; rolled back wrongly in {stage.false_rollback:.1%}",
        *(f"    {_check(check)}" for check in stage.checks),
    ]


def _reach(stage: StageOutlook) -> list[str]:
    if stage.users_needed is None:
        return []
    said = f"  needs {stage.users_needed} users: with fewer, who stay with their variant, it may well reach nobody"
    if stage.nobody_probability is not None:
        said += f"; with the plan's users it reaches nobody in {stage.nobody_probability:.0%} of releases"
    return [said]


def _check(check: CheckOutlook) -> str:
    found = "detects nothing"
    if check.smallest_effect is not None:
        found = f"detects {_effect(check, check.smallest_effect)} (limit {_effect(check, check.limit_effect)})"
    needs = "an equal one rarely passes"
    if check.requests_to_pass is not None:
        needs = f"an equal one passes after {check.requests_to_pass:.0f} requests"
    return f"{check.check}, else {check.on_fail}: {found}; {needs}"


def _effect(check: CheckOutlook, effect: float) -> str:
    return f"{100 * effect:.3g} %" if check.is_rate else f"{effect:.3g} x stable's"
