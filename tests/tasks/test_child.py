"""A child's result, error or death reaches its parent, and no child outlives it."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest
from places import SUPPORT

from configs.errors import Problem, SlipwayError
from tasks import child

pytestmark = pytest.mark.live


def run(folder, what, on_event=lambda event: None):
    spec = folder / "spec.json"
    spec.write_text(json.dumps({"do": what}))
    child.call("stub_worker", spec, folder / "log", on_event, {"PYTHONPATH": str(SUPPORT)})


def test_events_arrive_and_what_libraries_print_goes_to_the_log(tmp_path):
    events = []
    run(tmp_path, "nothing", events.append)
    assert [event["event"] for event in events] == ["pid"]
    assert (tmp_path / "log").read_text() == "a library prints this\n"


def test_a_refusal_keeps_its_place_and_cure(tmp_path):
    with pytest.raises(SlipwayError) as caught:
        run(tmp_path, "refuse")
    error = caught.value
    assert (error.what, error.where, error.cure, error.problems) == ("no", "there", "try", (Problem("a", "b", "c"),))


def test_a_crash_shows_the_last_lines_of_the_log(tmp_path):
    with pytest.raises(SlipwayError, match="exit status 1") as caught:
        run(tmp_path, "crash")
    assert "RuntimeError: a bug" in str(caught.value)


@pytest.mark.parametrize("how", ["fill the disk", "fill it with safetensors", "fill it and hide it"])
def test_a_full_disk_is_said_with_its_place_whatever_library_ran_into_it(tiny_disk, how):
    with pytest.raises(SlipwayError, match="cannot write what a stub writes: No space left on device") as caught:
        run(tiny_disk, how)
    assert str(tiny_disk) in caught.value.where
    assert "make room there" in caught.value.cure


def test_a_child_killed_from_outside_is_told_from_a_crash(tmp_path):
    with pytest.raises(SlipwayError, match="killed by signal 9"):
        run(tmp_path, "wait", lambda event: os.kill(event["pid"], signal.SIGKILL))


def test_an_interrupted_parent_ends_its_child(tmp_path):
    pids = []

    def interrupt(event):
        pids.append(event["pid"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "wait", interrupt)
    assert not psutil.pid_exists(pids[0])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_child_outlives_a_killed_parent(tmp_path, how):
    spec = tmp_path / "spec.json"
    spec.write_text('{"do": "wait"}')
    code = (
        "import sys; from pathlib import Path; from tasks import child\n"
        "child.call('stub_worker', Path(sys.argv[1]), Path(sys.argv[2]), lambda e: print(e['pid'], flush=True),"
        " {'PYTHONPATH': sys.argv[3]})"
    )
    arguments = [sys.executable, "-c", code, str(spec), str(tmp_path / "log"), str(SUPPORT)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        orphan = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(how)
    psutil.wait_procs([orphan], timeout=120)
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
