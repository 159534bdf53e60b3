"""Several servers asked at the same time, so that one that hangs holds up nobody."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from time import monotonic
from typing import TypeVar

from configs.errors import SlipwayError

T = TypeVar("T")


def at_once(calls: Mapping[str, Callable[[], T]], late_s: float = 3600.0) -> dict[str, T | SlipwayError]:
    """By name what each call returned, or the SlipwayError that it raised.

    Once one of them has succeeded the others get `late_s` more; who is later than that is an error here, and goes on
    behind our back without keeping this process alive. Raises whatever else a call raises.
    """
    if len(calls) == 1:
        return {name: _outcome_of(call) for name, call in calls.items()}
    asked = {name: _in_background(call) for name, call in calls.items()}
    left, until = set(asked.values()), float("inf")
    while left and monotonic() < until:
        done, left = wait(left, None if until == float("inf") else until - monotonic(), FIRST_COMPLETED)
        if until == float("inf") and any(not isinstance(one.result(), SlipwayError) for one in done):
            until = monotonic() + late_s
    late = SlipwayError(f"no answer {late_s:g} s after others had answered")
    return {name: one.result() if one.done() else late for name, one in asked.items()}


def _outcome_of(call: Callable[[], T]) -> T | SlipwayError:
    try:
        return call()
    except SlipwayError as error:
        return error


def _in_background(call: Callable[[], T]) -> "Future[T | SlipwayError]":
    future: Future[T | SlipwayError] = Future()

    def run() -> None:
        try:
            future.set_result(_outcome_of(call))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
