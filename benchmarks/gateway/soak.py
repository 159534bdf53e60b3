"""Memory under load while candidates come and go: a new table with another candidate every second.

What counts is growth after the warm-up, which lasts until the gateway's memory of records has been filled and begins
to be overwritten. Plain requests and streams take turns, and every turn has users of its own.
"""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from benchmarks.gateway import servers
from benchmarks.gateway.load import Measured, drive, quantile
from configs.gateway import GatewayConfig

CONNECTIONS = 32
TURN_S = 5.0
STREAMS_EVERY = 5  # turns
FILLED = 1.2 * GatewayConfig().records_kept  # requests
COMPARED_SHARE = 0.2  # of the measured turns: their first against their last


@dataclass
class TableTurns:
    """What the load has seen so far, and the gateway's resident memory after each turn (MiB)."""

    server: servers.Server
    latencies: list[float] = field(default_factory=list)
    requests: int = 0
    failed: int = 0
    rss_mib: list[float] = field(default_factory=list)

    def take(self, turn_s: float) -> None:
        """One turn."""
        number = len(self.rss_mib)
        is_streamed = number % STREAMS_EVERY == STREAMS_EVERY - 1
        seen: Measured = drive(
            self.server.port,
            self.server.key,
            CONNECTIONS,
            turn_s,
            stream=is_streamed,
            first_user=number * CONNECTIONS,
        )
        self.requests += len(seen.latencies)
        self.failed += seen.failed
        if not is_streamed:
            self.latencies += seen.latencies
        self.rss_mib.append(self.server.rss_mib())


def grown(rss_mib: list[float]) -> float:
    """MiB from the mean of the first turns to the mean of the last: a file being written is no growth."""
    few = max(1, int(len(rss_mib) * COMPARED_SHARE))
    return sum(rss_mib[-few:]) / few - sum(rss_mib[:few]) / few


def soak(upstream: int, core: int, folder: Path, seconds: float, filled: float = FILLED) -> dict[str, float]:
    """Resident memory (MiB) in `seconds` after the warm-up of `filled` requests, failures, and tables served."""
    with servers.ours(upstream, core, folder) as server:
        file = max(folder.glob("gateway-*/table.yaml"), key=lambda path: path.stat().st_mtime)
        stop, revisions = threading.Event(), [1]
        churn = threading.Thread(target=_churn, args=(file, upstream, stop, revisions))
        churn.start()
        turn_s = min(TURN_S, seconds / 5)
        warm, measured = TableTurns(server), TableTurns(server)
        try:
            while warm.requests < filled:
                warm.take(turn_s)
            for _ in range(round(seconds / turn_s)):
                measured.take(turn_s)
        finally:
            stop.set()
            churn.join()
        return {
            "before_mib": measured.rss_mib[0],
            "after_mib": measured.rss_mib[-1],
            "most_mib": max(measured.rss_mib),
            "grown_mib": grown(measured.rss_mib),
            "warm_requests": float(warm.requests),
            "requests": float(measured.requests),
            "failed": float(warm.failed + measured.failed),
            "p99_ms": 1e3 * quantile(measured.latencies, 0.99),
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
