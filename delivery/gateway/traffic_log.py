"""The traffic log beside the event loop: attempts become rows here, and a thread of its own redacts and writes them.

The loop only puts a row into a bounded queue; when the writer cannot follow, rows are dropped and counted.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow

from configs.routing import Route
from configs.traffic_log import TrafficLog
from delivery.gateway.attempts import Attempt, Given
from delivery.gateway.log_files import LogFiles, Row
from delivery.gateway.redaction import Redactor
from delivery.traffic_columns import CONTRACT

log = logging.getLogger("slipway.gateway")
WAITING_ROWS = 20_000
WAKES_S = 0.5
PROMPT_CHARS = 32_000  # of a prompt's JSON are written


class TrafficWriter:
    """Observes attempts and feedback; `start` and `stop` begin and end its thread."""

    def __init__(self, settings: TrafficLog, folder: Path, name: str, wall: Callable[[], float] = time.time):
        self.counts: Counter[str] = Counter()  # of rows: taken, lost
        self.keeps_text = settings.text
        self._share = settings.share
        self._redactor = Redactor(settings.redact)
        self.folder = settings.folder or folder
        self._files = LogFiles(self.folder, settings, name)
        self._waiting: deque[Row] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic-log", daemon=True)
        self._wall = wall
        self._is_failing = False

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
        if self.wants(attempt.request_id):
            self._put(_row_of(attempt, with_text=self.keeps_text))

    def told(self, given: Given) -> None:
        """A user has said something about an answer."""
        if self.wants(given.about.request_id):
            self._put(_row_of_feedback(given, with_text=self.keeps_text))

    def _put(self, row: Row) -> None:
        if len(self._waiting) < WAITING_ROWS:
            self._waiting.append(row)
        else:
            self.counts["lost"] += 1

    def _run(self) -> None:
        while not self._stopping.wait(WAKES_S):
            self._write(is_last=False)
        self._write(is_last=True)

    def _write(self, *, is_last: bool) -> None:
        rows = [self._waiting.popleft() for _ in range(len(self._waiting))]
        at_stake = len(rows) + self._files.unsaved
        try:
            for row in rows:
                self._redact(row)
            self._files.write(rows, self._wall())
            if is_last:
                self._files.close(self._wall())
        except (OSError, pyarrow.ArrowException) as error:
            self.counts["lost"] += at_stake
            if not self._is_failing:
                log.error("the traffic log cannot be written; requests go on", extra={"cause": str(error)})
            self._is_failing = True
            self._files.abandon()
            return
        self.counts["taken"] += len(rows)
        self._is_failing = False

    def _redact(self, row: Row) -> None:
        if row.get("prompt") is not None:
            row["prompt"] = orjson.dumps(self._redactor.of(row["prompt"])).decode()[:PROMPT_CHARS]
        for column in ("answer", "comment"):
            if row.get(column) is not None:
                row[column] = self._redactor.of(row[column])


def _row_of(attempt: Attempt, *, with_text: bool) -> Row:
    row: Row = {
        "event": "attempt",
        "request_id": attempt.request_id,
        "route": attempt.route,
        "epoch": attempt.epoch,
        "variant": attempt.variant,
        "role": attempt.role,
        "user": attempt.user,
        "started_at": attempt.started_at,
        "ended_at": attempt.started_at + attempt.duration_s,
        "status": attempt.status,
        "ok": attempt.ok,
        "error": attempt.error,
        "ttft_s": attempt.ttft_s,
        "prompt_tokens": attempt.prompt_tokens,
        "completion_tokens": attempt.completion_tokens,
        "streamed": attempt.streamed,
        "user_ok": attempt.user_ok,
    }
    for detector, is_broken in attempt.verdicts.items():
        row[CONTRACT + detector] = is_broken
    if attempt.call is not None:
        route = attempt.call.route
        row["arm"] = arm_of(route, attempt.variant)
        row["bundle"] = route.variants[attempt.variant].bundle
        if with_text:
            row["prompt"] = _asked(attempt.call.body)
            row["answer"] = attempt.said.text if attempt.said is not None else None
    return row


def _row_of_feedback(given: Given, *, with_text: bool) -> Row:
    about = given.about
    return {
        "event": "feedback",
        "request_id": about.request_id,
        "route": about.route,
        "epoch": about.epoch,
        "variant": about.variant,
        "role": about.role,
        "user": about.user,
        "started_at": about.started_at,
        "ended_at": given.at,
        "status": about.status,
        "ok": about.ok,
        "error": about.error,
        "rating": given.rating,
        "escalated": given.escalated,
        "comment": given.comment if with_text else None,
    }


def arm_of(route: Route, variant: str) -> str:
    """What a variant is on its route; what only an experiment or a tester gets is `experiment`."""
    if variant == route.stable:
        return "stable"
    if route.candidate is not None and variant == route.candidate.variant:
        return "candidate"
    return "holdback" if route.holdback is not None and variant == route.holdback.variant else "experiment"


def _asked(body: dict[str, Any]) -> Any:
    return body.get("messages") or body.get("prompt") or body.get("input")
