"""What an answer said, as far as it is kept, and whether it breaks the route's response contract.

Judged is what the user got to its end: the first choice's text of an answer that neither failed nor was left by its
client. It happens when the answer's bytes are already on their way.
"""

import logging

from configs.contract import JUDGED_CHARS, Contract
from evals.contract import verdicts

log = logging.getLogger("slipway.gateway")


class Said:
    """The text of an answer's first choice, piece by piece, at most JUDGED_CHARS of it."""

    __slots__ = ("_kept", "_parts", "is_whole")

    def __init__(self) -> None:
        self.is_whole = True
        self._parts: list[str] = []
        self._kept = 0

    @property
    def text(self) -> str:
        """What is kept."""
        return "".join(self._parts)

    def add(self, text: str) -> None:
        """What a chunk or a whole answer says."""
        room = JUDGED_CHARS - self._kept
        self.is_whole = self.is_whole and len(text) <= room
        if room > 0 and text:
            self._parts.append(text[:room])
            self._kept += min(len(text), room)


def judge(contract: Contract, said: Said, request_id: str) -> dict[str, bool]:
    """Per detector, whether the answer breaks it. A detector that cannot cope costs its verdict, not the record."""
    try:
        return verdicts(contract, said.text, is_whole=said.is_whole)
    except Exception:
        log.exception("an answer could not be judged", extra={"request_id": request_id})
        return {}
