"""A small project of its own on the embedded model, its environment, and the command line as users call it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from configs.project import Project, load_project
from configs.routing import Route
from delivery.clients.gateway import GatewayClient
from delivery.traffic.records import Record
from tasks.release.site import open_ledger
from tasks.serving import local as serving

T = TypeVar("T")
TUTOR = Path("configs/tutor").absolute()
TRAINING = {"max_steps": 30, "checkpoint_every_steps": 10}
EVALS = {
    "behaviour": ["asks-guiding-question"],
    "capability": [],
    "ablation": True,
    "gates": [{"suite": "asks-guiding-question", "min_score": 0.3, "max_drop": 0.2}],
}
STAGE = {"min_requests": 8, "min_duration_s": 3, "max_duration_s": 240}
ROLLOUT = {
    "tick_s": 0.5,
    "lease_s": 4,
    "max_hold_s": 120,
    "drain_s": 2,
    "stages": [
        {"kind": "shadow", "mirror_bp": 10_000, **STAGE},
        {"kind": "canary", "share_bp": 4_000, **STAGE, "min_duration_s": 20},
        {"kind": "full", "share_bp": 9_500, **STAGE},
        {"kind": "watch", **STAGE},
    ],
    # A few requests a second: 8 without a fault show that fewer than 40 % fail, no tighter limit could be met so soon.
    "checks": [{"metric": "error_rate", "max": 0.4}],
}


@dataclass
class LiveProject:
    """One project folder, its state folder, and what surrounds a command."""

    folder: Path
    home: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def project(self) -> Project:
        """As the product reads it."""
        return load_project(self.folder)

    def slipway(self, *words: str, check: bool = True, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """Runs the command line to its end; its status must be 0 unless `check` is off."""
        done = subprocess.run(self._argv(words), env=self._env(), capture_output=True, text=True, timeout=timeout_s)
        if check and done.returncode != 0:
            raise AssertionError(f"slipway {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Starts the command line in a process group of its own."""
        log = open(self.home / f"{words[0]}.log", "ab")  # noqa: SIM115 - the child writes to it
        return subprocess.Popen(self._argv(words), env=self._env(), stdout=log, stderr=log, start_new_session=True)

    def status(self) -> dict[str, Any]:
        """`slipway status --json`."""
        return json.loads(self.slipway("status", "--json").stdout)

    def is_releasing(self) -> bool:
        """Whether the ledger knows a release that has not ended."""
        project = self.project
        with closing(open_ledger(project.environment, self.home)) as ledger:
            return ledger.unfinished(project.environment.name, project.route) is not None

    def route(self) -> Route:
        """What the gateway serves."""
        with self.gateway() as client:
            table = client.table()
        assert table is not None
        return table.routes[self.project.route]

    def gateway(self) -> GatewayClient:
        """A client of its admin side."""
        environment = self.project.environment
        return GatewayClient(serving.addresses(environment).admin_url, serving.admin_token(environment, self.home))

    def records(self) -> list[Record]:
        """All that the running gateway has measured."""
        found: list[Record] = []
        with self.gateway() as client:
            while page := client.records(found[-1].seq if found else 0).records:
                found += page
        return found

    @property
    def gateway_url(self) -> str:
        """Where users ask."""
        return serving.addresses(self.project.environment).gateway_url

    def variant(self, name: str, **changes: dict[str, Any]) -> "LiveProject":
        """A project beside this one with other settings for some files; the same environment and state."""
        folder = self.folder.with_name(name)
        folder.mkdir()
        (folder / "project.yaml").write_text(yaml.safe_dump({"route": "tutor", "extends": str(self.folder)}))
        for file, value in changes.items():
            (folder / f"{file}.yaml").write_text(yaml.safe_dump(value))
        return LiveProject(folder, self.home, self.env)

    def _argv(self, words: tuple[str, ...]) -> list[str]:
        place = ["--home", str(self.home)] + ([] if words[0] == "bundles" else ["--project", str(self.folder)])
        return [sys.executable, "-m", "flows.cli.main", words[0], *place, *words[1:]]

    def _env(self) -> dict[str, str]:
        return {**os.environ, **self.env, "USER": "tester"}


def make_project(folder: Path, home: Path, ports: tuple[int, int, int]) -> LiveProject:
    """The tutor with little training, short stages, and ports of its own."""
    folder.mkdir(parents=True)
    home.mkdir(parents=True, exist_ok=True)
    for name in ("model", "prompts", "dataset"):
        data = yaml.safe_load((TUTOR / f"{name}.yaml").read_text())
        if name == "dataset":
            data["sources"] = [{**source, "path": str(TUTOR / source["path"])} for source in data["sources"]]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(data))
    training = {**yaml.safe_load((TUTOR / "training.yaml").read_text()), **TRAINING}
    vllm, gateway, admin = ports
    environment = {"name": "live", "vllm": {"port": vllm}, "gateway": {"port": gateway, "admin_port": admin}}
    files = {"training": training, "evals": EVALS, "rollout": ROLLOUT, "environment": environment}
    for name, value in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(value))
    (folder / "project.yaml").write_text(yaml.safe_dump({"route": "tutor"}))
    return LiveProject(folder, home)


def eventually(found: Callable[[], T | None], timeout_s: float, what: str) -> T:
    """Waits for a real process to get there; the first value that is not None or False."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = found()
        if value is not None and value is not False:
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.1)


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """kill -9 for a process and what it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=120)
