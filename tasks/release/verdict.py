"""The eval gate's word on a bundle: on record, and told where it is against it."""

import time
from contextlib import closing
from pathlib import Path

from configs.project import Project
from delivery.build.bundle import Bundle
from delivery.build.gate import GateDecision
from delivery.release.messages import letters, of_gate
from tasks.notify.courier import delivering
from tasks.release.site import open_ledger


def record_verdict(project: Project, bundle: Bundle, decision: GateDecision, reason: str, home: Path) -> None:
    """`reason`: what the gate has against the bundle, in one line. Raises LedgerError."""
    environment, now = project.environment, time.time()
    against = of_gate(environment.name, project.route, bundle.digest, reason, now)
    news = () if decision.passed else letters(environment.notifications, [against])
    with closing(open_ledger(environment, home)) as ledger, delivering(environment, ledger):
        ledger.add_build(bundle, decision, now, news)
