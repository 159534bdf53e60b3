"""Who is signed in, for how long, and how often somebody may try. Nothing outlasts the process; time is an argument."""

import hashlib
import secrets
from collections import defaultdict
from collections.abc import MutableMapping
from dataclasses import dataclass, field

OF_A_NAME = 5  # failed tries in a window
OF_AN_ADDRESS = 20
WINDOW_S = 300.0
MOST_REMEMBERED = 10_000


@dataclass
class _Session:
    name: str
    seen_at: float


@dataclass
class Sessions:
    """A browser has a random key; only its hash is kept. A session ends `idle_s` after the last request."""

    idle_s: float
    _known: dict[str, _Session] = field(default_factory=dict)

    def begin(self, name: str, now: float) -> str:
        """A fresh key for somebody who has just signed in."""
        for key in [key for key, one in self._known.items() if now - one.seen_at > self.idle_s]:
            del self._known[key]
        secret = secrets.token_urlsafe(32)
        self._known[_hash(secret)] = _Session(name, now)
        return secret

    def who(self, secret: str, now: float, *, is_use: bool = True) -> str | None:
        """Whose key it is; the session's time begins again, unless a page only asks whether it goes on."""
        found = self._known.get(_hash(secret))
        if found is None or now - found.seen_at > self.idle_s:
            return None
        if is_use:
            found.seen_at = now
        return found.name

    def end(self, secret: str) -> None:
        """Signs out; safe to repeat."""
        self._known.pop(_hash(secret), None)


@dataclass
class Tries:
    """Failed sign-ins, counted by name and by address: after a few nobody may try for a while."""

    _failed: MutableMapping[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def wait_s(self, name: str, address: str, now: float) -> float:
        """For how many seconds this name or this address may not try; 0: it may."""
        limits = ((f"name {name}", OF_A_NAME), (f"address {address}", OF_AN_ADDRESS))
        return max(self._wait_s(key, most, now) for key, most in limits)

    def failed(self, name: str, address: str, now: float) -> None:
        """One more."""
        if len(self._failed) > MOST_REMEMBERED:
            old = [key for key, times in self._failed.items() if not times or now - times[-1] > WINDOW_S]
            for key in old or list(self._failed)[: MOST_REMEMBERED // 2]:
                del self._failed[key]
        for key in (f"name {name}", f"address {address}"):
            self._failed[key] = [at for at in self._failed[key] if now - at <= WINDOW_S] + [now]

    def succeeded(self, name: str, address: str) -> None:
        """The last one was no failure; earlier ones of this address still count."""
        self._failed.pop(f"name {name}", None)
        times = self._failed.get(f"address {address}")
        if times:
            times.pop()

    def _wait_s(self, key: str, most: int, now: float) -> float:
        recent = [at for at in self._failed.get(key, ()) if now - at <= WINDOW_S]
        return recent[-most] + WINDOW_S - now if len(recent) >= most else 0.0


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
