"""The restart policy, with a process that ends and health that is said: only the clock is made up."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from delivery.clients.processes import local as processes
from delivery.clients.processes.local import ProcessCommand
from delivery.clients.processes.ports import Port
from tasks.serving.keep_alive import Incident, KeepAlive, ProcessHealth, RestartPolicy
from tasks.serving.processes import Processes, SupervisedProcess

POLICY = RestartPolicy(tries=2, first_delay_s=1.0, factor=10.0, silent_s=60.0, stable_s=300.0)
LIVES, DIES = ("sleep", "600"), ("sh", "-c", "echo last words; exit 4")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Scene:
    def __init__(self, folder: Path):
        self.folder = folder
        self.health: ProcessHealth = "ok"
        self.keeper = self.keeping(LIVES)

    def keeping(self, argv: tuple[str, ...]) -> KeepAlive:
        command = ProcessCommand("dummy", argv)
        part = SupervisedProcess("dummy", lambda: self.health, 45.0, command, attached=True)
        return KeepAlive(Processes([part], self.folder), POLICY)

    def launch(self, argv: tuple[str, ...] = LIVES) -> None:
        process = processes.launch(ProcessCommand("dummy", argv), self.folder, attached=True)
        if argv == DIES:
            until(lambda: not process.alive())

    def kinds(self, now: float) -> list[str]:
        return [event.kind for event in self.keeper.check(now)]

    def kill(self) -> None:
        process = processes.find("dummy", self.folder)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: not process.alive())

    def pid(self) -> int:
        process = processes.find("dummy", self.folder)
        assert process is not None
        return process.pid


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    yield Scene(tmp_path)
    processes.stop("dummy", tmp_path)


def test_a_healthy_process_is_left_alone(scene: Scene) -> None:
    scene.launch()
    pid = scene.pid()
    assert [scene.kinds(now) for now in range(0, 600, 60)] == [[]] * 10
    assert scene.pid() == pid


def test_what_was_never_started_or_was_stopped_on_purpose_stays_stopped(scene: Scene) -> None:
    assert scene.kinds(0) == []
    scene.launch()
    processes.stop("dummy", scene.folder)
    assert [scene.kinds(now) for now in (1, 10, 100)] == [[], [], []]


def test_a_dead_one_is_restarted_and_reported_back(scene: Scene) -> None:
    scene.launch(DIES)
    (died,) = scene.keeper.check(0)
    assert died.kind == "died"
    assert "exit status 4" in died.text
    assert "last words" in died.text
    assert scene.kinds(0.5) == []
    scene.health = "silent"
    assert scene.kinds(1) == ["restarting"]
    assert scene.kinds(30) == []  # still starting
    scene.health = "ok"
    assert scene.keeper.check(31) == (Incident("dummy", "back", "dummy serves again after 30 s"),)
    assert scene.kinds(32) == []


def test_after_the_last_try_it_gives_up_once_and_says_so(scene: Scene) -> None:
    scene.keeper = scene.keeping(DIES)
    scene.launch(DIES)
    seen = []
    for now in (0, 1, 2, 12, 13, 1000, 2000):
        seen.append(scene.kinds(now))
        process = processes.remembered("dummy", scene.folder)
        until(lambda process=process: process is None or not process.alive())
    assert seen == [["died"], ["restarting"], ["died"], ["restarting"], ["died", "gave_up"], [], []]


def test_after_it_gave_up_one_that_somebody_else_started_is_kept_alive_again(scene: Scene) -> None:
    scene.keeper = scene.keeping(DIES)
    scene.launch(DIES)
    for now in (0, 1, 2, 12, 13):
        last = scene.kinds(now)
        process = processes.remembered("dummy", scene.folder)
        until(lambda process=process: process is None or not process.alive())
    assert last == ["died", "gave_up"]
    scene.launch()
    assert scene.kinds(100) == ["back"]
    scene.kill()
    assert [scene.kinds(now) for now in (101, 102)] == [["died"], ["restarting"]]


def test_after_it_gave_up_one_that_only_needed_more_time_is_kept_alive_again(scene: Scene) -> None:
    scene.launch(DIES)
    scene.health = "silent"
    assert [scene.kinds(now) for now in (0, 1, 47, 57)] == [["died"], ["restarting"], ["died"], ["restarting"]]
    assert [scene.kinds(now) for now in (103, 104)] == [["died", "gave_up"], []]
    scene.health = "ok"
    assert [scene.kinds(now) for now in (200, 201)] == [["back"], []]
    scene.kill()
    assert [scene.kinds(now) for now in (202, 203)] == [["died"], ["restarting"]]


def test_one_that_somebody_else_started_meanwhile_is_not_restarted_and_may_take_its_time(scene: Scene) -> None:
    scene.launch(DIES)
    assert scene.kinds(0) == ["died"]
    scene.launch()
    pid = scene.pid()
    scene.health = "silent"
    assert [scene.kinds(now) for now in (1, 20, 40)] == [[], [], []]
    scene.health = "ok"
    assert scene.keeper.check(44) == (Incident("dummy", "back", "dummy serves again after 43 s"),)
    assert scene.pid() == pid


def test_a_dead_engine_behind_a_living_server_is_a_death(scene: Scene) -> None:
    scene.launch()
    pid = scene.pid()
    scene.health = "dead"
    (died,) = scene.keeper.check(0)
    assert "says that its engine died" in died.text
    assert scene.kinds(1) == ["restarting"]
    assert scene.pid() != pid


def test_silence_is_borne_for_a_while_because_load_explains_it(scene: Scene) -> None:
    scene.launch()
    scene.health = "silent"
    assert [scene.kinds(now) for now in (0, 30, 60)] == [[], [], []]
    scene.health = "ok"
    assert scene.kinds(61) == []
    scene.health = "silent"
    assert [scene.kinds(now) for now in (62, 122)] == [[], []]
    (died,) = scene.keeper.check(123)
    assert "has not answered for 61 s" in died.text


def test_a_start_that_takes_too_long_is_a_death(scene: Scene) -> None:
    scene.launch(DIES)
    scene.health = "silent"
    assert [scene.kinds(now) for now in (0, 1, 46)] == [["died"], ["restarting"], []]
    (died,) = scene.keeper.check(46.5)
    assert "was not ready within 45 s" in died.text


def test_tries_are_forgotten_after_a_long_good_time(scene: Scene) -> None:
    scene.launch(DIES)
    assert [scene.kinds(now) for now in (0, 1, 2)] == [["died"], ["restarting"], ["back"]]
    assert scene.kinds(303) == []
    scene.kill()
    assert scene.kinds(304) == ["died"]
    assert scene.kinds(305) == ["restarting"]  # after the first delay again, not the second


def test_while_another_command_is_at_work_it_waits(scene: Scene) -> None:
    scene.launch(DIES)
    assert scene.kinds(0) == ["died"]
    with processes.exclusive(scene.folder):
        assert scene.kinds(1) == []
    assert scene.kinds(2) == ["restarting"]


def test_a_restart_that_is_impossible_is_told_and_counts_as_a_try(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        part = SupervisedProcess(
            "dummy",
            lambda: "ok",
            45.0,
            ProcessCommand("dummy", LIVES),
            ports=(Port("127.0.0.1", port, "x.yaml: port"),),
            attached=True,
        )
        keeper = KeepAlive(Processes([part], tmp_path), POLICY)
        process = processes.launch(ProcessCommand("dummy", DIES), tmp_path, attached=True)
        until(lambda: not process.alive())
        seen = [[event.kind for event in keeper.check(now)] for now in (0, 1, 11, 12)]
        assert seen == [["died"], ["died"], ["died", "gave_up"], []]
    processes.stop("dummy", tmp_path)
