"""Events that are too large for the proxy: refused with both limits named, or given up and counted; the others arrive."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest
import zmq

from eventbus import EventBusProxy, EventTooLarge
from eventbus._base.zmq_sockets import Context, new_socket
from eventbus.observe.state import ClientState
from eventbus.observe.stats import DropReason
from tests.container.support import free_ports
from tests.security import Guarded
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, Recorder, event, eventually

pytestmark = pytest.mark.patience

TOPIC = MyEventTopic.my_service
LIMIT = 10_000


def sized(size: int, value: float = 0.0) -> MyEvent:
    """An event whose JSON has about `size` bytes."""
    return MyEvent(type=MyEventType.updated, time="x" * size, value=value)


def client_at(ports: tuple[int, int], **options: object) -> Bus:
    return Bus(MyEvent, "127.0.0.1", *ports, topics=["my_service"], **options)  # type: ignore[arg-type] # any of them


def recorder_of(client: Bus) -> Recorder:
    recorder = Recorder()
    client.attach_callback(MyEventType.updated, recorder)
    client.start_consumer()
    return recorder


@pytest.fixture
def small_proxy() -> Iterator[EventBusProxy]:
    """A proxy that accepts little."""
    with EventBusProxy(pub_port=0, sub_port=0, max_event_bytes=LIMIT) as proxy:
        yield proxy


@contextmanager
def silent_proxy(limit: int) -> Iterator[tuple[int, int]]:
    """A proxy of plain ZeroMQ that accepts little and does not say so; its two ports."""
    context: Context = zmq.Context()
    frontend, backend = new_socket(context, zmq.XSUB), new_socket(context, zmq.XPUB)
    frontend.set(zmq.MAXMSGSIZE, limit)
    ports = tuple(socket.bind_to_random_port("tcp://127.0.0.1") for socket in (frontend, backend))

    def run() -> None:
        with frontend, backend, suppress(zmq.ContextTerminated):
            zmq.proxy(frontend, backend)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        yield ports[0], ports[1]
    finally:
        context.term()
        thread.join(PATIENCE)


# A proxy that tells its limit


@pytest.mark.parametrize("numbered", [False, True])
def test_an_event_that_the_proxy_refuses(small_proxy: EventBusProxy, numbered: bool) -> None:
    """Emitting it in any way raises EventTooLarge with both limits from connect() on; others arrive."""
    ports = small_proxy.pub_port, small_proxy.sub_port
    with client_at(ports, numbered=numbered) as client:
        recorder = recorder_of(client)
        with pytest.raises(EventTooLarge, match="EVENTBUS_MAX_EVENT_BYTES") as caught:
            client.emit_event(sized(2 * LIMIT), TOPIC)
        assert (caught.value.limit, caught.value.proxy_limit) == (8_388_608, LIMIT)
        assert caught.value.size > 2 * LIMIT
        with pytest.raises(EventTooLarge):
            client.emit_events([event(1), sized(2 * LIMIT)], TOPIC)
        client.emit_event(event(2), TOPIC)
        assert recorder.wait_for(1) == [2]
        assert client.stats().emitted == 1
        assert client.state is ClientState.READY


def test_the_largest_event_that_passes(small_proxy: EventBusProxy, tmp_path: Path) -> None:
    """A payload that is exactly as large as the limit passes, with and without encryption."""
    overhead = len(sized(0).model_dump_json())
    with client_at((small_proxy.pub_port, small_proxy.sub_port)) as client:
        recorder = recorder_of(client)
        client.emit_event(sized(LIMIT - overhead, 1), TOPIC)
        assert recorder.wait_for(1) == [1]
    with (
        Guarded(tmp_path, max_event_bytes=LIMIT) as guarded,
        guarded.client(guarded.admit(), topics=["my_service"]) as client,
    ):
        recorder = recorder_of(client)
        with pytest.raises(EventTooLarge):
            client.emit_event(sized(LIMIT - overhead + 1), TOPIC)
        client.emit_event(sized(LIMIT - overhead, 2), TOPIC)
        assert recorder.wait_for(1) == [2]


@pytest.mark.parametrize("numbered", [False, True])
def test_packing_keeps_to_the_limit(small_proxy: EventBusProxy, numbered: bool) -> None:
    """emit_events() packs no messages that the proxy refuses: all events arrive."""
    with client_at((small_proxy.pub_port, small_proxy.sub_port), numbered=numbered) as client:
        recorder = recorder_of(client)
        client.emit_events([event(number) for number in range(2_000)], TOPIC)
        assert recorder.wait_for(2_000) == list(range(2_000))


def test_compression_makes_room(small_proxy: EventBusProxy) -> None:
    """It is the compressed payload that the proxy's limit is for."""
    with client_at((small_proxy.pub_port, small_proxy.sub_port), compression="zlib") as client:
        recorder = recorder_of(client)
        client.emit_event(sized(5 * LIMIT, 1), TOPIC)
        client.emit_events([sized(5 * LIMIT, 2), event(3)], TOPIC)
        assert recorder.wait_for(3) == [1, 2, 3]


@pytest.mark.parametrize("numbered", [False, True])
def test_what_was_emitted_before_the_limit_was_known(numbered: bool, caplog: pytest.LogCaptureFixture) -> None:
    """An event that waited for the proxy and is too large is dropped, counted and logged with its size; others arrive."""
    ports = free_ports()
    with client_at(ports, connect_required=False, numbered=numbered) as client:
        recorder = recorder_of(client)
        client.emit_event(event(1), TOPIC)
        for _ in range(3):
            client.emit_event(sized(2 * LIMIT), TOPIC)
        client.emit_event(event(2), TOPIC)
        with EventBusProxy("127.0.0.1", *ports, max_event_bytes=LIMIT):
            assert recorder.wait_for(2) == [1, 2]
            eventually(lambda: client.stats().drops == {DropReason.TOO_LARGE: 3} and "bytes on topic" in caplog.text)
            assert client.stats().lost == 0
    lines = [record for record in caplog.records if "bytes on topic" in record.getMessage()]
    assert len(lines) == 1
    assert vars(lines[0])["eventbus_size"] > 2 * LIMIT
    assert f"accepts {LIMIT}" in lines[0].getMessage()


def test_another_proxy_has_another_limit() -> None:
    """The limit is that of the proxy that runs: after a restart with another one the client keeps to that."""
    ports = free_ports()
    with client_at(ports, connect_required=False) as client:
        client.connect()
        recorder = recorder_of(client)
        for limit in (LIMIT, 3 * LIMIT, LIMIT):
            recorder.events.clear()
            with EventBusProxy("127.0.0.1", *ports, max_event_bytes=limit):
                client.wait_ready(PATIENCE)
                eventually(lambda limit=limit: client._transport.max_payload_bytes == limit)  # type: ignore[misc] # mypy cannot infer a lambda's default
                if limit > 2 * LIMIT:
                    client.emit_event(sized(2 * LIMIT, limit), TOPIC)
                    assert recorder.wait_for(1) == [limit]
                else:
                    with pytest.raises(EventTooLarge):
                        client.emit_event(sized(2 * LIMIT), TOPIC)
            eventually(lambda: client.state is ClientState.DEGRADED)


# A proxy that does not


def test_one_event_that_is_too_large_wedges_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A numbering client gives up the event with which two connections have ended; all others arrive, none twice."""
    with silent_proxy(LIMIT) as ports, client_at(ports, numbered=True) as client:
        recorder = recorder_of(client)
        client.emit_event(event(0), TOPIC)
        client.emit_event(sized(2 * LIMIT), TOPIC)
        for number in range(1, 486):
            client.emit_event(event(number), TOPIC)
        assert recorder.wait_for(486) == list(range(486))
        assert client.stats().drops == {DropReason.TOO_LARGE: 1}
        client.wait_ready(PATIENCE)
        with pytest.raises(EventTooLarge) as caught:  # by now it is known
            client.emit_event(sized(2 * LIMIT), TOPIC)
        assert caught.value.proxy_limit == caught.value.size - 1
        client.emit_event(event(486), TOPIC)
        assert recorder.wait_for(487) == list(range(487))
    lines = [record for record in caplog.records if "bytes on topic" in record.getMessage()]
    assert len(lines) == 1
    assert vars(lines[0])["eventbus_size"] > 2 * LIMIT


def test_packed_messages_that_are_too_large() -> None:
    """Packed messages are given up with all their events, counted; smaller ones are packed then, until they pass."""
    with silent_proxy(3 * LIMIT) as ports, client_at(ports, numbered=True) as client:  # each try takes more than a second
        recorder = recorder_of(client)
        passed = 0.0
        for number in range(20):
            client.emit_events([event(number + part / 1_000) for part in range(1_000)], TOPIC)
            client.emit_event(event(number + 0.9999), TOPIC)
            eventually(lambda number=number: number + 0.9999 in recorder.values, 2 * PATIENCE)  # type: ignore[misc] # mypy cannot infer a lambda's default
            if number in recorder.values:
                passed = number
                break
        assert 0 < passed < 6
        values = recorder.values
        assert values == sorted(set(values))
        assert len(values) + client.stats().drops[DropReason.TOO_LARGE] == 1_001 * (passed + 1)


# Memory


def test_what_may_be_sent_again_is_bounded_and_freed() -> None:
    """A numbering client keeps no more bytes than it may, and frees them in time, though it emits nothing more."""
    with (
        EventBusProxy(pub_port=0, sub_port=0) as proxy,
        client_at((proxy.pub_port, proxy.sub_port), numbered=True, resend_bytes=5_000_000, echo_interval=0.05) as client,
    ):
        link = client._transport._link  # type: ignore[attr-defined] # of the transport over ZeroMQ
        kept = link.publisher._resend
        for number in range(20):
            client.emit_event(sized(1_000_000, number), TOPIC)
            assert kept.recent_bytes <= 5_000_000
        eventually(lambda: kept.recent_bytes == 0)
