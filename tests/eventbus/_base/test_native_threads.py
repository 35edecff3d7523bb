"""Programs whose threads are replaced: with the real gevent, each in a process of its own."""

import _thread
import select

import pytest

from eventbus import EventBusProxy, MonkeyPatched
from eventbus._base.native_threads import require_native_threads, require_usable_threads
from tests.support import RawPeers, json_of, run_script

GREENLETS = """
import sys
from gevent import monkey
monkey.patch_all()
import gevent
from eventbus import EventBusProxy, MonkeyPatched
from tests.support import Bus, MyEvent, MyEventTopic, event

def ticks():
    while True:
        counted.append(1)
        gevent.sleep(0.01)

def count_to(number):
    counted.clear()
    while len(counted) < number:
        gevent.sleep(0.01)

counted = []
ticking = gevent.spawn(ticks)
arguments = {"echo_interval": 0.1, "echo_timeout": 5, "connect_timeout": 20}
with Bus(MyEvent, "127.0.0.1", *map(int, sys.argv[1:]), **arguments) as bus:
    for number in range(3):
        bus.emit_event(event(number), MyEventTopic.my_service)
        count_to(20)
    print(bus.state, bus.stats().emitted, bus.health().round_trip is not None)
    for subject in (bus.start_consumer, bus.recv_event, bus.listen_forever, EventBusProxy(pub_port=0, sub_port=0).start):
        try:
            subject()
        except MonkeyPatched as error:
            print(error.library)
count_to(3)
"""

NATIVE = """
import sys
from gevent import monkey
monkey.patch_all(thread=False)
from tests.support import Bus, MyEvent, MyEventTopic, MyEventType, event
with Bus(MyEvent, "127.0.0.1", *map(int, sys.argv[1:]), topics=["my_service"], connect_timeout=20) as bus:
    bus.start_consumer()
    bus.emit_event(event(7), MyEventTopic.my_service)
    received = bus.recv_event(20)
    assert received is not None
    print(int(received.value), bus.state)
"""


@pytest.mark.process
def test_gevent_emits_and_does_not_consume(proxy: EventBusProxy, raw: RawPeers) -> None:
    """After monkey.patch_all() a client emits while other greenlets run; receiving and proxies raise instead of hanging."""
    subscriber = raw.subscriber(b"my_service")
    assert run_script(GREENLETS, proxy.pub_port, proxy.sub_port).stdout == "ready 3 True\n" + 4 * "gevent\n"
    assert [subscriber.recv_multipart() for _ in range(3)] == [[b"my_service", json_of(number)] for number in range(3)]


@pytest.mark.process
def test_gevent_with_native_threads(proxy: EventBusProxy) -> None:
    """With patch_all(thread=False), which the error recommends, events go through."""
    assert run_script(NATIVE, proxy.pub_port, proxy.sub_port).stdout == "7 ready\n"


@pytest.mark.parametrize("library", ["gevent", "eventlet", "another"])
def test_any_library_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the library that has replaced the function that starts threads."""

    def start_new_thread() -> None: ...

    start_new_thread.__module__ = f"{library}.green.thread"
    monkeypatch.setattr(_thread, "start_new_thread", start_new_thread)
    for check in (require_native_threads, require_usable_threads):
        with pytest.raises(MonkeyPatched, match=f"^{library} has replaced Python's threads.*gthread") as caught:
            check()
        assert caught.value.library == library
        assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize("replaced", ["socket.socket", "select.select"])
def test_eventlet_without_threads(replaced: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """eventlet is refused also if it has replaced only sockets or only `select`, of which it leaves no `poll`."""
    monkeypatch.setattr(replaced, type("Green", (), {"__module__": "eventlet.green.some"}))
    for check in (require_native_threads, require_usable_threads):
        with pytest.raises(MonkeyPatched, match="eventlet"):
            check()


def test_gevent_with_its_own_poll_may_emit(monkeypatch: pytest.MonkeyPatch) -> None:
    """gevent is good enough for emitting only if its greenlets also wait in its `select.poll`."""
    green = type("Green", (), {"__module__": "gevent.some"})
    monkeypatch.setattr(_thread, "start_new_thread", green)
    with pytest.raises(MonkeyPatched):
        require_usable_threads()
    monkeypatch.setattr(select, "poll", green)
    require_usable_threads()
    with pytest.raises(MonkeyPatched):
        require_native_threads()


def test_native_threads_are_taken() -> None:
    """Without such a library nothing is raised."""
    require_native_threads()
    require_usable_threads()
