"""SIGINT and SIGTERM, for whoever runs until one of them comes."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import current_thread, main_thread
from types import FrameType

# Seconds. Python calls the handler of a signal that comes just as a wait begins only when that wait is over.
_LONGEST_WAIT = 0.2


@contextmanager
def on_interrupt(callback: Callable[[], object]) -> Iterator[None]:
    """Call this in the main thread, between any two of its steps, at the first SIGINT or SIGTERM within the block.

    From then on they do again what they did before, so that a second one ends a program that does not get on. A signal that
    is ignored (as SIGINT is in a background process of a shell) remains so. Signals are the main thread's: in another one
    this does nothing. In a child that is forked meanwhile they do what they did before.
    """
    if current_thread() is not main_thread():
        yield
        return
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }

    process = os.getpid()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def handle(number: int, _frame: FrameType | None) -> None:
        restore()
        if os.getpid() == process:
            callback()
        else:
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


def wait_for_item(queue: SimpleQueue[None]) -> None:
    """Take one, in the main thread, and miss no signal meanwhile."""
    while True:
        with suppress(Empty):
            return queue.get(timeout=_LONGEST_WAIT)


@contextmanager
def glancing() -> Iterator[None]:
    """Have the loop that runs in the main thread miss no signal within the block, whatever is awaited there."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def glance() -> None:
        nonlocal timer
        timer = loop.call_later(_LONGEST_WAIT, glance)

    glance()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
