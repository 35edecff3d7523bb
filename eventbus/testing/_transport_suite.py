"""The suite of `eventbus.testing.conformance`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event
from typing import ClassVar

import pytest

from eventbus._base.deadline import Deadline
from eventbus.errors import NotConnected, SendBufferFull, SendTimeout
from eventbus.observe.state import ClientState
from eventbus.testing._waiting import PATIENCE_S, end_in_time, eventually, in_thread, run_threads
from eventbus.transports.contract import KnowsSubscribers, KnowsWatchers, Remedies, Transport
from eventbus.transports.waiting import without_waiting
from eventbus.wire.first_frame import with_headers
from eventbus.wire.frames import Batch
from eventbus.wire.headers import encode_headers
from eventbus.wire.private_topics import EVERYTHING_TOPIC


@dataclass(frozen=True)
class Features:
    """The differences between transports.

    Attributes:
        ordered: messages of one sending thread arrive in order.
        bounded_send: a receiver's full queue holds back `send`, up to SendTimeout. Make the transports with a queue of at
            most 100,000 messages and at least 10,000, and with a short send timeout.
        prefixes: a subscription matches every topic frame that starts with it, rather than exactly its topic.
        knows_subscribers: it has the methods of `KnowsSubscribers`.
    """

    ordered: bool = True
    bounded_send: bool = True
    prefixes: bool = True
    knows_subscribers: bool = True


type MakeTransport = Callable[[], Transport]
"""Makes a closed transport. The transports of one maker receive each other's messages, and no others."""


class TransportConformance:
    """The tests. Derive from it as `eventbus.testing.conformance` says.

    Attributes:
        features: what the transport declares.
    """

    features: ClassVar[Features] = Features()

    @pytest.fixture
    def make_transport(self) -> Iterator[MakeTransport]:
        """Yield what makes transports; the suite closes them."""
        raise NotImplementedError("override the fixture `make_transport` in the derived class")

    @pytest.fixture
    def make(self, make_transport: MakeTransport) -> Iterator[MakeTransport]:
        """Makes transports that hear each other, and closes them."""
        with ExitStack() as stack:

            def make() -> Transport:
                made = make_transport()
                stack.callback(made.close, 0)
                return made

            yield make

    @pytest.fixture
    def opened(self, make: MakeTransport) -> MakeTransport:
        def open_one() -> Transport:
            made = make()
            made.open(PATIENCE_S)
            return made

        return open_one

    @pytest.fixture
    def transport(self, opened: MakeTransport) -> Transport:
        """An open transport, subscribed to `t`."""
        made = opened()
        made.subscribe(b"t")
        return made

    # Opening and closing

    def test_send_before_open_is_refused(self, make: MakeTransport) -> None:
        """send() and ensure_open() raise NotConnected before open() and after close(), and nothing is counted."""
        transport = make()
        for _ in range(2):
            with pytest.raises(NotConnected):
                transport.send(b"t", b"{}")
            with pytest.raises(NotConnected):
                transport.ensure_open()
            assert not transport.is_connected()
            assert transport.sent == 0
            transport.open(PATIENCE_S)
            transport.ensure_open()
            assert transport.is_connected()
            transport.close(0)

    def test_status_follows(self, make: MakeTransport) -> None:
        """`status` is CLOSED before open(), READY after it, and CLOSED after close(); listeners get each change."""
        transport = make()
        status = transport.status
        told: list[ClientState] = []
        status.listen(lambda change: told.append(change.state))
        seen = []
        for _ in range(3):
            seen.append(status.state)
            assert not status.wait_ready(Deadline(0))
            transport.open(PATIENCE_S)
            seen.append(status.state)
            transport.open(PATIENCE_S)
            assert status.wait_ready(Deadline(0))
            transport.close(0)
            transport.close(0)
        seen.append(status.state)
        assert seen == [ClientState.CLOSED, ClientState.READY] * 3 + [ClientState.CLOSED]
        assert transport.status is status
        eventually(lambda: told.count(ClientState.CLOSED) == 3)
        assert [state for state in told if state is not ClientState.CONNECTING] == [
            ClientState.READY,
            ClientState.CLOSED,
        ] * 3
        status.raise_failure()

    def test_close_ends_waiting_for_ready(self, make: MakeTransport) -> None:
        """A thread that waits for READY returns when the transport is closed."""
        transport = make()
        transport.open(PATIENCE_S)
        transport.close(0)
        with in_thread(lambda: transport.status.wait_ready(Deadline(3_600))):
            pass

    def test_open_is_idempotent(self, transport: Transport) -> None:
        """Opening an open transport keeps it as it is: a message is neither lost nor doubled."""
        transport.send(b"t", payload(1))
        transport.open(PATIENCE_S)
        transport.send(b"t", payload(2))
        assert numbers(read(transport, 2)) == [1, 2]

    def test_open_from_many_threads(self, make: MakeTransport) -> None:
        """Opening from many threads at once opens one path."""
        transport = make()
        transport.subscribe(b"t")
        run_threads(4, lambda _: transport.open(PATIENCE_S))
        transport.send(b"t", payload(1))
        transport.send(b"t", payload(2))
        assert numbers(read(transport, 2)) == [1, 2]

    def test_close_is_idempotent(self, transport: Transport) -> None:
        """Closing twice, also from many threads, is closing once."""
        run_threads(4, lambda _: transport.close(0))
        transport.close(0)
        assert not transport.is_connected()

    def test_receive_after_close_returns_none(self, transport: Transport) -> None:
        """A closed transport receives None at once, whatever was under way."""
        transport.send(b"t", payload(1))
        transport.close(0)
        assert receive(transport) is None

    @pytest.mark.parametrize("again", range(10))
    def test_close_ends_a_waiting_receive(self, transport: Transport, again: int) -> None:
        """A receive() that waits in another thread returns None on close()."""
        with in_thread(lambda: receive_to_the_end(transport)):
            transport.close(0)

    def test_reopen_remembers_subscriptions(self, transport: Transport) -> None:
        """A transport can be opened again, with its subscriptions, as they were changed meanwhile."""
        transport.subscribe(b"gone")
        for number in range(5):
            transport.close(0)
            transport.subscribe(b"n%d" % number)
            transport.unsubscribe(b"gone")
            transport.open(PATIENCE_S)
            transport.send(b"gone", payload(0))
            transport.send(b"t", payload(1))
            transport.send(b"n%d" % number, payload(2))
            assert numbers(read(transport, 2)) == [1, 2]

    def test_messages_of_an_earlier_opening_are_gone(self, opened: MakeTransport, transport: Transport) -> None:
        """A message that had arrived but was not received before close() does not turn up after the next open()."""
        witness = opened()
        witness.subscribe(b"t")
        transport.open(PATIENCE_S)  # proves the path anew, after both subscriptions
        transport.send(b"t", payload(1))
        assert numbers(read(witness, 1)) == [1]
        transport.close(0)
        transport.open(PATIENCE_S)
        transport.send(b"t", payload(2))
        assert numbers(read(transport, 1)) == [2]

    def test_close_flushes_to_others(self, opened: MakeTransport, transport: Transport) -> None:
        """Messages sent before close() reach the others."""
        sender = opened()
        for number in range(1_000):
            sender.send(b"t", payload(number))
        sender.close(PATIENCE_S)
        assert numbers(read(transport, 1_000)) == list(range(1_000))

    # Delivery

    @pytest.mark.parametrize("again", range(20))
    def test_the_first_message_after_open_arrives(self, make: MakeTransport, again: int) -> None:
        """A message sent right after open() has returned arrives."""
        transport = make()
        transport.subscribe(b"t")
        transport.open(PATIENCE_S)
        transport.send(b"t", payload(1))
        assert read(transport, 1) == [(b"t", payload(1))]

    def test_the_first_message_after_subscribe_arrives(self, opened: MakeTransport) -> None:
        """A message sent right after subscribe() has returned arrives, each time."""
        transport = opened()
        for number in range(50):
            topic = b"topic%03d" % number
            transport.subscribe(topic)
            transport.send(topic, payload(number))
            assert read(transport, 1) == [(topic, payload(number))]

    def test_the_first_message_to_another_arrives(self, make: MakeTransport, opened: MakeTransport) -> None:
        """A transport that opens after another has subscribed reaches it with its first message."""
        receiver = opened()
        receiver.subscribe(b"t")
        for number in range(20):
            sender = opened()
            sender.send(b"t", payload(number))
            assert numbers(read(receiver, 1)) == [number]
            sender.close(PATIENCE_S)

    def test_order_of_one_thread(self, transport: Transport) -> None:
        """Messages of one sending thread arrive in order, whatever their topics and sizes."""
        transport.subscribe(b"u")

        def send() -> None:
            for number in range(5_000):
                transport.send(b"tu"[number % 2 :][:1], payload(number) + b" " * (number % 977))

        with in_thread(send):
            found = [int(body.strip(b"{} ")) for _, body in read(transport, 5_000)]
        assert sorted(found) == list(range(5_000))
        if self.features.ordered:
            assert found == list(range(5_000))

    def test_many_threads_send(self, transport: Transport) -> None:
        """Threads that send at once lose and mix up nothing, and each one's messages stay in order."""

        def send(thread: int) -> None:
            for number in range(1_000):
                transport.send(b"t%d" % thread, payload(number))

        for thread in range(4):
            transport.subscribe(b"t%d" % thread)
        run_threads(4, send)
        messages = read(transport, 4_000)
        assert transport.sent == len(messages) == 4_000
        for thread in range(4):
            found = numbers([message for message in messages if message[0] == b"t%d" % thread])
            assert sorted(found) == list(range(1_000))
            if self.features.ordered:
                assert found == list(range(1_000))

    def test_every_subscriber_gets_every_message(self, opened: MakeTransport) -> None:
        """Each of several subscribers receives all messages, the sender among them."""
        members = [opened() for _ in range(3)]
        for member in members:
            member.subscribe(b"t")
        for member in members:
            member.open(PATIENCE_S)  # proves the path anew, after all subscriptions
        for number, member in enumerate(members):
            member.send(b"t", payload(number))
        for member in members:
            assert sorted(numbers(read(member, 3))) == [0, 1, 2]

    def test_a_large_message_arrives_whole(self, transport: Transport) -> None:
        """A payload of several megabytes arrives as it was sent."""
        large = b"{" + bytes(range(256)) * 20_000 + b"}"
        transport.send(b"t", large)
        assert read(transport, 1) == [(b"t", large)]

    def test_confirming_is_harmless(self, transport: Transport) -> None:
        """confirm() takes each batch that receive() has returned, also twice, an empty one, and after close()."""
        transport.send(b"t", payload(1))
        batch = receive(transport)
        while batch is not None and not batch[0]:
            batch = receive(transport)
        assert batch is not None
        transport.confirm(batch)
        transport.confirm(batch)
        transport.confirm(([], []))
        transport.send(b"t", payload(2))
        assert numbers(read(transport, 1)) == [2]
        assert (transport.lost, transport.repeated) == (0, 0)
        transport.close(0)
        transport.confirm(batch)

    def test_what_stands_behind_a_topic_arrives(self, transport: Transport) -> None:
        """Headers travel behind the topic in its frame, and arrive as they were sent, where the topic is subscribed."""
        frame = with_headers(b"t", encode_headers({"one": "1", "another": "ä ö"}))
        transport.send(frame, payload(1))
        transport.send(b"t", payload(2))
        assert read(transport, 2) == [(frame, payload(1)), (b"t", payload(2))]

    # Subscriptions

    def test_prefixes_match(self, transport: Transport) -> None:
        """A subscription matches topic frames that start with it, and no others."""
        if not self.features.prefixes:
            pytest.skip("it is asked for exact topics")
        for topic in (b"s", b"t", b"to", b"T"):
            transport.send(topic, b"{}")
        transport.send(b"tz", b"{}")
        assert [topic for topic, _ in read(transport, 3)] == [b"t", b"to", b"tz"]

    def test_the_empty_prefix_matches_all(self, opened: MakeTransport) -> None:
        """A subscription to the empty prefix receives everything."""
        transport = opened()
        transport.subscribe(b"")
        transport.send(b"a", b"{}")
        transport.send("ö".encode(), b"{}")
        assert [topic for topic, _ in read(transport, 2)] == [b"a", "ö".encode()]

    def test_overlapping_subscriptions_deliver_once(self, transport: Transport) -> None:
        """A message that several subscriptions match arrives once."""
        transport.subscribe(b"topic")
        if self.features.prefixes:
            transport.subscribe(b"to")
        transport.subscribe(b"")
        transport.send(b"topic", payload(1))
        transport.send(b"topic", payload(2))
        assert numbers(read(transport, 2)) == [1, 2]

    def test_unsubscribed_receives_no_more(self, transport: Transport) -> None:
        """After unsubscribe(), once it is in force, messages of that topic do not come; others do."""
        transport.subscribe(b"u")
        transport.unsubscribe(b"t")
        transport.open(PATIENCE_S)
        transport.send(b"t", payload(1))
        transport.send(b"u", payload(2))
        assert numbers(read(transport, 1)) == [2]

    def test_subscribing_twice_is_subscribing_once(self, transport: Transport) -> None:
        """One unsubscribe() undoes a subscription, however often it was made."""
        transport.subscribe(b"u")
        transport.subscribe(b"t")
        transport.unsubscribe(b"t")
        transport.open(PATIENCE_S)
        transport.send(b"t", payload(1))
        transport.send(b"u", payload(2))
        assert numbers(read(transport, 1)) == [2]

    def test_unsubscribing_is_for_oneself(self, opened: MakeTransport, transport: Transport) -> None:
        """Others keep their subscriptions to the same topic."""
        other = opened()
        other.subscribe(b"t")
        other.unsubscribe(b"t")
        other.close(0)
        transport.open(PATIENCE_S)  # proves the path anew, after that
        transport.send(b"t", payload(1))
        assert numbers(read(transport, 1)) == [1]

    def test_subscribing_while_another_thread_receives(self, transport: Transport) -> None:
        """subscribe() and unsubscribe() do their work while a receive() waits."""
        found: list[bytes] = []

        def receive() -> None:
            while (batch := transport.receive()) is not None:
                found.extend(batch[0])

        with in_thread(receive):
            for number in range(20):
                topic = b"n%d." % number
                transport.subscribe(topic)
                transport.send(topic, b"{}")
                eventually(lambda topic=topic: topic in found)  # type: ignore[misc] # mypy cannot infer a lambda's default
                transport.unsubscribe(topic)
            transport.close(0)

    # Waking

    def test_wake_ends_a_waiting_receive(self, transport: Transport) -> None:
        """receive() that waits returns an empty batch after wake()."""
        batches = []
        with in_thread(lambda: batches.append(transport.receive())):
            transport.wake()
        assert batches == [([], [])]

    def test_wake_beforehand_ends_the_next_receive(self, transport: Transport) -> None:
        """wake() is remembered by the next receive(), and only by that one."""
        transport.wake()
        assert receive(transport) == ([], [])
        transport.send(b"t", payload(1))
        assert numbers(read(transport, 1)) == [1]

    def test_each_wake_ends_one_receive(self, transport: Transport) -> None:
        """Else whoever receives would go round and round: between two calls of wake(), receive() waits."""
        empty: list[Batch] = []

        def count() -> None:
            while (batch := transport.receive()) is not None:
                if not batch[0]:
                    empty.append(batch)

        with in_thread(count):
            for number in range(1, 21):
                transport.wake()
                eventually(lambda number=number: len(empty) >= number)  # type: ignore[misc] # as above
            transport.close(0)
        assert len(empty) <= 2 * 20  # some transports wake themselves now and then

    def test_wake_on_a_closed_transport_is_harmless(self, make: MakeTransport) -> None:
        """wake() may be called at any time."""
        transport = make()
        transport.wake()
        transport.open(PATIENCE_S)
        transport.close(0)
        transport.wake()

    # Counting, and the bounds

    def test_sent_counts_events(self, transport: Transport) -> None:
        """`sent` adds up the events of all messages that send() has taken, over all openings."""
        assert transport.send(b"t", b"{}") is True
        assert transport.send(b"t", b"[]", 10) is True
        assert transport.sent == 11
        transport.close(PATIENCE_S)
        assert transport.sent == 11
        transport.open(PATIENCE_S)
        transport.send(b"nobody", b"{}")
        assert transport.sent == 12

    def test_nothing_is_counted_beforehand(self, transport: Transport) -> None:
        """The other counts are 0 where all is well, and a limit of payloads, if there is one, is not in the way."""
        transport.send(b"t", payload(1))
        read(transport, 1)
        assert (transport.malformed, transport.lost, transport.repeated, dict(transport.drops.counts)) == (0, 0, 0, {})
        assert transport.max_payload_bytes is None or transport.max_payload_bytes >= 1_000_000
        assert isinstance(transport.remedies, Remedies)
        assert isinstance(transport.confirms, bool)

    def test_a_full_buffer_ends_in_send_timeout(self, transport: Transport) -> None:
        """When a buffer stays full, send() raises SendTimeout and counts nothing, and works again when there is room."""
        if not self.features.bounded_send:
            pytest.skip("its receivers hold nobody back")
        with pytest.raises(SendTimeout):
            send_without_end(transport)
        taken = transport.sent
        assert len(read(transport, taken)) == taken
        transport.send(b"t", payload(1))
        assert numbers(read(transport, 1)) == [1]

    def test_close_ends_sending_to_a_full_buffer(self, opened: MakeTransport, transport: Transport) -> None:
        """A thread that sends while a buffer is full is refused with NotConnected once its transport is closed."""
        if not self.features.bounded_send:
            pytest.skip("its receivers hold nobody back")
        sender = opened()
        full = Event()

        def send() -> None:
            while True:
                try:
                    sender.send(b"t", b"{}")
                except SendTimeout:
                    full.set()
                except NotConnected:
                    return

        with in_thread(send):
            assert full.wait(PATIENCE_S)
            sender.close(0)

    def test_without_waiting_a_full_buffer_is_told_at_once(self, transport: Transport) -> None:
        """In a block of `without_waiting`, send() raises SendBufferFull, and not SendTimeout, when there is no room."""
        if not self.features.bounded_send:
            pytest.skip("its receivers hold nobody back")
        with without_waiting(), pytest.raises(SendBufferFull) as raised:
            send_without_end(transport)
        assert not isinstance(raised.value, SendTimeout)
        taken = transport.sent
        assert len(read(transport, taken)) == taken

    # Siblings, and who subscribes

    def test_a_sibling_is_another_one(self, transport: Transport) -> None:
        """sibling() makes a closed transport to the same place, with neither subscriptions nor counts."""
        transport.send(b"u", b"{}")
        sibling = transport.sibling()
        try:
            assert sibling.status.state is ClientState.CLOSED
            assert sibling.sent == 0
            sibling.subscribe(b"answers")
            sibling.open(PATIENCE_S)
            transport.open(PATIENCE_S)  # proves the path anew, after the subscription of the sibling
            transport.send(b"t", payload(1))
            transport.send(b"answers", payload(2))
            assert read(sibling, 1) == [(b"answers", payload(2))]
            sibling.send(b"t", payload(3))
            assert numbers(read(transport, 2)) == [1, 3]
        finally:
            sibling.close(0)
        transport.send(b"t", payload(4))
        assert numbers(read(transport, 1)) == [4]

    def test_who_subscribes_is_known(self, opened: MakeTransport) -> None:
        """has_subscriber() tells whether anybody subscribes: at once after subscribe(), and soon after unsubscribe()."""
        if not self.features.knows_subscribers:
            pytest.skip("it does not know")
        asking, other = opened(), opened()
        assert isinstance(asking, KnowsSubscribers)
        for number in range(20):
            topic = b"topic%03d" % number
            assert asking.has_subscriber(topic, PATIENCE_S) is False
            other.subscribe(topic)
            assert asking.has_subscriber(topic, PATIENCE_S)
            other.unsubscribe(topic)
            eventually(lambda topic=topic: asking.has_subscriber(topic, PATIENCE_S) is False)  # type: ignore[misc] # mypy cannot infer a lambda's default
        asking.subscribe(b"own")
        assert asking.has_subscriber(b"own")
        other.subscribe(b"")
        assert asking.has_subscriber(b"anything", PATIENCE_S)
        if isinstance(asking, KnowsWatchers):
            assert asking.has_answerer(b"anything", PATIENCE_S) is False
            assert asking.has_answerer(b"own")
            other.subscribe(EVERYTHING_TOPIC)
            assert asking.has_answerer(b"anything", PATIENCE_S)

    def test_endpoints_are_for_people(self, transport: Transport) -> None:
        """`endpoints` says where it connects to."""
        assert transport.endpoints


def payload(number: int) -> bytes:
    return b"{%d}" % number


def receive(transport: Transport) -> Batch | None:
    """Return what is received; fail if that does not end in time."""
    batches: list[Batch | None] = []
    end_in_time(lambda: batches.append(transport.receive()), lambda: "receive() has not returned")
    return batches[0]


def read(transport: Transport, count: int) -> list[tuple[bytes, bytes]]:
    """Receive until this number of messages has arrived; fail if they do not in time."""
    messages: list[tuple[bytes, bytes]] = []

    def read_all() -> None:
        while len(messages) < count:
            batch = transport.receive()
            assert batch is not None, "receive() returns None, although the transport is open"
            messages.extend(zip(*batch, strict=True))

    end_in_time(read_all, lambda: f"{len(messages)} of {count} messages have come")
    return messages


def numbers(messages: list[tuple[bytes, bytes]]) -> list[int]:
    return [int(body.strip(b"{}")) for _, body in messages]


def receive_to_the_end(transport: Transport) -> None:
    while transport.receive() is not None:
        pass


def send_without_end(transport: Transport) -> None:
    for _ in range(100_000):
        transport.send(b"t", b"{}")
