"""What the demo puts around the product: a Prefect server, users' traffic, and an upstream that goes wrong."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from configs.errors import SlipwayError
from configs.project import Project
from configs.routing import RoutingTable
from delivery.clients.gateway import GatewayClient, GatewayError
from delivery.clients.processes import local as processes
from delivery.clients.processes.local import ProcessCommand
from delivery.clients.processes.ports import free_ports
from delivery.progress import Progress
from delivery.traffic.records import Record
from tasks.serving import local as serving

FAULTS = {"error_rate": 0.9, "latency_s": 1.0}
FAULTS_AFTER_S = 3.0  # of the candidate's first share
POLL_S = 0.02


@contextmanager
def prefect_server(folder: Path, on_progress: Progress) -> Iterator[str]:
    """A Prefect server with a database of its own. Sets PREFECT_API_URL, so import Prefect only afterwards."""
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}/api"
    own = {"PREFECT_HOME": str((folder / "prefect").absolute()), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    argv = (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    # The UI runs in the browser and has to be told where its server is: by default it looks at port 4200.
    command = ProcessCommand(name="prefect", argv=argv, env={**own, "PREFECT_SERVER_UI_API_URL": address})
    ready = lambda: _answers(f"{address}/health")  # noqa: E731
    processes.start(command, folder, ready=ready, timeout_s=180.0, attached=True, on_progress=on_progress)
    os.environ.update(own, PREFECT_API_URL=address)
    try:
        yield address.removesuffix("/api")
    finally:
        processes.stop("prefect", folder)


@dataclass
class UsersSeen:
    """What the users saw, once their traffic has ended."""

    requests: int = 0
    failures: int = 0
    skipped: int = 0  # not sent, because too many were under way
    errors: tuple[str, ...] = ()


@contextmanager
def traffic(project: Project, folder: Path, name: str, *, rate: float, seed: int) -> Iterator[UsersSeen]:
    """Many users ask the gateway all the while; what they saw is filled in at the end."""
    out = folder / f"traffic-{name}.jsonl"
    url = serving.addresses(project.environment).gateway_url
    words = ["--url", url, "--route", project.route, "--rate", str(rate), "--seed", str(seed), "--duration", "0"]
    argv = (sys.executable, "-m", "demo.traffic", *words, "--users", "120", "--out", str(out))
    process = processes.launch(ProcessCommand(name="traffic", argv=argv, grace_s=60.0), folder, attached=True)
    seen = UsersSeen()
    try:
        yield seen
        if not process.alive():
            raise processes.died(process, "ended in the middle of the demo")
    finally:
        processes.stop("traffic", folder)
    summary = json.loads(out.with_name(out.name + ".summary.json").read_text(encoding="utf-8"))
    seen.requests, seen.failures, seen.skipped = summary["requests"], summary["failures"], summary["skipped"]
    seen.errors = tuple(summary["errors"])


@contextmanager
def failing_upstream(project: Project, folder: Path, token: str, model: str) -> Iterator[str]:
    """A proxy before vLLM that injects errors and latency into a model's answers once it has a share of the users."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    upstream = serving.addresses(project.environment).vllm_url
    argv = (sys.executable, "-m", "demo.faults", "--upstream", upstream, "--port", str(port))
    ready = lambda: _answers(f"{url}/health")  # noqa: E731
    processes.start(ProcessCommand(name="faults", argv=argv), folder, ready=ready, timeout_s=30.0, attached=True)
    stop = threading.Event()
    breaker = threading.Thread(target=_break_in_canary, args=(project, token, url, model, stop), daemon=True)
    breaker.start()
    try:
        yield url
    finally:
        stop.set()
        breaker.join()
        processes.stop("faults", folder)


def _break_in_canary(project: Project, token: str, url: str, model: str, stop: threading.Event) -> None:
    while not stop.wait(0.2):
        table = current_table(project, token)
        route = table.routes.get(project.route) if table else None
        if route and route.candidate and route.candidate.share_bp and not stop.wait(FAULTS_AFTER_S):
            body = {**FAULTS, "models": [model]}
            httpx.post(f"{url}/faults", json=body, timeout=5.0, trust_env=False).raise_for_status()
            print(f"   [the candidate's upstream goes wrong now: {FAULTS}]", flush=True)
            return


def rollback_by_command(project: Project, home: Path, token: str, release: str = "") -> float:
    """Runs `slipway rollback`, of this release or of the newest.

    The seconds from its start until the gateway gave stable all traffic.
    """
    before = current_table(project, token)
    words = ["rollback", *([release] if release else []), "--project", str(project.folder), "--home", str(home)]
    argv = [sys.executable, "-m", "flows.cli.main", *words, "--by", "demo", "--reason", "the story ends where it began"]
    started_at = time.monotonic()
    with subprocess.Popen(argv) as running:
        try:
            while current_table(project, token) == before and running.poll() is None:
                time.sleep(POLL_S)
            took_s = time.monotonic() - started_at
            status = running.wait(timeout=120)
        except BaseException:
            running.send_signal(signal.SIGTERM)
            raise
    if status != 0 or current_table(project, token) == before:
        raise SlipwayError(f"slipway rollback ended with status {status}, or changed nothing")
    return took_s


def current_table(project: Project, token: str) -> RoutingTable | None:
    """What the gateway serves; None when it does not answer."""
    with GatewayClient(serving.addresses(project.environment).admin_url, token) as client:
        try:
            return client.table()
        except GatewayError:
            return None


def all_records(project: Project, token: str) -> list[Record]:
    """Every record that the gateway still has."""
    found: list[Record] = []
    with GatewayClient(serving.addresses(project.environment).admin_url, token) as client:
        while page := client.records(found[-1].seq if found else 0).records:
            found += page
    return found


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False
