"""What a controller knows in one tick: of gateways and their records, of replicas, of the ledger and of the judge."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from configs.errors import SlipwayError
from configs.rollout import RolloutPlan
from configs.routing import RoutingTable
from delivery.checks.judgements import JudgeSeen
from delivery.clients.gateway import GatewayClient, GatewayError
from delivery.clients.ledger.ledger import LedgerError
from delivery.release.state import Approval, Command, GatewaySeen, Observation, ReleaseState
from delivery.traffic.records import RecordPage
from tasks.release.gateways import Gateways
from tasks.release.judge import JudgeBatches
from tasks.release.membership import Membership
from tasks.release.replicas import SiteReplicas
from tasks.release.site import Site
from tasks.release.way_back import noted_command

PAGES_A_TICK = 20
PAGE_RECORDS = 5000

Say = Callable[[ReleaseState, str], None]


@dataclass
class Lookout:
    """`refusal`: why the release's bundle must not be released, if so. `say` is told what cannot be read.

    While the ledger cannot be read, what it said last counts.
    """

    site: Site
    plan: RolloutPlan
    replicas: SiteReplicas
    gateways: Gateways
    membership: Membership
    say: Say
    refusal: str = ""
    judging: JudgeBatches | None = field(init=False)
    _unread: str = ""  # why some gateway's records could not be read
    _ledger_table: RoutingTable | None = None
    _command: Command | None = None
    _approval: Approval | None = None

    def __post_init__(self) -> None:
        site, judge = self.site, self.plan.judge
        self.judging = None
        if judge is not None:
            self.judging = JudgeBatches(judge, site.gateways, site.judge, site.clock, site.background)

    def observe(self, state: ReleaseState) -> Observation:
        """Everything that one tick knows."""
        members = self._members(state)
        urls = (*state.candidate.variant.upstreams, *state.stable.variant.upstreams, *members)
        replicas = self.replicas.see(urls)
        self._unread = ""
        gateways = self.gateways.see(partial(self._gateway, state))
        if self._unread:
            self.say(state, f"records cannot be read: {self._unread}")
        self._read_ledger(state)
        return Observation(
            gateways=gateways,
            replicas=replicas,
            members=members,
            ledger_table=self._ledger_table,
            command=self._command,
            approval=self._approval,
            refusal=self.refusal,
            load_error=self.replicas.take_error(),
            judge=self._judge_seen(state),
        )

    def is_asked(self, state: ReleaseState) -> bool:
        """Whether a command or an approval has come since the last tick."""
        ledger = self.site.ledger
        try:
            if self._newest_command(state) != self._command:
                return True
            waits = state.awaiting_approval
            return waits and ledger.approval(state.release_id, state.stage_index) != self._approval
        except SlipwayError:
            return False

    def _members(self, state: ReleaseState) -> tuple[str, ...]:
        """Base URLs of the replicas, where they come and go; the gateways are followed on the way."""
        members = self.membership.see()
        if self.membership.trouble:
            self.say(
                state, f"who is there is not known now, and those who were are believed: {self.membership.trouble}"
            )
        if members is None:
            return ()
        if members.gateways:
            self.site.follow(members.gateways)
        return members.replicas

    def _judge_seen(self, state: ReleaseState) -> JudgeSeen:
        if self.judging is None:
            return JudgeSeen()
        has_pairs = state.phase == "stage" and self.plan.stages[state.stage_index].rules.has_pairs
        return self.judging.see(state, has_pairs=has_pairs and not state.suspended)

    def _read_ledger(self, state: ReleaseState) -> None:
        ledger = self.site.ledger
        try:
            self._ledger_table = ledger.newest_table(state.environment)
            self._command = self._newest_command(state)
            self._approval = ledger.approval(state.release_id, state.stage_index)
        except LedgerError as error:
            self.say(state, f"the ledger cannot be read: {error.what}")
            self._command = self._command or noted_command(self.site, state.release_id)

    def _newest_command(self, state: ReleaseState) -> Command | None:
        return self.site.ledger.command(state.release_id) or noted_command(self.site, state.release_id)

    def _gateway(self, state: ReleaseState, name: str, client: GatewayClient) -> GatewaySeen | None:
        try:
            table = client.table()
        except GatewayError:
            return None
        try:
            return GatewaySeen(table=table, pages=tuple(pages_since(name, client, state)))
        except GatewayError as error:
            self._unread = error.what  # said by the thread that ticks
            return GatewaySeen(table=table)


def pages_since(name: str, client: GatewayClient, state: ReleaseState) -> list[RecordPage]:
    """The gateway's records behind the release's cursor; all of them when the gateway has started again."""
    cursor = state.evidence.cursors.get(name)
    page = client.records(cursor.seq if cursor else 0, PAGE_RECORDS)
    if cursor is not None and page.boot_id != cursor.boot_id:
        page = client.records(0, PAGE_RECORDS)
    pages = [page]
    while (seq := page.newest_seq) and seq < page.last_seq and len(pages) < PAGES_A_TICK:
        page = client.records(seq, PAGE_RECORDS)
        pages.append(page)
    return pages
