"""The inbox of a client that asks: a link of its own, which receives the answers, in a thread of its own.

No handler can hold an answer back there: a handler that asks on the consumer's thread gets its answer although the consumer
waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from threading import Thread
from typing import TYPE_CHECKING

from eventbus._base.log import Log
from eventbus.ask.waiting import Answer, Waiting
from eventbus.errors import EventBusError, NotConnected
from eventbus.observe.stats import DropLog, DropReason
from eventbus.transports.contract import Transport
from eventbus.wire.headers import NO_HEADERS, decode_headers
from eventbus.wire.numbering import Gaps
from eventbus.wire.requests import CORRELATION_ID, ID_ALONE

if TYPE_CHECKING:
    import asyncio


class Inbox:
    """Receives answers on one reply topic, and hands each to who waits for it. Any thread may use it.

    Its thread refers to it and to those who wait, and to nothing of the client.

    Args:
        transport: closed, and used by nobody else.
        topic: the reply topic, which nobody else has.
        drops: counts the answers for which nobody waits.

    Attributes:
        topic: as given.
        name: the same as text.
        failure: makes the error to raise, as long as no answers are received; None: they are. An inbox that was closed does
            not become open again.
    """

    def __init__(self, transport: Transport, topic: bytes, drops: DropLog) -> None:
        self.topic = topic
        self.name = topic.decode()
        self._transport = transport
        self._drops = drops
        self._log = Log(endpoints=transport.endpoints)
        self._waiting: dict[str, Waiting] = {}
        self._ids = map(str, count(1))
        self._gaps = Gaps()
        self.failure: Callable[[], EventBusError] | None = self._not_connected

    def open(self, timeout: float) -> None:
        """Subscribe to the reply topic; return when what answerers send from now on is sure to arrive. Once only.

        Raises:
            ProxyUnreachable, HandshakeFailed, NotConnected, DescriptorsExhausted, ForkedClient: as `Transport.open`.
        """
        self._transport.subscribe(self.topic)
        self._transport.open(timeout)
        self.failure = None
        Thread(target=self._receive, name="eventbus-answers", daemon=True).start()

    def expect(self, waiting: Waiting) -> str:
        """Hand answers to this one from now on. Returns the correlation id of its request.

        Raises:
            NotConnected, ReconnectFailed: the inbox is closed.
        """
        correlation_id = next(self._ids)
        self._waiting[correlation_id] = waiting
        if self.failure is not None:  # perhaps since a moment: then nobody else would tell it
            self.forget(correlation_id)
            raise self.failure()
        return correlation_id

    def forget(self, correlation_id: str) -> None:
        """Hand it nothing more. Idempotent."""
        self._waiting.pop(correlation_id, None)

    def close(self) -> None:
        """Let all who wait raise NotConnected at once, and close the link. Idempotent."""
        self._end(self._not_connected)
        self._transport.close(0.0)

    def take(self, frames: list[bytes], payloads: list[bytes]) -> None:
        """Hand the answers of a batch on; count those for which nobody waits. One thread at a time."""
        unwanted = 0
        loops: dict[asyncio.AbstractEventLoop, list[Waiting]] = {}  # waking a loop costs more than an answer
        reading = self._gaps.read(frames, self.topic.__eq__)
        for index, (topic, encoded) in enumerate(zip(reading.topics, reading.headers or (), strict=False)):
            if encoded.startswith(ID_ALONE) and encoded.count(b'"') == 4 and encoded[-2:] == b'"}':  # nearly always
                headers, correlation_id = NO_HEADERS, encoded[len(ID_ALONE) : -2].decode(errors="replace")
            else:
                headers = decode_headers(encoded)
                correlation_id = headers.get(CORRELATION_ID, "")
            waiting = self._waiting.get(correlation_id)
            if waiting is None or topic != self.topic:
                unwanted += 1
            elif index in reading.repeated:  # sent again, because the answerer had lost its connection
                continue
            elif waiting.take(Answer(headers, payloads[index])):
                self.forget(correlation_id)
                if waiting.loop is None:
                    waiting.wake()
                else:
                    loops.setdefault(waiting.loop, []).append(waiting)
        if loops:
            _wake(loops)
        if unwanted:
            self._drops.add(DropReason.UNWANTED_ANSWER, unwanted)

    def _receive(self) -> None:
        """Receive until the link is closed; the inbox's thread."""
        try:
            while (batch := self._transport.receive()) is not None:
                self.take(*batch)
        except Exception as error:
            self._log.exception("the inbox of %s has ended", self._transport.endpoints, error=type(error).__name__)
        self._end(self._gone)
        self._transport.close(0.0)

    def _end(self, failure: Callable[[], EventBusError]) -> None:
        if self.failure is None:
            self.failure = failure
        loops: dict[asyncio.AbstractEventLoop, list[Waiting]] = {}
        while self._waiting:
            with suppress(KeyError):  # another thread was faster
                _, waiting = self._waiting.popitem()
                waiting.fail(self.failure)
                if waiting.loop is None:
                    waiting.wake()
                else:
                    loops.setdefault(waiting.loop, []).append(waiting)
        _wake(loops)

    def _not_connected(self) -> EventBusError:
        return NotConnected(self._transport.endpoints)

    def _gone(self) -> EventBusError:
        return self._transport.status.failure or self._not_connected()


def _wake(loops: dict[asyncio.AbstractEventLoop, list[Waiting]]) -> None:
    for loop, of_loop in loops.items():
        with suppress(RuntimeError):  # the loop is closed: its tasks wait no more
            loop.call_soon_threadsafe(_wake_all, of_loop)


def _wake_all(waiting: list[Waiting]) -> None:
    for one in waiting:
        one.wake()
