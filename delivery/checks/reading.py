"""The gateways' pages as they are read: what is new, for which arm it counts, and up to where they were read."""

from dataclasses import replace
from typing import TypeVar

from delivery.analysis.outcomes import ArmName
from delivery.checks.evidence import Cursor, Evidence
from delivery.traffic.records import TRIPPED, Feedback, InFlight, Record, RecordPage

T = TypeVar("T", Record, Feedback, InFlight)


class PageReading:
    """Goes on from where the evidence stands; what it finds is in its attributes."""

    def __init__(self, evidence: Evidence, release_id: str):
        self._evidence, self._mine = evidence, release_id + "/"
        self.records: list[tuple[ArmName, Record]] = []
        self.left_out: dict[ArmName, int] = {"stable": 0, "candidate": 0}
        self._failed_too: dict[str, str] = {}  # stable's error in the candidate's place, by request id
        self.feedback: list[tuple[ArmName, Feedback]] = []
        self.in_flight: list[tuple[ArmName, InFlight]] = []
        self.cursors = dict(evidence.cursors)
        self.dropped, self.restarts = evidence.dropped, evidence.restarts
        self.user_requests, self.failed = evidence.user_requests, evidence.failed_user_requests
        self._clocks: dict[str, float | None] = dict.fromkeys(evidence.cursors)
        self._open: dict[str, list[tuple[ArmName, InFlight]]] = {}

    def page(self, gateway: str, page: RecordPage) -> None:
        """Adds one page of one gateway."""
        after = self._after(self.cursors.get(gateway), page)
        last = after
        for record in page.records:
            if record.seq <= after:
                continue
            last = max(last, record.seq)
            self._user(record)
            self._add(record)
        for said in page.feedback:
            if said.seq > after:
                last = max(last, said.seq)
                arm = self._arm(said)
                if arm is not None:
                    self.feedback.append((arm, _counted(arm, said)))
        self.cursors[gateway] = Cursor(boot_id=page.boot_id, seq=last)
        self._clocks[gateway] = page.now if last >= page.last_seq else None
        mine = ((arm, item) for item in page.in_flight if (arm := self._arm(item)) is not None)
        self._open[gateway] = [(arm, _counted(arm, item)) for arm, item in mine]
        self.in_flight = [one for items in self._open.values() for one in items]

    def _add(self, record: Record) -> None:
        if record.role == "failover" and not record.ok and record.epoch == self._evidence.epoch:
            self._failed_too[record.request_id] = record.error
        arm = self._arm(record)
        if arm is not None and (record.forced or record.error == TRIPPED):
            self.left_out[arm] += 1
        elif arm is not None:
            self.records.append((arm, _counted(arm, record)))

    def excused(self) -> set[str]:
        """Requests at which stable failed in the same way, when it was asked instead: the request's own fault."""
        failed = ((record.request_id, record.error) for arm, record in self.records if arm == "candidate")
        return {request_id for request_id, error in failed if error and self._failed_too.get(request_id) == error}

    def now(self) -> float | None:
        """The gateways' clock, if all of them told everything."""
        clocks = list(self._clocks.values())
        known = [clock for clock in clocks if clock is not None]
        return min(known) if known and len(known) == len(clocks) else None

    def _arm(self, item: Record | InFlight | Feedback) -> ArmName | None:
        """Whose side an assigned request of this epoch is on."""
        evidence = self._evidence
        if item.epoch != evidence.epoch:
            return None
        if item.variant == evidence.candidate_variant:
            # a copy to a candidate that serves users is a probe, in the place of a user whom the gateway keeps from it
            is_asked = item.role in ("mirror", evidence.candidate_role)
            return "candidate" if is_asked else None
        return "stable" if item.variant == evidence.stable_variant and item.role == "served" else None

    def _user(self, record: Record) -> None:
        """A logical request has one served attempt, and at most one attempt after which nobody answered its user."""
        if record.role != "mirror" and record.epoch.startswith(self._mine):
            self.user_requests += record.role == "served"
            self.failed += not record.user_ok

    def _after(self, cursor: Cursor | None, page: RecordPage) -> int:
        """From where this page is new; counts what was lost on the way."""
        if cursor is None:
            return 0
        restarted = cursor.boot_id != page.boot_id
        self.restarts += restarted
        after = 0 if restarted else cursor.seq
        if page.dropped:
            known = [record.seq for record in page.records] + [said.seq for said in page.feedback]
            first = min(known, default=page.last_seq + 1)
            self.dropped += max(0, first - after - 1)
            after = max(after, first - 1)
        return after


def _counted(arm: ArmName, item: T) -> T:
    """Users who name themselves may all be one, and count as one, where nobody vouches for them."""
    return item if item.vouched else replace(item, user=f"unvouched {arm}")
