"""An experiment's report, from what a running gateway remembers or from its traffic log."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from pyarrow import ArrowException, concat_tables, parquet

from configs.errors import SlipwayError
from delivery.clients.gateway import GatewayClient
from delivery.traffic.columns import CONTRACT
from delivery.traffic.experiment import ArmSummary, Interval, report
from delivery.traffic.records import Feedback, Record

PAGE = 20_000
SAME = ("request_id", "route", "epoch", "variant", "role", "user", "status", "ok", "error", "streamed", "user_ok")
COUNTED = ("ttft_s", "prompt_tokens", "completion_tokens")


@dataclass(frozen=True)
class ExperimentReport:
    """What `slipway experiment` shows. `dropped`: records that the gateway remembers no more."""

    route: str
    experiment: str
    confidence: float
    dropped: int
    arms: tuple[ArmSummary, ...]

    def render(self) -> str:
        """A line per arm and metric."""
        lines = [f"experiment {self.experiment} on route {self.route}, {self.confidence:.0%} intervals for one look"]
        if self.dropped:
            lines.append(f"({self.dropped} older records are no longer in the gateway's memory and not counted)")
        for arm in self.arms:
            kind = "arm" if arm.differences else "control"
            share = f"{arm.share_bp / 100:g} %"
            lines.append(f"\n{kind} {arm.variant}: {share} of the users; {arm.users} users, {arm.requests} requests")
            for metric, found in arm.metrics.items():
                difference = f"   difference {_text(arm.differences[metric])}" if arm.differences else ""
                lines.append(f"  {metric:<24} {_text(found):<30}{difference}")
        return "\n".join(lines)


def experiment_report(
    admin_url: str, token: str, route: str, confidence: float = 0.95, log: Path | None = None
) -> ExperimentReport:
    """The report of the experiment that the gateway serves on this route. Raises SlipwayError.

    `log`: the folder of the traffic log, which remembers more than the gateway (and with `share` below 1, fewer users'
    requests, but none in preference to another).
    """
    with GatewayClient(admin_url, token, timeout_s=10.0) as client:
        table = client.table()
        found = table.routes.get(route) if table else None
        if found is None or found.experiment is None:
            running = sorted(name for name, one in (table.routes if table else {}).items() if one.experiment)
            raise SlipwayError(
                f"route {route!r} has no experiment",
                where=admin_url,
                cure=f"routes with one: {', '.join(running)}" if running else "add one to the routing table",
            )
        records, feedback, dropped = _logged(log, route, found.epoch) if log else _all_records(client)
    arms = report(found, records, feedback, confidence)
    return ExperimentReport(route, found.experiment.name, confidence, dropped, arms)


def _all_records(client: GatewayClient) -> tuple[list[Record], list[Feedback], int]:
    records: list[Record] = []
    feedback: list[Feedback] = []
    after = dropped = 0
    while True:
        page = client.records(after, PAGE)
        records += page.records
        feedback += page.feedback
        dropped += page.dropped
        last = max((*(one.seq for one in page.records), *(one.seq for one in page.feedback)), default=after)
        if last == after:
            return records, feedback, dropped
        after = last


def _logged(folder: Path, route: str, epoch: str) -> tuple[list[Record], list[Feedback], int]:
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise SlipwayError(f"there is no *.parquet in {folder}", cure="name the folder that the gateway writes")
    try:
        wanted = (pc.field("route") == route) & (pc.field("epoch") == epoch)
        parts = [parquet.read_table(file, filters=wanted) for file in files]
        table = concat_tables(parts, promote_options="default")
    except (OSError, ArrowException) as error:
        what = f"the traffic log cannot be read: {str(error).splitlines()[0]}"
        raise SlipwayError(what, where=str(folder), cure="name the folder that the gateway writes") from None
    rows = list(enumerate(table.to_pylist(), start=1))
    records = [_record(seq, row) for seq, row in rows if row["event"] != "feedback"]
    return records, [_feedback(seq, row) for seq, row in rows if row["event"] == "feedback"], 0


def _record(seq: int, row: dict[str, Any]) -> Record:
    verdicts = {name.removeprefix(CONTRACT): broken for name, broken in row.items() if name.startswith(CONTRACT)}
    return Record(
        seq=seq,
        duration_s=(row["ended_at"] - row["started_at"]).total_seconds(),
        started_at=row["started_at"].timestamp(),
        verdicts={name: broken for name, broken in verdicts.items() if broken is not None},
        **{name: row[name] for name in (*SAME, *COUNTED)},
    )


def _feedback(seq: int, row: dict[str, Any]) -> Feedback:
    return Feedback(
        seq=seq,
        started_at=row["started_at"].timestamp(),
        at=row["ended_at"].timestamp(),
        rating=row["rating"],
        escalated=bool(row["escalated"]),
        **{name: row[name] for name in ("request_id", "route", "epoch", "variant", "role", "user")},
    )


def _text(found: Interval | None) -> str:
    if found is None:
        return "not enough users"
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
