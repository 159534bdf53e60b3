"""An experiment's report, from what a running gateway remembers or from its traffic log."""

from dataclasses import dataclass, replace
from pathlib import Path

from configs.errors import SlipwayError
from delivery.clients.gateway import GatewayClient
from delivery.clients.traffic_log import read_epoch
from delivery.traffic.experiment import ArmSummary, Interval, report
from delivery.traffic.records import Feedback, Record

PAGE = 20_000


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
    traffic = read_epoch(folder, route, epoch)
    records = [replace(one, seq=row) for row, one in enumerate(traffic.records) if not traffic.is_feedback[row]]
    told = [row for row, is_feedback in enumerate(traffic.is_feedback) if is_feedback]
    return records, [traffic.feedback(row, row, epoch, traffic.records[row].role) for row in told], 0


def _text(found: Interval | None) -> str:
    if found is None:
        return "not enough users"
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
