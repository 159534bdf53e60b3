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
BEGINS_S = (10, 60, 240)  # from now; Prefect plans nothing that is past by the time at which it has come to plan


@flow(name="probe")
def probe() -> str:
    return newer_run_that_is_due()


def missed(client: SyncPrefectClient) -> list[FlowRun]:
    """The runs of a schedule, once all of them are overdue: of the first one that Prefect planned as a whole."""
    for begins_s in BEGINS_S:
        if len(runs := overdue(client, begins_s)) == RUNS:
            return runs
    raise TimeoutError(f"Prefect planned no {RUNS} runs")


def overdue(client: SyncPrefectClient, begins_s: int) -> list[FlowRun]:
    """Those runs of a schedule that Prefect planned, once the last one's time has come."""
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=begins_s)
    rule = f"DTSTART:{begin:%Y%m%dT%H%M%SZ}\nRRULE:FREQ=SECONDLY;INTERVAL=2;COUNT={RUNS}"
    schedule = DeploymentScheduleCreate(schedule=RRuleSchedule(rrule=rule), active=True)
    deployment = client.create_deployment(client.create_flow(probe), f"missed-{begins_s}", schedules=[schedule])
    wanted = FlowRunFilter.model_validate({"deployment_id": {"any_": [deployment]}})
    while datetime.now(UTC) <= begin + timedelta(seconds=2 * RUNS):
        time.sleep(0.2)
    runs = client.read_flow_runs(flow_run_filter=wanted)
    return sorted(runs, key=lambda run: run.expected_start_time or begin)


def main() -> None:
    with get_client(sync_client=True) as client:
        runs = missed(client)
    for run in runs:
        print(run.name, run_flow(probe, flow_run=run, return_type="result"), flush=True)


if __name__ == "__main__":
    main()
