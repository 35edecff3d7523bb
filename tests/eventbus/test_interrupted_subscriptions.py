"""`subscribe` and `unsubscribe` that a signal handler's exception interrupts, at each moment at which Python lets it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from eventbus import EventBusProxy
from eventbus.transports.contract import KnowsSubscribers, Transport
from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.transports.nats.core import CoreTransport
from eventbus.transports.nats.jetstream import JetStreamTransport
from eventbus.transports.zeromq import ZeroMQOptions, ZeroMQTransport
from tests.eventbus.transports.moments import NoSuchMoment, interrupted
from tests.nats import Server, running
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, Recorder, event, eventually

MANY = 10  # there are at least so many moments
STEP = 7  # from one moment to the next that is tried, where the server is asked at each

OPTIONS = ZeroMQOptions(connect_timeout=PATIENCE)

# Of callbacks of weak references, which may run at any moment, exceptions are told and ignored.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("nats")) as server:
        yield server


def interrupt() -> None:
    raise KeyboardInterrupt


def is_interrupted(call: Callable[[MyEventTopic], object], moment: int) -> bool:
    """Interrupt a call for a topic at one moment; False if it has not so many."""
    try:
        interrupted(lambda: call(MyEventTopic.other), interrupt, moment)
    except NoSuchMoment:
        return False
    except KeyboardInterrupt:
        return True
    raise AssertionError("the exception of the handler was swallowed")


def try_each_moment(make: Callable[[], Transport], step: int = 1) -> None:
    """Interrupt a client at each moment; in between, its topic must be what it says, and a second call must work."""
    with ExitStack() as stack:
        transport, witness = make(), make()
        bus = Bus(MyEvent, transport=transport, connect_timeout=PATIENCE)
        stack.callback(bus.close)
        bus.connect(PATIENCE)
        stack.callback(witness.close, 0)
        witness.open(PATIENCE)
        got = Recorder()
        bus.attach_callback(MyEventType.updated, got)
        bus.subscribe(MyEventTopic.my_service)
        bus.start_consumer()
        sent: list[float] = []

        def emit(topic: MyEventTopic) -> None:
            bus.emit_event(event(len(sent)), topic)
            sent.append(len(sent))
            assert got.wait_for(len(sent)) == sent

        for moment in count(0, step):
            in_time = is_interrupted(bus.subscribe, moment)
            assert {topic.decode() for topic in transport._topics} == bus.topics, moment  # type: ignore[attr-defined]
            bus.subscribe(MyEventTopic.other)
            emit(MyEventTopic.other)
            in_time |= is_interrupted(bus.unsubscribe, moment)
            assert {topic.decode() for topic in transport._topics} == bus.topics, moment  # type: ignore[attr-defined]
            bus.unsubscribe(MyEventTopic.other)
            emit(MyEventTopic.my_service)
            if not in_time:
                assert moment > MANY
                break
        if isinstance(witness, KnowsSubscribers):  # nothing is left at the other side
            topic = MyEventTopic.other.value.encode()
            eventually(lambda: not witness.has_subscriber(topic, 1.0), what="the topic has no subscriber")


def test_zeromq(proxy: EventBusProxy) -> None:
    """Over a proxy."""
    try_each_moment(lambda: ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port, OPTIONS))


def test_memory() -> None:
    """In memory."""
    hub = MemoryHub()
    try_each_moment(lambda: MemoryTransport(hub))


@pytest.mark.process
def test_nats(nats_server: Server) -> None:
    """Over NATS."""
    try_each_moment(lambda: CoreTransport(nats_server.options(), OPTIONS))


@pytest.mark.process
def test_jetstream(nats_server: Server) -> None:
    """Over JetStream."""
    with nats_server.stream() as options:
        try_each_moment(lambda: JetStreamTransport(options, OPTIONS), STEP)
