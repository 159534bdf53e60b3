"""Work that others may wait for in vain: Prefect's server may be slow or gone, and a release must notice neither."""

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
from prefect.exceptions import PrefectException

WRONG = (httpx.HTTPError, PrefectException, OSError, TimeoutError, RuntimeError, ValueError, TypeError)


def not_shown(error: Exception) -> str:
    """What is said of something that Prefect did not take."""
    return f"cannot be shown in Prefect's UI: {error or type(error).__name__}"


class Background:
    """Does one thing after another in a thread of its own. What goes wrong is said once, never raised."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._said = ""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="background")
        self._last: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether something is still under way: what can be left out is left out then."""
        return self._last is not None and not self._last.done()

    def do(self, job: Callable[[], object]) -> None:
        """Returns at once; the job sees the caller's context, Prefect's run included."""
        self._last = self._executor.submit(contextvars.copy_context().run, self._tried, job)

    def _tried(self, job: Callable[[], object]) -> None:
        try:
            job()
        except WRONG as error:
            text = not_shown(error)
            if text != self._said:
                self._said = text
                self._say(text)
