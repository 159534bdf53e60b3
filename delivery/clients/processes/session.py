"""The session that a guard leads: who is in it, also when the guard is gone, and how all of it is ended."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

START_TIME_TOLERANCE_S = 1.0  # psutil derives start times from the wall clock, which may be adjusted
KILL_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Session:
    """Named by its leader's pid *and* start time (UNIX seconds), so a pid given to somebody else is not mistaken."""

    pid: int
    started_at: float

    def leader(self) -> psutil.Process | None:
        """The guard, while it runs."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started_at) < START_TIME_TOLERANCE_S
        except psutil.NoSuchProcess:
            return None
        return found if same and _is_running(found) else None

    def is_own(self) -> bool:
        """Whether this very process started the guard."""
        return self in _guards

    def members(self) -> list[psutil.Process]:
        """Everything in the guard's session, also after the guard itself is gone.

        A pid cannot be given away while a session carries it: if it now is another process, the session has ended.
        """
        if self.leader() is None and psutil.pid_exists(self.pid) and not _is_zombie(self.pid):
            return []
        found = []
        for candidate in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
                if os.getsid(candidate.pid) != self.pid:
                    continue
                if candidate.create_time() > self.started_at - START_TIME_TOLERANCE_S and _is_running(candidate):
                    found.append(candidate)
        return found

    def end(self, grace_s: float) -> tuple[bool, list[psutil.Process]]:
        """SIGTERM to the guard, SIGKILL to who is left after the grace; whether anybody was there, and who stays."""
        members = self.members()
        if not members:
            return False, []
        leader = self.leader()
        _signal([leader] if leader else members, signal.SIGTERM)
        if not _wait_gone(members, grace_s):
            return True, []
        left = self.members()
        _signal(left, signal.SIGKILL)
        return True, _wait_gone(left, KILL_PATIENCE_S)


_guards: dict[Session, "subprocess.Popen[bytes]"] = {}  # that this very process started, and must reap


def led_by(guard: "subprocess.Popen[bytes]") -> Session:
    """The session of a guard that this process just started, and reaps from now on."""
    session = Session(guard.pid, psutil.Process(guard.pid).create_time())
    _guards[session] = guard
    return session


def exit_status(session: Session) -> int | None:
    """Of a guard that this very process started and that has ended."""
    guard = _guards.get(session)
    return guard.poll() if guard else None


def _is_running(process: psutil.Process) -> bool:
    for guard in list(_guards.values()):
        guard.poll()
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _wait_gone(processes: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those that still run after the timeout."""
    deadline = time.monotonic() + timeout_s
    left = [process for process in processes if _is_running(process)]
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [process for process in left if _is_running(process)]
    return left
