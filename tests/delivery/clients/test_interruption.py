"""A signal that comes where Python, or an extension module, loses what its handler raises."""

import signal
import subprocess
import sys

import pytest
from places import ROOT

pytestmark = pytest.mark.live

# `number` comes in the midst of what Python calls by itself; the sleep is reached, and ended at once.
SCENE = """
import contextlib, os, signal, sys, threading, time, weakref
from delivery.clients.processes.interruption import leaving_tidily

class Thing:
    pass

class Dying:
    def __del__(self):
        comes()

class Lock:  # as `threading.Condition` is: its methods are Python, and call a lock's
    def __init__(self):
        self.lock = threading.Lock()

    def __enter__(self):
        self.lock.acquire()
        if place == "taking a lock":
            os.kill(os.getpid(), number)

    def __exit__(self, *error):
        if place == "giving back a lock":
            os.kill(os.getpid(), number)
        self.lock.release()

    def acquire(self):
        os.kill(os.getpid(), number)
        self.lock.acquire()

def comes():
    os.kill(os.getpid(), number)

number, place = int(sys.argv[1]), sys.argv[2]
lock = Lock()
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may themselves run under nohup
with leaving_tidily():
    try:
        if place == "callback":
            thing = Thing()
            seen = weakref.ref(thing, lambda _: comes())
            del thing
        elif place == "del":
            Dying()
        elif place == "swallowed":
            with contextlib.suppress(BaseException):
                comes()
        elif place == "converted":
            try:
                comes()
            except BaseException as error:
                text = repr(error)
        elif place in ("taking a lock", "giving back a lock"):
            with lock:
                pass
        elif place == "waiting for a lock":
            lock.lock.acquire()
            print("went on", flush=True)
            lock.acquire()
        print("went on", flush=True)
        time.sleep(600)
    finally:
        assert lock.lock.locked() == (place == "waiting for a lock")
        time.sleep(0.1)  # what is heard once is not sent again
        print("tidied", flush=True)
"""
OTHERS = """
import weakref
from delivery.clients.processes.interruption import leaving_tidily
with leaving_tidily():
    seen = weakref.ref(type("Thing", (), {})(), lambda _: 1 / 0)
"""
AT_EXIT = """
import atexit, os, signal
from delivery.clients.processes.interruption import leaving_tidily
class Late:
    def __del__(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        os.write(1, b"taken down\\n")
late = Late()
late.itself = late
with leaving_tidily():
    atexit.register(os.kill, os.getpid(), signal.SIGTERM)
"""


def run(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    root = ROOT
    argv = [sys.executable, "-c", code, *words]
    return subprocess.run(argv, cwd=root, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "place",
    ["callback", "del", "swallowed", "converted", "taking a lock", "giving back a lock", "waiting for a lock"],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_heard_though_it_came_where_exceptions_are_lost(number: int, place: str) -> None:
    found = run(SCENE, str(int(number)), place)
    assert (found.stdout, found.stderr) == ("went on\ntidied\n", "")
    assert found.returncode == 128 + number


def test_other_exceptions_that_get_lost_are_still_told() -> None:
    found = run(OTHERS)
    assert found.returncode == 0
    assert "ZeroDivisionError" in found.stderr


def test_what_is_done_is_done_though_signals_come_while_python_takes_itself_down() -> None:
    found = run(AT_EXIT)
    assert (found.returncode, found.stdout, found.stderr) == (0, "taken down\n", "")


def test_what_nohup_has_ignored_stays_ignored() -> None:
    code = """
import os, signal
from delivery.clients.processes.interruption import leaving_tidily
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with leaving_tidily():
    os.kill(os.getpid(), signal.SIGHUP)
    print("went on")
"""
    assert run(code).stdout == "went on\n"
