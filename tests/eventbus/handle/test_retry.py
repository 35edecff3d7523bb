"""Retry: a handler that raises is called again."""

from collections.abc import Callable
from typing import Any

import pytest

from eventbus import (
    Retry,
)
from tests.eventbus.handle.failing import Flaky
from tests.support import Bus, MyEventTopic, MyEventType, event, eventually

TOPIC = MyEventTopic.my_service
UPDATED = MyEventType.updated


def test_a_handler_is_tried_again(connected: Callable[..., Bus], kind: str) -> None:
    """A handler that raises is called again, up to a number of times; the last success counts as one handled event."""
    client = connected(middleware=[Retry(attempts=3, interval=0.001)], topics=[TOPIC])
    flaky = Flaky(2)
    client.attach_callback(UPDATED, getattr(flaky, kind))
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    eventually(lambda: client.stats().handled == 1)
    assert flaky.calls == 3
    assert client.stats().handler_errors == 0


def test_a_handler_that_never_succeeds(connected: Callable[..., Bus], kind: str) -> None:
    """After the last attempt the error is the handler's, logged and counted once; the next event is handled."""
    client = connected(middleware=[Retry(attempts=3, interval=0.001)], topics=[TOPIC])
    flaky = Flaky(3)
    client.attach_callback(UPDATED, getattr(flaky, kind))
    client.start_consumer()
    client.emit_events([event(1), event(2)], TOPIC)
    eventually(lambda: (client.stats().handled, client.stats().handler_errors) == (1, 1))
    assert flaky.calls == 4


def test_only_what_is_worth_it_is_tried_again(connected: Callable[..., Bus], kind: str) -> None:
    """Other exceptions than those named are raised at once."""
    client = connected(middleware=[Retry(on=(ConnectionError,))], topics=[TOPIC])
    flaky = Flaky(1)
    client.attach_callback(UPDATED, getattr(flaky, kind))
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    eventually(lambda: client.stats().handler_errors == 1)
    assert flaky.calls == 1


def test_the_pauses_double_up_to_the_longest() -> None:
    """There is one pause less than attempts; each is between half of its interval and all of it."""
    pauses = list(Retry(attempts=6, interval=1.0, max_interval=5.0)._pauses())
    for pause, interval in zip(pauses, [1, 2, 4, 5, 5], strict=True):
        assert interval / 2 <= pause <= interval
    assert list(Retry(attempts=1)._pauses()) == []
    assert all(30 <= pause <= 60 for pause in Retry(interval=60)._pauses())  # longer than the longest by default


@pytest.mark.parametrize(
    "arguments",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"interval": -1.0},
        {"interval": float("nan")},
        {"max_interval": -1.0},
        {"on": [OSError]},
    ],
)
def test_retries_that_make_no_sense(arguments: dict[str, Any]) -> None:
    """No attempt at all, parts of one, seconds that are negative or no number, and a list of exceptions are refused."""
    with pytest.raises(ValueError, match="Retry"):
        Retry(**arguments)
