"""Topics that change at the very moment at which a new connection is restored."""

from threading import Thread

import pytest

from eventbus.transports.nats.connection import Connection
from tests.eventbus.transports.nats.support import TOPIC, Values, client, transport_of, with_options
from tests.nats import Server
from tests.support import PATIENCE, MyEventTopic, event

pytestmark = pytest.mark.process

OTHER = MyEventTopic.other


@pytest.mark.parametrize("kind", ["core", "jetstream"])
def test_a_topic_that_is_subscribed_while_the_connection_is_restored_comes_once(
    server: Server, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`subscribe` neither waits for what waits for it, nor is its topic forgotten or subscribed to twice."""
    # If the two waited for each other, it would be for so long.
    transport = transport_of(kind, server.options(), with_options(connect_timeout=3 * PATIENCE))
    with client(transport, TOPIC) as receiver, client(transport_of(kind, server.options())) as sender:
        values = Values(receiver)
        take_info, waited = transport._take_info, []

        def subscribe_meanwhile(connection: Connection) -> None:
            take_info(connection)
            thread = Thread(target=receiver.subscribe, args=(OTHER,), daemon=True)
            thread.start()
            thread.join(PATIENCE)
            waited.append(thread.is_alive())

        monkeypatch.setattr(transport, "_take_info", subscribe_meanwhile)
        server.kill()
        server.start()
        sender.wait_ready(PATIENCE)
        receiver.wait_ready(PATIENCE)
        assert waited == [False]
        for number in range(3):
            sender.emit_event(event(float(number)), OTHER)
        sender.emit_event(event(3.0), TOPIC)
        assert values.wait_for(4) == [0, 1, 2, 3]
