"""How long work says how far it is, without knowing who listens: a terminal, Prefect, or nobody."""

import re
from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[int, int, str], None]
"""Called with (done, total, text); `total` is 0 while it is unknown."""


def silent(done: int, total: int, text: str) -> None:
    """Listens to nothing."""


@dataclass
class Repetition:
    """For whoever reads along: what was just said, but for its numbers, is due again only after `every_s`."""

    every_s: float = 10.0
    _said: str | None = None
    _said_at: float = 0.0

    def is_due(self, text: str, now: float) -> bool:
        """Whether to say it; `now` is seconds of any clock that only goes forward."""
        what = re.sub(r"\d+", "", text)
        if what == self._said and now - self._said_at < self.every_s:
            return False
        self._said, self._said_at = what, now
        return True
