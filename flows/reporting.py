"""How flows show their work: log lines for whoever waits, artifacts in the Prefect UI for whoever comes later."""

import base64
import logging
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger

from configs.errors import SlipwayError
from delivery.progress import Progress
from flows.background import WRONG, Background, not_shown
from tasks.prefect_server import lost_prefect

R = TypeVar("R")
T = TypeVar("T")

LOG_EVERY_S = 10.0
ARTIFACT_EVERY_S = 2.0


def follow(key: str) -> Progress:
    """A listener for long work: a progress bar in the UI under this key, and a log line every ten seconds.

    It never makes the work wait, nor fails it.
    """
    logger = get_run_logger()
    background = Background(logger.warning)
    bar: UUID | None = None
    logged_at = drawn_at = float("-inf")
    last: tuple[int, str] = (0, "")

    def draw(percent: float, text: str) -> None:
        nonlocal bar
        if bar is None:
            created = create_progress_artifact(percent, key=slug(key), description=text, _sync=True)  # type: ignore[call-arg]
            bar = created if isinstance(created, UUID) else None
        else:
            update_progress_artifact(bar, percent, description=text, _sync=True)  # type: ignore[call-arg]

    def progress(done: int, total: int, text: str) -> None:
        nonlocal logged_at, drawn_at, last
        now = time.monotonic()
        finished = total > 0 and done >= total
        if (done, text) != last and (finished or now - logged_at >= LOG_EVERY_S):
            logger.info("%s: %s%s", key, f"{done}/{total} " if total else "", text)
            logged_at, last = now, (done, text)
        if total and (finished or (now - drawn_at >= ARTIFACT_EVERY_S and not background.busy)):
            percent = 100.0 * min(done, total) / total
            background.do(lambda: draw(percent, text))
            drawn_at = now

    return progress


def show_table(key: str, rows: Sequence[dict[str, Any]], description: str) -> None:
    """A table in the UI: one dict per row."""
    table = [{name: "" if value is None else value for name, value in row.items()} for row in rows]
    _show(lambda: create_table_artifact(table, key=slug(key), description=description, _sync=True))  # type: ignore[call-arg]


def show_markdown(key: str, text: str, description: str = "") -> None:
    """A page in the UI."""
    _show(lambda: create_markdown_artifact(text, key=slug(key), description=description, _sync=True))  # type: ignore[call-arg]


def _show(create: Callable[[], object]) -> None:
    """What Prefect does not take is missing in its UI, and changes nothing else."""
    try:
        create()
    except WRONG as error:
        get_run_logger().warning(not_shown(error))


def picture(file: Path, text: str) -> str:
    """A PNG inside a page's Markdown: the browser that shows it cannot read this machine's files."""
    return f"![{text}](data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()})"


def slug(text: str) -> str:
    """Artifact keys hold lowercase letters, digits and dashes only."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


NO_BUGS = (SlipwayError, httpx.HTTPError, type(None))  # none: a state that was returned


class _MessageOnly(logging.Filter):
    """Drops tracebacks of what is no bug: of errors for users, whose text says all, and of a Prefect that went away."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], NO_BUGS):
            record.exc_info = None
        return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_MessageOnly())


def log(text: str) -> None:
    """One line in the run's log."""
    get_run_logger().info(text)


class Outcome(Generic[R]):
    """What a flow of this process came to, kept beside Prefect: a command's status is Slipway's word, not Prefect's."""

    def __init__(self) -> None:
        self._kept: R | None = None

    def keep(self, outcome: R) -> None:
        """The flow has done its work; what follows only shows it."""
        self._kept = outcome

    def of(self, run: Callable[[], State[T]], say: Callable[[str], None]) -> T | R:
        """What `run` came to, also where Prefect went away before it was told; else raises what ended it."""
        self._kept = None
        try:
            return result_of(run())
        except Exception as error:
            lost = lost_prefect(error)
            if self._kept is None or lost is None:
                raise
            say(f"done, but its end is not shown in Prefect: {lost.what}")
            return self._kept


def result_of(state: State[R]) -> R:
    """What a flow returned, also when its run counts as failed because Slipway judged against it.

    An exception is raised again.
    """
    value = state.result(raise_on_failure=False)
    if isinstance(value, BaseException):
        raise value
    return value
