"""What an answer said, as far as it is kept, and whether it breaks the route's response contract.

Judged is what the user got to its end: the first choice's text of an answer that neither failed nor was left by its
client. It happens when the answer's bytes are already on their way, and holds up nobody: what takes more than a moment
is judged in a thread, one answer after the other, and what takes too long there is not judged at all.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from configs.contract import JUDGED_CHARS, Contract
from delivery.gateway.seldom import Seldom
from evals.contract import MOST_STEPS, QUICK_STEPS, ContractJudgement, is_quick, judge

log = logging.getLogger("slipway.gateway")
WAITING = 64  # answers for the thread; more are not judged


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


class Judges:
    """Judges answers at once, or beside the event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "contract")
        self._gave_up = Seldom("detectors gave up on an answer, which counts for nothing")
        self.waiting = 0

    def judge(self, contract: Contract, said: Said, request_id: str, then: Callable[[ContractJudgement], None]) -> None:
        """Says `then` what the contract says, now or later. A detector that cannot cope costs its verdict alone."""
        text = said.text
        if is_quick(contract, text):
            found = _judged(contract, text, said.is_whole, request_id, QUICK_STEPS)
            if not found.given_up:
                then(found)
                return
        if self.waiting >= WAITING:
            self._tell(then, request_id, ContractJudgement({}, tuple(contract.detectors)))
            return
        self.waiting += 1
        slowly = partial(_judged, contract, text, said.is_whole, request_id, MOST_STEPS)
        judging = asyncio.get_running_loop().run_in_executor(self._thread, slowly)
        judging.add_done_callback(partial(self._done, then, request_id))

    def _done(
        self, then: Callable[[ContractJudgement], None], request_id: str, judging: asyncio.Future[ContractJudgement]
    ) -> None:
        self.waiting -= 1
        self._tell(then, request_id, ContractJudgement({}) if judging.cancelled() else judging.result())

    def _tell(self, then: Callable[[ContractJudgement], None], request_id: str, found: ContractJudgement) -> None:
        if found.given_up:
            self._gave_up.warn(request_id=request_id, detectors=found.given_up)
        then(found)

    def close(self) -> None:
        """Waits for what it is judging, and for nothing else."""
        self._thread.shutdown(cancel_futures=True)


def _judged(contract: Contract, text: str, is_whole: bool, request_id: str, steps: int) -> ContractJudgement:
    try:
        return judge(contract, text, is_whole=is_whole, steps=steps)
    except Exception:
        log.exception("an answer could not be judged", extra={"request_id": request_id})
        return ContractJudgement({})
