"""Three scheduled runs fall due and nobody takes them; then each is run, and says who makes up for it.

`python missed_child.py`, against the server of PREFECT_API_URL. Prints a line a run, oldest first: its name, and the
name of the newer run that is due, if there is one.
"""

import time
from datetime import UTC, datetime, timedelta

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import RRuleSchedule
from prefect.flow_engine import run_flow

from flows.missed import newer_run_that_is_due

RUNS = 3
LATEST_S = 90


@flow(name="probe")
def probe() -> str:
    return newer_run_that_is_due()


def missed(client: SyncPrefectClient) -> list[FlowRun]:
    """The runs of a schedule, once all of them are overdue."""
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=10)
    rule = f"DTSTART:{begin:%Y%m%dT%H%M%SZ}\nRRULE:FREQ=SECONDLY;INTERVAL=2;COUNT={RUNS}"
    schedule = DeploymentScheduleCreate(schedule=RRuleSchedule(rrule=rule), active=True)
    deployment = client.create_deployment(client.create_flow(probe), "missed", schedules=[schedule])
    wanted = FlowRunFilter.model_validate({"deployment_id": {"any_": [deployment]}})
    until = time.monotonic() + LATEST_S
    while time.monotonic() < until:
        runs = client.read_flow_runs(flow_run_filter=wanted)
        due = [run for run in runs if run.expected_start_time and run.expected_start_time <= datetime.now(UTC)]
        if len(due) == RUNS:
            return sorted(due, key=lambda run: run.expected_start_time or begin)
        time.sleep(0.2)
    raise TimeoutError(f"Prefect planned no {RUNS} runs")


def main() -> None:
    with get_client(sync_client=True) as client:
        runs = missed(client)
    for run in runs:
        print(run.name, run_flow(probe, flow_run=run, return_type="result"), flush=True)


if __name__ == "__main__":
    main()
