"""Sending without waiting: for code that runs on an event loop, which must not block while a send buffer is full."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_may_wait: ContextVar[bool] = ContextVar("eventbus_may_wait", default=True)


def may_wait() -> bool:
    """Whether `Transport.send` may wait for room here. To be asked only when there is none."""
    return _may_wait.get()


@contextmanager
def without_waiting() -> Iterator[None]:
    """Within the block, `Transport.send` raises SendBufferFull at once where it would wait for room."""
    token = _may_wait.set(False)
    try:
        yield
    finally:
        _may_wait.reset(token)
