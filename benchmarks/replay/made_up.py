"""Traffic logs that nobody recorded: two variants with given faults and latencies, as any number of rows."""

from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow

from delivery.traffic.columns import CONTRACT

BEGAN_AT = 1_800_000_000.0  # UNIX seconds


@dataclass(frozen=True)
class Behaviour:
    """One variant's. `late_errors` is its error rate in the log's second half."""

    errors: float = 0.01
    late_errors: float = 0.01
    median_s: float = 0.8
    format_broken: float = 0.02


def made_up(
    rows: int,
    *,
    requests_per_s: float = 50.0,
    candidate_share: float = 0.1,
    users: int = 5_000,
    stable: Behaviour = Behaviour(),
    candidate: Behaviour = Behaviour(),
    seed: int = 0,
) -> Any:
    """A pyarrow table with the traffic log's columns. Users stick to their variant."""
    random = numpy.random.default_rng(seed)
    started = BEGAN_AT + numpy.cumsum(random.exponential(1 / requests_per_s, rows))
    user = random.integers(0, users, rows)
    is_new = user < candidate_share * users
    is_late = numpy.arange(rows) > rows // 2
    errors = _per_row(is_new, is_late, stable, candidate)
    ok = random.random(rows) >= errors
    median = numpy.where(is_new, candidate.median_s, stable.median_s)
    latency = numpy.where(ok, median * random.lognormal(0.0, 0.4, rows), 0.05)
    broken = random.random(rows) < numpy.where(is_new, candidate.format_broken, stable.format_broken)
    return pyarrow.table(
        {
            "request_id": [f"{number:024x}" for number in range(rows)],
            "route": pyarrow.repeat("tutor", rows),
            "variant": numpy.where(is_new, "new", "old"),
            "arm": numpy.where(is_new, "candidate", "stable"),
            "user": numpy.char.mod("%016x", user),
            "started_at": started,
            "ended_at": started + latency,
            "status": numpy.where(ok, 200, 500),
            "ttft_s": pyarrow.array(latency / 4, mask=~ok),
            "completion_tokens": pyarrow.array(random.poisson(30, rows), mask=~ok),
            CONTRACT + "format": pyarrow.array(broken, mask=~ok),
        }
    )


def _per_row(is_new: Any, is_late: Any, stable: Behaviour, candidate: Behaviour) -> Any:
    early = numpy.where(is_new, candidate.errors, stable.errors)
    late = numpy.where(is_new, candidate.late_errors, stable.late_errors)
    return numpy.where(is_late, late, early)
