"""A service of a container is listed by `eventbus ps`, unless its settings say otherwise."""

import pytest

from eventbus.ask.link import RequestLink
from eventbus.settings import EventBusSettings
from eventbus.testing import RecordingTransport, bus_test
from eventbus.wire.presence import QUESTION, QUESTION_TYPE, Presence
from eventbus.wire.private_topics import PRESENCE_TOPIC
from tests.container.support import TOPIC, App
from tests.support import PATIENCE, event


@pytest.mark.parametrize("listed", [True, False])
def test_a_service_says_who_it_is(listed: bool) -> None:
    """It answers with its name, topics and counts; one that is not to be listed does not hear the question."""
    settings = EventBusSettings(name="plant", listed=listed)
    with bus_test(App(), settings=settings) as t:
        t.emit(event(1), TOPIC)
        transport = RecordingTransport(t.hub)
        transport.open(PATIENCE)
        assert transport.has_subscriber(PRESENCE_TOPIC) is listed
        if listed:
            link = RequestLink(transport)
            answer = link.ask(PRESENCE_TOPIC, QUESTION_TYPE, QUESTION, PATIENCE)
            link.close()
            found = Presence.decode(answer.payload)
            assert found is not None
            assert (found.name, found.topics, found.received, found.handled) == ("plant", (TOPIC.value,), 1, 1)
        transport.close(0)
