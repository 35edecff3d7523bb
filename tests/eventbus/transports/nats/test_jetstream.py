"""NATS JetStream, against a real server: what is stored arrives once and in order, whatever happens meanwhile."""

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest

from eventbus import DropReason, EventTooLarge, SendTimeout
from eventbus._base.deadline import Deadline
from eventbus.errors import GroupDiffers, JetStreamMissing, PermissionDenied, StreamDiffers
from eventbus.nats_options import NatsOptions
from eventbus.observe.state import ClientState
from eventbus.options import ZeroMQOptions
from eventbus.policies import Packing, Start
from eventbus.transports.nats.inbox import Delivery
from eventbus.transports.nats.jetstream import JetStreamTransport
from eventbus.transports.nats.protocol import Message
from eventbus.transports.nats.window import UnderWay
from tests.container.support import free_ports
from tests.eventbus.transports.nats.support import QUICK, TOPIC, Values, client, emitting, with_options
from tests.faults.relay import Relay
from tests.nats import Server, running
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, event, eventually, in_thread

pytestmark = pytest.mark.process

UPDATED = MyEventType.updated
OTHER = MyEventTopic.other


def ask(bus: Bus, subject: str, request: object = None, timeout: float = PATIENCE) -> dict[str, Any]:
    """Ask the server something over a client's own link."""
    link = bus._transport._link  # type: ignore[attr-defined] # of a transport over NATS
    answer = link.request(f"$JS.API.{subject}".encode(), json.dumps(request or {}).encode(), Deadline(timeout))
    found: dict[str, Any] = json.loads(answer.payload)
    return found


def emit(bus: Bus, *values: int, topic: MyEventTopic = TOPIC) -> None:
    """Emit events, and return when the server has stored them."""
    for value in values:
        bus.emit_event(event(float(value)), topic)
    transport: Any = bus._transport
    # Acknowledgements that nobody waits for are looked at with the next message.
    eventually(lambda: transport._link.wake() or transport.is_flushed(), what="all are stored")


@contextmanager
def worker(options: NatsOptions, *topics: MyEventTopic, group: str = "workers", **more: object) -> Iterator[Bus]:
    with client(JetStreamTransport(replace(options, group=group, **more), QUICK), *(topics or (TOPIC,))) as bus:  # type: ignore[arg-type] # of a test
        yield bus


# Interruptions


def test_a_consumer_that_is_being_renewed_leaves_the_link_alone(nats: NatsOptions) -> None:
    """It has been silent for too long; until the server has answered, there is nothing to look for."""
    with client(JetStreamTransport(nats, QUICK), TOPIC) as bus:
        Values(bus)
        transport: Any = bus._transport
        consumer = transport._consumer
        eventually(lambda: consumer._credit > 0)
        consumer._renewing = True
        consumer._heard -= 100.0
        assert consumer.look(transport._link, now := monotonic()) > now
        consumer._renewing = False


@pytest.mark.parametrize("numbered", [False, True])
def test_nothing_is_lost_or_doubled_when_the_server_is_killed(server: Server, numbered: bool) -> None:
    """kill -9 three times while 2,000 events a second are emitted: all arrive, once and in order."""
    with (
        client(JetStreamTransport(server.options(), QUICK), TOPIC) as receiver,
        client(JetStreamTransport(server.options(), with_options(numbered=numbered))) as sender,
    ):
        values = Values(receiver)
        with emitting(sender) as emitted:
            for _ in range(3):
                before = emitted()
                eventually(lambda before=before: emitted() > before + 600)  # type: ignore[misc] # mypy cannot infer a lambda's default
                server.kill()
                server.start()
                sender.wait_ready(PATIENCE)
                receiver.wait_ready(PATIENCE)
        assert values.wait_for(emitted()) == list(range(emitted()))
        assert sender.stats().drops == {}
        assert receiver.stats().lost == 0


def test_a_worker_handles_each_event_once_when_the_server_is_killed(server: Server) -> None:
    """What it has confirmed does not come again, although the confirmation may have been lost."""
    with worker(server.options()) as receiver, client(JetStreamTransport(server.options(), QUICK)) as sender:
        values = Values(receiver)
        with emitting(sender) as emitted:
            for _ in range(2):
                before = emitted()
                eventually(lambda before=before: emitted() > before + 600)  # type: ignore[misc] # mypy cannot infer a lambda's default
                server.kill()
                server.start()
                sender.wait_ready(PATIENCE)
                receiver.wait_ready(PATIENCE)
        assert values.wait_for(emitted()) == list(range(emitted()))


def test_a_suspended_server_is_survived(server: Server) -> None:
    """SIGSTOP: what is emitted is kept and stored when the server goes on, once."""
    with (
        client(JetStreamTransport(server.options(), QUICK), TOPIC) as receiver,
        client(JetStreamTransport(server.options(), QUICK)) as sender,
    ):
        values = Values(receiver)
        server.signal(signal.SIGSTOP)
        eventually(lambda: sender.state is ClientState.DEGRADED)
        for value in range(1_000):
            sender.emit_event(event(float(value)), TOPIC)
        server.signal(signal.SIGCONT)
        assert values.wait_for(1_000) == list(range(1_000))


def test_a_store_that_was_lost_is_made_again(server: Server) -> None:
    """The stream begins anew at 1: a position in the old one would lie in the future, and everything would be skipped."""
    with (
        client(JetStreamTransport(server.options(), QUICK), TOPIC) as receiver,
        worker(server.options()) as member,
        client(JetStreamTransport(server.options(), QUICK)) as sender,
    ):
        values, of_member = Values(receiver), Values(member)
        emit(sender, *range(100))
        values.wait_for(100)
        of_member.wait_for(100)
        server.kill()
        server.empty_store()
        server.start()
        sender.wait_ready(PATIENCE)
        emit(sender, *range(100, 150))
        assert values.wait_for(150) == list(range(150))
        assert of_member.wait_for(150) == list(range(150))


@pytest.mark.parametrize("group", [None, "workers"])
def test_a_stream_that_has_lost_its_end(server: Server, group: str | None) -> None:
    """Its numbers are given again: what has them now is new, what came before them does not come again."""
    unpacked = with_options(packing=Packing.NONE)
    with (
        client(JetStreamTransport(server.options(group=group), QUICK), TOPIC) as receiver,
        client(JetStreamTransport(server.options(), unpacked)) as sender,
    ):
        values = Values(receiver)
        emit(sender, *range(20))
        values.wait_for(20)
        with server.losing_what_follows():
            sender.wait_ready(PATIENCE)
            emit(sender, *range(20, 40))
            values.wait_for(40)
        sender.wait_ready(PATIENCE)
        emit(sender, *range(40, 70))  # perhaps before the receiver is back
        assert values.wait_for(70) == list(range(70))


@pytest.mark.parametrize("group", [None, "workers"])
def test_topics_that_change_while_the_server_does_not_answer(server: Server, group: str | None) -> None:
    """It is asked again, as long as the connection lasts; what is emitted on the other topics meanwhile comes, too."""
    patient = ZeroMQOptions(connect_timeout=0.5, echo_interval=PATIENCE, echo_timeout=PATIENCE)
    with (
        client(JetStreamTransport(server.options(group=group), patient), TOPIC) as receiver,
        client(JetStreamTransport(server.options(), QUICK)) as sender,
    ):
        values = Values(receiver)
        emit(sender, 1)
        values.wait_for(1)
        server.signal(signal.SIGSTOP)
        receiver.subscribe(OTHER)
        server.signal(signal.SIGCONT)
        emit(sender, 2)
        values.wait_for(2)
        emit(sender, 3, topic=OTHER)
        assert values.wait_for(3) == [1, 2, 3]


def test_a_stream_that_was_deleted_is_made_anew_by_its_publisher(nats: NatsOptions) -> None:
    """Nobody else may be there who would do it; what was emitted meanwhile is stored."""
    with client(JetStreamTransport(nats, QUICK)) as sender:
        emit(sender, 1)
        assert ask(sender, f"STREAM.DELETE.{nats.stream}")["success"]
        emit(sender, 2, 3)
        assert [one.value for one in sender.history(TOPIC)] == [2, 3]


@pytest.mark.patience
def test_a_partition_is_survived(server: Server) -> None:
    """A relay that swallows everything: both ends dial again, and go on where they were."""
    relay = Relay(free_ports()[0], server.port)
    through = NatsOptions(url=f"nats://127.0.0.1:{relay.port}")
    try:
        with (
            client(JetStreamTransport(through, QUICK), TOPIC) as receiver,
            client(JetStreamTransport(through, QUICK)) as sender,
        ):
            values = Values(receiver)
            emit(sender, *range(10))
            values.wait_for(10)
            relay.silence()
            for value in range(10, 500):
                sender.emit_event(event(float(value)), TOPIC)
            assert values.wait_for(500) == list(range(500))
    finally:
        relay.close()


def test_a_consumer_that_is_gone_is_made_anew(nats: NatsOptions) -> None:
    """Asking a consumer that a restart has removed is silence for ever: it is made again, and nothing is lost."""
    with (
        client(JetStreamTransport(nats, QUICK), TOPIC) as receiver,
        worker(nats) as member,
        client(JetStreamTransport(nats, QUICK)) as sender,
    ):
        values, of_member = Values(receiver), Values(member)
        emit(sender, 0)
        values.wait_for(1)
        of_member.wait_for(1)
        for name in ask(sender, f"CONSUMER.NAMES.{nats.stream}")["consumers"]:
            assert ask(sender, f"CONSUMER.DELETE.{nats.stream}.{name}")["success"]
        emit(sender, 1, 2, 3)
        assert values.wait_for(4) == [0, 1, 2, 3]
        assert of_member.wait_for(4) == [0, 1, 2, 3]


# Positions


def test_where_a_service_begins(nats: NatsOptions) -> None:
    """new, all, last of each topic, or a time."""
    with client(JetStreamTransport(nats, QUICK)) as sender, ExitStack() as stack:
        emit(sender, 1, 2)
        emit(sender, 3, topic=OTHER)
        between = datetime.now(UTC).isoformat()
        emit(sender, 4)
        found = {}
        for start in ("new", "all", "last", between):
            bus = stack.enter_context(client(JetStreamTransport(replace(nats, start=start), QUICK), TOPIC, OTHER))
            found[start] = Values(bus)
        stored = {"new": [], "all": [1, 2, 3, 4], "last": [3, 4], between: [4]}
        eventually(lambda: {start: values.all for start, values in found.items()} == stored)
        emit(sender, 5)
        eventually(lambda: all(5 in values.all for values in found.values()))
        assert {start: values.all for start, values in found.items()} == {one: [*stored[one], 5] for one in stored}


@pytest.mark.parametrize(("start", "stored"), [("new", []), ("all", [1, 3]), ("last", [3])])
def test_a_topic_that_is_subscribed_later_begins_as_the_others(nats: NatsOptions, start: str, stored: list[int]) -> None:
    """And the others go on where they are: nothing of them is lost or comes again."""
    with client(JetStreamTransport(nats, QUICK)) as sender:
        emit(sender, 1, topic=OTHER)
        emit(sender, 2)
        emit(sender, 3, topic=OTHER)
        with client(JetStreamTransport(replace(nats, start=start), QUICK), TOPIC) as receiver:
            values = Values(receiver)
            emit(sender, 4)
            eventually(lambda: 4 in values.all)
            before = values.all.copy()
            receiver.subscribe(OTHER)
            eventually(lambda: set(stored) <= set(values.all))  # before the last of them is replaced
            emit(sender, 5)
            emit(sender, 6, topic=OTHER)
            eventually(lambda: {5, 6} <= set(values.all))
            assert sorted(values.all) == sorted([*before, *stored, 5, 6])
            receiver.unsubscribe(OTHER)
            emit(sender, 7, topic=OTHER)
            emit(sender, 8)
            eventually(lambda: 8 in values.all)
            assert 7 not in values.all


def test_a_beginning_survives_the_server(server: Server) -> None:
    """A server that is killed while stored events are read costs none, and none comes twice."""
    with server.stream() as nats, client(JetStreamTransport(nats, with_options(packing=Packing.NONE))) as sender:
        emit(sender, *range(2_000))
        values: list[int] = []

        def handle(one: MyEvent) -> None:
            values.append(int(one.value))
            if len(values) in (1, 700):
                server.kill()
                server.start()

        with client(JetStreamTransport(nats, QUICK)) as bus:
            bus.attach_callback(UPDATED, handle)
            bus.start_consumer()
            bus.subscribe(TOPIC, start="all")
            eventually(lambda: len(values) >= 700, PATIENCE)
            emit(sender, *range(2_000, 2_010))
            eventually(lambda: values[-1] == 2_009, PATIENCE)
            assert values == list(range(2_010))


def test_a_worker_begins_where_its_group_is(nats: NatsOptions, caplog: pytest.LogCaptureFixture) -> None:
    """Another start for one topic is said to have no effect."""
    with client(JetStreamTransport(nats, QUICK)) as sender, worker(nats, start="all") as bus:
        bus.subscribe(OTHER, start="new")
        (line,) = [record.getMessage() for record in caplog.records if "begins where the group is" in record.getMessage()]
        assert line.startswith("the topic other ")
        values = Values(bus)
        emit(sender, 1, topic=OTHER)
        assert values.wait_for(1) == [1]


def test_what_was_dropped_by_limits_counts_as_lost(nats: NatsOptions) -> None:
    """A receiver of all topics sees by the numbers of the stream what it has missed."""
    options = replace(nats, store="memory,100KiB,1h,1")
    with client(JetStreamTransport(options, QUICK)) as sender:
        transport = JetStreamTransport(options, QUICK)
        transport.subscribe(b"")
        transport.open(PATIENCE)
        for value in range(300):
            sender.emit_event(event(float(value)).model_copy(update={"time": "x" * 1_000}), TOPIC)
        eventually(lambda: sender._transport.is_flushed())  # type: ignore[attr-defined] # of a transport over NATS
        batch = transport.receive()
        assert batch is not None
        assert batch[0]
        assert transport.lost > 0
        transport.close(0)


def test_what_is_stored_can_be_read(nats: NatsOptions) -> None:
    """last() and history() of a client ask the stream, and no historian."""
    with client(JetStreamTransport(nats, QUICK), TOPIC) as bus:
        emit(bus, *range(1_200))
        emit(bus, 7, topic=OTHER)
        assert [int(one.value) for one in bus.history(TOPIC, timeout=PATIENCE)] == list(range(1_200))
        assert [int(one.value) for one in bus.history(TOPIC, count=3, timeout=PATIENCE)] == [1_197, 1_198, 1_199]
        newest = bus.last(OTHER, timeout=PATIENCE)
        assert newest is not None
        assert newest.value == 7.0
        assert list(bus.history(TOPIC, since=datetime.now(UTC), timeout=PATIENCE)) == []
        assert list(bus.history(MyEventTopic.my_service_scheduler, timeout=PATIENCE)) == []


@pytest.mark.parametrize("others", [0, 3_000], ids=["at the end", "far from the end"])
def test_a_few_of_many_are_read_from_the_end(nats: NatsOptions, others: int) -> None:
    """history(count=N) does not read a long topic from its beginning, also if nothing has come on it for long."""
    with client(JetStreamTransport(nats, with_options(packing=Packing.NONE))) as bus:
        emit(bus, *range(2_000))
        emit(bus, *range(others), topic=OTHER)
        stored, read = bus._transport._stored, list[Message]()  # type: ignore[attr-defined] # of JetStream
        take = stored.take

        def count(message: Message) -> bool:
            read.append(message)
            return bool(take(message))

        stored.take = count
        assert [one.value for one in bus.history(TOPIC, count=5, timeout=PATIENCE)] == list(range(1_995, 2_000))
        of_topic = sum(message.subject.endswith(TOPIC.encode()) for message in read)
        assert 5 <= of_topic <= 100
        emitted = list(bus.history(TOPIC, since=timedelta(hours=1), count=1_990, timeout=PATIENCE))
        assert [one.value for one in emitted] == list(range(10, 2_000))


def test_what_is_removed_while_it_is_read(nats: NatsOptions) -> None:
    """It is left out, and is not waited for."""
    with client(JetStreamTransport(nats, with_options(packing=Packing.NONE))) as bus:
        emit(bus, *range(1_200))
        found = bus.history(TOPIC)
        assert next(found).value == 0
        assert ask(bus, f"STREAM.PURGE.{nats.stream}")["success"]
        assert 0 < len(list(found)) < 1_000


@pytest.mark.parametrize("group", [None, "workers"])
def test_a_short_receive_queue_costs_nothing(nats: NatsOptions, group: str | None) -> None:
    """No more is asked for than there is room for; the rest stays in the stream."""
    with (
        client(JetStreamTransport(replace(nats, group=group), with_options(receive_hwm=3)), TOPIC) as receiver,
        client(JetStreamTransport(nats, with_options(packing=Packing.NONE))) as sender,
    ):
        goes_on = Event()
        receiver.attach_callback(UPDATED, lambda one: goes_on.wait(PATIENCE))
        values = Values(receiver)
        emit(sender, *range(100))
        assert len(receiver._transport._inbox) <= 3  # type: ignore[attr-defined] # of a transport over NATS
        goes_on.set()
        assert values.wait_for(100) == list(range(100))


# Groups


def test_workers_share_the_events(nats: NatsOptions) -> None:
    """Each event is handled once; what comes while all are away is kept for them."""
    with client(JetStreamTransport(nats, QUICK)) as sender:
        with worker(nats) as one, worker(nats) as other:
            of_one, of_other = Values(one), Values(other)
            for value in range(1_000):
                sender.emit_event(event(float(value)), TOPIC)
            eventually(lambda: len(of_one.all) + len(of_other.all) >= 1_000)
            assert sorted(of_one.all + of_other.all) == list(range(1_000))
        emit(sender, *range(1_000, 1_500))
        with worker(nats) as again:
            assert Values(again).wait_for(500) == list(range(1_000, 1_500))


def test_closing_loses_no_confirmation(nats: NatsOptions) -> None:
    """What a worker has handled does not come again after it was closed: no storm at each restart."""
    with client(JetStreamTransport(nats, QUICK)) as sender:
        for number in range(3):
            with worker(nats) as bus:
                values = Values(bus)
                emit(sender, *range(100))
                values.wait_for(100)
            info = ask(sender, f"CONSUMER.INFO.{nats.stream}.workers")
            assert (info["num_ack_pending"], info["num_pending"]) == (0, 0), number


@pytest.mark.parametrize(("linger", "ack_wait"), [(0.0, 1.0), (PATIENCE, 30.0)], ids=["crashed", "closed"])
def test_what_a_worker_did_not_confirm_goes_to_another(nats: NatsOptions, linger: float, ack_wait: float) -> None:
    """Each message is confirmed by itself. After a crash the server waits; a worker that is closed gives them back."""
    stuck = JetStreamTransport(replace(nats, group="workers", ack_wait=ack_wait), QUICK)
    with client(JetStreamTransport(nats, QUICK)) as sender, ExitStack() as stack:
        stuck.subscribe(TOPIC.encode())
        stuck.open(PATIENCE)
        emit(sender, 1, 2, 3)
        batch = stuck.receive()  # it has them, and ends without confirming any
        assert batch is not None
        other = stack.enter_context(worker(nats, ack_wait=ack_wait))
        values = Values(other)
        stuck.close(linger)
        emit(sender, 4)
        eventually(lambda: sorted(values.all) == [1, 2, 3, 4])


def test_a_worker_that_is_stopped_gives_back_what_waits(nats: NatsOptions) -> None:
    """Its consumer is stopped, the client stays open: other workers get the rest. Started again, it takes its share."""
    entered, go_on = Event(), Event()
    with worker(nats) as stopped, client(JetStreamTransport(nats, with_options(packing=Packing.NONE))) as sender:
        handled: list[int] = []

        def handle(one: MyEvent) -> None:
            handled.append(int(one.value))
            entered.set()
            assert go_on.wait(PATIENCE)

        stopped.attach_callback(UPDATED, handle)
        stopped.start_consumer()
        emit(sender, 0)
        assert entered.wait(PATIENCE)
        emit(sender, *range(1, 100))  # a second batch, which waits behind the handler
        inbox = stopped._transport._inbox  # type: ignore[attr-defined] # of a transport over NATS
        eventually(lambda: len(inbox) == 99)
        with in_thread(lambda: stopped.stop_consumer(PATIENCE)):
            eventually(lambda: stopped._parts.consumer.thread is None)
            go_on.set()
        with worker(nats) as other:
            assert set(Values(other).wait_for(100 - len(handled))) == set(range(100)) - set(handled)
        stopped.start_consumer()
        emit(sender, 100)
        eventually(lambda: handled[-1] == 100)
        eventually(lambda: ask(sender, f"CONSUMER.INFO.{nats.stream}.workers")["num_ack_pending"] == 0)


@pytest.mark.parametrize("was_open", [True, False])
def test_closing_waits_for_the_server_as_long_as_it_may(server: Server, was_open: bool) -> None:
    """The server is away, and events wait: `close` sends them if it comes back in time, and drops nothing."""
    options = server.options()
    with client(JetStreamTransport(options, QUICK)):
        pass  # there is a stream
    sending = JetStreamTransport(options, with_options(connect_required=False, reconnect_interval=0.02))
    if was_open:
        sending.open(PATIENCE)
    server.kill()
    if was_open:
        eventually(lambda: sending.status.state is ClientState.DEGRADED)
    else:
        sending.open(0.2)
    for value in range(10):
        sending.send(TOPIC.encode(), event(float(value)).model_dump_json().encode())
    with in_thread(lambda: sending.close(PATIENCE)):
        eventually(lambda: sending.status.state is ClientState.CLOSED)
        server.start()
    assert sending.drops.counts == {}
    with client(JetStreamTransport(replace(options, start=Start.ALL), QUICK), TOPIC) as reading:
        assert Values(reading).wait_for(10) == list(range(10))


def test_workers_that_leave_in_a_flood_give_back_what_is_under_way_to_them(nats: NatsOptions) -> None:
    """A rolling update: others get at once what the server has just sent to a worker that is closed or stopped."""
    options = replace(nats, start=Start.ALL, ack_wait=10 * PATIENCE)
    with client(JetStreamTransport(nats, with_options(packing=Packing.NONE))) as sender:
        emit(sender, *range(4_000))
    handled: list[int] = []
    for number in range(6):
        with worker(options) as leaving:
            values = Values(leaving)
            eventually(lambda values=values: values.all)  # type: ignore[misc] # this worker's
            if number % 2:
                leaving.stop_consumer(PATIENCE)
        handled += values.all
    with worker(options) as last:
        rest = Values(last)
        eventually(lambda: len(handled) + len(rest.all) >= 4_000)
    assert sorted(handled + rest.all) == list(range(4_000))


def test_what_a_worker_has_dropped_comes_again(nats: NatsOptions) -> None:
    """A handler that stops its own consumer drops the rest of its batch, which is not confirmed: it comes again."""
    with worker(nats) as bus, client(JetStreamTransport(nats, with_options(packing=Packing.NONE))) as sender:
        handled: list[int] = []
        stopped = Event()

        def handle(one: MyEvent) -> None:
            handled.append(int(one.value))
            if len(handled) == 1:
                bus.stop_consumer()
                stopped.set()

        bus.attach_callback(UPDATED, handle)
        emit(sender, *range(10))
        bus.start_consumer()
        assert stopped.wait(PATIENCE)
        bus.start_consumer()
        eventually(lambda: set(handled) == set(range(10)))
        eventually(lambda: ask(sender, f"CONSUMER.INFO.{nats.stream}.workers")["num_ack_pending"] == 0)


class _Interrupting(bytes):
    """What confirms a message; reading it raises a signal in this thread."""

    def startswith(self, *arguments: Any) -> bool:
        signal.raise_signal(signal.SIGUSR1)
        return super().startswith(*arguments)


def test_a_signal_handler_may_close_what_its_thread_confirms(nats: NatsOptions) -> None:
    """As the thread of an event loop does, for handlers that are coroutines."""
    transport = JetStreamTransport(replace(nats, group="workers"), QUICK)
    transport.subscribe(b"t")
    transport.open(PATIENCE)
    transport.send(b"t", b"{}")
    while not (batch := transport.receive()) or not batch[0]:
        pass
    assert isinstance(batch, Delivery)
    batch.acks = tuple(map(_Interrupting, batch.acks))
    before = signal.signal(signal.SIGUSR1, lambda *_: transport.close(0.1))
    try:
        transport.confirm(batch)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not transport.is_connected()


@pytest.mark.patience
def test_a_handler_may_take_longer_than_the_server_waits(nats: NatsOptions) -> None:
    """The worker asks for more time, as the group's consumer says: nobody else gets the event meanwhile."""
    entered, go_on = Event(), Event()
    with worker(nats, ack_wait=1.5):
        pass
    idle = ZeroMQOptions(connect_timeout=PATIENCE, echo_interval=PATIENCE)  # nothing else wakes the link
    of_group = replace(nats, group="workers")
    with (
        client(JetStreamTransport(of_group, idle), TOPIC) as slow,
        client(JetStreamTransport(of_group, idle), TOPIC) as other,
        client(JetStreamTransport(nats, QUICK)) as sender,
    ):
        handled: list[float] = []

        def handle(one: MyEvent) -> None:
            entered.set()
            assert go_on.wait(PATIENCE)
            handled.append(one.value)

        for bus in (slow, other):
            bus.attach_callback(UPDATED, handle)
            bus.start_consumer()
        emit(sender, 1)
        assert entered.wait(PATIENCE)
        info = ask(sender, f"CONSUMER.INFO.{nats.stream}.workers")
        assert info["num_ack_pending"] == 1
        Event().wait(3.2)  # more than twice what the server waits: time itself is what is tested
        assert ask(sender, f"CONSUMER.INFO.{nats.stream}.workers")["num_redelivered"] == 0
        go_on.set()
        eventually(lambda: handled == [1.0])


def test_a_coroutine_is_confirmed_when_it_is_done(nats: NatsOptions) -> None:
    """Not when it was started."""
    entered, go_on = Event(), Event()
    with worker(nats) as bus, client(JetStreamTransport(nats, QUICK)) as sender:

        async def handle(_: MyEvent) -> None:
            entered.set()
            await asyncio.to_thread(go_on.wait, PATIENCE)

        bus.attach_callback(UPDATED, handle)
        bus.start_consumer()
        emit(sender, 1)
        assert entered.wait(PATIENCE)
        assert ask(sender, f"CONSUMER.INFO.{nats.stream}.workers")["num_ack_pending"] == 1
        go_on.set()
        eventually(lambda: ask(sender, f"CONSUMER.INFO.{nats.stream}.workers")["num_ack_pending"] == 0)


def test_a_group_learns_new_topics_and_keeps_its_position(nats: NatsOptions) -> None:
    """The whole configuration is repeated, because a server refuses another start; only the topics change."""
    with client(JetStreamTransport(nats, QUICK)) as sender:
        emit(sender, 1)
        with worker(nats, TOPIC, start="all") as bus:
            Values(bus).wait_for(1)
        emit(sender, 2)
        emit(sender, 3, topic=OTHER)
        with worker(nats, TOPIC, OTHER, start="new") as bus:  # a newer version of the service
            values = Values(bus)
            emit(sender, 4, topic=OTHER)
            eventually(lambda: {2, 4} <= set(values.all))
            assert 1 not in values.all
        info = ask(sender, f"CONSUMER.INFO.{nats.stream}.workers")
        assert info["config"]["deliver_policy"] == "all"
        with worker(nats, TOPIC) as bus:  # and an older one again
            Values(bus)
            eventually(
                lambda: (
                    ask(sender, f"CONSUMER.INFO.{nats.stream}.workers")["config"]["filter_subjects"]
                    == [f"{nats.prefix}.{TOPIC}"]
                )
            )


def test_workers_with_other_topics_are_refused(nats: NatsOptions) -> None:
    """They would confirm events of which they have no handler. The error names both lists."""
    with worker(nats, TOPIC) as bus:
        Values(bus)
        eventually(lambda: ask(bus, f"CONSUMER.INFO.{nats.stream}.workers")["num_waiting"] >= 1)
        with pytest.raises(GroupDiffers, match="has the topics my_service, and this client subscribes to other"):
            worker(nats, OTHER).__enter__()
    with worker(nats, TOPIC, OTHER) as bus:
        Values(bus)
        eventually(lambda: ask(bus, f"CONSUMER.INFO.{nats.stream}.workers")["num_waiting"] >= 1)
        with worker(nats, TOPIC) as fewer, pytest.raises(GroupDiffers):
            fewer.recv_event(None)


def test_a_worker_that_is_not_alone_cannot_change_its_topics(nats: NatsOptions) -> None:
    """It is told so, and goes on with the topics that it has, also if the group's consumer has to be made anew."""
    topics = TOPIC, OTHER
    with client(JetStreamTransport(nats, QUICK)) as sender, worker(nats, *topics) as bus, worker(nats, *topics) as other:
        values, others = Values(bus), Values(other)
        eventually(lambda: ask(sender, f"CONSUMER.INFO.{nats.stream}.workers")["num_waiting"] == 2)
        with pytest.raises(GroupDiffers):
            bus.subscribe(MyEventTopic.my_service_scheduler)
        with pytest.raises(GroupDiffers):
            bus.unsubscribe(OTHER)
        assert bus.topics == {topic.value for topic in topics}
        emit(sender, 1)
        eventually(lambda: values.all + others.all == [1])
        assert ask(sender, f"CONSUMER.DELETE.{nats.stream}.workers")["success"]
        eventually(lambda: ask(sender, f"CONSUMER.INFO.{nats.stream}.workers").get("num_waiting") == 2)
        for value in range(2, 12):
            emit(sender, value, topic=OTHER)
        eventually(lambda: set(values.all + others.all) == set(range(1, 12)))
        # The first may come again: the worker that makes the consumer anew may not be the one that has handled it.
        assert sorted(values.all + others.all)[-10:] == list(range(2, 12))


def test_the_only_worker_subscribes_later(nats: NatsOptions) -> None:
    """It may, also while the server has two of its requests for messages: the rest of one, and the next."""
    with client(JetStreamTransport(nats, QUICK)) as sender, worker(nats, TOPIC) as bus:
        values = Values(bus)
        eventually(lambda: ask(sender, f"CONSUMER.INFO.{nats.stream}.workers")["num_waiting"] == 1)
        for value in range(140):  # each in a message of its own
            emit(sender, value)
            eventually(lambda value=value: value in values.all)  # type: ignore[misc] # mypy cannot infer a lambda's default
        eventually(lambda: ask(sender, f"CONSUMER.INFO.{nats.stream}.workers")["num_waiting"] == 2)
        bus.subscribe(OTHER)
        emit(sender, 140, topic=OTHER)
        eventually(lambda: 140 in values.all)
        assert sorted(values.all) == list(range(141))


@pytest.mark.parametrize("pauses", [False, True])
def test_the_only_worker_changes_its_topics_often(nats: NatsOptions, pauses: bool) -> None:
    """What it asked for before is not taken for another worker's, and each topic is subscribed to."""
    topics = (MyEventTopic.my_service_scheduler, OTHER)
    with client(JetStreamTransport(nats, QUICK)) as sender, worker(nats) as bus:
        values = Values(bus)
        transport: Any = bus._transport
        for value, topic in enumerate((*topics, *topics)):
            eventually(lambda: transport._consumer._credit > 0)  # it has asked for messages
            if pauses:
                bus.stop_consumer(PATIENCE)
                bus.start_consumer()
                eventually(lambda: transport._consumer._credit > 0)
            bus.subscribe(topic)
            emit(sender, value, topic=topic)
            values.wait_for(value + 1)
            if value % 2:
                for one in topics:
                    bus.unsubscribe(one)
        bus.unsubscribe(TOPIC)
        bus.subscribe(TOPIC)
        emit(sender, 4)
        assert values.wait_for(5) == [0, 1, 2, 3, 4]


# The server's side


def test_a_publisher_alone_has_no_consumer(nats: NatsOptions) -> None:
    """And that of a receiver is gone when it is closed: dead consumers do not pile up."""
    with client(JetStreamTransport(nats, QUICK)) as sender:
        emit(sender, 1)
        assert ask(sender, f"CONSUMER.NAMES.{nats.stream}")["total"] == 0
        with client(JetStreamTransport(nats, QUICK), TOPIC):
            assert ask(sender, f"CONSUMER.NAMES.{nats.stream}")["total"] == 1
        eventually(lambda: ask(sender, f"CONSUMER.NAMES.{nats.stream}")["total"] == 0)


def test_the_stream_is_made_once_and_never_changed(nats: NatsOptions) -> None:
    """As EVENTBUS_STORE says, if it is missing."""
    with client(JetStreamTransport(nats, QUICK)) as bus:
        config = ask(bus, f"STREAM.INFO.{nats.stream}")["config"]
        assert (config["storage"], config["max_bytes"], config["max_age"]) == ("file", 33_554_432, 3_600_000_000_000)
    with client(JetStreamTransport(replace(nats, store="file,1MiB,2h,1"), QUICK)) as bus:
        assert ask(bus, f"STREAM.INFO.{nats.stream}")["config"] == config


def test_a_stream_of_that_name_with_other_subjects(nats: NatsOptions) -> None:
    """It is left alone; the error names both."""
    with client(JetStreamTransport(nats, QUICK)) as bus:
        ask(bus, "STREAM.CREATE.taken", {"name": "taken", "subjects": ["x.>"], "storage": "memory"})
    with pytest.raises(StreamDiffers, match=r"'taken' .* has the subjects x\.>, and this bus needs taken\.>"):
        JetStreamTransport(replace(nats, prefix="taken"), QUICK).open(PATIENCE)


def test_a_server_without_jetstream(tmp_path: Path) -> None:
    """The error says how to start one that stores, or how to do without."""
    with (
        running(tmp_path, jetstream=False) as server,
        pytest.raises(JetStreamMissing, match="EVENTBUS_TRANSPORT=nats"),
    ):
        JetStreamTransport(server.options(), QUICK).open(PATIENCE)


def test_what_is_not_permitted_is_said(tmp_path: Path) -> None:
    """A user who may not ask JetStream learns so at once; one who may not publish on a topic is told, and goes on."""
    config = """authorization { users: [
      { user: "none", password: "x", permissions: { publish: ["eb.>"], subscribe: [">"] } },
      { user: "some", password: "x", permissions: { publish: ["$JS.API.>", "eb.other"], subscribe: [">"] } } ] }"""
    with running(tmp_path, config) as server:
        of = {name: NatsOptions(url=server.url.replace("//", f"//{name}@"), password="x") for name in ("none", "some")}
        with pytest.raises(PermissionDenied, match=r"none to publish on \$JS\.API"):
            JetStreamTransport(of["none"], QUICK).open(PATIENCE)
        with client(JetStreamTransport(of["some"], QUICK), OTHER) as bus:
            values = Values(bus)
            bus.emit_event(event(1.0), TOPIC)
            bus.emit_event(event(2.0), OTHER)
            assert values.wait_for(1) == [2]
            eventually(lambda: bus.stats().drops.get(DropReason.DENIED) == 1)


def test_the_send_buffer_holds_what_is_not_stored(server: Server) -> None:
    """Waiting and unacknowledged messages together; when it stays full, `send` says so and names the server."""
    transport = JetStreamTransport(server.options(), with_options(send_hwm=100, send_timeout=0.1))
    transport.open(PATIENCE)
    server.signal(signal.SIGSTOP)
    with pytest.raises(SendTimeout, match="is the NATS server running"):
        send_without_end(transport)
    assert 100 <= transport.sent <= 102
    server.signal(signal.SIGCONT)
    transport.close(PATIENCE)
    assert transport.drops.counts == {}


def send_without_end(transport: JetStreamTransport) -> None:
    while True:
        transport.send(b"t", b"{}")


def test_what_had_no_room_follows_at_once() -> None:
    """All that is under way is acknowledged: the link is woken if more is encoded, though the send buffer is empty."""
    transport = JetStreamTransport(NatsOptions(), QUICK)
    buffer, one = transport._new_outgoing(), UnderWay(1, b"", b"", 1, 1)
    transport._window.add(one, 0.0)
    transport._acks.append((1, b"", b""))
    assert transport._can_wait(buffer, 1)
    transport._encoded.append(one)
    assert not transport._can_wait(buffer, 1)


def test_few_under_way_hold_back_no_lone_event(server: Server) -> None:
    """It leaves at once; events that follow each other closely wait for others, or for the acknowledgements."""
    transport = JetStreamTransport(server.options(start="all"), with_options(packing_max_wait=2 * PATIENCE))
    transport.subscribe(b"t")
    transport.open(PATIENCE)
    server.signal(signal.SIGSTOP)  # acknowledges nothing
    for number in range(4):
        while monotonic() < transport._left_at + 0.001:
            pass
        transport.send(b"t", b"%d" % number)
        eventually(lambda number=number: len(transport._window) == number + 1)  # type: ignore[misc] # this loop's
    transport._left_at += 3 * PATIENCE  # as if no time passed from now on
    for number in range(4, 6):
        transport.send(b"t", b"%d" % number)
    eventually(lambda: transport._waits_until)
    assert len(transport._window) == 4
    server.signal(signal.SIGCONT)
    received: list[bytes] = []
    while len(received) < 6:
        received += (transport.receive() or ([], []))[1]
    assert received == [b"%d" % number for number in range(6)]
    transport.close(PATIENCE)
    assert transport.drops.counts == {}


def test_events_that_wait_share_a_message(nats: NatsOptions) -> None:
    """Many events of one thread become few messages in the stream."""
    with client(JetStreamTransport(nats, QUICK), TOPIC) as bus:
        values = Values(bus)
        for value in range(5_000):
            bus.emit_event(event(float(value)), TOPIC)
        assert values.wait_for(5_000) == list(range(5_000))
        assert ask(bus, f"STREAM.INFO.{nats.stream}")["state"]["messages"] < 2_500


def test_too_large_messages_are_refused(nats: NatsOptions) -> None:
    """As without JetStream."""
    with client(JetStreamTransport(nats, QUICK)) as bus, pytest.raises(EventTooLarge, match="NATS server"):
        bus.emit_event(event().model_copy(update={"time": "x" * 1_100_000}), TOPIC)


@pytest.mark.parametrize("topic", ["a..b", ".a", "a b", "ä.ö"])
def test_strange_topics_are_stored(nats: NatsOptions, topic: str) -> None:
    """A server accepts empty parts of subjects and stores nothing: no topic makes such a subject."""
    transport = JetStreamTransport(replace(nats, start="all"), QUICK)
    transport.subscribe(topic.encode())
    transport.open(PATIENCE)
    transport.send(topic.encode(), b"{}")
    assert transport.receive() == ([topic.encode()], [b"{}"])
    transport.close(0)


def test_closing_ends_a_receive_that_waits(nats: NatsOptions) -> None:
    """Also of a worker."""
    transport = JetStreamTransport(replace(nats, group="g"), QUICK)
    transport.subscribe(b"t")
    transport.open(PATIENCE)
    with in_thread(transport.receive):
        transport.close(0)


# A cluster


@pytest.mark.patience
def test_a_cluster_that_loses_its_leader_costs_no_event(tmp_path: Path) -> None:
    """Three servers keep the stream three times. Nothing is lost or doubled, and after each failure all come in order."""
    ports = [*free_ports(), *free_ports()][:3]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    with ExitStack() as stack:
        servers = []
        for number, port in enumerate(ports):
            config = f'server_name: "n{number}"\ncluster {{ name: "c", listen: "127.0.0.1:{port}", routes: [{routes}] }}'
            servers.append(stack.enter_context(running(tmp_path / f"n{number}", config)))
        options = NatsOptions(url=",".join(server.url for server in servers), store="file,32MiB,1h,3", start="all")
        patient = with_options(connect_timeout=60.0, send_timeout=60.0)
        receiver = stack.enter_context(client(JetStreamTransport(options, patient), TOPIC))
        sender = stack.enter_context(client(JetStreamTransport(options, patient)))
        values = Values(receiver)

        def leader() -> str:
            try:
                return str(ask(sender, "STREAM.INFO.eb", timeout=1.0)["cluster"].get("leader", ""))
            except OSError:  # only a leader answers
                return ""

        def all_come(count: int) -> None:
            eventually(lambda: sender._transport.is_flushed(), 60)  # type: ignore[attr-defined] # of a transport over NATS
            eventually(lambda: set(values.all) == set(range(count)), 60, "all events")
            assert len(values.all) == count

        # The leader is killed, perhaps with the connections of the clients.
        with emitting(sender, 500) as emitted:
            eventually(lambda: emitted() > 200)
            killed = servers[int(leader().removeprefix("n"))]
            killed.kill()
            before = emitted()
            eventually(lambda: emitted() > before + 500, PATIENCE)
        all_come(count := emitted())
        assert values.all == list(range(count))

        # There is no leader for a while, but the server of the sender stays: nothing but time tells that events are lost.
        link = sender._transport._link  # type: ignore[attr-defined] # of a transport over NATS
        connection = link.connection
        (third,) = (one for one in servers if one is not killed and one.port != connection.server.port)
        third.kill()
        for value in range(count, count + 100):
            sender.emit_event(event(float(value)), TOPIC)
        third.start()
        all_come(count := count + 100)
        assert values.all == list(range(count))
        assert link.connection is connection

        # The leader moves: messages under way may be lost, and so may acknowledgements. Then these messages are stored
        # later than those behind them.
        last_leader = leader()
        with emitting(sender, 500, count) as emitted:
            moved = ask(sender, "STREAM.LEADER.STEPDOWN.eb")
            assert moved["success"], moved
            eventually(lambda: leader() not in ("", last_leader), 60, "another leader")
        all_come(emitted())
