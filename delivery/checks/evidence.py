"""What the gateway's records say about candidate and stable, gathered so that a decision can be made and repeated.

Evidence belongs to one epoch of one stage: shares that differ are never pooled, and only requests that started under
the epoch's table count. It is bounded in size, goes into the ledger as JSON together with the position up to which
records were read, and so survives a killed controller without counting a record twice.
"""

from pydantic import Field

from configs.strict import Strict
from delivery.analysis.sketch import Sketch
from delivery.checks.measurement import Measurement, Past
from delivery.traffic.records import AttemptRole


class Arm(Strict):
    """One variant's requests that count, warm-up left out."""

    requests: int = 0
    errors: int = 0
    in_flight: int = 0  # when the gateways were last asked
    left_out: int = 0  # that count for nothing: the variant was not asked, or the client decided what it could say
    unvouched: int = 0  # of users for whom nobody vouches; together they are one user


class Cursor(Strict):
    """Up to where one gateway's records were read."""

    boot_id: str
    seq: int


class Judging(Strict):
    """Over the whole release: up to which pair each gateway's are settled, and how many were paid for."""

    cursors: dict[str, Cursor] = Field(default_factory=dict)  # by gateway
    asked: int = 0
    is_spent: bool = False  # no more are asked in this release
    error: str = ""  # why the judge does not answer now


class WarmUp(Strict):
    """The declared exclusion at the beginning of an epoch: what it takes until requests count."""

    seen: int = 0  # of the candidate's requests
    began_at: float | None = None  # start of the first of them, UNIX seconds
    since: float | None = None  # requests that start later count; None: still warming up


class Evidence(Strict):
    """Everything known about one epoch, and what outlives an epoch: cursors, stable's past, and what users saw."""

    epoch: str
    candidate_variant: str
    stable_variant: str
    candidate_role: AttemptRole  # "mirror" in shadow, "served" otherwise
    candidate: Arm = Arm()
    stable: Arm = Arm()
    warm_up: WarmUp = WarmUp()
    measurements: dict[str, Measurement] = Field(default_factory=dict)  # by the check's name
    past: dict[str, Past] = Field(default_factory=dict)  # of earlier epochs, by the check's name
    usual_s: Sketch = Sketch()  # stable's latencies over the release
    dropped: int = 0  # records that were gone before they could be read
    restarts: int = 0  # of gateways, each of which may have lost some records
    cursors: dict[str, Cursor] = Field(default_factory=dict)  # by gateway
    judging: Judging = Judging()
    user_requests: int = 0  # over the whole release
    failed_user_requests: int = 0  # over the whole release: requests that got no complete answer from anyone

    def restarted(self, epoch: str, candidate_role: AttemptRole) -> "Evidence":
        """Nothing counted yet, for the next epoch, reading on from the same place."""
        return Evidence(
            epoch=epoch,
            candidate_variant=self.candidate_variant,
            stable_variant=self.stable_variant,
            candidate_role=candidate_role,
            past={**self.past, **{name: found.past for name, found in self.measurements.items()}},
            usual_s=self.usual_s,
            cursors=self.cursors,
            judging=self.judging,
            user_requests=self.user_requests,
            failed_user_requests=self.failed_user_requests,
        )
