"""Memory under load while candidates come and go: a new table with another candidate every second."""

import threading
from pathlib import Path

import yaml

from benchmarks.gateway import servers
from benchmarks.gateway.load import drive, quantile

WARM_SHARE = 0.2  # of the time, in which caches and rings fill


def soak(upstream: int, core: int, folder: Path, seconds: float) -> dict[str, float]:
    """Resident memory after the warm-up and at the end (MiB), failures, and how many tables were served."""
    with servers.ours(upstream, core, folder) as server:
        file = max(folder.glob("gateway-*/table.yaml"), key=lambda path: path.stat().st_mtime)
        stop, revisions = threading.Event(), [1]
        churn = threading.Thread(target=_churn, args=(file, upstream, stop, revisions))
        churn.start()
        try:
            warm = drive(server.port, server.key, 32, seconds * WARM_SHARE)
            before = server.rss_mib()
            loaded = drive(server.port, server.key, 32, seconds * (1 - WARM_SHARE))
            after = server.rss_mib()
        finally:
            stop.set()
            churn.join()
        return {
            "before_mib": before,
            "after_mib": after,
            "grown_mib": after - before,
            "requests": float(len(warm.latencies) + len(loaded.latencies)),
            "failed": float(warm.failed + loaded.failed),
            "p99_ms": 1e3 * quantile(loaded.latencies, 0.99),
            "tables": float(revisions[0]),
        }


def _churn(file: Path, upstream: int, stop: threading.Event, revisions: list[int]) -> None:
    while not stop.wait(1.0):
        revisions[0] += 1
        candidate = f"new-{revisions[0]}"
        table = servers.table(upstream, features=True, revision=revisions[0], candidate=candidate)
        beside = file.with_suffix(".new")
        beside.write_text(yaml.safe_dump(table))
        beside.replace(file)
