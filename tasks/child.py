"""Heavy work in a process of its own: its memory comes back, a kill is clean, and it never outlives who started it.

The child's standard output carries one JSON event a line; whatever libraries print goes to its log. Both sides of
that agreement are here.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from configs.errors import Problem, SlipwayError
from delivery.clients.fresh_folder import unwritable, why_unwritable

WorkerEvent = dict[str, Any]
OnWorkerEvent = Callable[[WorkerEvent], None]
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
REFUSED = 2  # the exit status after a `failed` event
LOG_LINES_SHOWN = 15


def call(module: str, spec: Path, log: Path, on_event: OnWorkerEvent, environment: Mapping[str, str]) -> None:
    """Runs `python -m module spec` to its end, with its standard error appended to `log`.

    Every event but `failed` goes to `on_event`. An interruption kills the child before it is passed on. Raises the
    child's own SlipwayError, or one with the log's last lines when the child died.
    """
    command = [sys.executable, "-m", module, str(spec), str(os.getpid())]
    failed: list[SlipwayError] = []
    with log.open("ab") as sink:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            env={"OMP_WAIT_POLICY": "passive", **os.environ, **environment},  # spinning threads starve each other
            text=True,
        )
        try:
            for line in child.stdout or ():
                event = json.loads(line)
                if event["event"] == "failed":
                    failed.append(_error_of(event))
                else:
                    on_event(event)
            status = child.wait()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
            if child.stdout:
                child.stdout.close()
    if failed:
        raise failed[0]
    if status != 0:
        raise _death(module, status, log)


def serve(work: Callable[[Path, OnWorkerEvent], None], writes: str = "its results") -> int:
    """The child's side: `work(spec, report)` with both taken from the command line. Returns the exit status.

    `writes` says in words what it writes beside its spec, for a disk that is full or read-only.
    """
    spec, parent = Path(sys.argv[1]), int(sys.argv[2])
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def report(event: WorkerEvent) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    try:
        work(spec, report)
    except SlipwayError as error:
        report(_event_of(error))
        return REFUSED
    except Exception as error:
        trouble = why_unwritable(error, spec.parent)
        if trouble is None:
            raise
        report(_event_of(unwritable(trouble, spec.parent, writes)))
        return REFUSED
    return 0


def _die_with(parent: int) -> None:
    """The kernel ends this process when the parent is gone, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the call above
        os._exit(1)


def _event_of(error: SlipwayError) -> WorkerEvent:
    problems = [[p.where, p.what, p.cure] for p in error.problems]
    return {"event": "failed", "what": error.what, "where": error.where, "cure": error.cure, "problems": problems}


def _error_of(event: WorkerEvent) -> SlipwayError:
    problems = [Problem(*problem) for problem in event["problems"]]
    return SlipwayError(event["what"], where=event["where"], cure=event["cure"], problems=problems)


def _death(module: str, status: int, log: Path) -> SlipwayError:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    short_of_memory = "it was perhaps short of memory; " if status == -signal.SIGKILL else ""
    return SlipwayError(
        f"the process {module} ended early ({how}); the last lines of its log:",
        problems=[Problem("", line) for line in lines],
        where=str(log),
        cure=short_of_memory + "run again: what was done is kept",
    )
