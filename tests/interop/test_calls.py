"""The original client's calls, by its names, against both clients."""

from typing import Any

import pytest

from eventbus import BaseEvent, BaseEventTopic, BaseEventType, EventBusClient, EventBusProxy, NotConnected
from tests.interop import original
from tests.interop.support import NOON, TOPIC, Bus, Ports, RLEvent, RLEventTopic, RLEventType, new_event
from tests.support import PATIENCE, eventually, in_thread, is_waiting

# The classes of a service that differ in their bases alone, with the client's.
KINDS: dict[str, tuple[Any, Any, Any, Any]] = {
    "original": (original.EventBusClient, original.RLEvent, original.RLEventType, original.RLEventTopic),
    "ours": (EventBusClient, RLEvent, RLEventType, RLEventTopic),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_calls_of_the_original(kind: str, bare: Ports) -> None:
    """A service that names every argument as the original does runs with either client."""
    client_class, event_class, types, topics = KINDS[kind]
    client = client_class(event_class, host="127.0.0.1", pub_port=bare.pub_port, sub_port=bare.sub_port)
    assert (client.host, client.pub_port, client.sub_port) == ("127.0.0.1", *bare)
    measured: list[float] = []
    stopped: list[float] = []
    client.connect()
    assert client.is_connected()
    client.subscribe(topic=topics.corerl)
    client.attach_callback(event_type=types.measured, cb=lambda event: measured.append(event.value))
    client.attach_callbacks(cbs={types.stopped: lambda event: stopped.append(event.value)})
    client.start_consumer()

    def arrived() -> bool:
        client.emit_event(event=event_class(type=types.measured, time=NOON, value=1.0), topic=topics.corerl)
        client.emit_event(event=event_class(type=types.stopped, time=NOON, value=2.0), topic=topics.corerl)
        return bool(measured and stopped)

    eventually(arrived, PATIENCE, "both events, after the original's slow joining")
    assert (measured[0], stopped[0]) == (1.0, 2.0)
    assert client.recv_event(timeout=PATIENCE).value in (1.0, 2.0)  # the subscription may have come between the two
    client.stop_consumer()
    client.close()


def test_a_client_typed_by_the_bases(proxy: EventBusProxy) -> None:
    """A client whose parameters are the bases takes topics of any enum, and events of the class that it is given."""

    class OtherTopic(BaseEventTopic):
        corerl_scheduler = "corerl_scheduler"

    client = EventBusClient[BaseEvent[Any], BaseEventType, BaseEventTopic](
        RLEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port, connect_timeout=PATIENCE
    )
    with client:
        for topic in (TOPIC, OtherTopic.corerl_scheduler):
            client.subscribe(topic)
            client.emit_event(new_event(1.0), topic)
            assert client.recv_event(PATIENCE) == new_event(1.0)
        assert client.topics == {"corerl", "corerl_scheduler"}


def test_closed_while_waiting(proxy: EventBusProxy) -> None:
    """A reader that waits gets None when its client is closed, and NotConnected when it goes on reading."""
    client = Bus(RLEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port, connect_timeout=PATIENCE)
    found: list[object] = []
    client.connect()
    with in_thread(lambda: found.append(client.recv_event(timeout=None))) as waiting:
        eventually(lambda: is_waiting(waiting))
        client.close()
    assert found == [None]
    with pytest.raises(NotConnected):
        client.recv_event()
