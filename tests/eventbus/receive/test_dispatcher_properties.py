"""The dispatcher against a model that looks at everything anew for each event, over many sequences of calls."""

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.observe.stats import Counters
from eventbus.receive.buffer import ReceiveBuffer
from eventbus.receive.dispatcher import Dispatcher
from tests.support import MyEvent, MyEventType, event

TOPICS = [b"a", b"ab", b"b"]
NAMES = st.sampled_from(["one", "two"])
TYPES = st.sampled_from([MyEventType.started, MyEventType.updated])

SUBSCRIBE = st.tuples(st.sampled_from(["subscribe", "unsubscribe"]), st.sampled_from([*TOPICS, b""]))
ATTACH = st.tuples(st.sampled_from(["attach", "attach", "detach"]), TYPES, NAMES, st.sampled_from([None, b"ab"]))
ARRIVE = st.lists(st.tuples(st.sampled_from(TOPICS), TYPES), max_size=6)

type Call = tuple[str, bytes] | tuple[str, MyEventType, str, bytes | None] | list[tuple[bytes, MyEventType]]


class Model:
    """Subscribed topics, attached callbacks by name, and what they have been called with."""

    def __init__(self) -> None:
        self.topics: set[bytes] = set()
        self.attached: list[tuple[MyEventType, str, bytes | None]] = []
        self.calls: list[tuple[str, float]] = []
        self.received: list[MyEvent] = []

    def takes(self, topic: bytes) -> bool:
        return topic in self.topics or b"" in self.topics

    def handle(self, topic: bytes, event: MyEvent) -> None:
        if self.takes(topic):
            self.received.append(event)
            self.calls += [
                (name, event.value)
                for event_type, name, only in self.attached
                if event_type is event.type and only in (None, topic)
            ]


@pytest.mark.patience
@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.lists(SUBSCRIBE | ATTACH | ARRIVE, min_size=10, max_size=60))
def test_it_does_as_the_model(calls: list[Call]) -> None:
    """After any sequence of calls, each event has gone to the callbacks that want it, once and in order, and is buffered."""
    buffer: ReceiveBuffer[MyEvent] = ReceiveBuffer(1_000)
    dispatcher: Dispatcher[MyEvent] = Dispatcher(buffer, Counters())
    model = Model()
    called: list[tuple[str, float]] = []
    values = count()

    def callback(name: str) -> Callable[[MyEvent], None]:
        return lambda event: called.append((name, event.value))

    callbacks = {name: callback(name) for name in ("one", "two")}
    for call in calls:
        match call:
            case list():
                arriving = [(topic, event(next(values), event_type)) for topic, event_type in call]
                for topic, arrived in arriving:
                    model.handle(topic, arrived)
                taken = [(topic, arrived) for topic, arrived in arriving if dispatcher.takes(topic)]
                known = dispatcher.routes_of([topic for topic, _ in arriving])
                assert known is None or len(taken) == len(arriving)
                routes = [dispatcher.route_of(topic) for topic, _ in taken]
                assert known in (None, routes)
                dispatcher.dispatch(routes, [arrived for _, arrived in taken], [topic for topic, _ in taken])
            case ("subscribe", bytes() as topic):
                assert dispatcher.subscribe(topic) == (topic not in model.topics)
                model.topics.add(topic)
            case ("unsubscribe", bytes() as topic):
                assert dispatcher.unsubscribe(topic) == (topic in model.topics)
                model.topics.discard(topic)
            case ("attach", MyEventType() as event_type, name, only):
                dispatcher.attach(event_type, callbacks[name], only)
                model.attached.append((event_type, name, only))
            case ("detach", MyEventType() as event_type, name, only):
                dispatcher.detach(event_type, callbacks[name], only)
                model.attached = [attached for attached in model.attached if attached != (event_type, name, only)]
        assert dispatcher.topics == model.topics
        assert called == model.calls
        assert list(buffer._events) == model.received
