"""An experiment's report, from what a running gateway remembers."""

from dataclasses import dataclass

from configs.errors import SlipwayError
from delivery.clients.gateway import GatewayClient
from delivery.experiment import Arm, Interval, report
from delivery.records import Feedback, Record

PAGE = 20_000


@dataclass(frozen=True)
class ExperimentReport:
    """What `slipway experiment` shows. `dropped`: records that the gateway remembers no more."""

    route: str
    experiment: str
    confidence: float
    dropped: int
    arms: tuple[Arm, ...]

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


def experiment_report(admin_url: str, token: str, route: str, confidence: float = 0.95) -> ExperimentReport:
    """The report of the experiment that the gateway serves on this route. Raises SlipwayError."""
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
        records, feedback, dropped = _all_records(client)
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


def _text(found: Interval | None) -> str:
    if found is None:
        return "not enough users"
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
