"""DeadLetter: an event whose handler failed is emitted to another topic."""

import json
from collections.abc import Callable

import pytest

from eventbus import (
    BaseEventTopic,
    DeadLetter,
    Emission,
    EventBusProxy,
    InvalidTopic,
    Middleware,
    Retry,
    current_headers,
)
from eventbus.handle.middleware import EmitNext
from tests.eventbus.handle.failing import Errors, Flaky
from tests.support import Bus, MyEvent, MyEventTopic, MyEventType, RawPeers, Recorder, client_of, event, eventually

TOPIC, LETTERS = MyEventTopic.my_service, MyEventTopic.other
UPDATED = MyEventType.updated


def test_a_failed_event_is_put_aside(connected: Callable[..., Bus], kind: str) -> None:
    """It is emitted to the topic of dead letters, unchanged, with the reason in its headers; and still counts as failed."""
    client = connected(middleware=[DeadLetter(LETTERS)], topics=[TOPIC, LETTERS])
    letters: list[tuple[MyEvent, dict[str, str]]] = []
    failing = Flaky(1, ValueError("no \x1b[2J"))
    client.attach_callback(UPDATED, getattr(failing, kind), topic=TOPIC)
    client.attach_callback(UPDATED, Recorder() if kind == "handle" else Flaky(0).handle_async, topic=LETTERS)
    reader = connected(topics=[LETTERS])
    reader.attach_callback(UPDATED, lambda event: letters.append((event, dict(current_headers()))))
    reader.start_consumer()
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    eventually(lambda: len(letters) == 1)
    assert letters == [
        (
            event(1),
            {
                "dead-letter-reason": "ValueError: no \\x1b[2J",
                "dead-letter-topic": "my_service",
                "dead-letter-handler": f"{Flaky.__module__}.Flaky.{kind}",
            },
        )
    ]
    eventually(lambda: (client.stats().handled, client.stats().handler_errors) == (1, 1))


def test_the_headers_of_the_event_stay(connected: Callable[..., Bus]) -> None:
    """The headers of the event go with the dead letter."""

    class Tagging(Middleware):
        def emit(self, emission: Emission, call_next: EmitNext) -> None:
            call_next(Emission(emission.events, emission.topic, {"tag": "x", **emission.headers}))

    letters: list[dict[str, str]] = []
    client = connected(middleware=[DeadLetter(LETTERS)], topics=[TOPIC])
    client.attach_callback(UPDATED, Flaky(1).handle)
    client.start_consumer()
    reader = connected(topics=[LETTERS], middleware=[Tagging()])
    reader.attach_callback(UPDATED, lambda event: letters.append(dict(current_headers())))
    reader.start_consumer()
    reader.emit_event(event(1), TOPIC)
    eventually(lambda: len(letters) == 1)
    assert letters[0]["tag"] == "x"


def test_dead_letters_go_round_nowhere(connected: Callable[..., Bus]) -> None:
    """A handler that fails on dead letters, too, makes no new ones, nor does another service that puts its own elsewhere."""
    first = connected(middleware=[DeadLetter(LETTERS)])
    second = connected(middleware=[DeadLetter(TOPIC)])
    for client in (first, second):
        client.subscribe(None)
        client.attach_callback(UPDATED, Flaky(1_000).handle)
        client.start_consumer()
    reader = connected()
    recorder = Recorder()
    reader.attach_callback(MyEventType.stopped, recorder)
    reader.subscribe(None)
    reader.start_consumer()
    first.emit_event(event(1), MyEventTopic.my_service_scheduler)
    # Each has failed on the event and on both letters.
    eventually(lambda: first.stats().handler_errors == second.stats().handler_errors == 3)
    first.emit_event(event(2, MyEventType.stopped), TOPIC)
    second.emit_event(event(2, MyEventType.stopped), TOPIC)
    recorder.wait_for(2)
    assert reader.stats().received == 5  # the event, two letters, and these two


def test_a_letter_that_cannot_be_put_aside(connected: Callable[..., Bus]) -> None:
    """A note on the handler's error says so, and the error stays what it was."""
    errors = Errors()
    client = connected(middleware=[DeadLetter(LETTERS)], topics=[TOPIC], hooks=[errors], max_event_bytes=500)

    def fail(event: MyEvent) -> None:
        event.time = "x" * 500
        raise ValueError("no")

    client.attach_callback(UPDATED, fail)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    eventually(lambda: errors.errors)
    assert repr(errors.errors[0]) == "ValueError('no')"
    assert "could not be emitted to other: EventTooLarge: other: the event is" in errors.errors[0].__notes__[0]


def test_a_letter_without_room_for_all_headers(connected: Callable[..., Bus]) -> None:
    """If the headers that came leave no room, the letter goes with those that say why."""

    class Full(Middleware):
        def emit(self, emission: Emission, call_next: EmitNext) -> None:
            call_next(Emission(emission.events, emission.topic, {"baggage": "x" * 8_150}))

    letters: list[dict[str, str]] = []
    client = connected(middleware=[DeadLetter(LETTERS)], topics=[TOPIC])
    client.attach_callback(UPDATED, Flaky(1).handle)
    client.start_consumer()
    reader = connected(topics=[LETTERS], middleware=[Full()])
    reader.attach_callback(UPDATED, lambda event: letters.append(dict(current_headers())))
    reader.start_consumer()
    reader.emit_event(event(1), TOPIC)
    eventually(lambda: len(letters) == 1)
    assert letters[0].keys() == {"dead-letter-reason", "dead-letter-topic", "dead-letter-handler"}


def test_an_exception_without_a_text(connected: Callable[..., Bus]) -> None:
    """An exception whose text cannot be had is named by its class, and stays the handler's."""

    class Wordless(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    letters: list[str] = []
    errors = Errors()
    client = connected(middleware=[DeadLetter(LETTERS)], topics=[TOPIC, LETTERS], hooks=[errors])
    client.attach_callback(UPDATED, Flaky(1, Wordless()).handle, topic=TOPIC)
    client.attach_callback(UPDATED, lambda event: letters.append(current_headers()["dead-letter-reason"]), topic=LETTERS)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    eventually(lambda: letters == ["Wordless"])
    assert [type(error) for error in errors.errors] == [Wordless]


def test_dead_letters_of_another_service(proxy: EventBusProxy) -> None:
    """A topic of another enum than the client's is an error of connect(), before any letter is lost."""

    class Other(BaseEventTopic):
        letters = "letters"

    client = client_of(proxy, middleware=[DeadLetter(Other.letters)])
    with pytest.raises(InvalidTopic, match=r"Other\.letters"):
        client.connect()


def test_dead_letters_need_a_topic() -> None:
    """A text is no topic."""
    with pytest.raises(InvalidTopic, match="DeadLetter"):
        DeadLetter("letters")  # type: ignore[arg-type] # what is wrong here


def test_after_the_last_attempt_only(connected: Callable[..., Bus], raw: RawPeers, kind: str) -> None:
    """Around Retry, dead letters are what failed every time."""
    client = connected(middleware=[DeadLetter(LETTERS), Retry(attempts=2, interval=0.001)], topics=[TOPIC])
    subscriber = raw.subscriber(b"other")
    client.connect()  # after which it knows of the subscription
    flaky = Flaky(2)
    client.attach_callback(UPDATED, getattr(flaky, kind))
    client.start_consumer()
    client.emit_events([event(1), event(2)], TOPIC)
    eventually(lambda: client.stats().handled == 1)
    _, payload = subscriber.recv_multipart()
    assert (json.loads(payload)["value"], flaky.calls) == (1, 3)
    assert not subscriber.poll(0)
