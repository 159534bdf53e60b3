"""Whether there is evidence against a bundle that is taken back, or else what was missing to judge it.

Only evidence rules a bundle out. Without it - no traffic, too few users, nobody who approved, a monitor, a judge or a
vLLM that was away - it is taken back all the same, and may be tried again on the next occasion.
"""

from configs.rollout import RolloutPlan
from delivery.checks.verdicts import Judgement
from delivery.release.reconcile import lost_on
from delivery.release.routes import current_stage
from delivery.release.state import Observation, ReleaseState


def missing_evidence(plan: RolloutPlan, state: ReleaseState, observation: Observation, judgement: Judgement) -> str:
    """Empty when a check found something against the bundle; else what was missing, in words for the ledger."""
    away = state.suspended or state.clocks.gone_s > 0 or bool(lost_on(observation, state.candidate))
    if _is_guilty(judgement):
        return "a vLLM that serves it was away while it failed" if away else ""
    missing = []
    if state.awaiting_approval and state.clocks.approval_s > plan.approval_timeout_s:
        missing.append("a named person's approval")
    if state.clocks.silent_s > 0:
        missing.append(f"records of a gateway, for {state.clocks.silent_s:.0f} s")
    if away:
        missing.append(f"a vLLM that serves {state.candidate.variant.model}")
    if state.evidence.judging.error:
        missing.append(f"the judge's answers ({state.evidence.judging.error})")
    if judgement.verdict == "fail":
        missing.append("a fault of its own, for stable fails in the same way")
    missing += _too_few(plan, state)
    return "; ".join(missing) or "enough evidence to tell"


def _is_guilty(judgement: Judgement) -> bool:
    """A check that pauses found something too; what stable does likewise is no finding against the candidate."""
    own = [one for one in judgement.results if one.verdict == "fail" and one.on_fail != "warn"]
    return judgement.blame == "rollback" or any(not one.shared_incident for one in own)


def _too_few(plan: RolloutPlan, state: ReleaseState) -> list[str]:
    wanted, got = current_stage(plan, state).min_requests, state.evidence.candidate.requests
    if got >= wanted:
        return []
    if got == 0 and state.evidence.stable.requests == 0:
        return [f"traffic: nobody asked, {wanted} requests are needed"]
    if got == 0:
        return [f"users: all who made stable's {state.evidence.stable.requests} requests fell to stable"]
    return [f"traffic: {got} of the {wanted} candidate requests needed"]
