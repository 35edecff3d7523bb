"""The name of an enum's member on the wire: a topic's name, as the original client sends it; an event type's value."""

from enum import auto

import pytest

from eventbus import BaseEventTopic, EventBusClient
from tests.interop import original
from tests.interop.support import (
    OLD_TOPIC,
    TOPIC,
    Ports,
    RLEvent,
    RLEventTopic,
    RLEventType,
    new,
    new_event,
    numbers_in,
    old,
    old_event,
)
from tests.support import PATIENCE

PLANT, OLD_PLANT = RLEventTopic.PLANT, original.RLEventTopic.PLANT


@pytest.mark.parametrize(("topic", "old_topic"), [(TOPIC, OLD_TOPIC), (PLANT, OLD_PLANT)])
def test_topics_that_are_named_alike(bare: Ports, topic: RLEventTopic, old_topic: original.RLEventTopic) -> None:
    """Events pass in both directions where the value here is the name there."""
    with new(bare, topic) as ours, old(bare, old_topic) as theirs:
        ours.introduce(theirs.events, topic)
        theirs.introduce(ours.events, old_topic)
        ours.emit(new_event(1), topic)
        assert numbers_in(theirs.events, 1) == [1]
        theirs.emit(old_event(2), old_topic)
        assert numbers_in(ours.events, 2) == [1, 2]
        assert {topic for topic, _ in theirs.client.messages} == {old_topic.name.encode()}


def test_types_travel_by_their_values(bare: Ports) -> None:
    """A member in capitals means the same type on both sides if it is `auto()` on both."""
    with new(bare, TOPIC) as ours, old(bare, OLD_TOPIC) as theirs:
        ours.introduce(theirs.events)
        theirs.introduce(ours.events)
        ours.emit(new_event(1, RLEventType.RESET))
        assert numbers_in(theirs.events, 1) == [1]
        theirs.emit(old_event(2, original.RLEventType.RESET))
        assert numbers_in(ours.events, 2) == [1, 2]
        assert [event.type for event in ours.events if event.value > 0] == [RLEventType.RESET] * 2
        # It subscribes to the topic that it emits on.
        assert [event.type for event in theirs.events if event.value > 0][:1] == [original.RLEventType.RESET]


class WrongTopic(BaseEventTopic):
    """A topic class as one would write it without a thought: the value of PLANT is `plant`."""

    corerl = auto()
    PLANT = auto()


def test_a_topic_whose_value_is_not_the_name(bare: Ports) -> None:
    """With `PLANT = auto()` here, nothing on that topic passes in either direction: the two sides name different topics."""
    events: list[RLEvent] = []
    wrong = EventBusClient[RLEvent, RLEventType, WrongTopic](RLEvent, "127.0.0.1", *bare, connect_timeout=PATIENCE)
    with wrong, old(bare, OLD_PLANT, OLD_TOPIC) as theirs, new(bare) as right:
        for topic in WrongTopic:
            wrong.subscribe(topic)
        wrong.attach_callbacks(dict.fromkeys(RLEventType, events.append))
        wrong.connect()
        wrong.start_consumer()
        for receiver in (theirs.events, events):
            right.introduce(receiver)
            theirs.introduce(receiver)
        wrong.connect()  # by now it knows the subscriptions of the original client
        wrong.emit_event(new_event(1), WrongTopic.PLANT)
        wrong.emit_event(new_event(2), WrongTopic.corerl)
        assert numbers_in(theirs.events, 1) == [2]
        theirs.emit(old_event(3), OLD_PLANT)
        theirs.emit(old_event(4), OLD_TOPIC)
        assert numbers_in(events, 3) == [1, 2, 4]  # its own event on `plant` too
