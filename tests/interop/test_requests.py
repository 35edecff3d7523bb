"""Requests beside original clients: those get the request as an event, and are not disturbed by answers."""

import pytest

from eventbus import answers
from eventbus.errors import NoAnswer
from tests.interop.support import OLD_TOPIC, TOPIC, Ports, RLEvent, RLEventType, contents, greet, new, new_event, old
from tests.support import PATIENCE


class Doubling:
    @answers(RLEventType.measured, topic=TOPIC)
    def double(self, event: RLEvent) -> float:
        return 2 * event.value


def test_a_request_is_an_event_to_originals(place: Ports) -> None:
    """An original on the topic gets the request as an event, one on all topics skips the answer, and both go on."""
    with old(place, OLD_TOPIC) as one, old(place, "") as everything, new(place) as service, new(place) as asking:
        service.client.attach_handlers(Doubling())
        service.client.start_consumer()
        asking.introduce(one.events)
        asking.introduce(everything.events)
        for number in range(3):
            event = new_event(number)
            assert asking.client.request(event, topic=TOPIC, reply=float, timeout=PATIENCE) == 2 * number
        for listener in (one, everything):
            greet(lambda greeting: asking.emit(new_event(greeting)), listener.events)
            assert contents(listener.events) == contents([new_event(number) for number in range(3)])
        assert one.client.skipped == 0
        assert service.client.stats().rejected == asking.client.stats().rejected == 0


def test_an_original_does_not_answer(place: Ports) -> None:
    """Where only originals subscribe, nobody answers: the request times out, and they have got the event."""
    with old(place, OLD_TOPIC) as one, new(place) as asking:
        asking.introduce(one.events)
        with pytest.raises(NoAnswer):
            asking.client.request(new_event(7), topic=TOPIC, reply=float, timeout=1.5)  # in which the inbox has to open
        greet(lambda greeting: asking.emit(new_event(greeting)), one.events)
        assert contents(one.events) == contents([new_event(7)])


def test_what_originals_emit_is_handled_and_not_answered(place: Ports) -> None:
    """A handler that answers gets their events as any other."""
    with old(place) as one, new(place) as service:
        seen: list[RLEvent] = []
        service.client.subscribe(TOPIC)
        service.client.attach_callback(RLEventType.measured, seen.append, topic=TOPIC, answers=True)
        service.client.start_consumer()
        one.introduce(seen)
        one.emit(one.event(7))
        greet(lambda greeting: one.emit(one.event(greeting)), seen)
        assert contents(seen) == contents([new_event(7)])
        assert service.client.stats().emitted == 0
