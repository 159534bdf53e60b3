import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from configs.errors import SlipwayError
from delivery.clients.processes import local as processes
from delivery.clients.processes.local import ProcessCommand

pytestmark = pytest.mark.live

# a parent with a child and a grandchild, as vLLM has them; each writes its pid
TREE = """
echo $$ > "$0/pid-2"
sh -c 'echo $$ > "$0/pid-1"; sleep 600 & echo $! > "$0/pid-0"; wait' "$0" &
wait
"""
STUBBORN = "trap '' TERM" + TREE.replace("sh -c '", "sh -c 'while :; do sleep 600; done & ")


def python(code: str, **more) -> ProcessCommand:
    return ProcessCommand("dummy", (sys.executable, "-S", "-c", code), **more)


def tree(folder: Path, code: str = TREE, grace_s: float = 5.0) -> ProcessCommand:
    return ProcessCommand("dummy", ("sh", "-c", code, str(folder)), grace_s=grace_s)


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def pids(folder: Path) -> list[int]:
    return [int((folder / f"pid-{depth}").read_text()) for depth in (0, 1, 2)]


def whole_tree(folder: Path) -> Callable[[], bool]:
    return lambda: all((folder / f"pid-{n}").exists() and (folder / f"pid-{n}").read_text() for n in (0, 1, 2))


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for file in tmp_path.glob("*.pid"):
        processes.stop(file.stem, tmp_path)


def started(folder: Path, command: ProcessCommand, attached: bool = False) -> processes.Process:
    return processes.start(command, folder, ready=whole_tree(folder), timeout_s=120, attached=attached)


def test_a_started_process_is_found_again_and_stopped_with_its_whole_tree(folder: Path) -> None:
    process = started(folder, tree(folder))
    assert processes.find("dummy", folder) == process
    assert processes.stop("dummy", folder) is True
    assert not any(running(pid) for pid in [process.pid, *pids(folder)])
    assert processes.find("dummy", folder) is None
    assert processes.stop("dummy", folder) is False


def test_what_ignores_sigterm_is_killed_after_the_grace(folder: Path) -> None:
    started(folder, tree(folder, STUBBORN, grace_s=0.2))
    processes.stop("dummy", folder)
    assert not any(running(pid) for pid in pids(folder))


def test_when_the_first_process_dies_the_rest_of_its_group_ends_too(folder: Path) -> None:
    process = started(folder, tree(folder))
    os.kill(pids(folder)[2], signal.SIGKILL)
    until(lambda: not process.alive())
    assert not any(running(pid) for pid in pids(folder))


def test_after_the_guard_itself_was_killed_stop_still_finds_everything(folder: Path) -> None:
    process = started(folder, tree(folder))
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not process.alive())
    assert all(running(pid) for pid in pids(folder))
    assert processes.stop("dummy", folder) is True
    assert not any(running(pid) for pid in pids(folder))


LAUNCHER = """
import sys, time
from pathlib import Path
from delivery.clients.processes.local import ProcessCommand, launch
folder, attached, code = Path(sys.argv[1]), sys.argv[2] == "attached", sys.argv[3]
launch(ProcessCommand("dummy", ("sh", "-c", code, str(folder))), folder, attached=attached)
print("launched", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("lifetime", ["attached", "detached"])
def test_attached_processes_die_with_a_killed_parent_and_detached_ones_do_not(folder: Path, lifetime: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(folder), lifetime, TREE], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    until(whole_tree(folder))
    assert parent.stdout.readline() == b"launched\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    if lifetime == "attached":
        until(lambda: not any(running(pid) for pid in pids(folder)))
    else:
        process = processes.find("dummy", folder)
        assert process is not None
        assert all(running(pid) for pid in pids(folder))


def test_a_guard_that_was_not_let_begin_starts_nothing(folder: Path) -> None:
    """Its asker was interrupted, or killed, before the pid file was written: nobody could find what it starts."""
    argv = [sys.executable, "-I", "-S", str(processes.GUARD), "0", "5", "touch", str(folder / "begun")]
    guard = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
    assert guard.stdin is not None
    guard.stdin.close()
    assert guard.wait(timeout=60) == 127
    assert not (folder / "begun").exists()


def test_a_launch_that_fails_before_its_pid_file_is_written_leaves_no_process(folder: Path) -> None:
    (folder / f"dummy.{os.getpid()}.tmp").mkdir()  # where the pid file is written first
    before = set(psutil.Process().children())
    with pytest.raises(IsADirectoryError):
        processes.launch(ProcessCommand("dummy", ("touch", str(folder / "begun"))), folder, attached=False)
    guards = set(psutil.Process().children()) - before
    assert psutil.wait_procs(guards, timeout=60)[1] == []
    assert not (folder / "begun").exists()


def test_what_another_process_launched_is_not_ended_as_ones_own(folder: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(folder), "attached", TREE], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    until(whole_tree(folder))
    assert processes.end_own("dummy", folder) is False
    assert processes.find("dummy", folder) is not None
    parent.kill()
    parent.wait()
    parent.stdout.close()


def test_a_recycled_pid_is_never_signalled(folder: Path) -> None:
    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        remembered = {
            "name": "dummy",
            "pid": bystander.pid,
            "started_at": psutil.Process(bystander.pid).create_time() - 100,
            "log": str(folder / "dummy.log"),
            "log_offset": 0,
            "settings": {},
        }
        (folder / "dummy.pid").write_text(json.dumps(remembered))
        assert processes.find("dummy", folder) is None
        assert processes.stop("dummy", folder) is False
        assert bystander.poll() is None
        assert not (folder / "dummy.pid").exists()
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("content", ["", "{", "123", '{"pid": 1}', "null"])
def test_a_damaged_pid_file_counts_as_none_and_is_replaced(folder: Path, content: str) -> None:
    (folder / "dummy.pid").write_text(content)
    assert processes.find("dummy", folder) is None
    assert processes.stop("dummy", folder) is False
    assert started(folder, tree(folder)).alive()


def test_dying_at_start_shows_the_last_lines_and_the_status(folder: Path) -> None:
    code = "print('ValueError: the cause'); [print('noise', n) for n in range(40)]; raise SystemExit(3)"
    with pytest.raises(SlipwayError) as caught:
        processes.start(python(code), folder, ready=lambda: False, timeout_s=120, attached=True)
    text = str(caught.value)
    assert "dummy died at start (exit status 3)" in text
    assert "ValueError: the cause" in text
    assert "noise 39" in text
    assert "noise 20" not in text
    assert str(folder / "dummy.log") in text
    assert not (folder / "dummy.pid").exists()


def test_only_this_starts_output_is_shown_and_the_log_keeps_the_earlier_one(folder: Path) -> None:
    for word in ("first", "second"):
        with pytest.raises(SlipwayError, match=word) as caught:
            processes.start(python(f"print('{word}')"), folder, ready=lambda: False, timeout_s=120, attached=True)
    assert "first" not in str(caught.value)
    assert (folder / "dummy.log").read_text() == "first\nsecond\n"


def test_a_program_that_does_not_exist_is_named(folder: Path) -> None:
    command = ProcessCommand("dummy", ("/nowhere/python",))
    with pytest.raises(SlipwayError, match="cannot be started: /nowhere/python: No such file"):
        processes.start(command, folder, ready=lambda: False, timeout_s=120, attached=True)


def test_not_ready_in_time_ends_it(folder: Path) -> None:
    with pytest.raises(SlipwayError, match=r"was not ready within 0\.3 s"):
        processes.start(tree(folder), folder, ready=lambda: False, timeout_s=0.3, attached=True)
    assert processes.remembered("dummy", folder) is None


def test_ctrl_c_while_waiting_ends_it(folder: Path) -> None:
    def interrupted() -> bool:
        if whole_tree(folder)():
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        processes.start(tree(folder), folder, ready=interrupted, timeout_s=120, attached=True)
    assert not any(running(pid) for pid in pids(folder))


def test_who_waits_for_a_process_that_somebody_else_launched_leaves_it_alone(folder: Path) -> None:
    process = started(folder, tree(folder))

    def interrupted() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processes.wait_ready(process, interrupted, timeout_s=120)
    with pytest.raises(SlipwayError, match="was not ready"):
        processes.wait_ready(process, ready=lambda: False, timeout_s=0.1)
    assert processes.find("dummy", folder) == process


def test_only_that_very_process_is_ended_and_forgotten_not_the_one_that_took_its_name(folder: Path) -> None:
    mine = processes.launch(ProcessCommand("dummy", ("sleep", "600")), folder, attached=True)
    theirs = processes.launch(ProcessCommand("dummy", ("sleep", "601")), folder, attached=True)
    assert processes.end(mine, folder) is False
    assert processes.find("dummy", folder) == theirs
    assert processes.end(theirs, folder) is True
    assert processes.remembered("dummy", folder) is None


def test_progress_is_read_out_of_the_output(folder: Path) -> None:
    heard: list[tuple[int, int, str]] = []
    processes.start(
        ProcessCommand("dummy", ("sh", "-c", "echo step one; exec sleep 600")),
        folder,
        ready=lambda: any("one" in text for _, _, text in heard),
        timeout_s=120,
        attached=True,
        on_progress=lambda done, total, text: heard.append((done, total, text)),
        phase=lambda output: (1, 4, output.strip() or "nothing yet"),
    )
    assert heard[-1][:2] == (1, 4)
    assert heard[-1][2].startswith("step one (")


def test_the_environment_is_extended_and_variables_can_be_taken_away(folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("TAKEN", "x")
    command = ProcessCommand("dummy", ("sh", "-c", "echo $GIVEN ${TAKEN-away}"), env={"GIVEN": "given", "TAKEN": None})
    process = processes.launch(command, folder, attached=True)
    until(lambda: process.output() == "given away\n")


def test_settings_are_remembered_for_who_finds_it_running(folder: Path) -> None:
    processes.launch(ProcessCommand("dummy", ("sleep", "600"), settings={"dtype": "float32"}), folder, attached=True)
    found = processes.find("dummy", folder)
    assert found is not None
    assert found.settings == {"dtype": "float32"}


def test_an_error_far_above_the_end_is_shown_with_the_last_lines() -> None:
    output = "\n".join(["start", "RuntimeError: root cause", *(f"line {n}" for n in range(50))])
    lines = processes.telling_lines(output)
    assert lines[:2] == ["RuntimeError: root cause", "..."]
    assert lines[-1] == "line 49"
    assert len(lines) == 17
