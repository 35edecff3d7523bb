"""The contract between a client and what carries its messages: ZeroMQ, memory, or an engine of your own.

A transport moves messages of two frames, topic and payload, and knows nothing of events: `wire` says what is in the frames.
To write a transport, fulfil this protocol and pass the suite of `eventbus.testing.conformance`, as every transport of this
package does.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from eventbus.observe.state import Status
from eventbus.observe.stats import DropLog
from eventbus.wire.frames import Batch

if TYPE_CHECKING:  # most clients never look at what was stored
    from eventbus.wire.history import Query, Stored


class Remedies(NamedTuple):
    """The advice in errors about a transport. Without it they name a proxy and its settings.

    Attributes:
        peer: what the transport connects to, such as "NATS server".
        unreachable: what to do if none answers; empty: what `ProxyUnreachable` says of a proxy.
        too_large: how it accepts larger payloads.
    """

    peer: str | None = None
    unreachable: str = ""
    too_large: str | None = None


class Transport(Protocol):
    """Carries each message to all transports that subscribe to its topic.

    **Threads.** Any thread may call any method at any time; `receive` is for one thread at a time. So may a signal handler,
    except that `send` refuses with an EventBusError if the handler has interrupted a `send` of its own thread. If a handler
    raises out of `subscribe` or `unsubscribe`, the topic is subscribed or not, and the next call does what is left to do.

    **Life.** A new transport is closed. `open` and `close` may alternate any number of times. Subscriptions and counts
    outlive `close`. In a forked child an open transport refuses all calls with ForkedClient: the child makes its own.

    **Delivery.** Messages that one thread sends arrive in the order in which it sent them. Between the return of `open` and
    `close` none is lost as long as the connection is up and no queue is full. If the connection goes down, the transport
    reconnects by itself, with its subscriptions. Meanwhile it holds what is sent, up to the size of its send buffer. What it
    drops nevertheless it counts in `drops`.
    """

    @property
    def status(self) -> Status:
        """The state of the connection, which the transport keeps up to date: CLOSED before `open` and after `close`."""

    @property
    def endpoints(self) -> str:
        """The address that the transport connects to, for people: it stands in errors and log lines."""

    @property
    def remedies(self) -> Remedies:
        """The advice in errors about this transport."""

    @property
    def confirms(self) -> bool:
        """Whether `confirm` does anything; if not, nobody need call it."""

    @property
    def sent(self) -> int:
        """The number of events that `send` has taken since the transport was created: the calls that returned True."""

    @property
    def malformed(self) -> int:
        """The number of messages skipped since the transport was created because they were not two frames."""

    @property
    def lost(self) -> int:
        """The number of messages known to be missing since the transport was created, beside those that numbers show."""

    @property
    def repeated(self) -> int:
        """The number of messages that the transport has skipped since it was created, because they had come before."""

    @property
    def drops(self) -> DropLog:
        """Counts events that were dropped, by reason: those that `send` did not take, and those that it took but lost."""

    @property
    def max_payload_bytes(self) -> int | None:
        """The largest payload that the other side passes on, as far as the transport knows; None: no limit is known.

        Do not send larger ones: the transport may drop and count them. It may change whenever the transport connects.
        """

    def open(self, timeout: float) -> None:
        """Connect with all subscriptions, and return when messages pass in both directions: the state is READY.

        Blocks for up to `timeout` seconds. On an open transport it checks again that messages pass. A transport that needs
        no connection yet returns as soon as the first attempt has failed, and becomes READY later.

        Raises:
            ProxyUnreachable: messages did not pass in time. The transport is closed again.
            HandshakeFailed: the proxy does not let this client in, or is another one. The transport is closed again.
            NotConnected: `close` was called meanwhile.
            DescriptorsExhausted: the process may open no more files or sockets.
            ForkedClient: the transport was opened by the parent process.
        """

    def ensure_open(self) -> None:
        """Return if the transport is open; does not block.

        Raises:
            NotConnected: it is not open.
            ReconnectFailed: it has given up reconnecting, and is closed.
            ForkedClient: it was opened by the parent process.
        """

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> bool:
        """Send one message; return False if it was dropped and counted, because the send buffer is full.

        Blocks only while the send buffer is full, for up to the transport's send timeout. What happens then is the
        transport's send policy: it raises or drops. In a block of `transports.waiting.without_waiting` it does not block,
        but raises SendBufferFull.

        Args:
            topic: the first frame: a topic, perhaps with headers behind it, which arrive as they are (see `wire.headers`).
            payload: the second frame.
            count: the number of events that the message carries, for the counts.

        Raises:
            NotConnected: the transport is not open, or has given up.
            SendBufferFull: the send buffer is full; nothing was sent.
            SendTimeout: the send buffer stayed full; nothing was sent.
            EventTooLarge: the other side passes on no message as large as this one; nothing was sent.
            InvalidHeaders: the transport cannot carry one of the headers; nothing was sent.
            ForkedClient: the transport was opened by the parent process.
        """

    def subscribe(self, topic: bytes) -> None:
        """Receive messages of exactly this topic, an empty one: of all topics. Those of longer topics may come along.

        Idempotent. A closed transport keeps the subscription for the next `open`. A READY one returns as soon as messages
        that it sends from then on are sure to arrive, or after its connect timeout. The subscription stays in force either
        way, across reconnections.

        Raises:
            HandshakeFailed: the other side does not let this client receive that topic.
            ForkedClient: the transport was opened by the parent process.
        """

    def unsubscribe(self, topic: bytes) -> None:
        """Undo all calls of `subscribe` with this topic. Messages that are under way may still arrive.

        Raises:
            HandshakeFailed: the server refuses that; the topic stays subscribed.
            ForkedClient: the transport was opened by the parent process.
        """

    def receive(self) -> Batch | None:
        """Wait for messages, and return those that are there, oldest first.

        Returns an empty batch after `wake`, and None as soon as the transport is closed. One thread at a time.
        """

    def confirm(self, batch: Batch) -> None:
        """Note that the messages of a batch were handled: a transport that stores them does not deliver them again.

        Any thread may call it, with each batch that `receive` has returned or with none, in any order. Does not block.
        """

    def wake(self) -> None:
        """Make a `receive` that waits, or else the next one, return at once; does not block."""

    def is_connected(self) -> bool:
        """Whether both directions are up, as far as the transport knows at this moment; does not block."""

    def close(self, timeout: float) -> None:
        """Send what was held and flush, for up to `timeout` seconds, and close. The rest is dropped.

        Idempotent. A `receive` that waits returns None, a `send` that waits raises NotConnected.
        """

    def sibling(self) -> "Transport":
        """Return a new transport to the same place with the same options: closed, without subscriptions, counting from 0.

        A client that asks receives the answers there, so that no handler can hold them back.
        """


@runtime_checkable
class KeepsHistory(Protocol):
    """An optional feature of transports: the other side stores messages itself, so clients ask no historian for them.

    Each message has a position: those that come later have higher ones.
    """

    @property
    def start(self) -> str:
        """Where subscriptions begin by the transport's own options: a `Start`, or a time."""

    def begin_live(self) -> bool:
        """Let subscriptions begin with what is new from the next `open` on: the client reads what was stored before.

        Returns False if the transport begins them itself, because other clients share its position.
        """

    def begun_after(self, topic: bytes) -> int | None:
        """The position of the last message before those that are received on a subscribed topic.

        None if that is not known yet; once it is, the transport makes a `receive` that waits return.
        """

    def stored(self, query: "Query", timeout: float) -> "Iterator[list[Stored]]":
        """Yield the stored messages that a query asks for, in portions, oldest first. Some may be empty: more is to come.

        Args:
            query: what is asked for, but `spans`.
            timeout: up to how many seconds each portion may take.

        Raises:
            EventBusError: they cannot be had.
        """


@runtime_checkable
class KnowsSubscribers(Protocol):
    """An optional feature of transports: to know whether anybody subscribes to a topic.

    With it, a request that nobody could answer fails at once, and no answer is sent before the asker's subscription to it is
    in force. A transport without it leaves out these methods.
    """

    def has_subscriber(self, topic: bytes, timeout: float = 0.0) -> bool | None:
        """Whether anybody receives a message on this topic that is sent now, the transport itself included.

        Args:
            topic: a topic, without what may follow it in a first frame.
            timeout: up to how many seconds it may take to make sure that there is none. 0: do not block; then False means
                that none is known yet.

        Returns None if that cannot be told, for example while the connection is down. True may be out of date.
        """


@runtime_checkable
class KnowsWatchers(KnowsSubscribers, Protocol):
    """An optional feature of transports: to tell who may answer from who only watches, such as a historian."""

    def has_answerer(self, topic: bytes, timeout: float = 0.0) -> bool | None:
        """Do as `has_subscriber`, but leave out those that subscribe to all topics and only watch.

        Clients that subscribe to all topics subscribe to `wire.presence.EVERYTHING_TOPIC`, too.
        """


@runtime_checkable
class SharesMessages(Protocol):
    """An optional feature of transports that confirm: others can handle what this client does not."""

    def give_back(self, batch: Batch) -> None:
        """Note that a batch was not handled, or not all of it: its messages come again, here or to another client.

        Any thread may call it, instead of `confirm`. Does not block.
        """

    def pause(self) -> None:
        """Give back all messages that wait for `receive`, and ask for no more until it is called again.

        Any thread may call it while no other one is in `receive`. Does not block.
        """


@runtime_checkable
class NumbersMessages(Protocol):
    """An optional feature of transports: to number messages, so that their publishers can be told apart."""

    @property
    def publisher_id(self) -> bytes | None:
        """The publisher in the numbers of messages that are sent now; None if they are not numbered, or it is closed."""
