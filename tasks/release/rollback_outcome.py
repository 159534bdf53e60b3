"""What a rollback by hand did, in words: what it took back, who serves now, and the exact command for what is next."""

import shlex
import time
from typing import Literal

from configs.canonical import short
from configs.errors import SlipwayError
from configs.strict import Strict
from delivery.clients.ledger.reads import RouteRow
from delivery.release.state import ReleaseState
from delivery.release.take_back import Meant, PastRelease, live_release
from tasks.release.site import Site


class RollbackOutcome(Strict):
    """What a rollback did. `to_stable_s`: from the call until every gateway had accepted the table, else None.

    nothing_to_do: what was asked for is so already. unclear: nothing was changed, for without a name it is not known
    which release is meant.
    """

    release_id: str  # what is taken back; empty: there was nothing
    route: str
    outcome: Literal["rolled_back", "nothing_to_do", "under_way", "unclear"]
    serves: str  # the variant that has all traffic now, or is to have it
    reason: str
    problem: str = ""  # why it is still under way, and the cure
    behind: str = ""  # the release that made live what serves now: to take it back too, it has to be named
    to_stable_s: float | None = None
    seconds: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether what was asked for is so, now or already."""
        return self.outcome in ("rolled_back", "nothing_to_do")

    def render(self, command: str = "slipway rollback", asked: str = "") -> str:
        """For people: who serves the route, since when, what is left to do, and how to go on.

        `command`: as it was given, without its release; `asked`: the reason, for the command that repeats it.
        """
        said = f"{self.outcome}: {self.reason}"
        if self.problem:
            said = f"{self.outcome}: {self.problem} ({self.reason})"
        elif self.outcome == "rolled_back":
            took = "" if self.to_stable_s is None else f" after {self.to_stable_s:.2f} s"
            said = f"{self.outcome}: {self.serves} serves route {self.route}{took} ({self.reason})"
        lines, why = [said], f"--reason {shlex.quote(asked)}" if asked else "--reason TEXT"
        if self.release_id and self.outcome in ("rolled_back", "under_way"):
            lines.append(f"  the same again, which takes nothing else back: {command} {self.release_id} {why}")
        if self.behind and self.is_done and not self.problem:
            lines.append(f"  to take {self.serves} back too: {command} {self.behind} --reason TEXT")
        elif self.behind and self.outcome == "unclear":
            lines.append(f"  if {self.serves} is meant: {command} {self.behind} {why}")
        return "\n".join(lines)


def nothing_taken_back(
    site: Site, pointers: RouteRow, pasts: list[PastRelease], found: Meant, named: str, route: str, to: str
) -> RollbackOutcome:
    """The outcome where nothing is to be changed. SlipwayError: the name means nothing, or not what is live."""
    live, behind = pointers.live, live_release(pasts, pointers.live.bundle)
    known = RollbackOutcome(
        release_id=found.release_id, route=route, outcome="nothing_to_do", serves=live.name, reason="", behind=behind
    )
    if found.standing == "nothing":
        text = f"route {route} serves {live.name}, which no release brought: there is nothing to take back"
        return known.model_copy(update={"reason": text})
    if found.standing in ("unknown", "ambiguous"):
        raise _no_such_release(pointers, pasts, found, named, route)
    state = site.ledger.state(found.release_id)
    what = f"release {state.release_id} of bundle {short(state.candidate.bundle)}"
    if found.standing == "beneath":
        raise SlipwayError(
            f"{what} is live, and release {found.above} is under way over it",
            where=f"route {route}, environment {site.name}",
            cure=f"take that back first (slipway rollback {found.above} --reason TEXT), then this one",
        )
    if found.standing == "replaced":
        return known.model_copy(update={"reason": f"{what} serves nobody any more: {live.name} does"})
    text = f"{what} {_was_taken_back(state)}; {live.name} serves route {route}"
    to_base_in_vain = to == "base" and live.bundle != pointers.base.bundle
    if not named and (to_base_in_vain or not _by_hand(site, state)):
        # the caller may mean this one, and be late, or may mean what is live
        return known.model_copy(update={"outcome": "unclear", "reason": f"nothing was changed: {text}"})
    return known.model_copy(update={"reason": text})


def _no_such_release(
    pointers: RouteRow, pasts: list[PastRelease], found: Meant, named: str, route: str
) -> SlipwayError:
    recent = ", ".join(f"{past.release_id} ({short(past.bundle)}, {past.phase})" for past in pasts[:5]) or "none"
    what = "several bundles" if found.standing == "ambiguous" else "no release"
    if pointers.base.bundle.removeprefix("sha256:").startswith(named.removeprefix("sha256:")):
        return SlipwayError(
            f"{named} is the base of route {route}: there is nothing behind it",
            cure="release something, or change the base: slipway up",
        )
    return SlipwayError(
        f"{what} on route {route} have this name: {named!r}" if "several" in what else f"{what} {named!r}",
        where=f"route {route}",
        cure=f"name a release, or a unique beginning of its bundle's digest; the newest are {recent}",
    )


def _was_taken_back(state: ReleaseState) -> str:
    note = state.rollback
    if note is None:
        return f"was refused and never served ({state.reason})"
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(note.decided_at))
    return f"was taken back at {at} by {note.by}: {note.reason}"


def _by_hand(site: Site, state: ReleaseState) -> bool:
    """Whether a person took it back, or asked for it while Slipway did."""
    return site.ledger.command(state.release_id) is not None or (
        state.rollback is not None and state.rollback.by != "slipway"
    )
