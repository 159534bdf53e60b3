"""Tells people at once, without an outbox: for a test, and while the ledger cannot be written."""

import threading
import time
from collections.abc import Iterable

from configs.errors import SlipwayError
from configs.notifications import Notifications
from delivery.release.messages import Letter, ReleaseMessage, letters
from tasks.notify.receivers import senders

WAIT_S = 5.0


class Direct:
    """Each message to each receiver that wants it, once, in a thread of its own that nobody has to wait for."""

    def __init__(self, notifications: Notifications):
        self._notifications = notifications
        self._send = senders(notifications)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._said: dict[tuple[str, str], str | SlipwayError] = {}  # by receiver and key

    def tell(self, messages: Iterable[ReleaseMessage], *, everybody: bool = False) -> None:
        """Returns at once. `everybody`: whatever they want to be told."""
        for message in messages:
            for name, receiver in self._notifications.items():
                if everybody or message.kind in receiver.tell:
                    thread = threading.Thread(target=self._tell, args=(name, message), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def wait(self, timeout_s: float = WAIT_S) -> None:
        """Until all have answered, or for so long."""
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def answers(self, message: ReleaseMessage) -> dict[str, str | SlipwayError]:
        """What each receiver that has answered so far said of a message."""
        with self._lock:
            return {name: said for (name, key), said in self._said.items() if key == message.key}

    def told(self, message: ReleaseMessage) -> tuple[str, ...]:
        """Who has it."""
        return tuple(name for name, said in self.answers(message).items() if isinstance(said, str))

    def letters(self, messages: Iterable[ReleaseMessage]) -> tuple[Letter, ...]:
        """For the outbox, with who has it already."""
        return tuple(
            letter for message in messages for letter in letters(self._notifications, [message], self.told(message))
        )

    def _tell(self, name: str, message: ReleaseMessage) -> None:
        said: str | SlipwayError
        try:
            said = self._send[name](message)
        except SlipwayError as error:
            said = error
        with self._lock:
            self._said[name, message.key] = said
