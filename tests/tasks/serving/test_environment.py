"""An environment's start, whole or not at all: the real gateway and supervisor, a stub in vLLM's place."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from release_fakes import lora_bundle
from stub_project import Running, hears_ctrl_c, interrupt, stub_project, until

from configs.project import Project
from delivery.clients.ledger.ledger import LeaseHeldError
from delivery.clients.processes import local as processes
from delivery.clients.processes.local import ProcessCommand
from delivery.progress import silent
from delivery.release.decide import new_state
from tasks.release.site import open_ledger, served_as
from tasks.serving import environment

pytestmark = pytest.mark.live

ALL = {"vllm", "gateway", "supervisor"}
SOMEBODY = "ann@elsewhere:1:1:abc"  # of another machine, so it may well be alive


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Project:
    """Its vLLM takes so many seconds to start, 1 where the test does not say."""
    return stub_project(tmp_path, "--start-s", getattr(request, "param", "1"))


@pytest.fixture
def running(project: Project, tmp_path: Path) -> Iterator[Running]:
    place = Running(project, tmp_path / "home")
    yield place
    environment.stop(place.project, place.home)


def take_lease(place: Running, seconds: float) -> None:
    with closing(open_ledger(place.project.environment, place.home)) as ledger:
        ledger.acquire("local", SOMEBODY, seconds, time.time())


def slipway(place: Running, *words: str) -> subprocess.Popen[str]:
    """The real command, in a session and so a process group of its own, as a shell starts it."""
    argv = [
        sys.executable,
        "-m",
        "flows.cli.main",
        *words,
        "--project",
        str(place.project.folder),
        "--home",
        place.home,
    ]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=hears_ctrl_c)


def test_it_starts_stops_and_starts_again(running: Running) -> None:
    environment.start(running.project, running.home, silent, attached=True)
    before = running.pids()
    assert set(before) == ALL
    environment.start(running.project, running.home, silent, attached=True)
    assert running.pids() == before
    assert set(environment.stop(running.project, running.home)) == ALL
    assert running.pids() == {}


def test_everything_below_a_state_folder_can_be_ended_before_it_is_removed(running: Running) -> None:
    environment.start(running.project, running.home, silent, attached=True)
    demo = running.home / "demo" / "environments" / "local"
    traffic = processes.launch(ProcessCommand("traffic", ("sleep", "600")), demo, attached=True)
    expected = [f"environments/local/{name}" for name in ("supervisor", "gateway", "vllm")]
    assert environment.stop_all(running.home) == ("demo/environments/local/traffic", *expected)
    assert running.pids() == {}
    assert not traffic.alive()
    assert environment.stop_all(running.home) == ()


def test_when_somebody_else_controls_it_nothing_that_was_started_is_left(running: Running) -> None:
    take_lease(running, 3600.0)
    with pytest.raises(LeaseHeldError, match="ann@elsewhere"):
        environment.start(running.project, running.home, silent, attached=True)
    assert running.pids() == {}


def test_what_ran_before_a_start_that_failed_runs_on(running: Running) -> None:
    environment.start(running.project, running.home, silent, attached=True)
    before = running.pids()
    take_lease(running, 3600.0)
    processes.stop("gateway", running.folder)
    with pytest.raises(LeaseHeldError):
        environment.start(running.project, running.home, silent, attached=True)
    assert running.pids() == {name: pid for name, pid in before.items() if name != "gateway"}


def test_whoever_has_the_lease_for_a_moment_is_waited_for_and_named(running: Running) -> None:
    said: list[str] = []

    def told(done: int, total: int, text: str) -> None:
        said.append(text)
        if "waiting" in text:
            with closing(open_ledger(running.project.environment, running.home)) as ledger:
                ledger.release_lease("local", SOMEBODY, time.time())

    take_lease(running, 3600.0)
    environment.start(running.project, running.home, told, attached=True)
    assert set(running.pids()) == ALL
    assert any("waiting" in text and "ann@elsewhere" in text for text in said), said


def test_during_a_release_its_controller_is_left_to_see_to_what_is_served(running: Running) -> None:
    said: list[str] = []
    environment.start(running.project, running.home, silent, attached=True)
    bundle = lora_bundle(running.home)
    with environment.open_site_of(running.project, running.home) as site:
        row = site.ledger.route("local", "tutor")
        assert row is not None
        state = new_state("r1", "local", "tutor", served_as(bundle, site), row.live, time.time(), {})
        site.ledger.acquire("local", SOMEBODY, 3600.0, time.time())
        site.ledger.begin(state, running.project.rollout, bundle, SOMEBODY, 3600.0, time.time(), "ann")
    environment.stop(running.project, running.home)
    environment.start(running.project, running.home, lambda done, total, text: said.append(text), attached=True)
    assert set(running.pids()) == ALL
    assert "release r1 is under way: its controller sees to what is served" in said


@pytest.mark.parametrize("project", ["8"], indirect=True)  # so that it is under way when the signal comes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_leaves_nothing_and_the_same_command_goes_on(running: Running, number: int) -> None:
    up = slipway(running, "up")
    until(lambda: {"vllm", "gateway"} <= set(running.pids()))
    assert interrupt(up, number, 120.0) == 128 + number
    assert running.pids() == {}
    assert up.stderr is not None
    assert "Traceback" not in up.stderr.read()
    up.stderr.close()
    with slipway(running, "up") as again:
        assert again.wait(timeout=300) == 0
        assert again.stderr is not None
        assert len(again.stderr.readlines()) < 10  # it waits for seconds, and looks ten times in each
    assert set(running.pids()) == ALL
    assert running.vllm_answers()
