"""A cluster that gives a silent node up after seconds: the tests' own waits ten minutes, so that load is no loss."""

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from cluster_world import RealCluster

CONTROLLERS = "kube-controller-manager"
GRACE = "--node-monitor-grace-period"
SOON = f"{GRACE}=20s"  # a kubelet that works says so every ten


@contextmanager
def lost_soon(there: RealCluster) -> Iterator[None]:
    """Its controllers are started anew with less patience, and afterwards as they were."""
    words = Path(f"/proc/{there.process(CONTROLLERS)}/cmdline").read_text().rstrip("\0").split("\0")
    _restart(there, [SOON if word.startswith(GRACE) else word for word in words])
    try:
        yield
    finally:
        _restart(there, words)


def _restart(there: RealCluster, words: Sequence[str]) -> None:
    old = psutil.Process(there.process(CONTROLLERS))
    old.send_signal(signal.SIGKILL)
    psutil.wait_procs([old], timeout=30)
    folder = there.kubeconfig.parent
    with (folder / f"{CONTROLLERS}.log").open("ab") as log:
        new = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (folder / f"{CONTROLLERS}.pid").write_text(str(new.pid))
