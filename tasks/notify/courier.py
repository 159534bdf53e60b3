"""Delivers an environment's outbox beside whatever a process does: a thread for each receiver, which nobody waits for.

A receiver that hangs delays its own messages only. What a process leaves undelivered the next one tries: the
supervisor, a release, `slipway notify`.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from configs.environment import Environment
from configs.errors import SlipwayError
from delivery.clients.ledger.ledger import Ledger, LedgerError
from delivery.clients.ledger.outbox import Waiting
from delivery.clients.receivers.errors import ReceiverError
from delivery.progress import Progress, silent
from tasks.notify.receivers import Send, senders

POLL_S = 1.0
FLUSH_S = 5.0  # what a command that has done its work gives its last messages


class Courier:
    """From `start` until `stop`. `say` gets a line for each message that did not arrive."""

    def __init__(
        self,
        environment: str,
        ledger: Ledger,
        send: Mapping[str, Send],
        say: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.time,
    ):
        self._environment = environment
        self._ledger = ledger
        self._send = send
        self._say = say
        self._clock = clock
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begins to deliver, and returns at once."""
        for name in self._send:
            thread = threading.Thread(target=self._serve, args=(name,), name=f"courier {name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, flush_s: float = FLUSH_S) -> None:
        """Returns when nothing is due any more, or after `flush_s`; a try under way ends with the process."""
        self._closing.set()
        until = time.monotonic() + flush_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _serve(self, name: str) -> None:
        said = ""
        while True:
            closing = self._closing.is_set()  # seen before the look: what was posted before is found by it
            try:
                while self.deliver_one(name):
                    pass
                said = ""
            except LedgerError as error:
                if error.what != said:
                    said = error.what
                    self._say(f"messages to {name} wait: {error.what}")
            if closing:
                return
            self._closing.wait(POLL_S)

    def deliver_one(self, name: str) -> bool:
        """Tries the oldest message that is due to a receiver; False when there is none. Raises LedgerError."""
        one = self._ledger.outbox.due(self._environment, name, self._clock())
        if one is None:
            return False
        self.deliver(one)  # or another process does: there may be more
        return True

    def deliver(self, one: Waiting) -> str | SlipwayError | None:
        """What its receiver said to a message; None where another process tries it. Raises LedgerError."""
        outbox = self._ledger.outbox
        if not outbox.claim(one, self._clock()):
            return None
        try:
            said = self._send[one.receiver](one.message)
        except SlipwayError as error:
            wait_s = error.retry_after_s if isinstance(error, ReceiverError) else 0.0
            outbox.failed(one, error.what, self._clock(), wait_s)
            self._say(f"{one.receiver} was not told, and is told later: {error.what}")
            return error
        outbox.arrived(one, self._clock())
        return said


@contextmanager
def delivering(
    environment: Environment,
    ledger: Ledger,
    on_progress: Progress = silent,
    clock: Callable[[], float] = time.time,
) -> Iterator[None]:
    """What the block puts into the outbox is delivered beside it, and for a few seconds after it.

    A block that raises is not waited for: users may have to be moved some other way.
    """
    if not environment.notifications:
        yield
        return
    send = senders(environment.notifications)
    courier = Courier(environment.name, ledger, send, lambda text: on_progress(0, 0, text), clock)
    courier.start()
    try:
        yield
    except BaseException:
        courier.stop(0.0)
        raise
    courier.stop()
