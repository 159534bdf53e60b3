"""The steps of a release as people see them: what is going on now, by a short title, and how a step ended."""

from dataclasses import dataclass
from typing import Literal

from configs.rollout import RolloutPlan
from delivery.release.state import TERMINAL, ReleaseState, StageRecord

StepEnd = Literal["passed", "taken back", "refused", "open"]


@dataclass(frozen=True)
class Step:
    """`key` tells two steps of one release apart; `title` is for people: `canary 20 %`."""

    key: str
    title: str


def step_of(plan: RolloutPlan, state: ReleaseState) -> Step | None:
    """What the release is at; None once it has ended."""
    if state.phase in TERMINAL:
        return None
    if state.phase == "preparing":
        return Step("prepare", "load and probe")
    if state.phase == "rolling_back":
        return Step("rollback", "rollback")
    if state.phase == "watching":
        return Step("watching", "watch")
    return _stage_step(plan, state.stage_index)


def place_of(plan: RolloutPlan, state: ReleaseState) -> str:
    """Where the release is, with the share that counts there: `1-canary (20 % of users)`."""
    if state.phase != "stage":
        return state.phase.replace("_", " ")
    stage = plan.stages[state.stage_index]
    share_bp = state.holdback_bp if stage.rules.commits else stage.size_bp
    return f"{plan.stage_name(state.stage_index)} ({share_bp / 100:g} % {stage.rules.share_means})"


def finished_steps(plan: RolloutPlan, state: ReleaseState) -> list[tuple[Step, StageRecord]]:
    """The stages that are over, oldest first: an earlier controller may have seen them."""
    by_name = {plan.stage_name(index): index for index in range(len(plan.stages))}
    return [(_stage_step(plan, by_name[one.stage]), one) for one in state.stages if one.stage in by_name]


def how_it_ended(step: Step, after: ReleaseState) -> tuple[StepEnd, str]:
    """A step's end and the reason for it, by the state that it led to."""
    if after.phase == "refused":
        return "refused", after.reason
    if after.rollback is not None:
        return "taken back", after.rollback.reason
    record = after.stages[-1] if after.stages and step.key.startswith(f"stage {after.stages[-1].stage}") else None
    return "passed", "; ".join(record.evidence) if record is not None else after.reason


def _stage_step(plan: RolloutPlan, index: int) -> Step:
    stage = plan.stages[index]
    share = f" {stage.size_bp / 100:g} %" if stage.size_bp else ""
    return Step(f"stage {plan.stage_name(index)}", f"{stage.kind}{share}")
