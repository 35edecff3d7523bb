"""Sending without waiting: for code that runs on an event loop, which must not block while a send buffer is full."""

from contextvars import ContextVar, Token

_may_wait: ContextVar[bool] = ContextVar("eventbus_may_wait", default=True)


def may_wait() -> bool:
    """Whether `Transport.send` may wait for room here. To be asked only when there is none."""
    return _may_wait.get()


class without_waiting:  # noqa: N801 # read as a statement, as those of contextlib are
    """Within the block, `Transport.send` raises SendBufferFull at once where it would wait for room."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token: Token[bool] = _may_wait.set(False)

    def __exit__(self, *_: object) -> None:
        _may_wait.reset(self._token)
