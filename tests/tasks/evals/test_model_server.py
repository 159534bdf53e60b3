"""The vLLM that a build evaluates on: a stub in its place, and the environment's own beside it."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from stub_project import Running, stub_project, until

from configs.errors import SlipwayError
from delivery.clients.processes import local as processes
from delivery.clients.processes.local import ProcessCommand
from delivery.progress import Progress, silent
from tasks.evals.model_server import ENVIRONMENTS, OWN, model_server, require_place
from tasks.serving import local as serving
from tasks.serving.vllm_command import vllm_command

pytestmark = pytest.mark.live


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    place = Running(stub_project(tmp_path), tmp_path / "home")
    yield place
    for file in place.folder.glob("*.pid"):
        processes.stop(file.stem, place.folder)


def start_the_environments(place: Running, *arguments: str) -> processes.Process:
    """As `slipway up` launches it, without waiting."""
    vllm = place.project.environment.vllm.model_copy(update={"extra_args": arguments})
    command = vllm_command(vllm, "base", place.home.parent / "model", 1024)
    return processes.launch(command, place.folder, attached=True)


def pretend_a_supervisor(place: Running) -> None:
    processes.launch(ProcessCommand(serving.SUPERVISOR, ("sleep", "600")), place.folder, attached=True)


def served(place: Running, on_progress: Progress = silent) -> AbstractContextManager[str]:
    return model_server(place.project, place.home.parent / "model", place.home, on_progress)


def test_where_nothing_runs_one_is_started_and_ends_with_the_block(running: Running) -> None:
    require_place(running.project, running.home)
    with served(running) as url:
        assert httpx.get(f"{url}/health").status_code == 200
        assert set(running.pids()) == {OWN}
    assert running.pids() == {}
    assert not running.vllm_answers()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_one_that_was_started_here_ends_when_the_block_is_interrupted(running: Running, error: type) -> None:
    with pytest.raises(error), served(running):
        raise error
    assert running.pids() == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_environments_own_is_used_and_survives_whatever_happens(running: Running, error: type) -> None:
    process = start_the_environments(running)
    until(running.vllm_answers)
    with pytest.raises(error), served(running):
        raise error
    assert running.find(ENVIRONMENTS) == process
    assert set(running.pids()) == {ENVIRONMENTS}


def test_the_environments_own_is_waited_for_while_it_starts(running: Running) -> None:
    process = start_the_environments(running, "--start-s", "1")
    assert not running.vllm_answers()
    with served(running):
        assert running.vllm_answers()
    assert running.find(ENVIRONMENTS) == process


def test_who_gives_up_waiting_for_the_environments_own_leaves_it_alone(running: Running) -> None:
    process = start_the_environments(running, "--start-s", "600")
    impatient = running.project.environment.vllm.model_copy(update={"start_timeout_s": 0.3})
    environment = running.project.environment.model_copy(update={"vllm": impatient})
    hurried = replace(running, project=replace(running.project, environment=environment))
    with pytest.raises(SlipwayError, match=r"has not answered for 0\.3 s"), served(hurried):
        pass
    assert running.find(ENVIRONMENTS) == process

    def interrupted(done: int, total: int, text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), served(running, interrupted):
        pass
    assert running.find(ENVIRONMENTS) == process


def test_one_that_died_is_waited_for_while_its_supervisor_starts_it_again(running: Running) -> None:
    start_the_environments(running)
    pretend_a_supervisor(running)
    running.kill(ENVIRONMENTS)
    require_place(running.project, running.home)
    revived: list[processes.Process] = []
    revival = threading.Timer(1.0, lambda: revived.append(start_the_environments(running)))
    revival.start()
    with served(running):
        revival.join()
        assert running.find(ENVIRONMENTS) == revived[0]
        assert running.find(OWN) is None
    assert running.find(ENVIRONMENTS) == revived[0]


def test_one_that_died_without_a_supervisor_is_not_waited_for_and_stays_on_record(running: Running) -> None:
    process = start_the_environments(running)
    running.kill(ENVIRONMENTS)
    with served(running):
        assert set(running.pids()) == {OWN}
    assert processes.remembered(ENVIRONMENTS, running.folder) == process


def test_another_builds_own_is_refused_since_it_ends_with_that_build(running: Running) -> None:
    with served(running):
        other = running.find(OWN)
        with pytest.raises(SlipwayError, match="another build") as caught, served(running):
            pass
        assert "slipway up" in caught.value.cure
        assert running.find(OWN) == other


def test_one_that_serves_another_model_is_refused_and_left_alone(running: Running) -> None:
    process = start_the_environments(running)
    until(running.vllm_answers)
    model = running.project.model.model_copy(update={"name": "another"})
    with (
        pytest.raises(SlipwayError, match="does not serve another; it serves base"),
        served(replace(running, project=replace(running.project, model=model))),
    ):
        pass
    assert running.find(ENVIRONMENTS) == process
