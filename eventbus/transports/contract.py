"""The contract between the client and whatever carries messages: ZeroMQ, memory, or an engine yet to come.

A transport moves ``(topic frame, payload)`` pairs and knows nothing of events. ``tests/conformance`` is the suite that every
transport passes; a new one is a constructor and a line there.
"""

from typing import Protocol

from eventbus.observe.state import Status
from eventbus.observe.stats import DropLog
from eventbus.wire.frames import Batch


class Transport(Protocol):
    """Carries messages from every client that sends to a topic to every client that subscribes to it.

    Threads: every method may be called from any thread at any time, except that `receive` belongs to one thread at a time.

    Delivery: messages of one sending thread arrive in the order in which they were sent. None is lost between an `open` that
    has returned and `close`, as long as the path stays up and no queue overflows; `send` says so when its own does.
    """

    @property
    def status(self) -> Status:
        """The state, which the transport keeps up to date: CLOSED before `open` and after `close`."""

    @property
    def endpoints(self) -> str:
        """Where it connects to, for messages to people."""

    @property
    def sent(self) -> int:
        """How many events `send` has taken since the transport was created."""

    @property
    def malformed(self) -> int:
        """How many messages were skipped since the transport was created, because they were not two frames."""

    @property
    def drops(self) -> DropLog:
        """Counts the events that `send` has taken and that were dropped before they were sent."""

    def open(self, timeout: float) -> None:
        """Open the path with all subscriptions, and return when it is proven live in both directions: READY.

        Blocks for up to `timeout` seconds. On an open transport it proves the path again. From then on the transport
        recovers by itself when the path goes down, with its subscriptions and what was sent meanwhile.

        Raises:
            ProxyUnreachable: the path was not live in time. Everything that this call has opened is closed again.
            HandshakeFailed: the proxy does not let this client in, or is not the one that it expects; likewise.
            NotConnected: it was closed meanwhile.
        """

    def ensure_open(self) -> None:
        """Return if the transport is open.

        Raises:
            NotConnected: it is not.
            ReconnectFailed: it has given up.
        """

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> bool:
        """Send one message that carries `count` events; False if it was dropped and counted, as the transport was told to.

        The topic's frame may go on with headers (see `headers`), which arrive with it. While the path is down the message
        waits in the send buffer. Blocks only while that is full, up to the transport's send timeout.

        Raises:
            NotConnected: the transport is not open, or has given up.
            SendBufferFull: the buffer is full, or stayed full (SendTimeout); nothing was sent.
        """

    def subscribe(self, topic: bytes) -> None:
        """Receive messages whose topic frame starts with `topic`; an empty one matches all.

        Idempotent, and remembered while closed.
        On an open transport it returns when messages that this transport sends from then on are sure to arrive, or after the
        connect timeout; the subscription stays in force either way, across reconnections.
        """

    def unsubscribe(self, topic: bytes) -> None:
        """Forget this subscription, however often it was made. Messages under way may still arrive."""

    def receive(self) -> Batch | None:
        """Wait for messages and return those that are there, oldest first; an empty batch after `wake`, None once closed."""

    def wake(self) -> None:
        """Make a `receive` that is waiting, or else the next one, return at once."""

    def is_connected(self) -> bool:
        """Whether both directions of the path are up, as far as the transport knows at this moment. Does not block."""

    def close(self, timeout: float) -> None:
        """Flush what was sent and close, within `timeout` seconds; what could not be flushed by then is lost.

        Idempotent. A `receive` that is waiting returns None. The transport can be opened again.
        """
