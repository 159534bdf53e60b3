"""Local processes: started once, found again by another command, and ended with everything that they started.

Each runs under `process_guard`, which leads a session; the pid file names the guard by pid *and* start time, so a pid
that the system gave to somebody else is never signalled. Whatever is in the guard's session belongs to the process.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from configs.errors import SlipwayError
from delivery.progress import Progress, silent

GUARD = Path(__file__).with_name("process_guard.py")
START_TIME_TOLERANCE_S = 1.0  # psutil derives start times from the wall clock, which may be adjusted
LOG_LIMIT_BYTES = 20_000_000

_children: dict[int, "subprocess.Popen[bytes]"] = {}  # guards that this very process started, and must reap


@dataclass(frozen=True)
class Command:
    """What to run. `env` is put over this process's environment; None takes a variable away.

    `settings` says in words what the process was started with: whoever finds it running compares them. They are written
    to the pid file, so no secrets belong there.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str | None] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = 10.0


@dataclass(frozen=True)
class Process:
    """A started process as its pid file remembers it. `pid` is the guard's."""

    name: str
    pid: int
    started_at: float  # UNIX seconds, of the system's process table
    log: str
    log_offset: int  # where this start's output begins
    settings: dict[str, str]
    grace_s: float = 10.0

    def alive(self) -> bool:
        """Whether the process, watched by its guard, runs."""
        return _leader(self) is not None

    def output(self) -> str:
        """What it wrote since this start (at most the last 256 KiB)."""
        try:
            with open(self.log, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self.log_offset, size - 262_144))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""


def launch(command: Command, folder: Path, *, attached: bool) -> Process:
    """Starts it without waiting for anything; what an earlier one of that name left behind is ended first.

    `attached`: it ends with this process, even when that is killed. Otherwise it lives until `stop`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stop(command.name, folder, forget=False)
    log = folder / f"{command.name}.log"
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    env = {**os.environ, **{key: value for key, value in command.env.items() if value is not None}}
    for key in [key for key, value in command.env.items() if value is None]:
        env.pop(key, None)
    parent = os.getpid() if attached else 0
    with log.open("ab") as output:
        offset = output.tell()
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(parent), str(command.grace_s), *command.argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
    _children[guard.pid] = guard
    try:
        started_at = psutil.Process(guard.pid).create_time()
        process = Process(
            command.name, guard.pid, started_at, str(log), offset, dict(command.settings), command.grace_s
        )
        _write(_pid_file(command.name, folder), json.dumps(asdict(process)))
    except BaseException:
        guard.terminate()
        raise
    return process


def start(
    command: Command,
    folder: Path,
    *,
    ready: Callable[[], bool],
    timeout_s: float,
    attached: bool,
    on_progress: Progress = silent,
    phase: Callable[[str], tuple[int, int, str]] | None = None,
) -> Process:
    """`launch`, then `wait_ready`."""
    return wait_ready(launch(command, folder, attached=attached), folder, ready, timeout_s, on_progress, phase)


def wait_ready(
    process: Process,
    folder: Path,
    ready: Callable[[], bool],
    timeout_s: float,
    on_progress: Progress = silent,
    phase: Callable[[str], tuple[int, int, str]] | None = None,
) -> Process:
    """Returns when `ready` says so. `phase` reads (done, total, text) for the progress out of the output.

    Raises SlipwayError with the output's last lines when the process dies or is not ready in time. Then, and when
    anything else interrupts the waiting (Ctrl-C), the process has been ended.
    """
    began = time.monotonic()
    try:
        while not ready():
            waited = time.monotonic() - began
            if not process.alive():
                raise died(process, "died at start")
            if waited > timeout_s:
                raise died(process, f"was not ready within {timeout_s:g} s")
            done, total, text = phase(process.output()) if phase else (0, 0, f"starting {process.name}")
            on_progress(done, total, f"{text} ({waited:.0f} s)")
            time.sleep(0.1)
    except BaseException:
        stop(process.name, folder)
        raise
    return process


def find(name: str, folder: Path) -> Process | None:
    """The running process of that name, or None when there is none (a stale pid file counts as none)."""
    process = remembered(name, folder)
    return process if process is not None and process.alive() else None


def remembered(name: str, folder: Path) -> Process | None:
    """What the pid file says, running or not; None without a usable pid file."""
    try:
        return Process(**json.loads(_pid_file(name, folder).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def stop(name: str, folder: Path, *, forget: bool = True) -> bool:
    """Ends the process of that name with all that it started; whether there was anything to end. Safe to repeat.

    `forget` removes the pid file: then nobody takes the process for one that died.
    """
    process = remembered(name, folder)
    if process is None:
        return False
    members = _members(process)
    if members:
        leader = _leader(process)
        _signal([leader] if leader else members, signal.SIGTERM)
        if _wait_gone(members, process.grace_s + 2.0):
            left = _members(process)
            _signal(left, signal.SIGKILL)
            stuck = _wait_gone(left, 5.0)
            if stuck:
                raise SlipwayError(
                    f"{name} does not end", where=f"processes {sorted(p.pid for p in stuck)}", cure="end them by hand"
                )
    if forget:
        _pid_file(name, folder).unlink(missing_ok=True)
    return bool(members)


def died(process: Process, how: str) -> SlipwayError:
    """The error for a process that is gone or useless, with the last lines that it wrote."""
    guard = _children.get(process.pid)
    code = guard.poll() if guard else None
    status = f" (exit status {code})" if code is not None else ""
    lines = telling_lines(process.output())
    text = "\n    ".join(lines) if lines else "(it wrote nothing)"
    return SlipwayError(
        f"{process.name} {how}{status}; its last lines:\n    {text}",
        where=process.log,
        cure="the cause is usually among these lines; the log has all of them",
    )


def telling_lines(output: str, last: int = 15) -> list[str]:
    """The last lines, and before them the first that names an error, where that came earlier than they do."""
    lines = [line.rstrip()[:300] for line in output.splitlines() if line.strip()]
    tail = lines[-last:]
    for line in lines[: len(lines) - len(tail)]:
        if "Error: " in line or ": error: " in line:
            return [line, "...", *tail]
    return tail


def require_free_port(host: str, port: int, setting: str) -> None:
    """Raises SlipwayError that names the port, who listens there (where the system tells) and the cure."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            holder = _listener(port)
            raise SlipwayError(
                f"port {port} on {host} cannot be used: {error.strerror}" + (f" by {holder}" if holder else ""),
                where=setting,
                cure="end that process, or set another port",
            ) from error


@contextlib.contextmanager
def exclusive(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """One command at a time starts or ends processes of a folder; the next waits, or is told False."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "processes.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _pid_file(name: str, folder: Path) -> Path:
    return folder / f"{name}.pid"


def _write(path: Path, text: str) -> None:
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _is_running(process: psutil.Process) -> bool:
    guard = _children.get(process.pid)
    if guard is not None:
        guard.poll()
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _leader(process: Process) -> psutil.Process | None:
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started_at) < START_TIME_TOLERANCE_S
    except psutil.NoSuchProcess:
        return None
    return found if same and _is_running(found) else None


def _members(process: Process) -> list[psutil.Process]:
    """Everything in the guard's session, also after the guard itself is gone.

    A pid cannot be given away while a session carries it: if it now is another process, the session has ended.
    """
    if _leader(process) is None and psutil.pid_exists(process.pid) and not _is_zombie(process.pid):
        return []
    found = []
    for candidate in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getsid(candidate.pid) != process.pid:
                continue
            if candidate.create_time() > process.started_at - START_TIME_TOLERANCE_S and _is_running(candidate):
                found.append(candidate)
    return found


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


def _listener(port: int) -> str | None:
    with contextlib.suppress(psutil.AccessDenied, psutil.NoSuchProcess):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == port:
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({' '.join(process.cmdline())[:120] or process.name()})"
    return None
