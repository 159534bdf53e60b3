"""How long work says how far it is, without knowing who listens: a terminal, Prefect, or nobody."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with (done, total, text); `total` is 0 while it is unknown."""


def silent(done: int, total: int, text: str) -> None:
    """Listens to nothing."""
