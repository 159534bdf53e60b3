"""A Prefect server that hangs or is gone costs a release nothing."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from places import SUPPORT
from real_prefect import real_prefect

from flows.background import Background


def test_a_job_that_hangs_does_not_make_its_caller_wait() -> None:
    hangs, background = threading.Event(), Background(print)
    background.do(hangs.wait)
    assert background.busy
    done: list[int] = []
    background.do(lambda: done.append(1))
    assert not done
    hangs.set()
    deadline = time.monotonic() + 60
    while background.busy:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert done == [1]


def test_a_server_that_is_gone_is_said_once_and_the_next_job_is_done() -> None:
    said: list[str] = []
    background, done = Background(said.append), threading.Event()

    def fail() -> None:
        raise httpx.ConnectError("connection refused")

    for _ in range(3):
        background.do(fail)
    background.do(done.set)
    assert done.wait(60)
    assert said == ["cannot be shown in Prefect's UI: connection refused"]


@pytest.mark.live
def test_a_release_whose_prefect_server_is_killed_in_its_canary_goes_on(tmp_path: Path) -> None:
    with real_prefect(tmp_path) as server:
        child = [sys.executable, str(SUPPORT / "flow_child.py"), str(tmp_path), str(os.getpgid(server.process.pid))]
        with (tmp_path / "child.log").open("wb") as said:
            flow = subprocess.Popen(child, env=server.env, stdout=subprocess.PIPE, stderr=said, text=True)
        assert flow.stdout is not None
        assert flow.stdout.readline() == "the server is killed\n", (tmp_path / "child.log").read_text()
        assert flow.stdout.readline() == "the release ended: live\n", (tmp_path / "child.log").read_text()
        flow.kill()  # Prefect itself tries for minutes to report the run's end
        flow.wait()
