"""The judge of a release, asked beside the controller's ticks: one batch of pairs at a time, seen by a later tick.

Nothing waits for it. What came of a batch is shown in every tick until the release's state has it, so that a decision
which could not be recorded loses no judgement, and a controller that starts again asks only about what the ledger does
not have.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from configs.errors import SlipwayError
from configs.judge import Judge
from delivery.checks.evidence import Cursor
from delivery.checks.judgements import (
    Judged,
    JudgeSeen,
    LocatedPair,
    Settled,
    are_equal,
    drawn,
    judged,
    place_in,
    preference_of,
    prompts,
)
from delivery.clients.gateway import GatewayError
from delivery.clients.judge import JudgeClient, JudgeMessage, JudgeReply, key_of
from delivery.release.state import ReleaseState
from delivery.traffic.pairs import PairPage

PAGES = 10
PAGE_PAIRS = 200
RETRY_S = 5.0  # a judge that does not answer is asked about one pair so often


class PairsSource(Protocol):
    """A gateway, or what stands for one in tests."""

    def pairs(self, after: int, limit: int = PAGE_PAIRS) -> PairPage:
        """See `delivery.clients.gateway`."""


class Asker(Protocol):
    """Whoever replies to questions."""

    def ask(self, questions: Sequence[Sequence[JudgeMessage]]) -> list[JudgeReply]:
        """See `delivery.clients.judge`."""


RunBeside = Callable[[Callable[[], "BatchOutcome"]], "Future[BatchOutcome]"]


@dataclass(frozen=True)
class Wanted:
    """What a batch is about."""

    route: str
    epoch: str
    most: int
    cursors: Mapping[str, Cursor]


@dataclass(frozen=True)
class BatchOutcome:
    """What came of a batch. `error` None: nobody was asked, so nothing is known anew of the judge.

    `unreadable`: why no pairs could be read; "" when they could.
    """

    judged: tuple[Judged, ...] = ()
    settled: tuple[Settled, ...] = ()
    error: str | None = None
    unreadable: str = ""


@dataclass
class JudgeBatches:
    """`open_client` is called when there is something to ask; `background` runs a job and gives its future."""

    settings: Judge
    gateways: Mapping[str, PairsSource]
    open_client: Callable[[Judge], Asker]
    clock: Callable[[], float]
    background: RunBeside
    _client: Asker | None = None
    _under_way: "Future[BatchOutcome] | None" = None
    _shown: BatchOutcome = field(default_factory=BatchOutcome)
    _error: str = ""
    _unreadable: str = ""
    _tried_at: float = 0.0

    def see(self, state: ReleaseState, *, has_pairs: bool) -> JudgeSeen:
        """What is known now; begins the next batch where there is something to ask. Never waits."""
        if _has(state, self._shown.settled):
            self._shown = BatchOutcome()
        self._take()
        if self._under_way is None and not self._shown.settled and has_pairs and self._is_due():
            most = self._most(state.evidence.judging.asked)
            if most > 0:
                self._begin(state, most)
                self._take()
        error = (self._unreadable or self._error) if has_pairs else ""  # elsewhere nobody waits for it
        return JudgeSeen(judged=self._shown.judged, settled=self._shown.settled, error=error)

    def _take(self) -> None:
        if self._under_way is None or not self._under_way.done():
            return
        self._shown, self._under_way = self._under_way.result(), None
        self._unreadable = self._shown.unreadable
        if self._shown.error is not None:
            self._error = self._shown.error

    def _is_due(self) -> bool:
        return not self._error or not 0 <= self.clock() - self._tried_at < RETRY_S

    def _most(self, asked: int) -> int:
        left = self.settings.pairs_per_release - asked
        return min(1 if self._error else self.settings.pairs_per_tick, left)

    def _begin(self, state: ReleaseState, most: int) -> None:
        self._tried_at = self.clock()
        evidence = state.evidence
        wanted = Wanted(state.route, evidence.epoch, most, dict(evidence.judging.cursors))
        self._under_way = self.background(lambda: self._batch(wanted))

    def _batch(self, wanted: Wanted) -> BatchOutcome:
        """In the background."""
        try:
            self._client = self._client or self.open_client(self.settings)
            return ask_about(wanted, self.settings, self._client, self.gateways)
        except GatewayError as error:
            return BatchOutcome(unreadable=f"no pairs can be read: {error.what}")
        except SlipwayError as error:
            return BatchOutcome(error=error.what)
        except Exception as error:  # noqa: BLE001  a judge must not end a release, whatever goes wrong with it
            return BatchOutcome(error=f"asking the judge failed: {type(error).__name__}: {error}")


def ask_about(wanted: Wanted, settings: Judge, client: Asker, gateways: Mapping[str, PairsSource]) -> BatchOutcome:
    """Reads the pairs that are new, draws from them, asks. GatewayError: none of the gateways can be read.

    Where the judge is away nothing is settled, and the same pairs are there the next time.
    """
    found, settled = _read(wanted, gateways)
    mine = [one for one in found if (one.pair.route, one.pair.epoch) == (wanted.route, wanted.epoch)]
    chosen = drawn(mine, wanted.most)
    asked = [one for one in chosen if not are_equal(one.pair)]
    questions = [question for one in asked for question in prompts(settings.rubric, one.pair)]
    replies = client.ask(questions) if questions else []
    if replies and all(reply.outcome == "away" for reply in replies):
        return BatchOutcome(error=_complaint(replies))
    results = [judged(one, "tie", asked=False) for one in chosen if are_equal(one.pair)]
    places = [place_in(reply.text) if reply.outcome == "said" else None for reply in replies]
    for one, stable_first, candidate_first in zip(asked, places[::2], places[1::2], strict=True):
        results.append(judged(one, preference_of(stable_first, candidate_first), asked=True))
    error = None if not replies else "" if any(places) else _complaint(replies)
    return BatchOutcome(judged=tuple(results), settled=settled, error=error)


def _read(wanted: Wanted, gateways: Mapping[str, PairsSource]) -> tuple[list[LocatedPair], tuple[Settled, ...]]:
    """What each gateway keeps behind the last settled pair, and where that ends. Raises the last GatewayError."""
    found: list[LocatedPair] = []
    settled: list[Settled] = []
    problem: GatewayError | None = None
    for name, gateway in gateways.items():
        try:
            new = [
                LocatedPair(name, page.boot_id, pair)
                for page in _pages(gateway, wanted.cursors.get(name))
                for pair in page.pairs
            ]
        except GatewayError as error:
            problem = error
            continue
        found += new
        if new:
            settled.append(Settled(gateway=name, boot_id=new[-1].boot_id, seq=new[-1].pair.seq))
    if problem is not None and not found:
        raise problem
    return found, tuple(settled)


def _pages(gateway: PairsSource, cursor: Cursor | None) -> Iterator[PairPage]:
    page = gateway.pairs(cursor.seq if cursor else 0, PAGE_PAIRS)
    if cursor is not None and page.boot_id != cursor.boot_id:
        page = gateway.pairs(0, PAGE_PAIRS)
    yield page
    for _ in range(PAGES):
        if not page.pairs or page.pairs[-1].seq >= page.last_seq:
            return
        page = gateway.pairs(page.pairs[-1].seq, PAGE_PAIRS)
        yield page


def _complaint(replies: Sequence[JudgeReply]) -> str:
    """Of a judge that judged nothing. What it said is not repeated: it may quote users."""
    silent = [reply.text for reply in replies if reply.outcome != "said"]
    if silent:
        return f"the judge does not answer: {silent[0]}"
    return f"none of the judge's {len(replies)} replies was A, B or tie"


def _has(state: ReleaseState, settled: Iterable[Settled]) -> bool:
    """Whether the release's state knows of all these already."""
    cursors = state.evidence.judging.cursors
    known = [(place, cursors.get(place.gateway)) for place in settled]
    return all(c is not None and c.boot_id == place.boot_id and c.seq >= place.seq for place, c in known)


def in_thread(job: Callable[[], BatchOutcome]) -> "Future[BatchOutcome]":
    """Runs beside everything else; a process that ends does not wait for it."""
    future: Future[BatchOutcome] = Future()
    threading.Thread(target=lambda: future.set_result(job()), name="judge", daemon=True).start()
    return future


def open_judge(settings: Judge) -> JudgeClient:
    """With its key out of the environment. Raises SlipwayError when it is not there."""
    key = key_of(settings, os.environ)
    if key is None:
        raise SlipwayError(
            f"the judge's key is not in the environment variable {settings.api_key_env}",
            where="rollout.yaml: judge.api_key_env",
            cure=f"set {settings.api_key_env}, or take api_key_env out for a judge that needs no key",
        )
    return JudgeClient(settings, key)
