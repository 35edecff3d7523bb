"""Thousands of topics, all of which are live again after the proxy was restarted."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from eventbus import BaseEventTopic, ClientState, EventBusClient
from tests.faults.proxies import ProxyProcess, running_proxy
from tests.support import PATIENCE, MyEvent, MyEventType, Recorder, event, eventually

pytestmark = pytest.mark.process

MANY = 5_000
FEW = 100

# Members made up at run time, which type checkers cannot follow.
_Enum: Any = BaseEventTopic
TOPICS: list[BaseEventTopic] = list(_Enum("Topic", {f"topic_{number}": f"topic_{number}" for number in range(MANY + FEW)}))
FIRST, LAST = TOPICS[:MANY], TOPICS[MANY:]

type Client = EventBusClient[MyEvent, MyEventType, BaseEventTopic]


def client_of(proxy: ProxyProcess, topics: Iterable[str] = ()) -> Client:
    made: Client = EventBusClient(
        MyEvent, proxy.host, proxy.pub_port, proxy.sub_port, topics=topics, connect_timeout=PATIENCE
    )
    return made


def check_live(emitter: Client, recorder: Recorder, topics: list[BaseEventTopic]) -> None:
    """Check that an event on each of these topics arrives, and of all others none."""
    emitter.connect()  # by now it has been told of every subscription
    recorder.events.clear()
    for number, topic in enumerate(TOPICS):
        emitter.emit_event(event(number), topic)
    emitter.emit_event(event(-1), topics[0])
    eventually(lambda: recorder.values[-1:] == [-1], PATIENCE)
    wanted = set(topics)
    assert recorder.values[:-1] == [number for number, topic in enumerate(TOPICS) if topic in wanted]


def restart(proxy: ProxyProcess, clients: tuple[Client, ...], meanwhile: Callable[[], None] = lambda: None) -> None:
    """Kill the proxy, do something while it is away, start it and wait until all is ready."""
    proxy.kill()
    for client in clients:
        eventually(lambda c=client: c.state is ClientState.DEGRADED, PATIENCE)  # type: ignore[misc]
    meanwhile()
    proxy.start()
    for client in clients:
        client.wait_ready(PATIENCE)


def test_topics_outlive_a_restart() -> None:
    """Each of 5,000 topics gets its event, before the proxy is killed and after it has come back.

    So do those that are subscribed while it is away, and not those that are unsubscribed then.
    """
    recorder = Recorder()
    with (
        running_proxy() as proxy,
        client_of(proxy, FIRST) as receiver,
        client_of(proxy) as emitter,
    ):
        receiver.attach_callback(MyEventType.updated, recorder)
        receiver.start_consumer()
        check_live(emitter, recorder, FIRST)
        restart(proxy, (receiver, emitter))
        check_live(emitter, recorder, FIRST)

        def change() -> None:
            for topic in LAST:
                receiver.subscribe(topic)
            for topic in FIRST[:FEW]:
                receiver.unsubscribe(topic)

        restart(proxy, (receiver, emitter), change)
        check_live(emitter, recorder, TOPICS[FEW:])
