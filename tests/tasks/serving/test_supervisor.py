"""The supervisor as a process, beside the real gateway and a stub in vLLM's place."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from places import ROOT, SUPPORT
from release_fakes import lora_bundle
from stub_project import stub_project, until

from configs.project import Project
from delivery.build.bundle import Bundle
from delivery.build.gate import GateDecision
from delivery.progress import silent
from tasks.release.run import run_release
from tasks.release.site import open_site_of
from tasks.serving import environment
from tasks.serving import local as serving

PLAN = {
    "tick_s": 0.2,
    "lease_s": 3,
    "drain_s": 0.5,
    "stages": [
        {"kind": "canary", "share_bp": 5000, "min_requests": 5},
        {"kind": "full", "share_bp": 9000, "min_requests": 5},
    ],
    "checks": [{"metric": "error_rate", "max": 0.5}],
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return stub_project(tmp_path, rollout=PLAN)


@pytest.fixture
def home(project: Project, tmp_path: Path) -> Iterator[Path]:
    """Everything runs, the supervisor too."""
    environment.start(project, tmp_path / "home", silent, attached=True)
    yield tmp_path / "home"
    environment.stop(project, tmp_path / "home")


@contextmanager
def users(project: Project) -> Iterator[list[int]]:
    """They ask all the while; the answers' statuses."""
    url, statuses, stop = serving.addresses(project.environment).gateway_url, [], threading.Event()

    def ask() -> None:
        number = 0
        while not stop.wait(0.02):
            number += 1
            body = {"model": "tutor", "user": f"u{number % 50}", "messages": [{"role": "user", "content": "2 + 2?"}]}
            statuses.append(httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        thread.join()


def put_live(project: Project, home: Path) -> Bundle:
    bundle = lora_bundle(home)
    with open_site_of(project, home) as site:
        site.ledger.add_build(bundle, GateDecision(passed=True, findings=()), time.time())
        assert run_release(project, bundle, site).outcome == "live"
    return bundle


@pytest.mark.live
@pytest.mark.parametrize("entries", [1, 2, 3], ids=["asked for", "routing on record", "its first decision"])
def test_the_supervisor_finishes_a_rollback_that_was_killed(project: Project, home: Path, entries: int) -> None:
    with users(project) as statuses:
        bundle = put_live(project, home)
        words = [sys.executable, str(SUPPORT / "rollback_child.py"), str(project.folder), str(home), str(entries)]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        assert subprocess.run(words, check=False, timeout=300, cwd=ROOT, env=env).returncode == -9
        with open_site_of(project, home) as site:
            until(lambda: site.ledger.releases("local")[0]["phase"] == "rolled_back", 300)
            until(lambda: environment.status(project, home).left_behind is None)
            assert bundle.served_name not in site.vllm(site.upstreams[0]).models()
            assert "complaints" in site.ledger.quarantined(bundle.digest)
        status = environment.status(project, home)
    assert (status.unfinished, status.previous) == (None, None)
    assert list(status.shares.values()) == [10_000]
    assert set(statuses) == {200}
    log = (home / "environments" / "local" / "supervisor.log").read_text()
    assert "which was left behind, is complete" in log, json.dumps(log)
