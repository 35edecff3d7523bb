"""Signal handlers that interrupt a thread that sends, at each moment at which they may. It may write for others, too."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from threading import enumerate as enumerate_threads
from time import monotonic

import pytest

from eventbus import DropReason, EventBusError
from eventbus.nats_options import NatsOptions
from eventbus.transports.nats.transport import NatsTransport
from tests.eventbus.transports.moments import NoSuchMoment, interrupted
from tests.eventbus.transports.nats.support import transport_of
from tests.support import PATIENCE, eventually, in_thread

MANY = 30  # there are at least so many moments
BEFORE = {"lone": 0, "many": 1_024}  # messages that wait already
FROM_HANDLER = b'{"handler":1}'

# Of callbacks of weak references, which may run at any moment, exceptions are told and ignored.
pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@contextmanager
def receiving(kind: str, options: NatsOptions) -> Iterator[list[bytes]]:
    """The payloads that arrive, without the arrays in which some of them may be."""
    transport, payloads = transport_of(kind, options), list[bytes]()

    def receive() -> None:
        while (batch := transport.receive()) is not None:
            for payload in batch[1]:
                payloads.extend(payload.strip(b"[]").split(b","))

    transport.subscribe(b"t")
    transport.open(PATIENCE)
    with in_thread(receive):
        try:
            yield payloads
        finally:
            transport.close(0)


@contextmanager
def opened(kind: str, options: NatsOptions) -> Iterator[NatsTransport]:
    """A transport that is open."""
    transport = transport_of(kind, options)
    try:
        transport.open(PATIENCE)
        yield transport
    finally:
        transport.close(0)


class Sender:
    """Sends numbers, and notes which calls have returned."""

    def __init__(self, transport: NatsTransport) -> None:
        self.transport = transport
        self.sent: list[bytes] = []
        self._numbers = count()

    def send(self) -> None:
        payload = b'{"n":%09d}' % next(self._numbers)
        self.transport.send(b"t", payload)
        self.sent.append(payload)

    def let_wait(self, messages: int) -> None:
        """Send so many without waking the link's thread."""
        buffer = self.transport._buffer
        assert buffer is not None
        eventually(lambda: buffer.idle)
        buffer.idle = messages == 0
        for _ in range(messages):
            self.send()


def interrupt(transport: NatsTransport) -> None:
    raise KeyboardInterrupt


def emit(transport: NatsTransport) -> None:
    transport.send(b"t", FROM_HANDLER)


def at_each_moment(attempt: Callable[[int], object]) -> None:
    """Let it be interrupted at one moment after the other.

    If there are few, the link's thread was busy just then, so that it wrote what was sent: then that moment comes again.
    """
    moment, end = 0, monotonic() + PATIENCE
    while True:
        try:
            attempt(moment)
            moment += 1
        except NoSuchMoment:
            if moment > MANY:
                return
            assert monotonic() < end, f"there are {moment} moments only"


@pytest.mark.parametrize("handler", [interrupt, emit])
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("kind", ["core", "jetstream"])
def test_sending(nats: NatsOptions, kind: str, before: str, handler: Callable[[NatsTransport], None]) -> None:
    """A handler that raises or emits: what was sent arrives once and in order, but for what is counted as dropped."""
    with receiving(kind, nats) as received, opened(kind, nats) as transport:
        sender = Sender(transport)

        def attempt(moment: int) -> None:
            dropped = transport.drops.counts.get(DropReason.UNPROVEN, 0)
            sender.sent.clear()
            received.clear()
            sender.let_wait(BEFORE[before])
            try:
                with suppress(KeyboardInterrupt):
                    interrupted(sender.send, lambda: handler(transport), moment)
            finally:
                sender.send()
                eventually(lambda: received[-1:] == sender.sent[-1:], PATIENCE, f"the event after moment {moment}")
            numbers = [one for one in received if one != FROM_HANDLER]
            assert sorted(set(numbers)) == numbers, moment
            lost = len(set(sender.sent) - set(numbers))
            assert not lost or lost <= transport.drops.counts.get(DropReason.UNPROVEN, 0) - dropped, moment

        at_each_moment(attempt)


@pytest.mark.parametrize("kind", ["core", "jetstream"])
def test_a_handler_that_closes_while_its_thread_sends(nats: NatsOptions, kind: str) -> None:
    """The transport is closed at once, and can be opened again."""
    transport = transport_of(kind, nats)
    sender = Sender(transport)

    def attempt(moment: int) -> None:
        transport.open(PATIENCE)
        sender.let_wait(0)
        try:
            with suppress(EventBusError):
                interrupted(sender.send, lambda: transport.close(PATIENCE), moment)
            assert not transport.is_connected()
        finally:
            transport.close(0)

    at_each_moment(attempt)


@pytest.mark.parametrize("kind", ["core", "jetstream"])
def test_opening(nats: NatsOptions, kind: str) -> None:
    """A handler that raises: the transport can be opened again, and leaves no thread behind."""
    transport = transport_of(kind, nats)

    def attempt(moment: int) -> None:
        try:
            with suppress(KeyboardInterrupt):
                interrupted(lambda: transport.open(PATIENCE), lambda: interrupt(transport), moment)
            transport.open(PATIENCE)
            assert transport.is_connected()
        finally:
            transport.close(0)

    at_each_moment(attempt)


@pytest.mark.parametrize("kind", ["core", "jetstream"])
def test_closing(nats: NatsOptions, kind: str) -> None:
    """A handler that raises: the transport is or can be closed, a receiver hears of it, and no thread is left behind."""
    transport = transport_of(kind, nats)
    transport.subscribe(b"t")

    def receive() -> None:
        while transport.receive() is not None:
            pass

    def attempt(moment: int) -> None:
        transport.open(PATIENCE)
        with in_thread(receive):
            try:
                with suppress(KeyboardInterrupt):
                    interrupted(lambda: transport.close(PATIENCE), lambda: interrupt(transport), moment)
            finally:
                transport.close(0)
        eventually(lambda: not links())

    at_each_moment(attempt)


def links() -> list[str]:
    """The threads of links that have not ended."""
    return [one.name for one in enumerate_threads() if one.name == "eventbus-nats"]
