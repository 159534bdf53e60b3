"""The traffic log beside the event loop: attempts become rows here, and a thread of its own redacts and writes them.

The loop only puts a row into a queue that is bounded in rows and bytes; when the writer cannot follow, rows are
dropped. Every row that is lost is counted, wherever that happens; one that cannot be written is lost alone.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from configs.routing import Route
from configs.traffic_log import TrafficLog
from delivery.gateway.records.attempts import Attempt, Given, as_dict
from delivery.gateway.records.log_files import TEXTS, LogFiles, LogRow
from delivery.gateway.records.redaction import Redactor
from delivery.traffic.columns import CONTRACT, OF_FEEDBACK, OF_RECORD

log = logging.getLogger("slipway.gateway")
WAITING_ROWS = 20_000
WAITING_BYTES = 64 * 2**20  # of texts
WAKES_S = 0.5
PROMPT_CHARS = 32_000  # of a prompt's JSON are written


class TrafficWriter:
    """Observes attempts and feedback; `start` and `stop` begin and end its thread."""

    def __init__(self, settings: TrafficLog, folder: Path, name: str, wall: Callable[[], float] = time.time):
        self.keeps_text = settings.text
        self._share = settings.share
        self._redactor = Redactor(settings.redact)
        self.folder = settings.folder or folder
        self._files = LogFiles(self.folder, settings, name)
        self._waiting: deque[tuple[LogRow, int]] = deque()  # with the bytes of their texts
        self._came = self._dropped = self._bytes_in = 0  # the event loop's counts
        self._spoilt = self._bytes_out = 0  # the thread's: two that count in one place would lose some
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic-log", daemon=True)
        self._wall = wall
        self._is_failing = self._has_told = False

    @property
    def counts(self) -> dict[str, int]:
        """Rows `taken` in hand, and those of them that were `lost`."""
        return {"taken": self._came, "lost": self._dropped + self._spoilt + self._files.lost}

    def start(self) -> None:
        """Raises OSError if the folder cannot be written."""
        self._files.start()
        self._thread.start()

    def stop(self) -> None:
        """Writes what waits, and closes the file. Waits for that."""
        self._stopping.set()
        self._thread.join()

    def wants(self, request_id: str) -> bool:
        """Whether this request is in the sample: all its attempts, or none."""
        return int(request_id[:8], 16) < self._share * 2**32

    def observe(self, attempt: Attempt) -> None:
        """One attempt has ended."""
        if not self.wants(attempt.request_id):
            return
        try:
            row = _row_of(attempt, with_text=self.keeps_text)
        except orjson.JSONEncodeError as error:  # a prompt nested deeper than anything that a model reads
            self._came += 1
            self._dropped += 1
            self._tell(attempt.request_id, error)
        else:
            self._put(row)

    def told(self, given: Given) -> None:
        """A user has said something about an answer."""
        if self.wants(given.about.request_id):
            self._put(_row_of_feedback(given, with_text=self.keeps_text))

    def _put(self, row: LogRow) -> None:
        size = sum(len(row.get(name) or "") for name in TEXTS)
        self._came += 1
        if len(self._waiting) < WAITING_ROWS and self._bytes_in - self._bytes_out + size <= WAITING_BYTES:
            self._waiting.append((row, size))
            self._bytes_in += size
        else:
            self._dropped += 1

    def _run(self) -> None:
        while not self._stopping.wait(WAKES_S):
            self._write(is_last=False)
        self._write(is_last=True)

    def _write(self, *, is_last: bool) -> None:
        rows = deque(self._waiting.popleft() for _ in range(len(self._waiting)))
        try:
            self._files.write(self._redacted(rows), self._wall())
            if is_last:
                self._files.close(self._wall())
        except Exception as error:  # a thread that died would lose every row from then on
            if not self._is_failing:
                log.exception("the traffic log cannot be written; requests go on", extra={"cause": str(error)})
            self._is_failing = True
            self._files.abandon()
            self._spoilt += len(rows)
            self._bytes_out += sum(size for _, size in rows)
        else:
            self._is_failing = False

    def _redacted(self, rows: deque[tuple[LogRow, int]]) -> Iterator[LogRow]:
        """Takes the rows out one by one."""
        while rows:
            row, size = rows.popleft()
            self._bytes_out += size
            try:
                self._redact(row)
            except (TypeError, ValueError, RecursionError) as error:
                self._spoilt += 1
                self._tell(row["request_id"], error)
            else:
                yield row

    def _tell(self, request_id: str, error: Exception) -> None:
        """Once: who sends one such request may send a thousand."""
        if not self._has_told:
            said = {"request_id": request_id, "cause": str(error)}
            log.error("a row cannot be written to the traffic log; others like it are counted only", extra=said)
        self._has_told = True

    def _redact(self, row: LogRow) -> None:
        if row.get("prompt") is not None:
            row["prompt"] = orjson.dumps(self._redactor.of(orjson.loads(row["prompt"]))).decode()[:PROMPT_CHARS]
        for column in ("answer", "comment"):
            if row.get(column) is not None:
                row[column] = self._redactor.of(row[column])


_OF_RECORD, _OF_FEEDBACK = (as_dict([column.name for column in columns]) for columns in (OF_RECORD, OF_FEEDBACK))


def _row_of(attempt: Attempt, *, with_text: bool) -> LogRow:
    row: LogRow = _OF_RECORD(attempt)
    row["event"] = "attempt"
    row["ended_at"] = attempt.started_at + attempt.duration_s
    for detector, is_broken in attempt.verdicts.items():
        row[CONTRACT + detector] = is_broken
    if attempt.call is not None:
        route = attempt.call.route
        row["arm"] = arm_of(route, attempt.variant)
        row["bundle"] = route.variants[attempt.variant].bundle
        if with_text:
            row["prompt"] = attempt.call.asked()  # as parsed it may take thirty times the room
            row["answer"] = attempt.said.text if attempt.said is not None else None
    return row


def _row_of_feedback(given: Given, *, with_text: bool) -> LogRow:
    about, row = given.about, _OF_FEEDBACK(given)
    row |= {"event": "feedback", "ended_at": given.at, "comment": given.comment if with_text else None}
    return row | {"status": about.status, "ok": about.ok, "error": about.error}


def arm_of(route: Route, variant: str) -> str:
    """What a variant is on its route; what only an experiment or a tester gets is `experiment`."""
    if variant == route.stable:
        return "stable"
    if route.candidate is not None and variant == route.candidate.variant:
        return "candidate"
    return "holdback" if route.holdback is not None and variant == route.holdback.variant else "experiment"
