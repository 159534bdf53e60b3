"""Observe, decide, record, apply, sleep - until a release has ended. What to do is delivery.release.decide's to say."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from configs.rollout import RolloutPlan
from configs.routing import RoutingTable
from delivery.clients.gateway import GatewayError
from delivery.clients.ledger.ledger import LeaseHeldError, LedgerError, RevisionTakenError
from delivery.progress import Progress, silent
from delivery.release.decide import decide
from delivery.release.messages import ReleaseMessage, of_decision, of_ledger_away
from delivery.release.state import (
    Action,
    Alert,
    AwaitApproval,
    Commit,
    Decision,
    LoadAdapter,
    Observation,
    ReleaseState,
    RenewLease,
    SetTable,
    UnloadAdapter,
)
from delivery.release.steps import Step, finished_steps, place_of, step_of
from tasks.notify.direct import Direct
from tasks.release.gateways import LATE_S, Gateways, failures, put
from tasks.release.in_git import InGit
from tasks.release.journal import Journal
from tasks.release.lookout import Lookout
from tasks.release.membership import Membership
from tasks.release.replicas import SiteReplicas
from tasks.release.site import Site
from tasks.release.steps import STRAIGHT_ON, Steps
from tasks.release.way_back import remember_if_possible

LISTEN_S = 0.2  # how often a sleeping controller looks for a command
LAST_JOBS_S = 10.0
UNWRITTEN_TICKS = 2  # after which people are told that the ledger is away: one may have met a lock
LAST_TRIES = 10  # to bring the table of a finished release to a gateway that does not answer

OnDecision = Callable[[Decision], None]


def ignore(decision: Decision) -> None:
    """Listens to no decision."""


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
        target = self.site.target
        self._replicas = SiteReplicas(self.site.vllm, self._executor, self.site.clock, target.prove, target.path_on)
        gateways = Gateways(self.site.gateways, self._executor)
        membership = Membership(target.members, self._executor)
        self._lookout = Lookout(self.site, self.plan, self._replicas, gateways, membership, self._say, self.refusal)
        self._journal = Journal(self.site, self._say)
        self._git = InGit(self.site)
        self._way_back: Decision | None = None  # taken while the ledger was away
        self._news: tuple[ReleaseMessage, ...] = ()  # of the last decision
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
        observation = self._lookout.observe(state)
        now = self.site.clock()
        decision = decide(self.plan, state, observation, now)
        self._news = of_decision(state, decision)
        try:
            number = self._journal.record(decision, now, self._direct.letters(self._news))
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
        observation = self._lookout.observe(way_back.state)
        try:
            number = self._journal.record(way_back, self.site.clock(), self._direct.letters(self._news))
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

    # -- apply ------------------------------------------------------------------------------------------------------

    def _apply(self, decision: Decision, observation: Observation, number: int | None) -> None:
        for index, action in enumerate(decision.actions):
            if isinstance(action, LoadAdapter | UnloadAdapter):
                self._replicas.start(action, self._journal.reporter(decision, number, index))
                continue
            not_yet = self._into_git(decision, action)
            error = not_yet or self._apply_one(action, observation, decision.state.route)
            if error:
                self._say(decision.state, error)
            if not isinstance(action, RenewLease):
                self._journal.reporter(decision, number, index)(error)

        if owed := self._git.after(decision):
            self._say(decision.state, owed)

    def _into_git(self, decision: Decision, action: Action) -> str:
        """Why this step must wait for its commit; empty for all else."""
        route = decision.state.route
        return self._git.before(decision, action.table.routes[route]) if isinstance(action, SetTable) else ""

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

    # -- time and words ---------------------------------------------------------------------------------------------

    def _rest(self, state: ReleaseState) -> None:
        """Sleeps for a tick; a command or an approval ends it."""
        left = self.plan.tick_s
        while left > 0:
            nap = min(LISTEN_S, left)
            self.site.sleep(nap)
            left -= nap
            if left > 0 and self._lookout.is_asked(state):
                return

    def _say(self, state: ReleaseState, text: str) -> None:
        if text != self._text:
            self._text = text
            self.on_progress(state.stage_index, len(self.plan.stages), text)

    def _say_where(self, decision: Decision) -> None:
        self._say(decision.state, f"{place_of(self.plan, decision.state)}: {decision.reason}")
