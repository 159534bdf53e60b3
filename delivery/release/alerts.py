"""What people are told while a release is under way: what is wrong, each thing once until it is over."""

from configs.rollout import RolloutPlan
from delivery.checks.verdicts import Judgement, given_up
from delivery.release.state import Action, Alert, ReleaseState
from delivery.traffic.records import Tripped


def new_alerts(plan: RolloutPlan, state: ReleaseState, judgement: Judgement) -> tuple[ReleaseState, list[Action]]:
    """Alerts that are new; one that is over may be raised again later."""
    texts = _about_trip(state, judgement.facts.tripped)
    if state.clocks.silent_s > plan.monitor_timeout_s:
        texts["monitor"] = f"no records from a gateway for {state.clocks.silent_s:.0f} s: holding"
    if state.clocks.unjudged_s > plan.monitor_timeout_s:
        texts["judge"] = f"nothing judged for {state.clocks.unjudged_s:.0f} s: {state.evidence.judging.error}"
    if state.clocks.quiet_s > plan.max_hold_s:
        texts["quiet"] = f"nobody asks: waiting for traffic, {plan.wait_for_traffic_s:.0f} s a stage at most"
    if state.suspended:
        texts["suspended"] = f"{state.candidate.variant.model} is missing on a replica: all traffic is on stable"
    if is_late(plan, state):
        texts["approval"] = f"no approval within {plan.approval_timeout_s:g} s: still waiting"
    if judgement.blame == "pause":
        texts["pause"] = f"paused: {judgement.reason}"
    if state.evidence.dropped:
        texts["dropped"] = f"{state.evidence.dropped} records were lost before they could be read"
    texts |= _check_alerts(plan, state, judgement)
    new = [Alert(text=text) for key, text in texts.items() if key not in state.alerts]
    return state.model_copy(update={"alerts": tuple(texts)}), list(new)


def _about_trip(state: ReleaseState, trip: Tripped | None) -> dict[str, str]:
    """That a gateway took the candidate's users away, and that it gave them back."""
    if trip is not None:
        return {"tripped": f"its users are with stable: {given_up(trip)}; the checks decide"}
    if "tripped" in state.alerts:
        return {"answers again": f"{state.candidate.name} answers again: the gateway has given it its users back"}
    return {}


def _check_alerts(plan: RolloutPlan, state: ReleaseState, judgement: Judgement) -> dict[str, str]:
    texts: dict[str, str] = {}
    for result in judgement.results:
        if result.stable_worse is not None and result.stable_worse.e_value >= 1 / plan.alpha:
            texts[f"stable {result.check}"] = (
                f"stable itself breaches {result.check}: {state.stable.name} is to be mended"
            )
        if result.verdict == "fail" and result.on_fail == "warn":
            texts[f"warn {result.check}"] = f"warning: {result.sentence}"
    return texts


def is_late(plan: RolloutPlan, state: ReleaseState) -> bool:
    """Whether a person who has to agree has let the time go by."""
    return state.awaiting_approval and state.clocks.approval_s > plan.approval_timeout_s
