"""A real Prefect server for one test, and what it knows of a flow's tasks."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from places import ROOT, SUPPORT

from delivery.clients.processes.ports import free_ports


@dataclass
class RealPrefect:
    """`env` is for processes that are to report to it."""

    api: str
    env: dict[str, str]
    process: "subprocess.Popen[bytes]"

    def post(self, path: str, body: dict[str, Any]) -> Any:
        response = httpx.post(f"{self.api}{path}", json=body, timeout=120)
        response.raise_for_status()
        return response.json()

    def tasks(self, flow_run: str) -> list[tuple[str, str, str]]:
        """Name, state's name and type of each task run, oldest first."""
        body = {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return [(t["name"], t["state_name"], t["state_type"]) for t in self.post("/task_runs/filter", body)]


@contextmanager
def real_prefect(folder: Path, host: str = "127.0.0.1") -> Iterator[RealPrefect]:
    """On an address of this machine; killed at the end with all that it started."""
    (port,) = free_ports(1)
    api = f"http://{host}:{port}/api"
    env = os.environ | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": f"{ROOT}:{SUPPORT}",
    }
    with (folder / "server.log").open("wb") as log:
        argv = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)]
        server = subprocess.Popen(argv, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while not _answers(api):
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield RealPrefect(api, env, server)
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(api: str) -> bool:
    try:
        return httpx.get(f"{api}/health").is_success
    except httpx.HTTPError:
        return False
