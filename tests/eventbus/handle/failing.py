"""Helpers for the tests of middleware for failing handlers."""

from eventbus import EventBusHook
from tests.support import MyEvent


class Flaky:
    """A handler that raises a number of times on events of value 1, as a function and as a coroutine function."""

    def __init__(self, failures: int, error: BaseException | None = None) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error or ValueError("not yet")

    def handle(self, event: MyEvent) -> None:
        self.calls += 1
        if event.value == 1 and self._failures:
            self._failures -= 1
            raise self._error

    async def handle_async(self, event: MyEvent) -> None:
        self.handle(event)


class Errors(EventBusHook):
    """Keeps the errors of handlers."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def handler_failed(self, topic: str, event: object, handler: str, duration: float, error: BaseException) -> None:
        self.errors.append(error)
