"""SIGINT and SIGTERM, for programs that run until they receive one of them."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import current_thread, main_thread
from types import FrameType

# If a signal arrives just when a wait begins, Python calls its handler only after that wait.
_POLL_INTERVAL_S = 0.2


@contextmanager
def on_interrupt(callback: Callable[[], object]) -> Iterator[None]:
    """Call `callback` at the first SIGINT or SIGTERM within the block, in the main thread, between any two of its steps.

    After that the previous handlers are back, so that a second signal ends a program that hangs. A signal that is ignored
    stays ignored, as SIGINT is in a background process of a shell. In other threads than the main one this does nothing,
    because Python handles signals in the main thread. A child that is forked within the block has the previous handlers.
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
    """Take an item from the queue, in the main thread, while signals are still handled."""
    while True:
        with suppress(Empty):
            return queue.get(timeout=_POLL_INTERVAL_S)


@contextmanager
def waking_loop() -> Iterator[None]:
    """Wake the running loop now and then within the block, so that the main thread handles signals while it awaits."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def wake() -> None:
        nonlocal timer
        timer = loop.call_later(_POLL_INTERVAL_S, wake)

    wake()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
