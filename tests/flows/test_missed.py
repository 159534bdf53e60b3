"""Refreshes that were missed are made up for once, by the newest."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from places import SUPPORT
from prefect.client.schemas.objects import FlowRun
from real_prefect import real_prefect

from flows.missed import made_up_for_by, newer_run_that_is_due

WEEKLY = uuid4()
NOW = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)


def due(weeks_ago: float, deployment: UUID = WEEKLY, auto_scheduled: bool = True) -> FlowRun:
    return FlowRun(
        flow_id=uuid4(),
        deployment_id=deployment,
        auto_scheduled=auto_scheduled,
        expected_start_time=NOW - timedelta(weeks=weeks_ago),
        name=f"{weeks_ago:g} weeks ago",
    )


def test_of_runs_that_are_due_together_only_the_newest_runs() -> None:
    missed = [due(3), due(2), due(1), due(0)]
    left = [run.name for run in missed if made_up_for_by(run, missed, NOW) is None]
    assert left == ["0 weeks ago"]
    made_up = made_up_for_by(missed[0], missed, NOW)
    assert made_up is not None
    assert made_up.name == "0 weeks ago"


def test_runs_that_are_planned_for_later_make_up_for_nothing() -> None:
    assert made_up_for_by(due(0), [due(-1), due(-2)], NOW) is None


@pytest.mark.parametrize("other", [due(0, deployment=uuid4()), due(0, auto_scheduled=False)])
def test_another_deployments_run_and_a_persons_run_make_up_for_nothing(other: FlowRun) -> None:
    assert made_up_for_by(due(1), [other], NOW) is None


def test_a_persons_run_is_never_left_out() -> None:
    assert made_up_for_by(due(1, auto_scheduled=False), [due(0)], NOW) is None


def test_outside_of_a_scheduled_run_nothing_is_asked_of_prefect() -> None:
    assert newer_run_that_is_due() == ""


@pytest.mark.live
def test_a_real_server_knows_which_of_the_missed_runs_is_the_newest(tmp_path: Path) -> None:
    with real_prefect(tmp_path) as server:
        argv = [sys.executable, str(SUPPORT / "missed_child.py")]
        done = subprocess.run(argv, env=server.env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    said = [line.split(" ") for line in done.stdout.splitlines()]
    newest = said[-1][0]
    assert [makes_up for _, makes_up in said] == [newest, newest, ""]
