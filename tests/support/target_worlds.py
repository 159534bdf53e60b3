"""The same environment on every kind of target: stubs in vLLM's place, real gateways, real supervisors, and users."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from release_child import PLAN, TOKEN
from release_fakes import lora_bundle
from stub_project import Running, stub_project
from stub_vllm import StubVllm

from configs.project import Project
from delivery.build.bundle import Bundle
from delivery.build.gate import GateDecision
from delivery.clients.processes.ports import free_ports
from delivery.clients.vllm import VllmClient
from tasks.release.outcome import ReleaseOutcome
from tasks.release.run import run_release
from tasks.release.site import open_ledger, open_site_of
from tasks.serving import environment
from tasks.serving import local as serving
from tasks.serving.target import Target
from tasks.serving.targets import target_of


@dataclass
class TargetWorld:
    """A project on its target. `lose_adapters`: a replica comes back without them, by whoever restarts it."""

    project: Project
    home: Path
    users_urls: tuple[str, ...]
    lose_adapters: Callable[[], None]
    started: frozenset[str] = frozenset()  # what `up` starts and `down` ends, by name
    stays: frozenset[str] = frozenset()  # the URLs of what others run, which goes on after `down`
    failed: list[str] = field(default_factory=list)
    asked: int = 0

    @property
    def target(self) -> Target:
        return target_of(self.project.environment, self.home)

    @property
    def base(self) -> Path:
        """The base model's folder."""
        assert self.project.model.path is not None
        return Path(self.project.model.path)

    def models(self) -> list[dict[str, str]]:
        """Of each replica, by name where it comes from."""
        found = []
        for url in self.target.replicas:
            with VllmClient(url, os.environ.get("SLIPWAY_VLLM_API_KEY")) as client:
                found.append(client.models())
        return found

    def ask(self, http: httpx.Client, user: int) -> None:
        self.asked += 1
        body = {"model": "tutor", "messages": [{"role": "user", "content": "1 + 1?"}]}
        url = self.users_urls[self.asked % len(self.users_urls)]
        try:
            answer = http.post(f"{url}/v1/chat/completions", json=body, headers={"x-slipway-user": f"u{user}"})
            if answer.status_code != 200:
                self.failed.append(answer.text)
        except httpx.HTTPError as error:
            self.failed.append(repr(error))

    @contextmanager
    def users(self, at_once: int = 2) -> Iterator[None]:
        """So many ask all the while, as a hundred users, each gateway in turn."""
        stop = threading.Event()

        def go_on() -> None:
            with httpx.Client(timeout=60, trust_env=False) as http:
                for number in count():
                    self.ask(http, number % 100)
                    if stop.wait(0.02):
                        return

        threads = [threading.Thread(target=go_on) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(65)

    def built(self, seed: int = 1) -> Bundle:
        bundle = lora_bundle(self.home, seed)
        ledger = open_ledger(self.project.environment, self.home)
        ledger.add_build(bundle, GateDecision(passed=True, findings=()), time.time())
        ledger.close()
        return bundle

    def release(self, bundle: Bundle, on_progress: Callable[[int, int, str], None]) -> ReleaseOutcome:
        with open_site_of(self.project, self.home) as site:
            return run_release(self.project, bundle, site, on_progress=on_progress)


PLAN_FILE = PLAN.model_dump(mode="json")


@contextmanager
def local_world(folder: Path) -> Iterator[TargetWorld]:
    """vLLM's stub and the gateway are processes of Slipway's."""
    project = stub_project(folder, rollout=PLAN_FILE)
    running = Running(project, folder / "home")
    url = serving.addresses(project.environment).gateway_url
    try:
        started = frozenset({"vllm", "gateway", serving.SUPERVISOR})
        yield TargetWorld(project, running.home, (url,), lambda: running.kill("vllm"), started)
    finally:
        environment.stop(project, running.home)


@dataclass
class Others:
    """What somebody else runs: replicas and gateways. `mounted`: as the replicas name the adapters' folder."""

    replica_urls: list[str]
    admin_urls: list[str]
    users_urls: list[str]
    gateways: list["subprocess.Popen[bytes]"]
    mounted: str = "/mnt/adapters"

    def environment(self, **more: Any) -> dict[str, Any]:
        target = {
            "kind": "external",
            "replicas": list(self.replica_urls),
            "gateways": list(self.admin_urls),
            "adapters_on_replicas": self.mounted,
        }
        return {"target": target | more}


@contextmanager
def others(folder: Path, replica_urls: list[str], gateways: int = 2) -> Iterator[Others]:
    """These replicas, and so many gateways, started by hand."""
    ports = free_ports(2 * gateways)
    with ExitStack() as stack:
        found = Others(replica_urls, [], [], [])
        for number, (port, admin) in enumerate(zip(ports[::2], ports[1::2], strict=True)):
            config = {"port": port, "admin_port": admin, "table_state": str(folder / f"table-{number}.json")}
            (folder / f"gateway-{number}.yaml").write_text(json.dumps(config))
            command = [sys.executable, "-m", "delivery.gateway", "--config", str(folder / f"gateway-{number}.yaml")]
            env = os.environ | {"SLIPWAY_ADMIN_TOKEN": TOKEN}
            process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
            stack.callback(process.wait, 120)
            stack.callback(process.terminate)
            found.gateways.append(process)
            found.admin_urls.append(f"http://127.0.0.1:{admin}")
            found.users_urls.append(f"http://127.0.0.1:{port}")
        for url in found.admin_urls:
            _until_ready(url)
        yield found


@contextmanager
def external_world(folder: Path) -> Iterator[TargetWorld]:
    """Two replicas and two gateways that others run, and one controller."""
    with StubVllm() as one, StubVllm() as other, others(folder, [one.url, other.url]) as there:
        project = stub_project(folder, rollout=PLAN_FILE, environment=there.environment())

        def lose_adapters() -> None:
            other.cards = {"base": other.cards["base"]}

        try:
            started = frozenset({serving.SUPERVISOR})
            stays = frozenset({*there.replica_urls, *there.admin_urls})
            yield TargetWorld(project, folder / "home", tuple(there.users_urls), lose_adapters, started, stays)
        finally:
            environment.stop(project, folder / "home")


@contextmanager
def combined_world(folder: Path) -> Iterator[TargetWorld]:
    """Two replicas that others run, under another path, and vLLM's stub and the gateway as processes of Slipway's."""
    with StubVllm() as one, StubVllm() as other:
        rack = {"kind": "external", "replicas": [one.url, other.url], "gateways": [], "adapters_on_replicas": "/mnt/a"}
        target = {"kind": "combined", "members": {"rack": rack, "here": {"kind": "local"}}}
        project = stub_project(folder, rollout=PLAN_FILE, more_of_environment={"target": target})
        running = Running(project, folder / "home")

        def lose_adapters() -> None:
            other.cards = {"base": other.cards["base"]}
            running.kill("vllm")

        started = frozenset({"vllm", "gateway", serving.SUPERVISOR})
        try:
            url = serving.addresses(project.environment).gateway_url
            yield TargetWorld(project, running.home, (url,), lose_adapters, started, frozenset({one.url, other.url}))
        finally:
            environment.stop(project, running.home)


def _until_ready(url: str) -> None:
    deadline = time.monotonic() + 120
    while serving.gateway_health(url, TOKEN) != "ok":
        assert time.monotonic() < deadline
        time.sleep(0.02)
