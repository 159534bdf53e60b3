"""Several processes that train one adapter side by side: the worker is the first of them, and starts the others.

They find each other by a file, so that no port is taken. Who is left alone ends: the others die with the worker, and
the worker ends when one of them has died.
"""

import datetime
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from tasks.child import REFUSED

MEETING = "SLIPWAY_MEETING"  # in the environment: the file by which they find each other
MEETING_S = 600.0  # until all must have come, and the longest that one may keep the others waiting
REFUSAL_S = 60.0  # in which the worker says itself what another one has refused


def rank() -> int:
    """Which of the processes this is; 0 where there is only one."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def side_by_side(processes: int, spec: Path) -> Iterator[None]:
    """Inside, so many processes do the same work on `spec`, each knowing its rank; one process does it alone."""
    if processes == 1:
        yield
        return
    if rank() > 0:
        with _met(processes, Path(os.environ[MEETING])):
            yield
        return
    meeting = spec.parent / f"meeting-{os.getpid()}"
    meeting.unlink(missing_ok=True)
    os.environ |= _named(0, processes, meeting)
    others = [_start(number, processes, meeting, spec) for number in range(1, processes)]
    done = threading.Event()
    threading.Thread(target=_watch, args=(others, done), daemon=True).start()
    try:
        with _met(processes, meeting):
            try:
                yield
            finally:
                done.set()  # whoever ends now only follows
    finally:
        for other in others:
            other.kill()
            other.wait()
        meeting.unlink(missing_ok=True)


def mean_over_all(tensors: Iterator[torch.Tensor]) -> None:
    """Replaces each tensor by its mean over the processes."""
    for tensor in tensors:
        dist.all_reduce(tensor)
        tensor /= count()


def sum_over_all(*values: float) -> list[float]:
    """Each value summed over the processes; all of them must ask at the same point of their work."""
    if count() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device="cuda" if torch.cuda.is_available() else "cpu")
    dist.all_reduce(tensor)
    return [float(value) for value in tensor]


def wait_for_all() -> None:
    """Returns when every process has come here."""
    if count() > 1:
        dist.barrier()


def _named(number: int, processes: int, meeting: Path) -> dict[str, str]:
    """As accelerate and torch read it from the environment."""
    found = {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(processes)}
    return found | {"LOCAL_WORLD_SIZE": str(processes), MEETING: str(meeting)}


def _start(number: int, processes: int, meeting: Path, spec: Path) -> "subprocess.Popen[bytes]":
    """Its output goes to the worker's log."""
    return subprocess.Popen(
        [sys.executable, "-m", "tasks.training.worker", str(spec), str(os.getpid())],
        env={**os.environ, **_named(number, processes, meeting)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


@contextmanager
def _met(processes: int, meeting: Path) -> Iterator[None]:
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(rank())
    patience = datetime.timedelta(seconds=MEETING_S)
    dist.init_process_group(
        backend, init_method=f"file://{meeting.absolute()}", rank=rank(), world_size=processes, timeout=patience
    )
    try:
        yield
        dist.barrier()  # nobody leaves while another one still needs it
    finally:
        dist.destroy_process_group()


def _watch(others: "list[subprocess.Popen[bytes]]", done: threading.Event) -> None:
    """Ends this process when another one has died: it would wait for its share for ever."""
    while not done.wait(0.5):
        died = [other for other in others if other.poll() not in (None, 0)]
        if not died:
            continue
        if died[0].returncode == REFUSED and done.wait(REFUSAL_S):
            return
        number = 1 + others.index(died[0])
        print(f"process {number} ended with status {died[0].returncode}: so do the others", file=sys.stderr, flush=True)
        os._exit(1)
