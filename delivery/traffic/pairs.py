"""Two answers to one request with what was said, as the gateway keeps them for a while where a table asks for it."""

from typing import Any

from configs.strict import Strict


class Pair(Strict):
    """A request that stable answered and whose copy the candidate answered. Texts are redacted and cut."""

    seq: int  # grows by one per pair of this gateway process
    request_id: str
    route: str
    epoch: str
    user: str  # the pseudonym in records, or ""
    started_at: float  # of the candidate's attempt, UNIX seconds
    asked: Any  # the client's messages, or its prompt
    stable: str
    candidate: str


class PairPage(Strict):
    """An answer to `GET /admin/pairs?after=SEQ&limit=N`: the oldest of what is kept after `after`.

    `boot_id` changes when the gateway restarts and `seq` starts again at 1. `left_out` counts the pairs that were too
    large to be kept since then.
    """

    boot_id: str
    pairs: tuple[Pair, ...]
    last_seq: int
    left_out: int = 0
