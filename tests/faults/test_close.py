"""close() at any moment and from anywhere: it returns in time, each waiting thread goes on, and nothing is left."""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from threading import Event, Thread
from time import monotonic

import pytest

from eventbus import ClientState, EventBusProxy, NotConnected, StateChange
from eventbus.transports.memory import MemoryTransport
from tests.faults.programs import end_within, expect_resources, resources, run_program, stop_process
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, event, eventually, in_thread, proxy_process

pytestmark = pytest.mark.process

TOPIC, OTHER = MyEventTopic.my_service, MyEventTopic.other
TIMEOUT = 0.5
SLACK = PATIENCE / 4  # seconds; for a machine that has other things to do
LINGER = 3.0  # seconds of a client of which something lingers
PADDING = " " * 50_000  # makes events fill the buffers of the system soon


class Closer:
    """A connected client, and something that closes it from where it is to be closed as soon as `go` is set."""

    def __init__(self, place: str, ports: tuple[int, int]) -> None:
        self.client = Bus(
            MyEvent,
            "127.0.0.1",
            *ports,
            topics=["my_service", "other"],
            linger=0.2,
            close_timeout=TIMEOUT,
            send_hwm=10,
            send_timeout=PATIENCE,
            connect_timeout=PATIENCE,
        )
        self.go = Event()
        self.took = 0.0
        self._in_place = Event()
        getattr(self, f"_place_{place}")()
        assert self._in_place.wait(PATIENCE), place

    def close(self) -> None:
        self._in_place.set()
        assert self.go.wait(PATIENCE)
        began = monotonic()
        self.client.close()
        self.took = monotonic() - began

    def wait(self) -> None:
        eventually(lambda: self.took, PATIENCE)
        assert self.took < TIMEOUT + SLACK
        assert self.client.state is ClientState.CLOSED

    def _place_thread(self) -> None:
        self.client.connect()
        self.client.start_consumer()
        Thread(target=self.close).start()

    def _place_handler(self) -> None:
        self.client.attach_callback(MyEventType.updated, lambda _: self.close())
        self._handle()

    def _place_async_handler(self) -> None:
        async def close(_: MyEvent) -> None:
            self.close()

        self.client.attach_callback(MyEventType.updated, close)
        self._handle()

    def _place_state_callback(self) -> None:
        def close(change: StateChange) -> None:
            if change.state is ClientState.READY:
                stop_listening()
                self.close()

        stop_listening = self.client.on_state_change(close)
        self.client.connect()
        self.client.start_consumer()

    def _handle(self) -> None:
        self.client.connect()
        self.client.start_consumer()
        self.client.emit_event(event(1), TOPIC)


PLACES = [name.removeprefix("_place_") for name in dir(Closer) if name.startswith("_place_")]


type Activity = Callable[[Bus], None]

# What another thread does with the client, and where it waits then.


def emit(client: Bus) -> None:
    with suppress(NotConnected):
        while True:
            client.emit_event(MyEvent(type=MyEventType.updated, time=PADDING), OTHER)


def receive(client: Bus) -> None:
    with suppress(NotConnected):
        while client.recv_event(None) is not None:
            pass


def listen(client: Bus) -> None:
    for _ in client.listen_forever():
        pass


def subscribe(client: Bus) -> None:
    client.subscribe(MyEventTopic.my_service_scheduler)


def connect(client: Bus) -> None:
    with suppress(NotConnected):
        while True:
            client.connect()


def be_ready(client: Bus) -> None:
    with pytest.raises(NotConnected):
        client.wait_ready()


WAITS_IN: dict[Activity, str] = {
    emit: "_send_later",
    receive: "get",
    listen: "get",
    subscribe: "prove",
    connect: "prove",
    be_ready: "wait_ready",
}


@pytest.mark.parametrize("activity", [receive, listen, connect])
def test_close_while_another_thread_is_busy(activity: Activity) -> None:
    """A call of another thread on the client ends meanwhile, at most with NotConnected."""
    with proxy_process() as (_, *ports):
        close_everywhere(ports, activity)


@pytest.mark.parametrize("activity", [emit, receive, subscribe, connect])
def test_close_while_the_proxy_is_stopped(activity: Activity) -> None:
    """The same holds while the proxy does not move: buffers are full, and nothing is answered."""
    with proxy_process() as (process, *ports):
        try:
            close_everywhere(ports, activity, lambda: stop_process(process.pid))
        finally:
            process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("activity", [emit, receive, connect, be_ready])
def test_close_while_the_proxy_is_gone(activity: Activity) -> None:
    """The same holds when the proxy has died: the client is DEGRADED and holds emitted events."""
    with proxy_process() as (process, *ports):

        def kill() -> None:
            process.kill()
            process.wait()

        close_everywhere(ports, activity, kill, ClientState.DEGRADED)


def test_close_just_when_the_proxy_goes() -> None:
    """The same holds at the moment when the proxy dies."""
    with proxy_process() as (process, *ports):
        close_everywhere(ports, None, process.kill)


def test_close_while_connecting(dead_ports: tuple[int, int]) -> None:
    """connect() that waits for a proxy raises NotConnected when another thread closes the client."""
    before = resources()
    client = Bus(MyEvent, "127.0.0.1", *dead_ports, topics=["my_service"])
    with in_thread(partial(connect, client)) as thread:
        eventually(lambda: is_in(thread, "prove"))
        client.close(TIMEOUT)
    expect_resources(before)


@pytest.mark.parametrize("when", ["before", "after"])
def test_close_at_the_edges_of_connect(when: str) -> None:
    """close() just before connect() has opened anything, or when it has opened all, is not undone by it."""

    class ClosedMeanwhile(MemoryTransport):
        def open(self, timeout: float) -> None:
            if when == "before":
                client.close()
            super().open(timeout)
            if when == "after":
                client.close()

    client = Bus(MyEvent, transport=ClosedMeanwhile())
    with pytest.raises(NotConnected):
        client.connect()
    assert client.state is ClientState.CLOSED
    with pytest.raises(NotConnected):
        client.start_consumer()


def test_close_of_what_lingers_does_not_hold_others() -> None:
    """close() is in time also where events of another client, closed before, linger; they are given up in the end."""
    with proxy_process() as (process, *ports):
        before = resources()
        first, last = (Bus(MyEvent, "127.0.0.1", *ports, linger=LINGER, send_hwm=1_000_000) for _ in range(2))
        first.subscribe(OTHER)
        first.connect(PATIENCE)
        last.connect(PATIENCE)
        stop_process(process.pid)
        try:
            for _ in range(100):
                first.emit_events([event(number) for number in range(1_000)], OTHER)
            first.close()
            began = monotonic()
            last.close(0.1)
            assert monotonic() - began < LINGER
        finally:
            process.send_signal(signal.SIGCONT)
        expect_resources(before)


def test_close_in_time_with_an_async_handler_that_does_not_end(proxy: EventBusProxy) -> None:
    """close() is in time also where an `async` callback will not be cancelled."""
    before = resources()
    client = Bus(MyEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port, topics=["my_service"], linger=0.1)
    entered, ended = Event(), Event()

    async def stubborn(_: MyEvent) -> None:
        entered.set()
        while not ended.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    client.attach_callback(MyEventType.updated, stubborn)
    client.connect(PATIENCE)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    assert entered.wait(PATIENCE)
    began = monotonic()
    client.close(0.5)
    assert monotonic() - began < 0.5 + SLACK
    ended.set()
    expect_resources(before)


def test_a_forgotten_client_closes_itself() -> None:
    """A client that is forgotten while it holds events for a proxy that has died warns, and leaves nothing."""
    with proxy_process() as (process, *ports):
        before = resources()
        clients = [Bus(MyEvent, "127.0.0.1", *ports, topics=["my_service"], linger=0.2) for _ in range(3)]
        for client in clients:
            client.connect(PATIENCE)
            client.start_consumer()
        process.kill()
        process.wait()
        for client in clients:
            eventually(partial(is_in_state, client, ClientState.DEGRADED))
            client.emit_event(event(1), TOPIC)
        del client
        with pytest.warns(ResourceWarning, match="never closed"):
            clients.clear()
        expect_resources(before)


@pytest.mark.parametrize("doing", ["nothing", "receiving", "handling", "holding", "emitting"])
def test_exit_without_close(proxy: EventBusProxy, doing: str) -> None:
    """A program that ends without closing its clients warns of them, and ends well and in time, whatever they are doing."""
    exit_while(doing, proxy.pub_port, proxy.sub_port)


@pytest.mark.parametrize("doing", ["holding", "emitting"])
def test_exit_without_close_while_the_proxy_is_stopped(doing: str) -> None:
    """The same holds while the proxy does not move."""
    with proxy_process() as (process, pub_port, sub_port):
        try:
            exit_while(doing, pub_port, sub_port, process.pid)
        finally:
            process.send_signal(signal.SIGCONT)


def exit_while(doing: str, pub_port: int, sub_port: int, stop: int = 0) -> None:
    """Run the program below, with the process to stop, if any; its three clients have half a second each to close."""
    began = monotonic()
    run_program(
        "tests.faults.test_close",
        pub_port,
        sub_port,
        doing,
        stop,
        errors="never closed",
        warnings="default::ResourceWarning",
    )
    assert monotonic() - began < 3 * TIMEOUT + PATIENCE


def close_everywhere(
    ports: list[int],
    activity: Activity | None,
    spoil: Callable[[], object] = lambda: None,
    state: ClientState | None = None,
) -> None:
    """Close connected clients, one in each place, while another thread does something with each of them.

    Args:
        ports: where the proxy is.
        activity: what the other threads do until they are sent home.
        spoil: called once all clients are connected.
        state: how they are when that has happened; None if that does not matter.
    """
    before = resources()
    with ExitStack() as stack:
        closers = []
        for place in PLACES:
            closers.append(Closer(place, (ports[0], ports[1])))
            stack.callback(closers[-1].go.set)
        spoil()
        for closer in closers:
            if state is not None:
                eventually(partial(is_in_state, closer.client, state))
        if activity is not None:
            threads = [stack.enter_context(in_thread(partial(activity, closer.client))) for closer in closers]
            for thread in threads:
                eventually(partial(is_in, thread, WAITS_IN[activity]))
        for closer in closers:
            closer.go.set()
        for closer in closers:
            closer.wait()
    expect_resources(before)


def is_in_state(client: Bus, state: ClientState) -> bool:
    return client.state is state


def is_in(thread: Thread, function: str) -> bool:
    """Whether the thread is inside of a function of this name at this moment."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back
    return False


# The program.


def main(pub_port: int, sub_port: int, doing: str, stop: int) -> None:
    end_within(0)
    clients = [
        Bus(MyEvent, "127.0.0.1", pub_port, sub_port, topics=["my_service"], close_timeout=TIMEOUT, send_hwm=100)
        for _ in range(3)
    ]
    for client in clients:
        client.on_state_change(repr)
        client.connect(PATIENCE)
    if stop:
        stop_process(stop)
    for client in clients:
        match doing:
            case "receiving":
                Thread(target=receive, args=(client,), daemon=True).start()
            case "handling":
                entered = Event()
                client.attach_callback(MyEventType.updated, lambda _, entered=entered: (entered.set(), Event().wait()))  # type: ignore[misc]
                client.start_consumer()
                if not stop:
                    client.emit_event(event(1), TOPIC)
                    assert entered.wait(PATIENCE)
            case "holding":
                client.emit_events([event(number) for number in range(50)], TOPIC)
            case "emitting":
                Thread(target=emit, args=(client,), daemon=True).start()
    sys.exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
