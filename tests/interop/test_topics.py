"""The original client subscribes to prefixes, this one to topics: each gets what it has asked for."""

import pytest

from tests.interop.support import (
    LONGER,
    OLD_LONGER,
    OLD_TOPIC,
    TOPIC,
    Ports,
    new,
    new_event,
    numbers_in,
    old,
    old_event,
)
from tests.support import PATIENCE, eventually


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("prefix", ["", "core", "corerl"])
def test_a_prefix_of_the_original(bare: Ports, prefix: str, numbered: bool) -> None:
    """The original client gets all that begins with what it has subscribed to; from us, numbered too, as from its like."""
    with old(bare) as other, new(bare, numbered=numbered) as sender, old(bare, prefix) as receiver:
        sender.introduce(receiver.events)
        other.introduce(receiver.events)
        sender.emit(new_event(1), TOPIC)
        sender.emit(new_event(2), LONGER)
        assert numbers_in(receiver.events, 2) == [1, 2]
        other.emit(old_event(3), OLD_LONGER)
        other.emit(old_event(4), OLD_TOPIC)
        assert numbers_in(receiver.events, 4) == [1, 2, 3, 4]


@pytest.mark.parametrize("numbered", [False, True])
def test_the_longer_topic_alone(bare: Ports, numbered: bool) -> None:
    """Subscribed to `corerl_scheduler`, the original client gets nothing of what we emit on `corerl`."""
    with new(bare, numbered=numbered) as sender, old(bare, OLD_LONGER) as receiver:
        sender.introduce(receiver.events, LONGER)
        sender.emit(new_event(1), TOPIC)
        sender.emit(new_event(2), LONGER)
        assert numbers_in(receiver.events, 1) == [2]
        assert {message[0].partition(b"\0")[0] for message in receiver.client.messages} == {b"corerl_scheduler"}


def test_exact_topics_here(bare: Ports) -> None:
    """Subscribed to `corerl`, our client gets that alone of what the original emits; subscribed to all, everything."""
    with old(bare) as sender, new(bare, TOPIC) as exact, new(bare, None) as everything:
        for receiver in (exact, everything):
            sender.introduce(receiver.events)
        for number in range(1, 5):
            sender.emit(old_event(number), (OLD_TOPIC, OLD_LONGER)[number % 2])
        assert numbers_in(everything.events, 4) == [1, 2, 3, 4]
        assert numbers_in(exact.events, 2) == [2, 4]
        assert exact.client.stats().received == len(exact.events)


def test_both_topics_here(bare: Ports) -> None:
    """Subscribed to `corerl` and `corerl_scheduler`, which libzmq matches twice, our client gets each event once."""
    with old(bare) as sender, new(bare, TOPIC, LONGER) as receiver:
        sender.introduce(receiver.events)
        for number in range(1, 5):
            sender.emit(old_event(number), (OLD_TOPIC, OLD_LONGER)[number % 2])
        sender.emit(old_event(5))
        assert numbers_in(receiver.events, 5) == [1, 2, 3, 4, 5]


def test_our_own_affairs_are_nobodys(bare: Ports) -> None:
    """Connecting, subscribing and echoes never show to an original client that is subscribed to everything."""
    with old(bare, "") as receiver:
        with new(bare, echo_interval=0.02) as client:
            for topic in (TOPIC, LONGER, None):
                client.client.subscribe(topic)
                client.client.unsubscribe(topic)
            client.introduce(receiver.events)
            round_trips: set[float | None] = set()

            def echoed() -> bool:
                round_trips.add(client.client.health().round_trip)
                return len(round_trips) > 3

            eventually(echoed, PATIENCE)
            client.emit(new_event(1))
            assert numbers_in(receiver.events, 1) == [1]
        assert {topic for topic, _ in receiver.client.messages} == {b"corerl"}
        assert receiver.client.skipped == 0
