"""SIGINT and SIGTERM, for whoever runs until one of them comes."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

GLANCE = 0.5
"""Seconds. A signal that comes just before the main thread waits does not wake it, and is handled only when it wakes. So
whoever waits for signals wakes now and then."""


@contextmanager
def glancing() -> Iterator[None]:
    """Have the running event loop wake every `GLANCE` seconds within the block."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def glance() -> None:
        nonlocal timer
        timer = loop.call_later(GLANCE, glance)

    glance()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()


@contextmanager
def on_interrupt(callback: Callable[[], object]) -> Iterator[None]:
    """Call this in the main thread, between any two of its steps, at the first SIGINT or SIGTERM within the block.

    From then on they do again what they did before, so that a second one ends a program that does not get on. A signal that
    is ignored (as SIGINT is in a background process of a shell) remains so. Signals are the main thread's: in another one
    this does nothing.
    """
    if current_thread() is not main_thread():
        yield
        return
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def handle(_number: int, _frame: FrameType | None) -> None:
        restore()
        callback()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
