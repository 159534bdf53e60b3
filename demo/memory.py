"""The peak of what a set of process trees holds in memory, sampled from the side."""

import threading
from collections.abc import Callable, Iterable
from types import TracebackType

import psutil

SAMPLE_EVERY_S = 0.5


class PeakMemory:
    """While entered, adds up the resident memory of this process's tree and of other trees twice a second.

    Pages that processes share count once for each of them: the sum is an upper bound.
    """

    def __init__(self, others: Callable[[], Iterable[int]]):
        self._others = others  # pids of trees that are not below this process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak_gib(self) -> float:
        """The peak so far, in GiB."""
        return self.peak_bytes / 2**30

    def _sample(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, resident_bytes(self._others()))
            if self._stop.wait(SAMPLE_EVERY_S):
                return


def resident_bytes(others: Iterable[int] = ()) -> int:
    """Resident memory of this process, of the given ones, and of all that they started."""
    members: dict[int, psutil.Process] = {}
    for pid in (psutil.Process().pid, *others):
        try:
            root = psutil.Process(pid)
            members |= {process.pid: process for process in (root, *root.children(recursive=True))}
        except psutil.NoSuchProcess:
            continue
    return sum(_resident(process) for process in members.values())


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
