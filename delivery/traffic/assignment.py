"""Who gets which variant: pure arithmetic on a keyed hash, so that a user stays where he is while a release runs.

Users fall into 10,000 buckets. The candidate has the buckets from the bottom, the holdback those from the top: a share
is exact to the basis point, and a growing one only ever adds users.
"""

from functools import lru_cache
from hashlib import blake2b

from configs.routing import FULL_BP, Experiment, Route


def bucket(salt: str, user_key: str) -> int:
    """The user's bucket, 0 to 9999, under this salt. Another salt deals the users anew."""
    return _number(salt, user_key, b"bucket") % FULL_BP


def assign(route: Route, user_key: str, lease_valid: bool) -> str:
    """The name of the variant that serves this user. Without a valid lease everybody gets stable."""
    if not lease_valid or (route.candidate is None and route.holdback is None and route.experiment is None):
        return route.stable
    place = bucket(route.salt, user_key)
    if route.candidate is not None and place < route.candidate.share_bp:
        return route.candidate.variant
    if route.holdback is not None and place >= FULL_BP - route.holdback.share_bp:
        return route.holdback.variant
    return route.stable if route.experiment is None else _arm(route, route.experiment, user_key)


def _arm(route: Route, experiment: Experiment, user_key: str) -> str:
    """Stable's users are dealt once more, by the experiment's name: independent of who gets the candidate."""
    place = _number(f"{route.salt}/{experiment.name}", user_key, b"experiment") % FULL_BP
    for name in sorted(experiment.arms):
        place -= experiment.arms[name]
        if place < 0:
            return name
    return route.stable


def shares(route: Route) -> dict[str, int]:
    """Each variant's share of the users in basis points, while the lease is valid."""
    found = {}
    if route.candidate is not None and route.candidate.share_bp:
        found[route.candidate.variant] = route.candidate.share_bp
    if route.holdback is not None and route.holdback.share_bp:
        found[route.holdback.variant] = route.holdback.share_bp
    return {route.stable: FULL_BP - sum(found.values()), **found}


def mirrored_to(route: Route, request_id: str, lease_valid: bool) -> str | None:
    """The candidate that gets a copy of this request, which stable serves: a sample by hash of the request's id."""
    candidate = route.candidate
    if not lease_valid or candidate is None or candidate.mirror_bp == 0:
        return None
    return candidate.variant if _number(route.salt, request_id, b"mirror") % FULL_BP < candidate.mirror_bp else None


def is_captured(route: Route, request_id: str) -> bool:
    """Whether this request's and its copy's texts are kept: a sample of the copied ones by hash of the request's id."""
    candidate = route.candidate
    if candidate is None or candidate.capture_bp == 0 or mirrored_to(route, request_id, lease_valid=True) is None:
        return False
    return _number(route.salt, request_id, b"capture") % FULL_BP < candidate.capture_bp


def pseudonym(salt: str, user_key: str) -> str:
    """What records call the user: 16 hex digits that say nothing to anyone who does not hold the salt."""
    return f"{_number(salt, user_key, b'user'):016x}"


def _number(salt: str, text: str, purpose: bytes) -> int:
    keyed = _keyed(salt, purpose).copy()
    keyed.update(text.encode("utf-8", "surrogatepass"))
    return int.from_bytes(keyed.digest(), "big")


@lru_cache(maxsize=1024)
def _keyed(salt: str, purpose: bytes) -> blake2b:
    """The hash with its key taken in, which is half of the work. Nobody updates it, only copies of it."""
    key = salt.encode("utf-8", "surrogatepass")
    if len(key) > blake2b.MAX_KEY_SIZE:
        key = blake2b(key).digest()
    return blake2b(key=key, person=purpose, digest_size=8)
