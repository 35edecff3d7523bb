"""The signals that end a command which runs until it is stopped: that is its end, not a failure."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn


@contextmanager
def until_stopped() -> Iterator[None]:
    """Leave the block at SIGTERM, SIGHUP or Ctrl-C, in the main thread: the command cleans up and ends with status 0.

    After that the previous handlers are back: a second signal ends a command that hangs. It is an exception, not an event to
    set, because a signal handler that sets an event waits forever for a lock that the code it has interrupted holds. SIGINT
    stays ignored if it is, as in a background process of a shell, and SIGHUP, as under `nohup`.
    """
    with _handled_by(signal.default_int_handler), suppress(KeyboardInterrupt):
        yield


@contextmanager
def exit_when_stopped() -> Iterator[None]:
    """Raise `SystemExit` at SIGTERM or SIGHUP within the block, so that processes of the command are ended, too."""
    with _handled_by(_exit):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    numbers = [signal.SIGTERM, *([] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP])]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)  # the status that shells report for it
