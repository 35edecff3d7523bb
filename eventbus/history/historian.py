"""A historian at a transport: a thread that keeps what passes and answers queries."""

from threading import Lock, Thread
from types import TracebackType
from typing import Self

from eventbus._base.log import Log
from eventbus.errors import EventBusError
from eventbus.exports import public
from eventbus.history.server import PART_BYTES, HistoryServer, Message
from eventbus.history.store import Bounds
from eventbus.observe.stats import DropReason
from eventbus.transports.contract import KnowsSubscribers, Transport

_CHECK_S = 1.0  # at most, to make sure that the asker has gone
_OVERHEAD = 4  # one part in so many of a payload is left free for what stands around messages


@public
class EventBusHistorian:
    """Keeps the newest events of each topic and answers `EventBusClient.history` and the like, from `start` to `stop`.

    It may run anywhere on the bus, beside any XSUB/XPUB proxy or, over a `MemoryTransport`, in a test. Run one on a bus. It
    keeps messages as they are and knows no event classes. Any thread may call any method.

    Args:
        transport: closed, and used by nobody else; it is opened by `start`, and subscribed to all topics.
        server: what keeps and answers; None: one that keeps 1,000 messages of each topic, and permits everything.
    """

    def __init__(self, transport: Transport, server: HistoryServer | None = None) -> None:
        self.server = server or HistoryServer(Bounds())
        self._transport = transport
        self._starting = Lock()
        self._thread: Thread | None = None
        self._failure: Exception | None = None
        self._log = Log(endpoints=transport.endpoints)

    def start(self, timeout: float = 5.0) -> None:
        """Connect; returns when everything that is emitted from now on is kept. Idempotent.

        Raises:
            ProxyUnreachable, HandshakeFailed, DescriptorsExhausted: as `Transport.open`.
            InvalidSettings: the file of the server's archive cannot be used.
        """
        with self._starting:
            if self.is_running:
                return
            self.server.open()
            try:
                self._transport.subscribe(b"")
                self._transport.open(timeout)
            except BaseException:
                self.server.close()
                raise
            self._failure = None
            self._thread = Thread(target=self._run, name="eventbus-historian", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop, and close the transport. Idempotent."""
        self._transport.close(1.0)
        if self._thread is not None:
            self._thread.join()
        self.server.close()

    def wait(self, timeout: float | None = None) -> None:
        """Return when it has stopped: the transport has given up, or another thread has called `stop`.

        Raises:
            ReconnectFailed: the transport has given up.
            Exception: what a defect of ours or of the transport has raised.
        """
        if self._thread is not None:
            self._thread.join(timeout)
            if not self._thread.is_alive():
                self._transport.status.raise_failure()
                if self._failure is not None:
                    raise self._failure

    @property
    def is_running(self) -> bool:
        """Whether it keeps what passes: it was started and has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            while (batch := self._transport.receive()) is not None:
                if batch[0]:
                    self._limit_parts()
                    self._send(*batch)
        except Exception as error:
            self._failure = error
            self._log.exception("the historian at %s has ended", self._transport.endpoints, error=type(error).__name__)
            self._transport.close(0.0)

    def _send(self, frames: list[bytes], payloads: list[bytes]) -> None:
        gone = b""
        for message in self.server.take(frames, payloads):
            if message.reply_to == gone:
                continue
            try:
                if not self._deliver(message):
                    gone = message.reply_to
            except EventBusError as error:
                gone = message.reply_to
                self._log.warning("a query could not be answered: %s", error, error=type(error).__name__)

    def _deliver(self, message: Message) -> bool:
        """Send an answer; False if the asker has gone."""
        if (
            isinstance(self._transport, KnowsSubscribers)
            and self._transport.has_subscriber(message.reply_to, _CHECK_S) is False
        ):
            self._transport.drops.add(DropReason.UNWANTED_ANSWER)
            return False
        self._transport.send(message.first, message.payload)
        return True

    def _limit_parts(self) -> None:
        limit = self._transport.max_payload_bytes
        self.server.part_bytes = PART_BYTES if limit is None else min(PART_BYTES, limit - limit // _OVERHEAD)
