"""Observe, decide, record, apply, sleep - until a release has ended. What to do is delivery.release.decide's to say."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from configs.errors import SlipwayError
from configs.rollout import RolloutPlan
from configs.routing import RoutingTable
from delivery.checks.evidence import Cursor
from delivery.checks.judgements import JudgeSeen
from delivery.clients.gateway import GatewayClient, GatewayError
from delivery.clients.ledger.ledger import LeaseHeldError, LedgerError, RevisionTakenError
from delivery.progress import Progress, silent
from delivery.release.decide import decide
from delivery.release.messages import Message, of_decision, of_ledger_away
from delivery.release.state import (
    Action,
    Alert,
    Approval,
    AwaitApproval,
    Command,
    Commit,
    Decision,
    GatewaySeen,
    LoadAdapter,
    Observation,
    ReleaseState,
    RenewLease,
    SetTable,
    StageRecord,
    UnloadAdapter,
)
from delivery.release.steps import Step, finished_steps, step_of
from delivery.traffic.records import RecordPage
from tasks.notify.direct import Direct
from tasks.release.gateways import LATE_S, Gateways, failures, put
from tasks.release.judge import JudgeBatches
from tasks.release.replicas import Replicas
from tasks.release.site import LEASE_TTL_S, Site
from tasks.release.way_back import noted_command, remember_if_possible

HEARTBEAT_S = 10.0
PAGES_A_TICK = 20
PAGE_RECORDS = 5000
LISTEN_S = 0.2  # how often a sleeping controller looks for a command
LAST_JOBS_S = 10.0
UNWRITTEN_TICKS = 2  # after which people are told that the ledger is away: one may have met a lock
LAST_TRIES = 10  # to bring the table of a finished release to a gateway that does not answer

OnDecision = Callable[[Decision], None]


def ignore(decision: Decision) -> None:
    """Listens to no decision."""


class Steps(Protocol):
    """How a release's steps are gone through: whoever shows them wraps each of them."""

    def was_done(self, step: Step, record: StageRecord) -> None:
        """A stage that an earlier controller saw through."""

    def take(self, step: Step, go_on: Callable[[], ReleaseState]) -> ReleaseState:
        """Calls `go_on`, which returns when the step is over, and gives its state back."""


class StraightOn:
    """One step after the other, shown to nobody."""

    def was_done(self, step: Step, record: StageRecord) -> None:
        """It needs no telling."""

    def take(self, step: Step, go_on: Callable[[], ReleaseState]) -> ReleaseState:
        """The step itself."""
        return go_on()


STRAIGHT_ON = StraightOn()


@dataclass
class Controller:
    """Drives one release. `refusal` is why its bundle must not be released, if so."""

    site: Site
    plan: RolloutPlan
    refusal: str = ""
    on_progress: Progress = silent
    on_decision: OnDecision = ignore

    def __post_init__(self) -> None:
        self._executor = self.site.executor()
        self._replicas = Replicas(self.site.vllm, self._executor, self.site.clock)
        self._gateways = Gateways(self.site.gateways, self._executor)
        self._unread = ""  # why some gateway's records could not be read
        self._judging = self._judge()
        self._judged: dict[str, Cursor] = {}  # as recorded
        self._recorded = ""  # what the last recorded decision was about
        self._recorded_at = 0.0
        self._ledger_table: RoutingTable | None = None
        self._command: Command | None = None
        self._approval: Approval | None = None
        self._way_back: Decision | None = None  # taken while the ledger was away
        self._news: tuple[Message, ...] = ()  # of the last decision
        self._direct = Direct(self.site.environment.notifications)  # while the ledger is away
        self._unwritten = 0  # ticks in a row whose decision the ledger did not take
        self._text = ""
        self._rerouted = False
        self._settled = False  # the release has ended, and the gateways show it

    def drive(self, state: ReleaseState, steps: Steps = STRAIGHT_ON) -> ReleaseState:
        """Until the release has ended and every gateway shows it. Needs the environment's lease, and keeps it.

        `steps` is told what is over already, and takes the release through one step after the other.
        """
        try:
            for done, record in finished_steps(self.plan, state):
                steps.was_done(done, record)
            while not self._settled:
                step = step_of(self.plan, state)
                go_on = partial(self.go_on, state, step)
                state = steps.take(step, go_on) if step is not None else go_on()
            return state
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def go_on(self, state: ReleaseState, step: Step | None) -> ReleaseState:
        """Until this step is over. The release's last one ends when every gateway shows how the release ended."""
        tries = 0
        while True:
            decision = self.tick(state)
            if decision is not None:  # otherwise it is not on record: it did not happen
                state = decision.state
            now_at = step_of(self.plan, state)
            if decision is not None and now_at is None:
                tries += 1
                if tries > LAST_TRIES or not any(isinstance(action, SetTable) for action in decision.actions):
                    self._replicas.finish(LAST_JOBS_S)
                    self._settled = True
                    return state
            if not self._rerouted:  # a routing change is confirmed at once
                self._rest(state)
            if now_at is not None and now_at != step:
                return state

    def tick(self, state: ReleaseState) -> Decision | None:
        """One round. None when the ledger could not take the decision; only a way back is applied then."""
        self._rerouted = False
        if self._way_back is not None:
            return self._put_on_record(self._way_back)
        observation = self.observe(state)
        now = self.site.clock()
        decision = decide(self.plan, state, observation, now)
        self._news = of_decision(state, decision)
        try:
            number = self._record(decision, now)
        except LeaseHeldError:
            raise
        except LedgerError as error:
            self._say(state, f"not renewing, not advancing; stable has all traffic when the lease ends. {error}")
            self._tell_without_ledger(decision, error)
            if decision.state.phase == "rolling_back":
                self._way_back = decision
                self._apply_tables(decision, observation)
            return None
        self._unwritten = 0
        self._apply(decision, observation, number)
        if number is not None:
            self.on_decision(decision)
        self._say_where(decision)
        return decision

    def _tell_without_ledger(self, decision: Decision, error: LedgerError) -> None:
        """Once that the ledger is away, and that the release is taken back; all else waits for the record."""
        if isinstance(error, RevisionTakenError):
            return
        self._unwritten += 1
        if self._unwritten == UNWRITTEN_TICKS:
            self._direct.tell([of_ledger_away(decision.state, error.what)])
        if decision.state.phase == "rolling_back":
            self._direct.tell(message for message in self._news if message.kind == "rollback")

    def _put_on_record(self, way_back: Decision) -> Decision | None:
        """A way back that was taken without the ledger: nothing else is decided before it is on record."""
        observation = self.observe(way_back.state)
        try:
            number = self._record(way_back, self.site.clock())
        except LeaseHeldError:
            raise
        except RevisionTakenError:  # by a person's rollback: what is wanted now is decided anew
            self._way_back = None
            return None
        except LedgerError:
            self._apply_tables(way_back, observation)
            return None
        self._way_back = None
        self._apply(way_back, observation, number)
        self.on_decision(way_back)
        return way_back

    # -- observe ----------------------------------------------------------------------------------------------------

    def observe(self, state: ReleaseState) -> Observation:
        """Everything that one tick knows."""
        urls = (*state.candidate.variant.upstreams, *state.stable.variant.upstreams)
        replicas = self._replicas.see(urls)
        self._unread = ""
        gateways = self._gateways.see(partial(self._gateway, state))
        if self._unread:
            self._say(state, f"records cannot be read: {self._unread}")
        self._read_ledger(state)
        return Observation(
            gateways=gateways,
            replicas=replicas,
            ledger_table=self._ledger_table,
            command=self._command,
            approval=self._approval,
            refusal=self.refusal,
            load_error=self._replicas.take_error(),
            judge=self._judge_seen(state),
        )

    def _judge(self) -> JudgeBatches | None:
        site, judge = self.site, self.plan.judge
        return None if judge is None else JudgeBatches(judge, site.gateways, site.judge, site.clock, site.background)

    def _judge_seen(self, state: ReleaseState) -> JudgeSeen:
        if self._judging is None:
            return JudgeSeen()
        in_shadow = state.phase == "stage" and self.plan.stages[state.stage_index].kind == "shadow"
        return self._judging.see(state, is_shadow=in_shadow and not state.suspended)

    def _read_ledger(self, state: ReleaseState) -> None:
        ledger = self.site.ledger
        try:
            self._ledger_table = ledger.newest_table(state.environment)
            self._command = self._newest_command(state)
            self._approval = ledger.approval(state.release_id, state.stage_index)
        except LedgerError as error:
            self._say(state, f"the ledger cannot be read: {error.what}")
            self._command = self._command or noted_command(self.site, state.release_id)

    def _newest_command(self, state: ReleaseState) -> Command | None:
        return self.site.ledger.command(state.release_id) or noted_command(self.site, state.release_id)

    def _gateway(self, state: ReleaseState, name: str, client: GatewayClient) -> GatewaySeen | None:
        try:
            table = client.table()
        except GatewayError:
            return None
        try:
            return GatewaySeen(table=table, pages=tuple(self._pages(name, client, state)))
        except GatewayError as error:
            self._unread = error.what  # said by the thread that ticks
            return GatewaySeen(table=table)

    def _pages(self, name: str, client: GatewayClient, state: ReleaseState) -> list[RecordPage]:
        cursor = state.evidence.cursors.get(name)
        page = client.records(cursor.seq if cursor else 0, PAGE_RECORDS)
        if cursor is not None and page.boot_id != cursor.boot_id:
            page = client.records(0, PAGE_RECORDS)
        pages = [page]
        while (seq := page.newest_seq) and seq < page.last_seq and len(pages) < PAGES_A_TICK:
            page = client.records(seq, PAGE_RECORDS)
            pages.append(page)
        return pages

    # -- record -----------------------------------------------------------------------------------------------------

    def _record(self, decision: Decision, now: float) -> int | None:
        """On record when something changed, as a heartbeat now and then; in every tick the lease is prolonged.

        What the judge said is on record at once: it is paid for, and not asked again.
        """
        site, state = self.site, decision.state
        judged = state.evidence.judging.cursors
        about, news = _what_it_is_about(decision), self._direct.letters(self._news)
        if about != self._recorded or news:
            number = site.ledger.record(decision, site.owner, LEASE_TTL_S, now, letters=news)
        elif judged != self._judged or not 0 <= now - self._recorded_at < HEARTBEAT_S:
            number = site.ledger.record(decision, site.owner, LEASE_TTL_S, now, heartbeat=True)
        else:
            site.ledger.prolong(state.environment, site.owner, LEASE_TTL_S, now)
            return None
        self._recorded, self._recorded_at, self._judged = about, now, judged
        return number

    # -- apply ------------------------------------------------------------------------------------------------------

    def _apply(self, decision: Decision, observation: Observation, number: int | None) -> None:
        for index, action in enumerate(decision.actions):
            if isinstance(action, LoadAdapter | UnloadAdapter):
                self._replicas.start(action, self._reporter(decision, number, index))
                continue
            error = self._apply_one(action, observation, decision.state.route)
            if error:
                self._say(decision.state, error)
            if not isinstance(action, RenewLease):
                self._reporter(decision, number, index)(error)

    def _apply_tables(self, decision: Decision, observation: Observation) -> None:
        for action in decision.actions:
            if isinstance(action, SetTable):
                error = self._apply_one(action, observation, decision.state.route)
                self._say(decision.state, error or f"rolled back without the ledger: {decision.reason}")

    def _apply_one(self, action: Action, observation: Observation, route: str) -> str:
        """The error, or "" when it worked."""
        try:
            if isinstance(action, SetTable):
                return self._put(action.table, observation)
            if isinstance(action, Commit):
                return remember_if_possible(self.site, route)
            if isinstance(action, RenewLease):
                self.site.gateways[action.gateway].renew(action.revision)
            elif isinstance(action, Alert | AwaitApproval):
                self.on_progress(0, 0, action.text)
        except GatewayError as error:
            return str(error)
        return ""

    def _put(self, table: RoutingTable, observation: Observation) -> str:
        done = put(self.site.gateways, observation.gateways, table, LATE_S)
        self._rerouted = self._rerouted or None in done.values()
        return failures(done, len(self.site.gateways))

    def _reporter(self, decision: Decision, number: int | None, index: int) -> Callable[[str], None]:
        def report(error: str) -> None:
            if number is None:
                return
            try:
                self.site.ledger.mark_applied(number, index, self.site.clock(), error)
            except LedgerError as problem:
                self._say(decision.state, f"applied, but not marked so: {problem.what}")

        return report

    # -- time and words ---------------------------------------------------------------------------------------------

    def _rest(self, state: ReleaseState) -> None:
        """Sleeps for a tick; a command or an approval ends it."""
        left = self.plan.tick_s
        while left > 0:
            nap = min(LISTEN_S, left)
            self.site.sleep(nap)
            left -= nap
            if left > 0 and self._is_asked(state):
                return

    def _is_asked(self, state: ReleaseState) -> bool:
        ledger = self.site.ledger
        try:
            if self._newest_command(state) != self._command:
                return True
            waits = state.awaiting_approval
            return waits and ledger.approval(state.release_id, state.stage_index) != self._approval
        except SlipwayError:
            return False

    def _say(self, state: ReleaseState, text: str) -> None:
        if text != self._text:
            self._text = text
            self.on_progress(state.stage_index, len(self.plan.stages), text)

    def _say_where(self, decision: Decision) -> None:
        state = decision.state
        place = state.phase.replace("_", " ")
        if state.phase == "stage":
            stage = self.plan.stages[state.stage_index]
            share_bp = state.holdback_bp if stage.kind == "watch" else stage.share_bp or stage.mirror_bp
            of_what = {"shadow": "mirrored", "watch": "held back"}.get(stage.kind, "of users")
            place = f"{state.stage_index}-{stage.kind} ({share_bp / 100:g} % {of_what})"
        self._say(state, f"{place}: {decision.reason}")


def _what_it_is_about(decision: Decision) -> str:
    """Equal for decisions that say the same; counts and renewals do not make a new one."""
    state = decision.state
    lasting = [action.model_dump_json() for action in decision.actions if not isinstance(action, RenewLease)]
    verdicts = [f"{result.metric}={result.verdict}" for result in decision.results]
    flags = [state.phase, state.stage_index, state.attempt, state.suspended, state.awaiting_approval]
    confirmed = state.rollback is not None and state.rollback.confirmed_at is not None
    return "|".join(map(str, (*flags, confirmed, decision.verdict, *verdicts, *lasting)))
