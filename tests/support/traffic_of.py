"""Records as a gateway would give them, for the tests of what is made of them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from configs.checks import Check
from configs.rollout import RolloutPlan, Stage
from delivery.checks.evidence import Evidence
from delivery.checks.fold import fold
from delivery.traffic.records import Feedback, InFlight, Record, RecordPage, checked

EPOCH = "r/1-canary"
NOTHING = Evidence(epoch=EPOCH, candidate_variant="new", stable_variant="old", candidate_role="served")
ERRORS = Check(metric="error_rate", max=0.2)
CANARY = Stage(kind="canary", share_bp=5000, min_requests=10)
SHADOW = Stage(kind="shadow", mirror_bp=10_000, min_requests=10)


def plan_of(*checks: Check, stages: tuple[Stage, ...] = (SHADOW, CANARY), **more: Any) -> RolloutPlan:
    """These checks, and one that every stage has to have."""
    full = Stage(kind="full", share_bp=9000)
    gated = any(check.on_fail == "rollback" for check in checks)
    return RolloutPlan(stages=(*stages, full), checks=checks if gated else (*checks, ERRORS), **more)


def record(seq: int, variant: str = "new", **more: Any) -> Record:
    """One request that went well, half a second long."""
    values: dict[str, Any] = {
        "seq": seq,
        "request_id": f"q{seq}",
        "route": "tutor",
        "epoch": EPOCH,
        "variant": variant,
        "role": "served",
        "user": f"u{seq}",
        "started_at": 100.0 + seq / 100,
        "duration_s": 0.5,
        "ttft_s": 0.2,
        "status": 200,
        "ok": True,
        "prompt_tokens": 100,
        "completion_tokens": 20,
    }
    return checked(Record, values | more)


def page(
    *records: Record,
    boot: str = "b",
    in_flight: Iterable[InFlight] = (),
    feedback: Iterable[Feedback] = (),
    **more: Any,
) -> RecordPage:
    """One answer of a gateway at time 200."""
    last = max((one.seq for one in (*records, *feedback)), default=0)
    values: dict[str, Any] = {"revision": 1, "lease_remaining_s": None, "dropped": 0, "last_seq": last, "now": 200.0}
    values |= {"boot_id": boot, "records": records, "in_flight": tuple(in_flight), "feedback": tuple(feedback)}
    return RecordPage.model_validate(values | more)


def running(variant: str = "new", started_at: float = 150.0, **more: Any) -> InFlight:
    """A request that has not ended."""
    values = {"route": "tutor", "epoch": EPOCH, "variant": variant, "role": "served", "user": f"{variant}{started_at}"}
    return checked(InFlight, values | {"started_at": started_at} | more)


class Canary:
    """A canary whose two arms are given requests tick by tick."""

    def __init__(self, plan: RolloutPlan, stage: Stage = CANARY, start: Evidence = NOTHING):
        self.plan, self.stage, self.evidence = plan, stage, start
        self.now, self._seq = 100.0, 0

    def tick(
        self,
        candidate: Iterable[dict[str, Any]] = (),
        stable: Iterable[dict[str, Any]] = (),
        *,
        in_flight: Iterable[InFlight] = (),
        feedback: Iterable[Feedback] = (),
        step_s: float = 100.0,
    ) -> "Canary":
        """Requests that start now; the page is read `step_s` later, so that by default all of them are of age."""
        records = [self._record("old", values) for values in stable] + [self._record("new", v) for v in candidate]
        self.now += step_s
        said = [replace(one, seq=self._next()) for one in feedback]
        one = page(*records, now=self.now, last_seq=self._seq, in_flight=in_flight, feedback=said)
        self.evidence = fold(self.evidence, self.plan, self.stage, "r", {"gw": [one]})
        return self

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _record(self, variant: str, values: dict[str, Any]) -> Record:
        seq = self._next()
        return record(seq, variant, **{"started_at": self.now + seq / 1e6, "epoch": self.evidence.epoch} | values)
