"""Scheduled runs that were missed - no worker, no server - are made up for once: the newest one runs, the others not.

Prefect keeps every run that was due and starts them one after the other when a worker comes back.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

WAITING = ("SCHEDULED", "PENDING", "RUNNING")
AT_MOST = 200  # runs of one deployment that are looked at; Prefect plans 100 ahead


def made_up_for_by(own: FlowRun, others: Iterable[FlowRun], now: datetime) -> FlowRun | None:
    """The newest run of the same schedule that is due as well; None when this one is, or nobody scheduled it."""
    if not own.auto_scheduled or own.expected_start_time is None:
        return None
    due = [
        run
        for run in others
        if run.auto_scheduled
        and run.deployment_id == own.deployment_id
        and run.expected_start_time is not None
        and own.expected_start_time < run.expected_start_time <= now
    ]
    return max(due, key=lambda run: run.expected_start_time or now, default=None)


def newer_run_that_is_due() -> str:
    """The name of the run that makes up for this one; empty when this one is to run."""
    context = FlowRunContext.get()
    own = context.flow_run if context is not None else None
    if own is None or own.deployment_id is None or not own.auto_scheduled or own.expected_start_time is None:
        return ""
    wanted = FlowRunFilter.model_validate(
        {
            "deployment_id": {"any_": [own.deployment_id]},
            "state": {"type": {"any_": WAITING}},
            "expected_start_time": {"after_": own.expected_start_time},
        }
    )
    with get_client(sync_client=True) as client:
        others = client.read_flow_runs(flow_run_filter=wanted, limit=AT_MOST)
    found = made_up_for_by(own, others, datetime.now(UTC))
    return found.name if found is not None else ""
