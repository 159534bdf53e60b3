"""A way back whose process was killed: found in the ledger, and taken to its end by whoever looks.

That is the environment's supervisor, every few seconds, or the next command.
"""

from contextlib import suppress

from delivery.clients.ledger.ledger import LeaseHeldError, LedgerError
from delivery.progress import Progress, silent
from delivery.release.state import ReleaseState
from tasks.release.controller import Controller
from tasks.release.cursors import reading_from_now
from tasks.release.site import Site, is_dead
from tasks.release.way_back import put_on_record

POLL_S = 0.2
GRACE_S = 60.0  # beyond draining, for a controller that is busy


def asked_back(site: Site, route: str) -> ReleaseState | None:
    """The release that is being rolled back, or of which somebody asked it, under way or live; None without one.

    What was asked for while the ledger was away is put on record first.
    """
    with suppress(LedgerError):  # it can be read, and not written
        put_on_record(site)
    state = site.ledger.unfinished(site.name, route)
    if state is None:
        pointers = site.ledger.route(site.name, route)
        live = pointers.live.bundle if pointers is not None else ""
        state = site.ledger.release_that_made_live(site.name, route, live)
    if state is None or state.phase == "rolling_back":
        return state
    command = site.ledger.command(state.release_id)
    is_asked = command is not None and not (command.kind == "cancel" and state.phase == "live")
    return state if is_asked else None


def left_behind(site: Site, route: str) -> ReleaseState | None:
    """The same, when no controller lives that would see to it."""
    holder = site.ledger.holder(site.name)
    if holder is not None and holder.expires_at >= site.clock() and not is_dead(holder.owner):
        return None
    return asked_back(site, route)


def finish(site: Site, route: str, on_progress: Progress = silent) -> str:
    """Takes what was left behind to its end: routing, draining, unloading, quarantine; the release's id.

    Empty when there is nothing to do, or somebody else does it. It returns when every gateway shows it, which may take
    as long as one of them is down.
    """
    state = left_behind(site, route)
    if state is None or not see_to_the_end(site, state.release_id, on_progress):
        return ""
    return state.release_id


def see_to_the_end(site: Site, release_id: str, on_progress: Progress) -> bool:
    """Whether a rollback is complete: by the controller that runs, or else by this process."""
    plan = site.ledger.plan(release_id)
    deadline = site.clock() + plan.drain_s + GRACE_S
    while site.clock() < deadline:
        if site.ledger.state(release_id).phase == "rolled_back":
            return True
        try:
            site.take_lease()
        except LeaseHeldError:
            site.sleep(POLL_S)
            continue
        try:
            # read again under the lease: the last controller may have got further
            state = site.ledger.state(release_id)
            if state.phase == "live":
                state = reading_from_now(site, state)
            return Controller(site, plan, on_progress=on_progress).drive(state).phase == "rolled_back"
        finally:
            site.drop_lease()
    return False
