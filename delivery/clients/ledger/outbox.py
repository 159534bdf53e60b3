"""The outbox: messages that are on record with what they tell of, and how far their delivery has come.

Several processes deliver from one outbox - a controller, the supervisor, a command. Whoever claims a message by
compare-and-swap tries it; a claim of a process that was killed ends by itself. Where a process is killed between a
receiver's answer and the mark, the message is told again under the same key: once at least, not once at most.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from configs.strict import Strict
from delivery.clients.ledger.chain import insert_once
from delivery.clients.ledger.schema import outbox
from delivery.clients.ledger.writes import Transaction, first
from delivery.release.messages import Letter, ReleaseMessage

CLAIM_S = 60.0  # longer than any try takes
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 900.0
GIVEN_UP_AFTER_S = 3 * 86_400.0


class Waiting(Strict):
    """A message that a receiver does not have yet. Times are UNIX seconds."""

    receiver: str
    message: ReleaseMessage
    tries: int
    next_try_at: float
    error: str  # of the last try; empty: none was made, one is under way, or its process was killed

    def is_being_tried(self, now: float) -> bool:
        """Whether some process has claimed it, and may be at it."""
        return self.tries > 0 and not self.error and now < self.next_try_at

    def given_up(self, now: float) -> bool:
        """Whether it is too old to be told."""
        return now - self.message.at > GIVEN_UP_AFTER_S


class Outbox:
    """Of one ledger. Raises LedgerError."""

    def __init__(self, write: Transaction, read: Transaction):
        self._write = write
        self._read = read

    def add(self, letters: Sequence[Letter]) -> None:
        """Letters that belong to no other row."""
        if letters:
            with self._write() as connection:
                post(connection, letters)

    def waiting(self, environment: str) -> list[Waiting]:
        """Everything that was not delivered, oldest first."""
        query = sa.select(outbox).where(_undelivered(environment)).order_by(outbox.c.at, outbox.c.key)
        with self._read() as connection:
            return [_waiting(row) for row in connection.execute(query).mappings()]

    def due(self, environment: str, receiver: str, now: float) -> Waiting | None:
        """The oldest message to a receiver whose time has come."""
        mine = _undelivered(environment) & (outbox.c.receiver == receiver) & (outbox.c.next_try_at <= now)
        young = outbox.c.at >= now - GIVEN_UP_AFTER_S
        query = sa.select(outbox).where(mine & young).order_by(outbox.c.at, outbox.c.key)
        with self._read() as connection:
            row = first(connection, query)
            return None if row is None else _waiting(row)

    def claim(self, one: Waiting, now: float) -> bool:
        """Whether the caller is to try it; others leave it alone for a minute."""
        same = _row(one) & (outbox.c.tries == one.tries) & (outbox.c.delivered_at.is_(None))
        with self._write() as connection:
            claimed = sa.update(outbox).where(same).values(tries=one.tries + 1, next_try_at=now + CLAIM_S, error="")
            return connection.execute(claimed).rowcount == 1

    def arrived(self, one: Waiting, now: float) -> None:
        """A receiver has taken it."""
        with self._write() as connection:
            connection.execute(sa.update(outbox).where(_row(one)).values(delivered_at=now, error=""))

    def failed(self, one: Waiting, error: str, now: float, not_before_s: float = 0.0) -> None:
        """It is tried again, ever later; `not_before_s` is what the receiver asks for."""
        pause_s = min(FIRST_PAUSE_S * 2**one.tries, LONGEST_PAUSE_S)
        after = now + min(max(pause_s, not_before_s), LONGEST_PAUSE_S)
        with self._write() as connection:
            connection.execute(sa.update(outbox).where(_row(one)).values(next_try_at=after, error=error[:500]))


def post(connection: Connection, letters: Sequence[Letter]) -> None:
    """Puts letters into the outbox, each once, in the transaction of what they tell of."""
    for letter in letters:
        message = letter.message
        values = {
            "environment": message.environment,
            "receiver": letter.receiver,
            "key": message.key,
            "message": message.model_dump(mode="json"),
            "at": message.at,
            "tries": 1 if letter.told else 0,
            "next_try_at": 0.0,
            "delivered_at": message.at if letter.told else None,
            "error": "",
        }
        insert_once(connection, outbox, values)


def _undelivered(environment: str) -> sa.ColumnElement[bool]:
    return (outbox.c.environment == environment) & outbox.c.delivered_at.is_(None)


def _row(one: Waiting) -> sa.ColumnElement[bool]:
    message = one.message
    same = (outbox.c.receiver == one.receiver) & (outbox.c.key == message.key)
    return (outbox.c.environment == message.environment) & same


def _waiting(row: sa.RowMapping) -> Waiting:
    found = {name: row[name] for name in ("receiver", "message", "tries", "next_try_at", "error")}
    return Waiting.model_validate(found)
