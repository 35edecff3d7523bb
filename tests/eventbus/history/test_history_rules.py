"""A historian under rules: it gives nobody what it may not subscribe to."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from eventbus import EventBusHistorian, HistorianMissing
from eventbus.ask.link import RequestLink
from eventbus.errors import NoAnswer
from eventbus.history.server import HistoryServer
from eventbus.history.store import Bounds
from eventbus.proxy.allow_list import AllowListFile
from eventbus.proxy.readers import permissions
from eventbus.transports.zeromq import ZeroMQOptions, ZeroMQTransport
from eventbus.wire.history import Query, new_history_topic, unpack
from eventbus.wire.requests import owner_of
from tests.security import Guarded
from tests.support import PATIENCE, MyEvent, MyEventTopic, MyEventType, event, eventually

TOPIC, SCHEDULER, OTHER = MyEventTopic.my_service, MyEventTopic.my_service_scheduler, MyEventTopic.other


@pytest.fixture(params=["in the proxy", "beside the proxy"])
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A proxy with rules and a historian."""
    embedded = request.param == "in the proxy"
    made = Guarded(tmp_path_factory.mktemp("allow-lists"), history=100 if embedded else 0)
    made.admit("nobody", publish=[], subscribe=[])
    with ExitStack() as stack:
        if not embedded:
            keys = made.admit("historian", publish=[], subscribe=["*"])
            stack.enter_context(made)
            allow_list = AllowListFile(made.file)

            def current() -> object:
                allow_list.refresh()
                return allow_list.current

            transport = ZeroMQTransport(
                "127.0.0.1", made.proxy.pub_port, made.proxy.sub_port, ZeroMQOptions(keys=keys, connect_timeout=PATIENCE)
            )
            server = HistoryServer(Bounds(), permissions(current))  # type: ignore[arg-type] # it is an AllowList
            stack.enter_context(EventBusHistorian(transport, server))
        else:
            stack.enter_context(made)
        yield made


def test_a_client_reads_what_it_may_subscribe_to(guarded: Guarded) -> None:
    """Its rules for subscribing are enough: it needs none for publishing. They hold topic by topic, also for all topics."""
    emitting = guarded.connected(guarded.admit(subscribe=[]), numbered=True)
    for number, topic in enumerate((TOPIC, SCHEDULER, OTHER)):
        emitting.emit_event(event(number), topic)
    reader = guarded.connected(guarded.admit(publish=[], subscribe=["my_service", "o*"]))

    def read(topic: MyEventTopic | None) -> list[float]:
        return [found.value for found in reader.history(topic, timeout=PATIENCE)]

    eventually(lambda: read(OTHER) == [2], PATIENCE)
    assert (read(TOPIC), read(SCHEDULER), read(None)) == ([0], [], [0, 2])
    assert emitting.last(TOPIC, timeout=PATIENCE) is None
    everything = guarded.connected(guarded.admit())
    assert [found.value for found in everything.history(None, timeout=PATIENCE)] == [0, 1, 2]


def test_subscriptions_begin_with_what_is_stored(guarded: Guarded) -> None:
    """Stored events first, each once, with numbers and without."""
    emitting = guarded.connected(guarded.admit())
    for number in range(10):
        emitting.emit_event(event(number), TOPIC)
    reader = guarded.connected(guarded.admit(publish=[], subscribe=["my_service"]), start="all")
    values: list[float] = []
    reader.attach_callback(MyEventType.updated, lambda found: values.append(found.value))
    reader.subscribe(TOPIC)
    reader.start_consumer()
    eventually(lambda: len(values) == 10, PATIENCE)
    emitting.emit_event(event(10), TOPIC)
    eventually(lambda: len(values) > 10, PATIENCE)
    assert values == list(range(11))


def test_a_query_in_the_name_of_another_is_denied(guarded: Guarded) -> None:
    """Neither on a topic for queries of another key, nor with another's reply topic, does a client get more."""
    emitting = guarded.connected(guarded.admit())
    emitting.emit_event(event(1), OTHER)
    spy_keys = guarded.admit("spy", publish=["*"], subscribe=["my_service"])
    spy = guarded.connected(spy_keys)
    victim = owner_of(guarded.admit().public_key)
    link = RequestLink(spy._transport, spy_keys.public_key)
    try:
        own = new_history_topic(owner_of(spy_keys.public_key))
        (part,) = link.ask_for_parts(own, "history", Query().encode(), PATIENCE)
        assert unpack(part.payload) == []
        with pytest.raises(NoAnswer):
            next(link.ask_for_parts(new_history_topic(victim), "history", Query().encode(), 0.2))
    finally:
        link.close()
    eventually(lambda: guarded.proxy.health().denied.get("spy") == 1, PATIENCE)
    forging = RequestLink(spy._transport, None)  # its inbox is on a topic of nobody's key
    try:
        with pytest.raises(NoAnswer):
            next(forging.ask_for_parts(own, "history", Query().encode(), 0.2))
    finally:
        forging.close()


def test_who_is_taken_off_the_list_reads_nothing(guarded: Guarded) -> None:
    """New rules hold for the next query."""
    emitting = guarded.connected(guarded.admit())
    emitting.emit_event(event(1), TOPIC)
    keys = guarded.admit("reader", subscribe=["my_service"])
    reader = guarded.connected(keys)
    last = reader.last(TOPIC, timeout=PATIENCE)
    assert isinstance(last, MyEvent)
    guarded.set("reader", keys.public_key, publish=[], subscribe=["other"])
    guarded.reload()
    assert reader.last(TOPIC, timeout=PATIENCE) is None


def test_without_a_historian_under_rules(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Publishers do not learn who subscribes there, so time tells."""
    made = Guarded(tmp_path_factory.mktemp("allow-lists"))
    made.admit("nobody", publish=[], subscribe=[])
    with made:
        client = made.connected(made.admit())
        with pytest.raises(HistorianMissing, match=r"within 1 s"):
            client.last(TOPIC, timeout=1.0)  # in which the inbox has to open
