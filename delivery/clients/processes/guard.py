"""Stands between Slipway and a process it started, so that nothing outlives its purpose.

A signal or `prctl` reaches one process, vLLM is several: this small process leads a session of its own, starts the
command in a process group of its own, and ends that whole group when the command's first process dies, when it is told
to (SIGTERM, SIGINT), or when the process that asked for it is gone - after a `kill -9` too, which no handler sees. It
is run as a plain file with `python -I -S`, therefore it imports nothing but the standard library's smallest parts.

It starts nothing before a byte comes from its standard input: by then whoever asked for it has noted where to find it.
Until then it ends with its asker, so that no moment of an interruption leaves a process of which nobody knows.

    guard.py PARENT_PID GRACE_S COMMAND...      PARENT_PID 0: outlives its parent
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from types import FrameType

POLL_S = 0.1
NOT_STARTED = 127  # a shell's exit status for a command that cannot be run
PR_SET_CHILD_SUBREAPER = 36


class Guard:
    """One command and its process group."""

    def __init__(self, parent_pid: int, grace_s: float, command: list[str]):
        self.parent_pid = parent_pid
        self.grace_s = grace_s
        self.command = command
        self.asked_to_end = False
        self.status: int | None = None  # of the command's first process, once it ended

    def run(self) -> int:
        """Exit status of the command (128 + signal when a signal ended it); afterwards the group is empty."""
        if not os.read(sys.stdin.fileno(), 1):
            return NOT_STARTED
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        _adopt_orphans()
        try:
            # kept: a Popen that is collected reaps its process, and the status is lost
            child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, process_group=0)
        except OSError as error:
            print(f"cannot be started: {self.command[0]}: {error.strerror}", file=sys.stderr, flush=True)
            return NOT_STARTED
        while not self._reap(child.pid) and not self._should_end():
            time.sleep(POLL_S)
        self._end_group(child.pid)
        return self.status if self.status is not None else 128 + signal.SIGKILL

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.asked_to_end = True

    def _should_end(self) -> bool:
        return self.asked_to_end or (self.parent_pid != 0 and os.getppid() != self.parent_pid)

    def _reap(self, pid: int) -> bool:
        """Takes note of everything that ended; whether the command's first process has."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                if found[0] == pid:
                    code = os.waitstatus_to_exitcode(found[1])
                    self.status = code if code >= 0 else 128 - code
        return self.status is not None

    def _end_group(self, pid: int) -> None:
        _signal_group(pid, signal.SIGTERM)
        deadline = time.monotonic() + self.grace_s
        while _signal_group(pid, 0):
            if time.monotonic() > deadline:
                _signal_group(pid, signal.SIGKILL)
            time.sleep(POLL_S / 10)
            self._reap(pid)


def _adopt_orphans() -> None:
    """On Linux, grandchildren that lose their parent become children here: they are reaped, no init needs to do it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _signal_group(group: int, number: int) -> bool:
    """Whether there was anybody to receive it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS refuses permission where only zombies are left
        return False
    return True


if __name__ == "__main__":
    sys.exit(Guard(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]).run())
