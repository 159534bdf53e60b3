"""Replays a release plan over a traffic log."""

from pathlib import Path

from configs.loading import load
from configs.rollout import RolloutPlan
from delivery.clients.traffic_log import read_traffic
from delivery.release.replay import Replay, replay


def replay_log(
    log: Path,
    plan: Path,
    *,
    route: str | None = None,
    candidate: str | None = None,
    stable: str | None = None,
    tick_s: float | None = None,
) -> Replay:
    """What the plan would have decided. Raises ConfigError for a plan or a log that cannot be used.

    `tick_s`: instead of the plan's; a tick is what most of a long log's replay takes its time for.
    """
    wanted = load(plan, RolloutPlan)
    if tick_s is not None:
        wanted = wanted.model_copy(update={"tick_s": tick_s})
    recorded = read_traffic(log, route=route, candidate=candidate, stable=stable)
    return replay(wanted, recorded.traffic, candidate=recorded.candidate, stable=recorded.stable)
