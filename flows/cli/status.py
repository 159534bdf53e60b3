"""What the command line shows of an environment and of the bundles: plain text and plain data."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.canonical import short
from delivery.build.refresh import RefreshSaid
from delivery.clients.bundles.images import damaged_bundles, list_bundles
from delivery.clients.ledger.outbox import Waiting
from tasks.serving.environment import EnvironmentStatus
from tasks.serving.target import readiness


def as_dict(status: EnvironmentStatus) -> dict[str, Any]:
    """For machines: the unfinished release as its id, phase and reason only."""
    found = {name: value for name, value in asdict(status).items() if name not in ("unfinished", "untold", "refresh")}
    found["refresh"] = status.refresh and status.refresh.model_dump(mode="json")
    found["untold"] = [one.model_dump(mode="json") for one in status.untold]
    state = status.unfinished
    found["unfinished"] = state and {
        "release_id": state.release_id,
        "bundle": state.candidate.bundle,
        "phase": state.phase,
        "stage_index": state.stage_index,
        "verdict": state.verdict,
        "reason": state.reason,
        "awaiting_approval": state.awaiting_approval,
    }
    return found


def render(status: EnvironmentStatus) -> str:
    """For people."""
    lines = []
    if any(not part.log for part in status.parts):
        lines.append(readiness(status.parts))
    for part in (part for part in status.parts if part.log):
        how = "runs" if part.healthy else "runs, but does not answer" if part.running else "is down"
        lines.append(f"{part.name:10} {how:26} {part.url}   log {part.log}")
    lines.append(f"{'supervisor':10} {'runs' if status.supervisor_pid else 'is down'}")
    if status.revision is not None:
        split = ", ".join(f"{name} {bp / 100:g} %" for name, bp in status.shares.items()) or "no such route"
        lease = "" if status.lease_remaining_s is None else f", lease {status.lease_remaining_s:.0f} s"
        lines.append(f"table      revision {status.revision}: {split}{lease}")
    if status.behind:
        lines.append(f"           another table is served by {', '.join(status.behind)}")
    lines.append(f"live       {short(status.live) if status.live else 'nothing yet: slipway up'}")
    if status.previous:
        lines.append(f"previous   {short(status.previous)}")
    state = status.unfinished
    if state is not None:
        waits = ", waits for an approval" if state.awaiting_approval else ""
        lines.append(f"under way  {state.release_id}: {state.phase} {state.stage_index}{waits} - {state.reason}")
    if status.left_behind is not None:
        cure = "the supervisor finishes it" if status.supervisor_pid else "finish it: slipway rollback --reason TEXT"
        lines.append(f"left over  {status.left_behind}: its rollback lost its process; {cure}")
    if status.refresh is not None:
        lines.append(_refresh(status.refresh))
    lines += untold(status.untold, time.time())
    return "\n".join(lines)


def _refresh(told: RefreshSaid) -> str:
    at = time.strftime("%Y-%m-%d %H:%M", time.gmtime(told.at))
    return f"refresh    {at} UTC by {told.by}{'' if told.ended else ', under way or cut off'}: {told.said}"


def untold(waiting: Sequence[Waiting], now: float) -> list[str]:
    """A line for each receiver that lacks messages: how many, since when, why, and when the next try is."""
    lines = []
    for name in sorted({one.receiver for one in waiting}):
        mine = [one for one in waiting if one.receiver == name]
        lost = [one for one in mine if one.given_up(now)]
        young = [one for one in mine if one not in lost]
        if young:
            oldest, failed = young[0], next((one.error for one in reversed(young) if one.error), "")
            why = failed or ("being tried" if any(one.is_being_tried(now) for one in young) else "not tried yet")
            due_s = min(one.next_try_at for one in young) - now
            again = f"next try in {due_s:.0f} s" if due_s > 0 else "due: whatever runs next tries it, or slipway notify"
            minutes = (now - oldest.message.at) / 60
            lines.append(
                f"untold     {name}: {len(young)} message(s), the oldest {minutes:.0f} min old: {why}; {again}"
            )
        if lost:
            lines.append(f"untold     {name}: {len(lost)} message(s) given up after three days: {lost[-1].error}")
    return lines


def render_bundles(home: Path) -> str:
    """One line a bundle, and what is wrong with the damaged ones."""
    lines = []
    for bundle in list_bundles(home):
        scores = ", ".join(f"{n} {s.score:.2f}" for n, s in bundle.evals.items() if s.score is not None)
        what = "base model" if bundle.adapter is None else f"adapter {short(bundle.adapter.digest)}"
        what = f"merged {short(bundle.merged.digest)}" if bundle.merged else what
        lines.append(f"{short(bundle.digest)}  {bundle.route:12} {what:22} {scores}")
    lines += [str(problem) for problem in damaged_bundles(home)]
    return "\n".join(lines) or "no bundles yet: slipway build"
