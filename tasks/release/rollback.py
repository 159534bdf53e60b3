"""Taking a release back by hand: the routing change at once, whoever controls the environment, then all the rest."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from configs.canonical import short
from configs.errors import SlipwayError
from configs.project import Project
from delivery.clients.gateway import GatewayError
from delivery.clients.ledger.errors import named
from delivery.clients.ledger.ledger import LedgerError, RevisionTakenError
from delivery.progress import Progress, silent
from delivery.release.routes import alone, table_with
from delivery.release.state import Observation, ReleaseState, Served
from delivery.release.take_back import live_release, meant
from delivery.release.way_back import TakenBack
from tasks.notify.courier import delivering
from tasks.release.gateways import LATE_S, failures, put, tables
from tasks.release.left_behind import see_to_the_end
from tasks.release.rollback_outcome import RollbackOutcome, nothing_taken_back
from tasks.release.site import Site, open_gateways, open_site_of, open_vllm
from tasks.release.start import make_servable
from tasks.release.way_back import leave_note, tell_of_note
from tasks.release.without_ledger import take_back_without_ledger

CONFLICT = 409  # a gateway has a higher revision
CLASHES = 5  # routing revisions that somebody else may take first


def rollback(
    site: Site,
    route: str,
    *,
    by: str,
    reason: str,
    release: str | None = None,
    to: Literal["previous", "base"] = "previous",
    quarantine: bool = True,
    on_progress: Progress = silent,
) -> RollbackOutcome:
    """Takes back a release, under way or live; safe to repeat in every state (delivery.release.take_back).

    `release`: its id, or a unique beginning of its bundle's digest; without it the newest of the route, and nothing
    more once that is taken back. `quarantine`: whether the bundle is ruled out; a person's reason is evidence.

    The request goes on record first and the routing change right after it, without waiting for a controller. Where the
    ledger cannot be written (a full disk, a lock), users are routed all the same; the outcome is `under_way` then, for
    whoever controls the route next knows nothing of it. Draining, unloading and quarantine are left to the controller
    if one runs, and are done here if none does.
    """
    named(by, reason)
    pointers = site.ledger.route(site.name, route)
    if pointers is None:
        raise SlipwayError(f"route {route} is not known in environment {site.name}", where=site.ledger.url)
    pasts = site.ledger.pasts(site.name, route)
    found = meant(pasts, pointers.live.bundle, release or "")
    if found.standing != "take_back":
        return nothing_taken_back(site, pointers, pasts, found, release or "", route, to)
    state = site.ledger.state(found.release_id)
    target = pointers.base if to == "base" else None
    asked = TakenBack(
        route=route,
        release_id=state.release_id,
        by=by,
        reason=reason,
        at=site.clock(),
        to=to,
        quarantine=quarantine,
    )
    return _take_back(site, state, target, asked, on_progress)


def rollback_in(
    project: Project,
    home: Path,
    *,
    by: str,
    reason: str,
    release: str | None = None,
    to: Literal["previous", "base"] = "previous",
    quarantine: bool = True,
    on_progress: Progress = silent,
) -> RollbackOutcome:
    """The same for a project's route, also where its ledger cannot be reached: users first, and the record after."""
    named(by, reason)
    environment = project.environment
    try:
        with open_site_of(project, home) as site, delivering(environment, site.ledger, on_progress):
            return rollback(
                site,
                project.route,
                by=by,
                reason=reason,
                release=release,
                to=to,
                quarantine=quarantine,
                on_progress=on_progress,
            )
    except LedgerError as error:
        why = error
    asked = TakenBack(
        route=project.route,
        release_id=release or "",
        by=by,
        reason=reason,
        at=time.time(),
        to=to,
        quarantine=quarantine,
    )
    gateways = open_gateways(environment, home)
    with ExitStack() as stack:
        for client in gateways.values():
            stack.callback(client.close)
        return take_back_without_ledger(
            environment, home, gateways, open_vllm(), asked, why=why, on_progress=on_progress
        )


def _take_back(
    site: Site,
    state: ReleaseState,
    target: Served | None,
    asked: TakenBack,
    on_progress: Progress,
) -> RollbackOutcome:
    """Of a release that is under way, live, or being taken back already."""
    started_at, route = site.clock(), state.route
    is_new = state.phase != "rolling_back"
    stable = site.here((target or state.stable) if is_new else state.stable)
    text = f"release {state.release_id} of bundle {short(state.candidate.bundle)}"
    on_progress(0, 3, f"taking back {text}")
    unasked = _ask(site, target, asked) if is_new else ""
    on_progress(1, 3, f"routing all traffic of {route} to {stable.name}")
    problem, unrecorded = _reroute(site, state, stable, asked, not_now=unasked)
    to_stable_s = None if problem else site.clock() - started_at
    on_progress(2, 3, problem or f"all traffic of {route} is on {stable.name} after {to_stable_s:.2f} s")
    if unasked or unrecorded:  # users come first; now there is time to wait once more for whoever holds the ledger
        unasked = unasked and _ask(site, target, asked)
        problem, unrecorded = _reroute(site, state, stable, asked, not_now=unasked)
    left = _left_to_do(site, stable, asked, problem, unrecorded, on_progress)
    text = f"{text} taken back by {asked.by}: {asked.reason}"
    on_progress(3, 3, left or text)
    behind = "" if left else live_release(site.ledger.pasts(site.name, route), stable.bundle)
    return RollbackOutcome(
        release_id=state.release_id,
        route=route,
        outcome="under_way" if left else "rolled_back",
        serves=stable.name,
        reason=text,
        problem=left,
        behind=behind,
        to_stable_s=to_stable_s,
        seconds=site.clock() - started_at,
    )


def _ask(site: Site, target: Served | None, asked: TakenBack) -> str:
    """Puts the request on record; returns why it could not."""
    try:
        site.ledger.add_command(
            asked.release_id, "rollback", asked.by, asked.reason, site.clock(), target, quarantine=asked.quarantine
        )
    except LedgerError as error:
        return f"{error.what}, {error.where}"
    return ""


def _left_to_do(
    site: Site, stable: Served, asked: TakenBack, problem: str, unrecorded: str, on_progress: Progress
) -> str:
    """Waits for the rollback's end, unless the ledger does not know of it; what is left to do then, and by whom."""
    where = f"all traffic of {asked.route} is on {stable.name}"
    if problem:
        where = f"traffic of {asked.route} could NOT be moved to {stable.name}: {problem}"
    again = "see to that and give the same command again"
    if not unrecorded:
        try:
            ended = see_to_the_end(site, asked.release_id, on_progress)
        except LedgerError as error:
            return f"{where}; the rollback is on record, but cannot be finished: {error.what}; {again}"
        return "" if ended else f"{where}; the rollback is on record, and its controller has yet to finish it"
    return f"{where}; this is NOT on record: {unrecorded}; {again}{_noted(site, asked, stable.name)}"


def _noted(site: Site, asked: TakenBack, serves: str) -> str:
    """Leaves a note for whoever looks when the ledger can be written; what happens if nobody repeats the command."""
    yet = "It is neither unloaded nor quarantined yet"
    try:
        file = leave_note(site.home, site.name, asked)
    except SlipwayError:
        return f", or the next release, restart or controller brings the bundle back. {yet}"
    tell_of_note(site.environment, file, serves)
    return f"; it is noted in {file} and goes on record when the ledger can be written. {yet}"


def _reroute(site: Site, state: ReleaseState, stable: Served, asked: TakenBack, *, not_now: str) -> tuple[str, str]:
    """Stable alone on every gateway, as the controller would do it; what went wrong with that, and with its record.

    `not_now`: why nothing can be put on record, so that users need not wait until that is found out once more.
    """
    why = f"rollback asked for by {asked.by}: {asked.reason}"
    wanted = alone(stable, state.release_id, f"{state.release_id}/rolled-back")
    if state.committed:  # stable's adapter was not used for a while: vLLM may have been restarted since
        try:
            make_servable(site, stable, probe=False, late_s=LATE_S)
        except SlipwayError as error:
            return str(error), not_now
    problem, unrecorded = "", not_now
    for _ in range(CLASHES):
        if site.ledger.state(state.release_id).phase == "rolled_back":  # by somebody else; what came since is not ours
            return "", not_now
        seen = tables(site.gateways)
        newest = site.ledger.newest_table(site.name)
        observation = Observation(gateways=seen, replicas={}, ledger_table=newest)
        lease_s = site.ledger.plan(state.release_id).lease_s
        table = table_with(state.route, wanted, observation, lease_s)
        try:
            if not not_now:
                site.ledger.add_table(site.name, table, why, asked.by, site.clock())
                unrecorded = ""
        except RevisionTakenError as error:  # by a controller, in between
            problem = str(error)
            continue
        except LedgerError as error:  # users do not wait for its disk
            unrecorded = f"{error.what}, {error.where}"
        done = put(site.gateways, seen, table)
        problem = failures(done, len(site.gateways))
        if not any(isinstance(error, GatewayError) and error.status == CONFLICT for error in done.values()):
            break
    return problem, unrecorded
