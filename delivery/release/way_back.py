"""The way back as the gateways' own table shows it, for a rollback that cannot ask the ledger.

A table tells stable from candidate as long as both have users. Of a bundle that has all of them it does not tell what
was before: that is noted on disk whenever something goes live.
"""

from collections.abc import Sequence
from typing import Literal

from configs.routing import Route
from configs.strict import Strict
from delivery.release.members import here
from delivery.release.routes import alone
from delivery.release.state import Served

ROLLED_BACK = "/rolled-back"


class WayBack(Strict):
    """What is live on a route, what it goes back to, and the base. `release_id`: of the release that made it live."""

    release_id: str
    live: Served
    to: Served
    base: Served


def present(note: WayBack, members: Sequence[str]) -> WayBack:
    """The same at the replicas that are there now, where they come and go."""
    return note.model_copy(update={name: here(getattr(note, name), members) for name in ("live", "to", "base")})


class TakenBack(Strict):
    """A rollback that the ledger does not know yet."""

    route: str
    release_id: str
    by: str
    reason: str
    at: float  # UNIX seconds
    to: Literal["previous", "base"]
    quarantine: bool
    told: tuple[str, ...] = ()  # receivers that know of it


class StepBack(Strict):
    """What a rollback has to do: `wanted` is the route to serve, None where that is unknown or so already."""

    standing: Literal["take_back", "taken_back", "unknown"]
    release_id: str = ""
    wanted: Route | None = None
    loads: Served | None = None  # what may have to be loaded before it is served


def step_back(route: Route, note: WayBack | None, named: str, to: Literal["previous", "base"]) -> StepBack:
    """From the route that a gateway serves. `named`: a release, or the beginning of its bundle's digest."""
    release_id, _, last = route.epoch.rpartition("/")
    live = note if note is not None and note.live.name == route.stable else None
    share = route.candidate.variant if route.candidate is not None else None
    if share is not None or last == "suspended":
        bundle = route.variants[share].bundle if share is not None else ""
        before = live.live if live is not None else None
        return _to(route, release_id, bundle, named, route.stable, before, live.base if live and to == "base" else None)
    if route.epoch.endswith(ROLLED_BACK) and named in ("", release_id):
        return StepBack(standing="taken_back", release_id=release_id)
    bundle = route.variants[route.stable].bundle
    if route.holdback is not None:
        before = live.to if live is not None and live.to.name == route.holdback.variant else None
        instead = live.base if live is not None and to == "base" else None
        return _to(route, release_id, bundle, named, route.holdback.variant, before, instead)
    if live is None or not live.release_id:
        return StepBack(standing="unknown", release_id=release_id)
    return _to(route, live.release_id, bundle, named, "", live.base if to == "base" else live.to, None)


def _to(
    route: Route, release_id: str, bundle: str, named: str, name: str, before: Served | None, instead: Served | None
) -> StepBack:
    """Back to `instead`, or to what is known of the route before; its variant is in the table, where it has users."""
    digest, wanted = bundle.removeprefix("sha256:"), named.removeprefix("sha256:")
    if named and named != release_id and not (digest and digest.startswith(wanted)):
        return StepBack(standing="unknown", release_id=release_id)
    epoch, served = release_id + ROLLED_BACK, instead or before
    if served is not None:
        return StepBack(
            standing="take_back", release_id=release_id, wanted=alone(served, release_id, epoch), loads=served
        )
    variants = {name: route.variants[name]}
    return StepBack(
        standing="take_back",
        release_id=release_id,
        wanted=Route(salt=release_id, epoch=epoch, variants=variants, stable=name),
    )
