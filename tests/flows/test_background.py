"""A Prefect server that hangs or is gone costs a release nothing."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from places import ROOT, SUPPORT

from flows.background import Background


def test_a_job_that_hangs_does_not_make_its_caller_wait() -> None:
    hangs, background = threading.Event(), Background(print)
    background.do(hangs.wait)
    assert background.busy
    done: list[int] = []
    background.do(lambda: done.append(1))
    assert not done
    hangs.set()
    deadline = time.monotonic() + 10
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
    assert done.wait(10)
    assert said == ["cannot be shown in Prefect's UI: connection refused"]


@pytest.mark.live
def test_a_release_whose_prefect_server_is_killed_in_its_canary_goes_on(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    env = os.environ | {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": f"{ROOT}:{SUPPORT}",
    }
    log = (tmp_path / "server.log").open("wb")
    argv = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    server = subprocess.Popen(argv, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while not _answers(api):
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        child = [sys.executable, str(SUPPORT / "flow_child.py"), str(tmp_path), str(os.getpgid(server.pid))]
        with (tmp_path / "child.log").open("wb") as said:
            flow = subprocess.Popen(child, env=env, stdout=subprocess.PIPE, stderr=said, text=True)
        assert flow.stdout is not None
        assert flow.stdout.readline() == "the server is killed\n", (tmp_path / "child.log").read_text()
        killed_at = time.monotonic()
        assert flow.stdout.readline() == "the release ended: live\n", (tmp_path / "child.log").read_text()
        assert time.monotonic() - killed_at < 60
        flow.kill()  # Prefect itself tries for minutes to report the run's end
        flow.wait()
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(api: str) -> bool:
    try:
        return httpx.get(f"{api}/health").is_success
    except httpx.HTTPError:
        return False
