"""TimeLimit: an ``async`` handler that hangs is cancelled."""

import asyncio
from collections.abc import Callable

import pytest

from eventbus import (
    HandlerTimeout,
    Retry,
    TimeLimit,
)
from tests.eventbus.handle.failing import Errors, Flaky
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, event, eventually

TOPIC = MyEventTopic.my_service
UPDATED = MyEventType.updated


def test_an_async_handler_that_hangs(connected: Callable[..., Bus]) -> None:
    """It is cancelled after so long, and fails with an error that names it and the limit; others go on meanwhile."""
    errors = Errors()
    client = connected(middleware=[TimeLimit(0.01)], topics=[TOPIC], hooks=[errors])
    cancelled = []

    async def hang(event: MyEvent) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(event.value)
            raise

    async def quick(event: MyEvent) -> None: ...

    client.attach_callback(UPDATED, hang)
    client.attach_callback(UPDATED, quick)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    eventually(lambda: client.stats().handler_errors == 1)
    assert cancelled == [1]
    eventually(lambda: client.stats().handled == 1)
    (error,) = errors.errors
    assert isinstance(error, HandlerTimeout)
    assert (error.limit, error.handler) == (0.01, f"{__name__}.test_an_async_handler_that_hangs.<locals>.hang")
    assert "0.01 s" in str(error)


def test_a_handler_s_own_timeout_is_its_own(connected: Callable[..., Bus]) -> None:
    """A TimeoutError that the handler raises stays what it is; a handler that is not async is left alone."""
    errors = Errors()
    client = connected(middleware=[TimeLimit(PATIENCE)], topics=[TOPIC], hooks=[errors])
    client.attach_callback(UPDATED, Flaky(1, TimeoutError("mine")).handle_async)
    client.attach_callback(UPDATED, Flaky(0).handle)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    eventually(lambda: client.stats().handler_errors == 1 and client.stats().handled == 1)
    assert [repr(error) for error in errors.errors] == ["TimeoutError('mine')"]


def test_each_attempt_has_its_time(connected: Callable[..., Bus]) -> None:
    """Inside of Retry, an attempt that hangs is given up, and the next one may succeed."""
    client = connected(middleware=[Retry(interval=0.001), TimeLimit(0.02)], topics=[TOPIC])
    calls = []

    async def hang_once(event: MyEvent) -> None:
        calls.append(event)
        if len(calls) == 1:
            await asyncio.Event().wait()

    client.attach_callback(UPDATED, hang_once)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    eventually(lambda: client.stats().handled == 1)
    assert len(calls) == 2


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_no_time_is_no_limit(seconds: float) -> None:
    """A limit must be some time."""
    with pytest.raises(ValueError, match="TimeLimit"):
        TimeLimit(seconds)
