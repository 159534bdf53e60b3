"""A release's decisions on record: which of them the ledger is told, and what became of their actions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from delivery.checks.evidence import Cursor
from delivery.clients.ledger.ledger import LedgerError
from delivery.release.messages import Letter
from delivery.release.state import Decision, ReleaseState, RenewLease
from tasks.release.site import LEASE_TTL_S, Site

HEARTBEAT_S = 10.0


@dataclass
class Journal:
    """What the ledger knows already is not written again; in every tick the lease is prolonged."""

    site: Site
    say: Callable[[ReleaseState, str], None]
    _about: str = ""  # what the last recorded decision was about
    _at: float = 0.0
    _judged: dict[str, Cursor] = field(default_factory=dict)

    def record(self, decision: Decision, now: float, letters: Sequence[Letter] = ()) -> int | None:
        """On record when something changed, as a heartbeat now and then; the decision's number if so.

        What the judge said is on record at once: it is paid for, and not asked again. `letters`: what people are told
        of the decision. LedgerError: none of it is on record.
        """
        site, state = self.site, decision.state
        judged = state.evidence.judging.cursors
        about = _what_it_is_about(decision)
        if about != self._about or letters:
            number = site.ledger.record(decision, site.owner, LEASE_TTL_S, now, letters=letters)
        elif judged != self._judged or not 0 <= now - self._at < HEARTBEAT_S:
            number = site.ledger.record(decision, site.owner, LEASE_TTL_S, now, heartbeat=True)
        else:
            site.ledger.prolong(state.environment, site.owner, LEASE_TTL_S, now)
            return None
        self._about, self._at, self._judged = about, now, judged
        return number

    def reporter(self, decision: Decision, number: int | None, index: int) -> Callable[[str], None]:
        """Takes what became of one of the decision's actions: the error, or "" when it worked."""

        def report(error: str) -> None:
            if number is None:
                return
            try:
                self.site.ledger.mark_applied(number, index, self.site.clock(), error)
            except LedgerError as problem:
                self.say(decision.state, f"applied, but not marked so: {problem.what}")

        return report


def _what_it_is_about(decision: Decision) -> str:
    """Equal for decisions that say the same; counts and renewals do not make a new one."""
    state = decision.state
    lasting = [action.model_dump_json() for action in decision.actions if not isinstance(action, RenewLease)]
    verdicts = [f"{result.metric}={result.verdict}" for result in decision.results]
    flags = [state.phase, state.stage_index, state.attempt, state.suspended, state.awaiting_approval]
    confirmed = state.rollback is not None and state.rollback.confirmed_at is not None
    return "|".join(map(str, (*flags, confirmed, decision.verdict, *verdicts, *lasting)))
