"""What `slipway explain` prints: everything that one decision compared, and that it follows from it."""

import time

from delivery.checks.explain import Explanation
from delivery.checks.verdicts import CheckResult


def render(found: Explanation) -> str:
    """For people."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(found.at))
    lines = [
        f"release {found.release_id}, tick {found.tick} of {found.of_ticks}, {at} UTC, by {found.who}",
        f"{found.phase} {found.stage_index}: {found.verdict} - {found.reason}",
    ]
    for arm in ("candidate", "stable"):
        one = found.counts.get(arm) or {}
        lines.append(f"  {arm:10} {one.get('requests', 0)} requests, {one.get('errors', 0)} errors")
    if found.counts.get("pairs_asked"):
        lines.append(f"  {'judge':10} asked about {found.counts['pairs_asked']} pairs in this release")
    if found.again is None:
        lines.append("  nothing was judged in this tick")
    else:
        facts = found.again.facts
        needed = f"{1 / facts.alpha:g} ({facts.alpha:g} is the stage's error budget)"
        lines.append(f"  all checks together: evidence {found.again.e_value:.4g} of {needed} that it is worse")
        for result in found.again.results:
            lines += _check(result)
    lines += [f"  then: {action['action']}" for action in found.actions]
    if found.again is not None:
        lines.append("  computed again from the recorded values: " + ("; ".join(found.differences) or "the same"))
    return "\n".join(lines)


def _check(result: CheckResult) -> list[str]:
    values = ", ".join(
        f"{name} {value:.4g}"
        for name, value in (("candidate", result.candidate), ("stable", result.stable), ("limit", result.limit))
        if value is not None
    )
    return [
        f"  {result.check} (else {result.on_fail}): {result.verdict}",
        f"      {values or 'no values yet'}; {result.candidate_requests} of the candidate, {result.stable_requests}"
        f" of stable; counted: {result.counted}",
        f"      evidence that it is worse {result.e_worse:.4g}, that it is within {result.e_better:.4g}",
    ]
