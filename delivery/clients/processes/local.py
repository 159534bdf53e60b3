"""Local processes: started once, found again by another command, and ended with everything that they started.

Each runs under `guard`, which leads a session; the pid file names the guard by pid *and* start time, so a pid
that the system gave to somebody else is never signalled. Whatever is in the guard's session belongs to the process.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from configs.errors import SlipwayError
from delivery.clients.processes.session import Session, exit_status, led_by
from delivery.progress import Progress, silent

GUARD = Path(__file__).with_name("guard.py")
LOG_LIMIT_BYTES = 20_000_000


@dataclass(frozen=True)
class ProcessCommand:
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
        return self.session.leader() is not None

    @property
    def session(self) -> Session:
        """Everything that belongs to it."""
        return Session(self.pid, self.started_at)

    def output(self) -> str:
        """What it wrote since this start (at most the last 256 KiB)."""
        try:
            with open(self.log, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self.log_offset, size - 262_144))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""


def launch(command: ProcessCommand, folder: Path, *, attached: bool) -> Process:
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
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
    try:
        started_at = led_by(guard).started_at
        process = Process(
            command.name, guard.pid, started_at, str(log), offset, dict(command.settings), command.grace_s
        )
        _write(_pid_file(command.name, folder), json.dumps(asdict(process)))
        _let_it_begin(guard)
    except BaseException:
        guard.terminate()
        raise
    return process


def start(
    command: ProcessCommand,
    folder: Path,
    *,
    ready: Callable[[], bool],
    timeout_s: float,
    attached: bool,
    on_progress: Progress = silent,
    phase: Callable[[str], tuple[int, int, str]] | None = None,
) -> Process:
    """`launch`, then `wait_ready`. What does not become ready, or is not waited for (Ctrl-C), has been ended."""
    try:
        return wait_ready(launch(command, folder, attached=attached), ready, timeout_s, on_progress, phase)
    except BaseException:
        end_own(command.name, folder)
        raise


def wait_ready(
    process: Process,
    ready: Callable[[], bool],
    timeout_s: float,
    on_progress: Progress = silent,
    phase: Callable[[str], tuple[int, int, str]] | None = None,
) -> Process:
    """Returns when `ready` says so. `phase` reads (done, total, text) for the progress out of the output.

    Raises SlipwayError with the output's last lines when the process dies or is not ready in time. It is not ended
    then: whoever launched it does that.
    """
    began = time.monotonic()
    while not ready():
        waited = time.monotonic() - began
        if not process.alive():
            raise died(process, "died at start")
        if waited > timeout_s:
            raise died(process, f"was not ready within {timeout_s:g} s")
        done, total, text = phase(process.output()) if phase else (0, 0, f"starting {process.name}")
        on_progress(done, total, f"{text} ({waited:.0f} s)")
        time.sleep(0.1)
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
    """Ends whatever runs under that name; whether there was anything to end. Safe to repeat. `forget`: see `end`."""
    process = remembered(name, folder)
    return process is not None and end(process, folder, forget=forget)


def end(process: Process, folder: Path, *, forget: bool = True) -> bool:
    """Ends this very process with all that it started, never one that has taken its name since; whether it was there.

    `forget` removes its pid file: then nobody takes the process for one that died.
    """
    was_there, stuck = process.session.end(process.grace_s + 2.0)
    if stuck:
        raise SlipwayError(
            f"{process.name} does not end", where=f"processes {sorted(p.pid for p in stuck)}", cure="end them by hand"
        )
    if forget and remembered(process.name, folder) == process:
        _pid_file(process.name, folder).unlink(missing_ok=True)
    return was_there


def end_own(name: str, folder: Path, *, forget: bool = True) -> bool:
    """`stop`, but only what this very process launched: for an interruption, which may come before `launch` returns."""
    process = remembered(name, folder)
    return process is not None and process.session.is_own() and end(process, folder, forget=forget)


def died(process: Process, how: str) -> SlipwayError:
    """The error for a process that is gone or useless, with the last lines that it wrote."""
    code = exit_status(process.session)
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


def _let_it_begin(guard: "subprocess.Popen[bytes]") -> None:
    """The pid file names the guard by now, so whatever it starts can be found."""
    if guard.stdin is not None:
        with contextlib.suppress(BrokenPipeError), guard.stdin as pipe:  # whoever waits for it notices that it died
            pipe.write(b"\n")


def _pid_file(name: str, folder: Path) -> Path:
    return folder / f"{name}.pid"


def _write(path: Path, text: str) -> None:
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
