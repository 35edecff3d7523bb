"""`EventBusClient`: connecting, closing, emitting; the consuming side is in the files beside this one."""

import gc
import os
import signal
import threading
import warnings
from collections.abc import Callable
from enum import auto
from math import inf
from typing import Any

import pytest

from eventbus import (
    BaseEvent,
    BaseEventTopic,
    BaseEventType,
    EventBusClient,
    EventBusProxy,
    EventBusStats,
    InvalidEvent,
    InvalidSettings,
    InvalidTopic,
    NotConnected,
    Packing,
    ProxyUnreachable,
    SendTimeout,
)
from eventbus.transports.memory import MemoryHub, MemoryTransport
from tests.support import (
    PATIENCE,
    Bus,
    MyEvent,
    MyEventTopic,
    MyEventType,
    RawPeers,
    Recorder,
    client_of,
    event,
    eventually,
    in_thread,
    is_joining,
    open_descriptors,
    proxy_process,
    read_until,
    run_script,
    run_threads,
)

TOPIC, SCHEDULER, OTHER = MyEventTopic.my_service, MyEventTopic.my_service_scheduler, MyEventTopic.other
UPDATED = MyEventType.updated


class StrangeType(BaseEventType):
    updated = auto()


class StrangeTopic(BaseEventTopic):
    my_service = auto()  # the same value as MyEventTopic.my_service


class BareEvent(BaseEvent[MyEventType]):
    note: str = "none"


class Derived(EventBusClient[MyEvent, MyEventType, MyEventTopic]):
    """A service's own client."""


def resources() -> tuple[list[str], set[threading.Thread], int]:
    """The process's descriptors, Python threads, and number of native threads."""
    return open_descriptors(), set(threading.enumerate()), len(os.listdir("/proc/self/task"))


def expect_resources(before: tuple[list[str], set[threading.Thread], int]) -> None:
    """Wait until there is no more than before. It may be less: what an earlier test had was going then."""

    def nothing_new() -> bool:
        descriptors, threads, tasks = resources()
        return set(descriptors) <= set(before[0]) and threads <= before[1] and tasks <= before[2]

    eventually(nothing_new, what=f"{resources()} is {before}")


def record(client: Bus) -> Recorder:
    """Record the events of a client that are `updated`."""
    recorder = Recorder()
    client.attach_callback(UPDATED, recorder)
    client.start_consumer()
    return recorder


# Connecting


def test_the_first_event_is_never_lost(proxy: EventBusProxy) -> None:
    """An event emitted right after connect() and subscribe() have returned arrives, each of 50 times."""
    for number in range(50):
        with client_of(proxy) as client:
            client.subscribe(TOPIC)
            client.emit_event(event(number), TOPIC)
            assert client.recv_event(PATIENCE) == event(number)


def test_the_first_event_reaches_others(proxy: EventBusProxy, bus: Bus) -> None:
    """A client that connects after another has subscribed reaches it with its first event."""
    recorder = record(bus)
    for number in range(30):
        with client_of(proxy) as client:
            client.emit_event(event(number), TOPIC)
    assert recorder.wait_for(30) == list(range(30))


@pytest.mark.parametrize("subscribed", [False, True])
def test_no_proxy_is_said_and_leaves_nothing(dead_ports: tuple[int, int], subscribed: bool) -> None:
    """connect() without a proxy names both endpoints and the remedy, and leaves no thread and no descriptor."""
    client = Bus(MyEvent, "127.0.0.1", *dead_ports)
    if subscribed:
        client.subscribe(TOPIC)
    before = resources()
    for _ in range(3):
        with pytest.raises(ProxyUnreachable, match="eventbus proxy") as caught:
            client.connect(0.05)
    for port in dead_ports:
        assert f"127.0.0.1:{port}" in str(caught.value)
        assert f"127.0.0.1:{port}" in caught.value.endpoints
    assert caught.value.timeout == 0.05
    assert isinstance(caught.value, TimeoutError)
    assert not client.is_connected()
    expect_resources(before)
    client.close()


@pytest.mark.patience
@pytest.mark.parametrize("leg", ["publishing", "subscribing"])
def test_half_a_proxy_is_said(proxy: EventBusProxy, dead_ports: tuple[int, int], leg: str) -> None:
    """When only one of the two ports answers, the error says which does not."""
    dead = dead_ports[0]
    ports = (dead, proxy.sub_port) if leg == "publishing" else (proxy.pub_port, dead)
    with pytest.raises(ProxyUnreachable, match=rf"nothing listens at tcp://127\.0\.0\.1:{dead}, but"):
        Bus(MyEvent, "127.0.0.1", *ports).connect(1)


def test_a_proxy_that_comes_late_is_found(ports: tuple[int, int]) -> None:
    """After a failed connect() the same client connects as soon as a proxy runs."""
    client = Bus(MyEvent, "127.0.0.1", *ports)
    with pytest.raises(ProxyUnreachable):
        client.connect(0.05)
    with EventBusProxy("127.0.0.1", *ports), client:
        assert client.is_connected()


def test_connect_is_idempotent(bus: Bus) -> None:
    """Connecting again, also from several threads at once, keeps the connection: nothing is lost or doubled."""
    recorder = record(bus)
    bus.emit_event(event(1), TOPIC)
    before = resources()
    bus.connect()
    run_threads(4, lambda _: bus.connect(PATIENCE))
    expect_resources(before)
    bus.emit_event(event(2), TOPIC)
    assert recorder.wait_for(2) == [1, 2]


@pytest.mark.parametrize("packing", [Packing.BATCHES, Packing.ALL])
def test_timeouts_may_be_endless(proxy: EventBusProxy, packing: Packing) -> None:
    """Infinite times are accepted wherever a time is, though the system and libzmq take none: as options and of calls."""
    times = dict.fromkeys(
        (
            "connect_timeout", "send_timeout", "close_timeout", "linger", "packing_max_wait",
            "echo_interval", "echo_timeout", "reconnect_interval", "reconnect_max_interval", "repair_timeout",
        ),
        inf,
    )  # fmt: skip
    client = client_of(proxy, packing=packing, topics=["my_service"], **times)
    client.connect()
    client.connect(inf)
    client.wait_ready(inf)
    client.subscribe(OTHER)
    client.emit_event(event(1), TOPIC)
    assert client.recv_event(inf) == event(1)
    client.stop_consumer(inf)
    client.close(inf)


def test_with_connects_and_closes(proxy: EventBusProxy) -> None:
    """`with client` gives the connected client, and closes it, also after an error."""
    client = client_of(proxy)
    with client as entered:
        assert entered is client
        assert client.is_connected()
    assert not client.is_connected()
    with pytest.raises(ZeroDivisionError), client:
        1 / 0  # noqa: B018 # it raises
    assert not client.is_connected()


def test_is_connected_tells_the_truth(ports: tuple[int, int]) -> None:
    """is_connected() turns false when the proxy stops, and true when another one starts on its ports; events flow again."""
    with EventBusProxy("127.0.0.1", *ports) as first:
        client = client_of(first)
        assert not client.is_connected()
        client.connect()
        client.subscribe(TOPIC)
        recorder = record(client)
        assert client.is_connected()
    eventually(lambda: not client.is_connected())
    with EventBusProxy("127.0.0.1", *ports), client:
        assert client.is_connected()
        client.emit_event(event(1), TOPIC)
        assert recorder.wait_for(1) == [1]
    assert not client.is_connected()


def test_subscriptions_outlive_the_proxy(ports: tuple[int, int]) -> None:
    """After a restart of the proxy everything comes back by itself; what was emitted meanwhile is kept."""
    with EventBusProxy("127.0.0.1", *ports) as first:
        client = client_of(first)
        client.connect()
        client.subscribe(TOPIC)
        recorder = record(client)
    eventually(lambda: not client.is_connected())
    client.emit_event(event(1), TOPIC)
    with EventBusProxy("127.0.0.1", *ports):
        eventually(client.is_connected)
        client.emit_event(event(2), TOPIC)
        assert recorder.wait_for(2) == [1, 2]
        client.close()


# Closing


def test_close_is_idempotent_and_leaves_nothing(proxy: EventBusProxy) -> None:
    """close() before connect(), twice, and from many threads is harmless; no thread and no descriptor stays."""
    before = resources()
    client = client_of(proxy)
    client.close()
    client.connect()
    client.subscribe(TOPIC)
    record(client)
    run_threads(4, lambda _: client.close())
    client.close()
    expect_resources(before)


def test_close_from_inside_a_handler(bus: Bus) -> None:
    """A handler may close its client: close() returns, the handler goes on, no later event is handled."""
    seen = []

    def handler(event: MyEvent) -> None:
        seen.append(event.value)
        bus.close()
        seen.append(-1.0)

    bus.attach_callback(UPDATED, handler)
    bus.start_consumer()
    bus.emit_events([event(1), event(2), event(3)], TOPIC)
    eventually(lambda: seen == [1, -1])
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "eventbus-consumer"])
    assert not bus.is_connected()
    assert seen == [1, -1]


def test_close_from_inside_an_async_handler(bus: Bus) -> None:
    """An async handler may close its client too."""
    seen = []

    async def handler(event: MyEvent) -> None:
        bus.close()
        seen.append(event.value)

    bus.attach_callback(UPDATED, handler)
    bus.start_consumer()
    bus.emit_event(event(1), TOPIC)
    eventually(lambda: seen == [1])
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("eventbus-co")])
    assert not bus.is_connected()


@pytest.mark.parametrize("linger", [1.0, PATIENCE])
def test_close_waits_for_the_running_handler(connected: Callable[..., Bus], linger: float) -> None:
    """close() returns when the handler that is running has finished, however much of its time flushing may take."""
    client = connected(linger=linger, topics=[TOPIC])
    entered, closing = threading.Event(), threading.Event()
    connected_at_the_end = []

    def handler(event: MyEvent) -> None:
        entered.set()
        closing.wait(PATIENCE)
        threading.Event().wait(0.3)  # the time in which a close() that does not wait would be through
        connected_at_the_end.append(client.is_connected())

    client.attach_callback(UPDATED, handler)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    assert entered.wait(PATIENCE)
    closing.set()
    client.close(PATIENCE)
    assert connected_at_the_end == [True]


def test_close_lets_what_was_received_be_handled(bus: Bus) -> None:
    """Events that were received when close() is called are handled before it returns."""
    entered, go = threading.Event(), threading.Event()

    def handler(event: MyEvent) -> None:
        entered.set()
        assert go.wait(PATIENCE)

    bus.attach_callback(UPDATED, handler)
    recorder = record(bus)
    bus.emit_events([event(1), event(2), event(3)], TOPIC)
    assert entered.wait(PATIENCE)
    with in_thread(lambda: bus.close(PATIENCE)) as closing:
        eventually(lambda: is_joining(closing))
        go.set()
    assert recorder.values == [1, 2, 3]
    assert (bus.stats().handled, bus.stats().dropped) == (6, 0)


def test_close_does_not_wait_for_ever(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that does not return holds close() back only for its timeout, is mentioned in the log, and is the last."""
    entered, go = threading.Event(), threading.Event()

    def handler(event: MyEvent) -> None:
        entered.set()
        go.wait(PATIENCE)

    bus.attach_callback(UPDATED, handler)
    recorder = record(bus)
    bus.emit_events([event(1), event(2), event(3)], TOPIC)
    assert entered.wait(PATIENCE)
    bus.close(0.05)
    assert not go.is_set()
    assert "still running" in caplog.text
    go.set()
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "eventbus-consumer"])
    assert recorder.values == [1]
    assert bus.stats().dropped == 2


def test_reconnecting_remembers(bus: Bus) -> None:
    """Topics and callbacks outlive close(): the next connect() is enough."""
    recorder = record(bus)
    for number in range(3):
        bus.close()
        bus.connect()
        bus.start_consumer()
        bus.emit_event(event(number), TOPIC)
        assert recorder.wait_for(number + 1) == list(range(number + 1))


def test_close_flushes(proxy: EventBusProxy, bus: Bus) -> None:
    """Events emitted right before close() arrive."""
    recorder = record(bus)
    with client_of(proxy) as client:
        for number in range(5_000):
            client.emit_event(event(number), TOPIC)
    assert recorder.wait_for(5_000) == list(range(5_000))


def test_a_client_that_is_never_closed_warns(proxy: EventBusProxy) -> None:
    """A connected client that is forgotten warns with a ResourceWarning and closes itself."""
    before = resources()
    forgotten = [client_of(proxy)]
    forgotten[0].connect()
    with pytest.warns(ResourceWarning, match="never closed"):
        forgotten.clear()
    expect_resources(before)


def test_a_forgotten_client_in_a_cycle_warns(proxy: EventBusProxy) -> None:
    """It warns and closes itself also when its service and the client refer to each other."""

    class Service:
        def __init__(self) -> None:
            self.client = client_of(proxy)
            self.client.attach_callback(UPDATED, self.handle)
            self.client.connect()

        def handle(self, event: MyEvent) -> None: ...

    def make_and_forget() -> None:
        Service()
        gc.collect()  # which may have run by itself already

    gc.collect()
    before = resources()
    with pytest.warns(ResourceWarning, match="never closed"):
        make_and_forget()
    expect_resources(before)


def test_a_closed_client_does_not_warn(proxy: EventBusProxy) -> None:
    """A client that was closed, or never connected, goes silently."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client = client_of(proxy)
        with client:
            pass
        del client
        client_of(proxy)
        gc.collect()


EXIT = """
import sys
from tests.support import Bus, MyEvent, MyEventTopic, event
client = Bus(MyEvent, "127.0.0.1", int(sys.argv[1]), int(sys.argv[2]))
client.connect(20)
if sys.argv[3] == "consuming":
    client.start_consumer()
for number in range(2_000):
    client.emit_event(event(number), MyEventTopic.my_service)
"""


@pytest.mark.process
@pytest.mark.parametrize("consuming", ["consuming", "emitting"])
@pytest.mark.parametrize("filter_", ["default", "error"])
def test_interpreter_exit_flushes(proxy: EventBusProxy, bus: Bus, consuming: str, filter_: str) -> None:
    """A script that ends without close() has emitted everything, and warns; also where warnings are errors."""
    recorder = record(bus)
    done = run_script(EXIT, proxy.pub_port, proxy.sub_port, consuming, options=("-W", f"{filter_}::ResourceWarning"))
    assert done.returncode == 0
    assert "never closed" in done.stderr
    assert recorder.wait_for(2_000) == list(range(2_000))


FORK = """
import os, sys, warnings
from eventbus import ForkedClient, NotConnected
from tests.support import Bus, MyEvent, MyEventTopic, event
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
ports = map(int, sys.argv[1:3])
client = Bus(MyEvent, "127.0.0.1", *ports)
client.connect(20)
client.subscribe(MyEventTopic.other)
client.start_consumer()
child = os.fork()
if not child:
    for call in (
        lambda: client.emit_event(event(1), MyEventTopic.my_service),
        lambda: client.emit_events([event(1)], MyEventTopic.my_service),
        lambda: client.subscribe(MyEventTopic.my_service),
        lambda: client.unsubscribe(MyEventTopic.other),
        lambda: client.connect(1),
        lambda: client.start_consumer(),
    ):
        try:
            call()
        except ForkedClient as error:
            assert isinstance(error, NotConnected)
        else:
            print("no ForkedClient")
    assert not client.is_connected()
    client.close()
    with Bus(MyEvent, "127.0.0.1", int(sys.argv[1]), int(sys.argv[2])) as own:
        own.emit_event(event(10), MyEventTopic.my_service)
    print("child done", flush=True)
    sys.exit(0)
_, status = os.waitpid(child, 0)
print("status", status)
client.emit_event(event(20), MyEventTopic.my_service)
client.emit_event(event(21), MyEventTopic.other)
assert client.recv_event(20).value == 21
client.close()
"""


@pytest.mark.process
def test_fork(proxy: EventBusProxy, bus: Bus) -> None:
    """In a forked child the parent's client raises ForkedClient, a new client works; the parent's goes on."""
    recorder = record(bus)
    done = run_script(FORK, proxy.pub_port, proxy.sub_port)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "child done\nstatus 0\n"
    assert done.stderr == ""
    assert recorder.wait_for(2) == [10, 20]


# Emitting


def test_emit_needs_a_connection(proxy: EventBusProxy) -> None:
    """emit_event() and emit_events() raise NotConnected before connect() and after close(), and count nothing."""
    client = client_of(proxy)
    for _ in range(2):
        with pytest.raises(NotConnected, match=r"connect\(\)"):
            client.emit_event(event(), TOPIC)
        with pytest.raises(NotConnected):
            client.emit_events([event()], TOPIC)
        assert client.stats().emitted == 0
        client.connect()
        client.close()


@pytest.mark.parametrize("wrong", [BareEvent(type=UPDATED), "updated", None, {"type": "updated"}, StrangeTopic.my_service])
def test_emit_refuses_what_is_no_event(bus: Bus, wrong: Any) -> None:
    """Anything but an event of the class, or one of its types, is InvalidEvent."""
    with pytest.raises(InvalidEvent, match="MyEvent"):
        bus.emit_event(wrong, TOPIC)
    with pytest.raises(InvalidEvent, match="MyEvent"):
        bus.emit_events([event(), wrong], TOPIC)
    assert bus.stats().emitted == 0


def test_emit_wraps_a_bare_type(proxy: EventBusProxy) -> None:
    """A bare type becomes an event with the class's defaults."""
    with EventBusClient[BareEvent, MyEventType, MyEventTopic](
        BareEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port, topics=[TOPIC]
    ) as client:
        client.emit_event(UPDATED, TOPIC)
        assert client.recv_event(PATIENCE) == BareEvent(type=UPDATED)


def test_emit_names_what_a_bare_type_lacks(bus: Bus) -> None:
    """When the class needs more than a type, InvalidEvent names those fields."""
    with pytest.raises(InvalidEvent, match=r"MyEvent needs more than the type updated.*time"):
        bus.emit_event(UPDATED, TOPIC)


def test_emit_refuses_a_type_of_another_enum(proxy: EventBusProxy) -> None:
    """A type of another enum is InvalidEvent, though its value may be equal."""
    strange: Any = StrangeType.updated
    with (
        EventBusClient[BareEvent, MyEventType, MyEventTopic](
            BareEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port
        ) as client,
        pytest.raises(InvalidEvent, match=r"StrangeType\.updated is no type of BareEvent: use MyEventType"),
    ):
        client.emit_event(strange, TOPIC)


@pytest.mark.parametrize("wrong", ["my_service", "", None, 3, b"my_service", ["my_service"], UPDATED, MyEventTopic])
@pytest.mark.parametrize("warm", [False, True], ids=["at-first", "after-others"])
def test_emit_refuses_what_is_no_topic(connected: Callable[..., Bus], wrong: Any, warm: bool) -> None:
    """Anything but a member of a topic enum is InvalidTopic, from the first event on, and nothing is sent."""
    bus = connected()
    if warm:
        bus.emit_event(event(), OTHER)
    with pytest.raises(InvalidTopic, match="no topic"):
        bus.emit_event(event(), wrong)
    with pytest.raises(InvalidTopic, match="no topic"):
        bus.emit_events([event()], wrong)
    assert bus.stats().emitted == int(warm)


@pytest.mark.parametrize("cls", [Bus, Derived], ids=["parametrized", "derived"])
def test_declared_topics_are_enforced(proxy: EventBusProxy, cls: Callable[..., Bus]) -> None:
    """A member of another enum than the type parameters name is InvalidTopic everywhere, though its value may be equal."""
    strange: Any = StrangeTopic.my_service
    with cls(MyEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port) as client:
        client.emit_event(event(), TOPIC)
        calls: list[Callable[[], object]] = [
            lambda: client.emit_event(event(), strange),
            lambda: client.emit_events([event()], strange),
            lambda: client.subscribe(strange),
            lambda: client.unsubscribe(strange),
            lambda: client.attach_callback(UPDATED, print, topic=strange),
            lambda: client.detach_callback(UPDATED, print, topic=strange),
        ]
        for call in calls:
            with pytest.raises(InvalidTopic, match=r"StrangeTopic\.my_service.*use a member of MyEventTopic"):
                call()
        client.emit_event(event(), TOPIC)


def test_undeclared_topics_are_free(proxy: EventBusProxy) -> None:
    """Without type parameters any topic enum will do."""
    client: EventBusClient[Any, Any, Any] = EventBusClient(MyEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port)
    with client:
        client.subscribe(StrangeTopic.my_service)
        client.emit_event(event(1), StrangeTopic.my_service)
        client.emit_event(event(2), TOPIC)
        assert [client.recv_event(PATIENCE), client.recv_event(PATIENCE)] == [event(1), event(2)]


@pytest.mark.process
def test_a_full_send_buffer_is_send_timeout() -> None:
    """When the proxy stops reading, emitting raises SendTimeout after send_timeout, and works again when it reads on."""
    with proxy_process() as (process, pub_port, sub_port):
        client = Bus(MyEvent, "127.0.0.1", pub_port, sub_port, send_hwm=2, send_timeout=0.05)
        large = MyEvent(type=UPDATED, time="x" * 2_000_000)
        with client:
            client.subscribe(TOPIC)
            process.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(SendTimeout, match=rf"127\.0\.0\.1:{pub_port}.*EVENTBUS_SEND_HWM") as caught:
                    emit_without_end(client, large)
                assert (caught.value.limit, caught.value.timeout) == (2, 0.05)
                before = client.stats().emitted
                with pytest.raises(SendTimeout) as caught:
                    client.emit_events([large] * 100, TOPIC)
                emitted = client.stats().emitted
                assert f"{emitted - before} of these 100 events had been sent before" in caught.value.__notes__
            finally:
                process.send_signal(signal.SIGCONT)
            recorder = record(client)
            recorder.wait_for(emitted)
            client.emit_event(event(7), TOPIC)
            assert recorder.wait_for(emitted + 1)[-1] == 7


def emit_without_end(client: Bus, event: MyEvent) -> None:
    for _ in range(100):
        client.emit_event(event, TOPIC)


def test_emit_from_many_threads(bus: Bus) -> None:
    """Threads that emit at once lose nothing, and each one's events stay in order."""
    recorder = record(bus)

    def emit(thread: int) -> None:
        for number in range(1_000):
            bus.emit_event(event(thread * 10_000 + number), TOPIC)

    run_threads(4, emit)
    values = recorder.wait_for(4_000)
    for thread in range(4):
        assert [value - thread * 10_000 for value in values if value // 10_000 == thread] == list(range(1_000))
    assert bus.stats().emitted == 4_000


def test_emit_from_inside_a_handler(bus: Bus) -> None:
    """A handler may emit, to its own client too."""
    recorder = Recorder()

    def handler(received: MyEvent) -> None:
        bus.emit_event(event(received.value + 1, MyEventType.stopped), TOPIC)

    bus.attach_callback(UPDATED, handler)
    bus.attach_callback(MyEventType.stopped, recorder)
    bus.start_consumer()
    for number in range(100):
        bus.emit_event(event(number), TOPIC)
    assert recorder.wait_for(100) == list(range(1, 101))


# Packing


def test_many_events_share_few_messages(connected: Callable[..., Bus], raw: RawPeers) -> None:
    """emit_events() packs many events into few messages, each of bounded size, in order."""
    subscriber = raw.subscriber()
    client = connected(topics=[TOPIC])
    recorder = record(client)
    client.emit_events([event(number) for number in range(10_000)], TOPIC)
    client.emit_event(event(), OTHER)
    messages = read_until(subscriber, b"other")
    assert len(messages) < 100
    assert {len(message) for message in messages} == {2}
    assert {message[0] for message in messages} == {b"my_service"}
    assert max(len(message[1]) for message in messages) <= 65_536
    assert recorder.wait_for(10_000) == list(range(10_000))
    assert client.stats().emitted == 10_001


def test_packing_off_sends_each_by_itself(connected: Callable[..., Bus], raw: RawPeers) -> None:
    """With packing=Packing.NONE each event is a message that the original client can read."""
    subscriber = raw.subscriber()
    client = connected(packing=Packing.NONE)
    client.emit_events([event(number) for number in range(100)], TOPIC)
    client.emit_event(event(), OTHER)
    messages = read_until(subscriber, b"other")
    assert messages == [[b"my_service", event(number).model_dump_json().encode()] for number in range(100)]


def test_emit_events_takes_any_iterable(bus: Bus) -> None:
    """A generator will do, and no events are no message."""
    bus.emit_events([], TOPIC)
    bus.emit_events((event(number) for number in range(3)), TOPIC)
    assert [bus.recv_event(PATIENCE) for _ in range(3)] == [event(number) for number in range(3)]
    assert bus.stats().emitted == 3


# Other ways to run it


def test_a_disabled_client_does_nothing() -> None:
    """enabled=False: every call returns, none opens a socket or thread that stays, nothing is emitted or received."""
    before = resources()
    with Bus(MyEvent, "192.0.2.1", enabled=False, topics=["other"]) as client:
        client.subscribe(TOPIC)
        recorder = record(client)
        client.emit_event(event(), TOPIC)
        client.emit_events([event()], TOPIC)
        client.unsubscribe(TOPIC)
        assert client.recv_event(0) is None
        assert not client.is_connected()
        assert client.stats() == EventBusStats()
        assert recorder.values == []
    expect_resources(before)
    with pytest.raises(InvalidTopic):
        client.emit_event(event(), "my_service")  # type: ignore[arg-type] # mistakes are still found


def test_another_transport() -> None:
    """Clients over MemoryTransport speak to each other as over ZeroMQ."""
    hub = MemoryHub()
    one, two = (Bus(MyEvent, transport=MemoryTransport(hub)) for _ in range(2))
    with one, two:
        one.subscribe(TOPIC)
        recorder = record(one)
        two.emit_event(event(1), TOPIC)
        two.emit_event(event(0), SCHEDULER)
        two.emit_events([event(2), event(3)], TOPIC)
        assert recorder.wait_for(3) == [1, 2, 3]
        assert one.is_connected()
    assert not one.is_connected()


def test_repr_says_what_and_where(proxy: EventBusProxy) -> None:
    """A client's repr has its event class, its endpoints and its state."""
    client = client_of(proxy)
    assert "MyEvent" in repr(client)
    assert str(proxy.pub_port) in repr(client)
    assert "closed" in repr(client)
    with client:
        assert "ready" in repr(client)


def test_a_class_without_types_is_refused() -> None:
    """The constructor raises InvalidEvent for what is no event class."""
    wrong: Any = int
    with pytest.raises(InvalidEvent):
        EventBusClient(wrong)


def test_policies_may_be_given_as_their_values(proxy: EventBusProxy) -> None:
    """A policy is as good as its value; what is none is refused at once."""
    value: Any = "drop"
    client_of(proxy, send_policy=value, receive_policy="block")
    for wrong in ({"send_policy": "never"}, {"receive_policy": "never"}):
        with pytest.raises(ValueError, match="never"):
            client_of(proxy, **wrong)


@pytest.mark.parametrize("place", [("localhost:5559", 5559, 5560), ("localhost", 5559, 99_999)])
def test_a_place_where_no_proxy_can_be(place: tuple[str, int, int]) -> None:
    """Client and proxy say at once what is wrong with a host or port, as the settings do; connecting could only time out."""
    for kind in (EventBusProxy, lambda *given: Bus(MyEvent, *given)):
        with pytest.raises(InvalidSettings):
            kind(*place)


def test_an_ipv6_address_in_brackets() -> None:
    """A host in brackets, as URLs have it, is the same address."""
    assert "tcp://[::1]:5559 " in repr(Bus(MyEvent, "[::1]"))
