"""Everything that a release needs, as processes of their own: gateways, a stub vLLM, users."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from benchmarks.tiny_bundle import tiny_bundle, write_tiny_lora
from configs.checks import Check
from configs.project import Project, load_project
from configs.rollout import RolloutPlan, Stage
from delivery.build.bundle import Bundle
from delivery.build.gate import GateDecision
from delivery.clients.bundles.adapters import describe
from delivery.clients.bundles.images import write_bundle
from delivery.clients.gateway import GatewayClient
from delivery.clients.ledger.ledger import Ledger
from delivery.clients.processes.ports import free_ports
from delivery.clients.vllm import VllmClient
from tasks.release.site import Site
from tasks.release.start import bootstrap

TOKEN = "benchmark-of-32-characters-and-more"  # noqa: S105 - of processes that live for this run
START_S = 60.0
PLAN = RolloutPlan(
    tick_s=1.0,
    lease_s=15,
    drain_s=0.2,
    stages=(Stage(kind="canary", share_bp=2000, min_duration_s=600), Stage(kind="full", share_bp=9000)),
    checks=(Check(metric="error_rate", max=0.05),),
)
"""The canary lasts longer than any run: only a failure ends it."""


@dataclass(frozen=True)
class Place:
    """One environment. `asked_and_failed` is what its users got, once they are gone."""

    site: Site
    project: Project
    upstream: str

    def candidate(self, number: int) -> Bundle:
        """A bundle that was never released, with a tiny but real adapter."""
        folder = self.site.home / f"adapter-{number}"
        write_tiny_lora(folder, number)
        bundle = base().model_copy(update={"adapter": describe(folder), "system_prompt": "Ask."})
        write_bundle(bundle, folder, self.site.home)
        self.site.ledger.add_build(bundle, GateDecision(passed=True, findings=()), time.time())
        return bundle

    def breaks(self, bundle: Bundle, share: float) -> None:
        """From now on this share of the bundle's chat requests fails."""
        body = {"model": bundle.served_name, "share": share}
        httpx.post(f"{self.upstream}/fail", json=body, trust_env=False).raise_for_status()


def base() -> Bundle:
    """What is live at first."""
    return tiny_bundle("You are a tutor. Ask, never tell.")


@contextmanager
def place(home: Path, gateways: int) -> Iterator[tuple[Place, list[str]]]:
    """A running environment that serves the base, and its gateways' URLs for users."""
    tutor = load_project(Path("configs/tutor"))
    ports = free_ports(1 + 2 * gateways)
    environment = tutor.environment.model_copy(
        update={"vllm": tutor.environment.vllm.model_copy(update={"port": ports[0]})}
    )
    project = replace(
        tutor,
        rollout=PLAN,
        model=tutor.model.model_copy(update={"name": "base"}),
        route="tutor",
        environment=environment,
    )
    with ExitStack() as stack:
        stack.enter_context(_process(["-m", "benchmarks.rollback.upstream", str(ports[0])], home / "upstream.log"))
        clients: dict[str, GatewayClient] = {}
        for number, (port, admin) in enumerate(zip(ports[1::2], ports[2::2], strict=True)):
            argv = ["-m", "delivery.gateway", "--port", str(port), "--admin-port", str(admin)]
            stack.enter_context(_process(argv, home / f"gateway-{number}.log"))
            url = f"http://127.0.0.1:{admin}"
            clients[url] = stack.enter_context(GatewayClient(url, TOKEN))
        ledger = stack.enter_context(closing(Ledger(f"sqlite:///{home}/ledger.sqlite")))
        site = Site(environment=environment, ledger=ledger, gateways=clients, vllm=VllmClient, home=home)
        found = Place(site, project, f"http://127.0.0.1:{ports[0]}")
        _eventually_ready(found)
        bootstrap(site, "tutor", base(), PLAN.lease_s)
        yield found, [f"http://127.0.0.1:{port}" for port in ports[1::2]]


@contextmanager
def users(requests_per_s: float, urls: list[str], result: dict[str, object]) -> Iterator[None]:
    """Users who ask meanwhile; what they got is put into `result` afterwards."""
    argv = [sys.executable, "-m", "benchmarks.rollback.users", str(requests_per_s), *urls]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        result.update(json.loads(said.splitlines()[-1]))


@contextmanager
def _process(argv: list[str], log: Path) -> Iterator[None]:
    env = os.environ | {"SLIPWAY_ADMIN_TOKEN": TOKEN}
    with log.open("ab") as out, subprocess.Popen([sys.executable, *argv], env=env, stdout=out, stderr=out) as process:
        try:
            yield
        finally:
            process.kill()


def _eventually_ready(where: Place) -> None:
    deadline = time.monotonic() + START_S
    while not all(client.ready() for client in where.site.gateways.values()) or not _answers(where.upstream):
        if time.monotonic() > deadline:
            raise TimeoutError(f"gateways or upstream did not start within {START_S:g} s: see {where.site.home}/*.log")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).is_success
    except httpx.HTTPError:
        return False
