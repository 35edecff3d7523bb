"""Requests without event classes: answers in several messages, and what strangers send."""

import signal
import threading
from collections.abc import Iterator
from threading import Thread

import pytest

from eventbus._base.deadline import Deadline
from eventbus.ask.answering import Answerer
from eventbus.ask.link import RequestLink
from eventbus.ask.waiting import Waiting
from eventbus.errors import NoAnswer, NobodyAnswers, RequestFailed
from eventbus.observe.stats import DropReason
from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.wire.first_frame import split_headers, with_headers
from eventbus.wire.headers import decode_headers, encode_headers
from eventbus.wire.requests import CORRELATION_ID, Request
from tests.support import PATIENCE, eventually

TOPIC = b"history"


@pytest.fixture
def hub() -> MemoryHub:
    return MemoryHub()


@pytest.fixture
def transport(hub: MemoryHub) -> Iterator[MemoryTransport]:
    made = MemoryTransport(hub)
    made.open(PATIENCE)
    yield made
    made.close(0)


@pytest.fixture
def link(transport: MemoryTransport) -> Iterator[RequestLink]:
    made = RequestLink(transport)
    yield made
    made.close()


@pytest.fixture
def answering(hub: MemoryHub) -> Iterator[MemoryTransport]:
    """Answers each request with as many messages as its payload says, and then, if that is negative, fails."""
    made = MemoryTransport(hub)
    made.subscribe(TOPIC)
    made.open(PATIENCE)
    thread = Thread(target=answer_all, args=(made,), daemon=True)
    thread.start()
    yield made
    made.close(0)
    thread.join(PATIENCE)


def answer_all(transport: MemoryTransport) -> None:
    answerer = Answerer(transport)
    while (batch := transport.receive()) is not None:
        for frame, payload in zip(*batch, strict=True):
            request = Request.of(decode_headers(split_headers(frame)[1]))
            assert request is not None
            count = int(payload)
            for number in range(abs(count)):
                answerer.answer(request, b" %d" % number, {"n": str(number)}, more=count < 0 or number < count - 1)
            if count < 0:
                answerer.fail(request, RuntimeError("no more"))


def test_one_answer(link: RequestLink, answering: MemoryTransport) -> None:
    """ask() returns the first message, with its headers."""
    answer = link.ask(TOPIC, "events", b" 1", PATIENCE)
    assert answer.payload == b" 0"
    assert answer.headers["n"] == "0"


def test_parts(link: RequestLink, answering: MemoryTransport) -> None:
    """ask_for_parts() yields all messages of an answer, in order, and what follows it is another request's."""
    for count in (1, 3, 1_000):
        parts = list(link.ask_for_parts(TOPIC, "events", b" %d" % count, PATIENCE))
        assert [int(part.payload) for part in parts] == list(range(count))


def test_parts_end_with_an_error(link: RequestLink, answering: MemoryTransport) -> None:
    """If the answerer fails half-way, what has come before is yielded first."""
    found = []
    with pytest.raises(RequestFailed, match="RuntimeError: no more"):
        found += [0 for _ in link.ask_for_parts(TOPIC, "events", b" -3", PATIENCE)]
    parts = link.ask_for_parts(TOPIC, "events", b" -3", PATIENCE)
    assert [int(next(parts).payload) for _ in range(3)] == [0, 1, 2]
    parts.close()  # type: ignore[attr-defined] # a generator


def test_nobody_and_no_answer(hub: MemoryHub, transport: MemoryTransport, link: RequestLink) -> None:
    """The errors are those of events."""
    with pytest.raises(NobodyAnswers):
        link.ask(TOPIC, "events", b" 1", PATIENCE)
    transport.subscribe(TOPIC)
    with pytest.raises(NoAnswer):
        link.ask(TOPIC, "events", b" 1", 0.01)


def test_the_time_of_parts_is_that_of_each(transport: MemoryTransport, link: RequestLink) -> None:
    """A part that does not come ends the waiting; the timeout begins anew with each part."""
    transport.subscribe(TOPIC)
    parts = link.ask_for_parts(TOPIC, "events", b" 1", 0.05)
    with pytest.raises(NoAnswer) as raised:
        next(parts)
    assert raised.value.timeout == 0.05


def test_strangers_answers_are_counted(transport: MemoryTransport, link: RequestLink) -> None:
    """What comes without a correlation id that is waited for, or is no answer at all, disturbs nobody."""
    inbox = link.inbox(Deadline(PATIENCE))
    for frame in (
        inbox.topic,
        inbox.topic + b"more",
        with_headers(inbox.topic, b"no json"),
        with_headers(inbox.topic, encode_headers({CORRELATION_ID: "none of ours"})),
        with_headers(inbox.topic, encode_headers({"other": "x"})),
    ):
        transport.send(frame, b"{}")
    eventually(lambda: transport.drops.counts.get(DropReason.UNWANTED_ANSWER, 0) == 5)


@pytest.mark.parametrize(
    "written", [b'{"correlation-id":"%b"}\n', b'{"correlation-id":"%b" }', b'{ "correlation-id": "%b"}']
)
def test_headers_of_other_implementations(transport: MemoryTransport, link: RequestLink, written: bytes) -> None:
    """JSON may have white space anywhere."""
    inbox, waiting = link.inbox(Deadline(PATIENCE)), Waiting()
    transport.send(with_headers(inbox.topic, written % inbox.expect(waiting).encode()), b"{}")
    waiting.wait(Deadline(PATIENCE))
    assert len(waiting.answers) == 1


def test_an_asker_that_has_gone(transport: MemoryTransport, link: RequestLink) -> None:
    """An answer to an asker that has gone is not sent, but counted."""
    inbox = link.inbox(Deadline(PATIENCE))
    link.close()
    sent = transport.sent
    answerer = Answerer(transport)
    for _ in range(2):
        answerer.answer(Request(inbox.topic, "1"), b"{}")
    assert transport.sent == sent
    assert transport.drops.counts[DropReason.UNWANTED_ANSWER] == 2
    transport.subscribe(inbox.topic)  # as one that had only lost its connection
    answerer.answer(Request(inbox.topic, "1"), b"{}")
    assert transport.sent == sent + 1


class Interrupted(MemoryTransport):
    """A transport whose siblings are interrupted by a signal while they open."""

    def sibling(self) -> MemoryTransport:
        made = super().sibling()
        opening = made.open

        def open_interrupted(timeout: float) -> None:
            opening(timeout)
            made.open = opening  # type: ignore[method-assign] # once
            signal.raise_signal(signal.SIGUSR1)

        made.open = open_interrupted  # type: ignore[method-assign]
        return made


def test_a_signal_handler_may_ask_while_its_thread_opens_the_inbox(hub: MemoryHub, answering: MemoryTransport) -> None:
    """Both get their answers, over one inbox."""
    transport = Interrupted(hub)
    transport.open(PATIENCE)
    link = RequestLink(transport)
    in_handler: list[bytes] = []
    is_first = iter([True])

    def ask(*_: object) -> None:
        if next(is_first, False):
            in_handler.append(link.ask(TOPIC, "events", b" 1", PATIENCE).payload)

    before = signal.signal(signal.SIGUSR1, ask)
    try:
        assert link.ask(TOPIC, "events", b" 1", PATIENCE).payload == b" 0"
        assert in_handler == [b" 0"]
    finally:
        signal.signal(signal.SIGUSR1, before)
        link.close()
        transport.close(0)
    eventually(lambda: not any(thread.name == "eventbus-answers" for thread in threading.enumerate()), PATIENCE)
