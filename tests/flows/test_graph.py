"""What Prefect shows of a release, asked of a real server."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import SUPPORT
from real_prefect import RealPrefect, real_prefect

pytestmark = pytest.mark.live


def run(server: RealPrefect, folder: Path, what: str) -> "subprocess.CompletedProcess[str]":
    folder.mkdir(exist_ok=True)
    argv = [sys.executable, str(SUPPORT / "graph_child.py"), str(folder), what]
    return subprocess.run(argv, env=server.env, capture_output=True, text=True, timeout=600, check=False)


def newest(server: RealPrefect) -> dict[str, str]:
    return dict(server.post("/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})[0])


def steps(server: RealPrefect, run_id: str, last: tuple[str, str]) -> list[tuple[str, str]]:
    """Each step's title and state, once the last one has arrived: one by one they come by a queue of their own."""
    deadline = time.monotonic() + 300
    while True:
        found = [(name.split(" ", 2)[2], state) for name, state, _ in server.tasks(run_id)]
        if found[-1:] == [last] or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def test_a_release_is_shown_step_by_step_and_only_what_passed_is_green(tmp_path: Path) -> None:
    with real_prefect(tmp_path) as server:
        assert run(server, tmp_path / "live", "live").stdout == "live\n"
        live = newest(server)
        assert live["state_type"] == "COMPLETED"
        shown = steps(server, live["id"], ("watch", "Completed"))
        assert [title for title, _ in shown] == ["load and probe", "shadow 50 %", "canary 20 %", "full 90 %", "watch"]
        assert {state for _, state in shown} == {"Completed"}

        assert run(server, tmp_path / "back", "back").stdout == "rolled_back\n"
        back = newest(server)
        assert (back["state_type"], back["state_name"]) == ("FAILED", "RolledBack")
        assert steps(server, back["id"], ("rollback", "RolledBack"))[-3:] == [
            ("shadow 50 %", "Completed"),
            ("canary 20 %", "RolledBack"),
            ("rollback", "RolledBack"),
        ]

        assert run(server, tmp_path / "killed", "killed").returncode == -9
        assert run(server, tmp_path / "killed", "live").stdout == "live\n"
        resumed = steps(server, newest(server)["id"], ("watch", "Completed"))
        assert resumed[0] == ("shadow 50 %", "DoneBefore")
        assert [title for title, _ in resumed[1:]] == ["canary 20 %", "full 90 %", "watch"]
