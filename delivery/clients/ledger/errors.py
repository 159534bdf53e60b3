"""What can be wrong with the ledger, in words; the database's own errors never reach a caller."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from configs.errors import SlipwayError


class LedgerError(SlipwayError):
    """The ledger could not be read or written; nothing of the call was kept."""


class LeaseHeldError(LedgerError):
    """Somebody else controls the environment."""


class RevisionTakenError(LedgerError):
    """Somebody else decided another table under this revision; the next look at the ledger shows it."""


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turns errors of the database, its driver and its file into a LedgerError; `url` is shown without its password."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, OSError) as error:
        cause = str(getattr(error, "orig", None) or error).strip()
        raise LedgerError(f"the ledger cannot be used: {cause}", where=shown(url), cure=_cure(url, cause)) from error


def shown(url: str) -> str:
    """The URL as people may see it."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return url.rpartition("@")[2]


def named(by: str, reason: str) -> None:
    """LedgerError unless there are a person's name and a reason."""
    if not by.strip() or not reason.strip() or len(by) > 200:
        raise LedgerError(
            f"a decision needs the name of a person (1 to 200 characters) and a reason, found {by[:40]!r}, {reason!r}",
            cure="say who you are and why: --by NAME --reason TEXT",
        )


def _cure(url: str, cause: str) -> str:
    if url.startswith("sqlite"):
        if "locked" in cause:
            return "end whatever holds the file locked; nothing is renewed meanwhile, so that stable takes over"
        if "full" in cause or "space" in cause:
            return "make room on its disk; nothing is renewed meanwhile, so that stable takes over"
        return "see that its disk has room, that its folder is writable, and that nothing holds it locked"
    return "see that the server runs and lets this user in (password: PGPASSWORD or ~/.pgpass), and that it has room"
