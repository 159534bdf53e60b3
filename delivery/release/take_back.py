"""Which release a request to take something back means: by its name, or without one the newest of the route.

A repetition must not take the predecessor back too. Without a name it is recognised by the newest release, which was
taken back and followed by nothing; a second step back is asked for by name.
"""

from collections.abc import Sequence
from typing import Literal

from configs.strict import Strict
from delivery.release.state import Phase

ReleaseStanding = Literal["take_back", "taken_back", "replaced", "beneath", "nothing", "unknown", "ambiguous"]


class PastRelease(Strict):
    """One release of a route, as far as it matters here."""

    release_id: str
    bundle: str  # digest
    phase: Phase


class Meant(Strict):
    """The release that is meant, and how it stands.

    take_back: it is under way, being taken back, or live. taken_back: it was. replaced: another bundle is live instead.
    beneath: it is live, and `above` is being released over it. nothing: the route had no release. unknown, ambiguous:
    no release has this name, or several bundles do.
    """

    standing: ReleaseStanding
    release_id: str = ""
    above: str = ""


def meant(releases: Sequence[PastRelease], live: str, named: str = "") -> Meant:
    """`releases`: the route's, newest first; `live`: its live bundle's digest; `named`: an id, or a digest's beginning.

    A refused release never had a request, and is nobody's meaning without a name.
    """
    shown = [past for past in releases if past.phase != "refused"]
    if not named:
        return _standing(shown, shown[0], live) if shown else Meant(standing="nothing")
    found = [past for past in releases if past.release_id == named] or [
        past for past in releases if past.bundle.removeprefix("sha256:").startswith(named.removeprefix("sha256:"))
    ]
    if len({past.bundle for past in found}) != 1:
        return Meant(standing="ambiguous" if found else "unknown")
    return _standing(shown, next((past for past in found if past in shown), found[0]), live)


def live_release(releases: Sequence[PastRelease], live: str) -> str:
    """Id of the release that made this bundle live; empty when none did: it is the base."""
    return next((past.release_id for past in releases if past.phase == "live" and past.bundle == live), "")


def _standing(shown: Sequence[PastRelease], past: PastRelease, live: str) -> Meant:
    if past.phase in ("rolled_back", "refused"):
        return Meant(standing="taken_back", release_id=past.release_id)
    if past.phase != "live":
        return Meant(standing="take_back", release_id=past.release_id)
    if past.release_id != live_release(shown, live):
        return Meant(standing="replaced", release_id=past.release_id)
    if shown[0].phase not in ("live", "rolled_back"):
        return Meant(standing="beneath", release_id=past.release_id, above=shown[0].release_id)
    return Meant(standing="take_back", release_id=past.release_id)
