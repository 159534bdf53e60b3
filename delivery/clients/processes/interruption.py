"""Signals that end a command: each raises in the main thread, so that what was started is ended on the way out."""

import _thread
import atexit
import contextlib
import itertools
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

AGAIN_S = 0.01
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Functions that take or give back a lock, or are about to. What is raised in them leaves it taken for good, and whoever
# waits for it waits for ever: a queue's, for one, on which Prefect empties its reports when the process ends.
HANDS_LOCKS = {"__enter__", "__exit__", "acquire", "release", "_acquire_restore", "_release_save"}
POSTPONED_AT_MOST = 100  # a second: such a function may itself wait for a lock


class _Heard(BaseException):
    """What a signal's handler raises.

    Python runs a signal's handler wherever the main thread happens to be, and some places lose what it raises: weak
    references' callbacks, `__del__`, extension modules that clear every error. In the midst of imports, where all of
    them abound, that was one signal in ten. Once lost it is freed, which is noticed here, and the signal is sent again.
    """

    def __del__(self) -> None:
        if not _over.is_set() and not sys.is_finalizing():
            # no `threading.Thread`, which takes locks that the interrupted code may hold
            _thread.start_new_thread(_send_again, (self.args[0] - 128,))


class Interrupted(_Heard, KeyboardInterrupt):
    """Ctrl-C."""


class Left(_Heard, SystemExit):
    """Another signal that ends the process."""


_over = threading.Event()
_postponed = itertools.count()


@contextlib.contextmanager
def leaving_tidily() -> Iterator[None]:
    """Round a process's main function: Ctrl-C, SIGTERM, SIGHUP raise in it, and its exit status is 128 + their number.

    One that is ignored stays so, as after `nohup`. When the function is over, they cut short what is left to do at the
    exit; then, while Python takes itself down, they are ignored: the status says what the function said.
    """
    for number in ENDING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _leave)
    sys.unraisablehook = _tell_unless_left
    atexit.register(_ignore)  # the first to be registered runs last
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        _over.set()


def _leave(number: int, frame: FrameType | None) -> None:
    if frame is not None and frame.f_code.co_name in HANDS_LOCKS and next(_postponed) < POSTPONED_AT_MOST:
        _thread.start_new_thread(_send_again, (number,))
        return
    # held by no name here: its traceback would hold this frame, and so itself
    raise (Interrupted if number == signal.SIGINT else Left)(128 + number)


def _tell_unless_left(lost: "sys.UnraisableHookArgs") -> None:
    if not isinstance(lost.exc_value, _Heard):
        sys.__unraisablehook__(lost)


def _send_again(number: int) -> None:
    time.sleep(AGAIN_S)
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, number)


def _ignore() -> None:
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
