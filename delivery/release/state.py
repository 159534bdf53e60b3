"""What a release is made of: its persisted state, what the controller sees, and the actions it can take.

All of it is data and goes into the ledger as JSON. Actions are idempotent: "make it so", never "do it once more".
"""

from typing import Annotated, Literal

from pydantic import Field

from configs.contract import Contract
from configs.routing import RoutingTable, Variant
from configs.strict import Strict
from delivery.checks.evidence import Evidence
from delivery.checks.judgements import JudgeSeen
from delivery.checks.verdicts import CheckResult, Facts, Verdict
from delivery.traffic.records import RecordPage

Phase = Literal["preparing", "stage", "watching", "rolling_back", "live", "rolled_back", "refused"]
TERMINAL: frozenset[Phase] = frozenset({"live", "rolled_back", "refused"})


class Served(Strict):
    """One bundle as it is served: its variant, and where vLLM finds its adapter (None: the base model)."""

    bundle: str  # digest
    name: str  # of the variant
    variant: Variant
    adapter_path: str | None = None
    follows: bool = False  # its replicas come and go, and are those that the target names
    contract: Contract | None = None  # how its route's answers are judged while it is the newest bundle there


class StageRecord(Strict):
    """How one stage ended, for the summary."""

    stage: str  # "1-canary"
    share_bp: int
    verdict: Verdict
    requests: int  # of the candidate
    stable_requests: int
    seconds: float
    evidence: tuple[str, ...]  # one sentence per check


class Rollback(Strict):
    """Why and when a release is taken back. Times are UNIX seconds of the controller's clock."""

    reason: str
    by: str
    quarantine: bool
    decided_at: float
    first_bad_at: float | None = None
    confirmed_at: float | None = None  # every gateway serves stable alone


class Clocks(Strict):
    """Seconds that were lived through, added up tick by tick: a jump of the wall clock adds one long tick at most."""

    last_tick_at: float
    stage_s: float = 0.0
    epoch_s: float = 0.0  # since the evidence began
    held_s: float = 0.0  # without new evidence, monitor or candidate
    silent_s: float = 0.0  # since the monitor last answered
    quiet_s: float = 0.0  # of the stage, in which nobody asked and its time did not run
    gone_s: float = 0.0  # since a replica of the candidate last answered
    approval_s: float = 0.0
    drain_s: float = 0.0
    unjudged_s: float = 0.0  # since the judge last answered


class ReleaseState(Strict):
    """Where a release is. The routing table that it wants follows from it (delivery.release.routes)."""

    release_id: str
    environment: str
    route: str
    candidate: Served
    stable: Served  # what a rollback serves; during a release its replicas may change, and nothing else
    phase: Phase = "preparing"
    stage_index: int = 0
    attempt: int = 0  # grows when the evidence of a stage had to start again
    committed: bool = False  # the candidate's bundle is the ledger's live one
    suspended: bool = False  # stable alone while the candidate's adapter is missing somewhere
    awaiting_approval: bool = False
    holdback_bp: int = 0  # of the watch table
    watch_s: float = 0.0  # how long phase "watching" lasts
    load_failures: int = 0
    unload_tries: int = 0
    clocks: Clocks
    evidence: Evidence
    verdict: Verdict = "inconclusive"
    reason: str = ""
    alerts: tuple[str, ...] = ()  # raised and not over
    stages: tuple[StageRecord, ...] = ()
    rollback: Rollback | None = None


# -- what the controller sees ---------------------------------------------------------------------------------------


class GatewaySeen(Strict):
    """One gateway; None in its place means that it did not answer."""

    table: RoutingTable | None
    pages: tuple[RecordPage, ...] = ()  # none: its records could not be read


class ReplicaSeen(Strict):
    """One vLLM; None in its place means that it did not answer."""

    listed: frozenset[str]
    verified: frozenset[str] = frozenset()  # listed, and answered a probe since it was last missing


class Command(Strict):
    """What a person (or a newer release) asks for."""

    id: int
    kind: Literal["rollback", "cancel"]
    by: str
    reason: str
    target: Served | None = None  # what to serve instead of the previous bundle
    quarantine: bool = True  # of a rollback: a person's reason is evidence against the bundle, unless they say not


class Approval(Strict):
    """A named person's decision on one stage."""

    stage_index: int
    approved: bool
    by: str
    reason: str


class Observation(Strict):
    """Everything that one tick knows."""

    gateways: dict[str, GatewaySeen | None]
    replicas: dict[str, ReplicaSeen | None]  # by base URL
    members: tuple[str, ...] = ()  # base URLs of the replicas that the target names; none: they do not come and go
    ledger_table: RoutingTable | None = None  # the last table that was decided
    command: Command | None = None
    approval: Approval | None = None
    refusal: str = ""  # why this bundle must not be released at all
    load_error: str = ""  # of the last tick
    judge: JudgeSeen = JudgeSeen()


# -- what it does about it ------------------------------------------------------------------------------------------


class SetTable(Strict):
    """Put this table to every gateway that does not have it; a put renews the lease."""

    action: Literal["set_table"] = "set_table"
    table: RoutingTable


class RenewLease(Strict):
    """Let the candidate keep its share for another lease."""

    action: Literal["renew_lease"] = "renew_lease"
    gateway: str
    revision: int


class LoadAdapter(Strict):
    """Have a replica serve this name (path None: it is the base model), list it and answer a probe."""

    action: Literal["load_adapter"] = "load_adapter"
    url: str
    name: str
    path: str | None


class UnloadAdapter(Strict):
    """Have a replica forget this name."""

    action: Literal["unload_adapter"] = "unload_adapter"
    url: str
    name: str


class Commit(Strict):
    """The ledger's live bundle of the route is now this one. Done in the transaction that records the decision."""

    action: Literal["commit"] = "commit"
    live: Served
    previous: Served | None


class Quarantine(Strict):
    """This digest is not released again. Done in the transaction that records the decision."""

    action: Literal["quarantine"] = "quarantine"
    bundle: str
    reason: str


class Alert(Strict):
    """Tell people; raised once until it is over."""

    action: Literal["alert"] = "alert"
    text: str


class AwaitApproval(Strict):
    """Ask for a named person's decision on a stage."""

    action: Literal["await_approval"] = "await_approval"
    stage_index: int
    text: str


Action = Annotated[
    SetTable | RenewLease | LoadAdapter | UnloadAdapter | Commit | Quarantine | Alert | AwaitApproval,
    Field(discriminator="action"),
]


class Decision(Strict):
    """What follows from an observation. `results` is empty when nothing was judged."""

    state: ReleaseState
    actions: tuple[Action, ...]
    verdict: Verdict
    reason: str
    results: tuple[CheckResult, ...] = ()
    facts: Facts | None = None  # with the results, all that the verdict rests on
