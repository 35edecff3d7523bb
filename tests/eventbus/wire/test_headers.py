"""Headers: texts that travel beside an event, and are no burden to a peer that does not know them."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import Emission, InvalidHeaders, Middleware, current_headers
from eventbus.handle.middleware import EmitNext
from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.wire.first_frame import split_headers, with_headers
from eventbus.wire.headers import MAX_HEADER_BYTES, decode_headers, encode_headers
from eventbus.wire.numbering import Gaps, Numbering
from tests.support import Bus, MyEvent, MyEventTopic, MyEventType, RawPeers, Recorder, event, eventually, json_of

TOPIC = MyEventTopic.my_service
UPDATED = MyEventType.updated


class Tagging(Middleware):
    """Gives every emission a header, whose value is that of its first event, unless it is zero."""

    def emit(self, emission: Emission, call_next: EmitNext) -> None:
        (first, *_) = emission.events
        value = first.value if isinstance(first, MyEvent) else 0.0
        call_next(Emission(emission.events, emission.topic, {"tag": str(value)} if value else {}, emission.packed))


class Seen:
    """A handler that keeps values and the headers that came with them."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str | None]] = []

    def __call__(self, event: MyEvent) -> None:
        self.seen.append((event.value, current_headers().get("tag")))

    def wait_for(self, count: int) -> list[tuple[float, str | None]]:
        eventually(lambda: len(self.seen) >= count)
        return self.seen


# Frames


texts = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.dictionaries(texts, texts, max_size=5), st.booleans())
def test_frames_carry_any_text(headers: dict[str, str], numbered: bool) -> None:
    """Any headers come out of a frame as they went in, and what is left is the frame that it was, numbered or not."""
    frame = Numbering().next(b"plant") if numbered else b"plant"
    carrying = with_headers(frame, encode_headers(headers))
    assert carrying.startswith(b"plant\0")
    bare, encoded = split_headers(carrying)
    assert bare == frame
    assert decode_headers(encoded) == headers


@given(st.binary(max_size=40))
def test_any_frame_can_be_split(frame: bytes) -> None:
    """Whatever the frame, the topic stays before the first NUL; what are no headers are none."""
    bare, encoded = split_headers(frame)
    assert bare.partition(b"\0")[0] == frame.partition(b"\0")[0]
    assert all(isinstance(text, str) for item in decode_headers(encoded).items() for text in item)


@pytest.mark.parametrize(
    "frame", [b"plant", b"plant\0", Numbering().next(b"plant"), b""], ids=["plain", "marked", "numbered", "empty"]
)
def test_frames_without_headers(frame: bytes) -> None:
    """Frames of every other kind have no headers, and stay as they are."""
    assert split_headers(frame) == (frame, b"")


@pytest.mark.parametrize("encoded", [b"", b"{", b"[]", b'"text"', b"1", b"\xff", b" " * (MAX_HEADER_BYTES + 1)])
def test_what_are_no_headers(encoded: bytes) -> None:
    """Bytes that are no JSON object, or too many, are no headers; values that are no texts are left out."""
    assert decode_headers(encoded) == {}
    assert decode_headers(b'{"a":1,"b":"2"}') == {"b": "2"}


@pytest.mark.parametrize("headers", [{"name": 1}, {1: "value"}, {"name": "\ud800"}, {"name": "x" * MAX_HEADER_BYTES}])
def test_headers_that_cannot_be_sent(headers: dict[str, str]) -> None:
    """A header that is no text, or too long, is refused, and the error names it."""
    with pytest.raises(InvalidHeaders, match=r"1|name"):
        encode_headers(headers)


def test_numbers_are_read_below_headers() -> None:
    """A batch in which some numbered frames have headers counts as one in which none has."""
    numbering, gaps = Numbering(), Gaps()
    frames = [numbering.next(b"plant")]
    for _ in range(4):
        numbering.taken(b"plant")
        frames.append(numbering.next(b"plant"))
    carrying = [with_headers(frame, b"{}") if index % 2 else frame for index, frame in enumerate(frames)]
    del carrying[2]
    topics, lost, repeated, headers, *_ = gaps.read(carrying, b"plant".__eq__)
    assert (topics, lost, repeated, headers) == ([b"plant"] * 4, {b"plant": 1}, [], [b"", b"{}", b"{}", b""])
    assert gaps.read(carrying[-1:], b"plant".__eq__).repeated == [0]


# Over transports


@pytest.fixture(params=["zeromq", "numbered", "memory"])
def buses(request: pytest.FixtureRequest, connected: Callable[..., Bus]) -> Iterator[tuple[Bus, Bus]]:
    """A client that tags what it emits, and one that receives on `my_service`."""
    if request.param == "memory":
        hub = MemoryHub()
        with (
            Bus(MyEvent, transport=MemoryTransport(hub), middleware=[Tagging()]) as sender,
            Bus(MyEvent, transport=MemoryTransport(hub), topics=[TOPIC]) as receiver,
        ):
            yield sender, receiver
    else:
        receiver = connected(topics=[TOPIC])
        yield connected(middleware=[Tagging()], numbered=request.param == "numbered"), receiver


def test_handlers_see_the_headers_of_their_event(buses: tuple[Bus, Bus]) -> None:
    """Each event has its own headers in its handlers, or none, in one batch and packed as well; outside there are none."""
    sender, receiver = buses
    seen = Seen()
    receiver.attach_callback(UPDATED, seen)
    receiver.start_consumer()
    for value in (1, 0, 2):
        sender.emit_event(event(value), TOPIC)
    sender.emit_events([event(3), event(4)], TOPIC)
    sender.emit_event(event(0), TOPIC)
    assert seen.wait_for(6) == [(1, "1.0"), (0, None), (2, "2.0"), (3, "3.0"), (4, "3.0"), (0, None)]
    assert current_headers() == {}
    assert receiver.stats().lost == receiver.stats().rejected == 0


def test_async_handlers_see_them_too(buses: tuple[Bus, Bus]) -> None:
    """In an async handler the headers are those of its event even after other events have been handled."""
    sender, receiver = buses
    seen: list[tuple[float, str | None]] = []
    both = threading_barrier()

    async def handle(event: MyEvent) -> None:
        await both()
        seen.append((event.value, current_headers().get("tag")))

    receiver.attach_callback(UPDATED, handle)
    receiver.start_consumer()
    sender.emit_event(event(1), TOPIC)
    sender.emit_event(event(2), TOPIC)
    eventually(lambda: len(seen) == 2)
    assert sorted(seen) == [(1, "1.0"), (2, "2.0")]


def threading_barrier() -> Callable[[], "asyncio.Future[None]"]:
    """A barrier of two coroutines."""
    waiting: list[asyncio.Future[None]] = []

    def arrive() -> "asyncio.Future[None]":
        future = asyncio.get_running_loop().create_future()
        waiting.append(future)
        if len(waiting) == 2:
            for one in waiting:
                one.set_result(None)
        return future

    return arrive


def test_a_damaged_event_costs_no_neighbour_its_headers(connected: Callable[..., Bus], raw: RawPeers) -> None:
    """A message that is no event is rejected alone: events before and after it keep their own headers."""
    receiver = connected(topics=[TOPIC])
    seen = Seen()
    receiver.attach_callback(UPDATED, seen)
    publisher = raw.publisher(b"my_service")
    for value, payload in ((1, json_of(1)), (2, b"{"), (3, b"[" + json_of(3) + b"," + json_of(4) + b"]"), (5, json_of(5))):
        publisher.send_multipart([with_headers(b"my_service", b'{"tag":"%d"}' % value), payload])
    receiver.start_consumer()
    assert seen.wait_for(4) == [(1, "1"), (3, "3"), (4, "3"), (5, "5")]
    assert receiver.stats().rejected == 1


@pytest.mark.parametrize("numbered", [False, True])
def test_who_knows_no_headers(connected: Callable[..., Bus], raw: RawPeers, numbered: bool) -> None:
    """A plain subscriber gets two frames, the first one beginning with the topic, the second the same JSON as without."""
    subscriber = raw.subscriber(b"my_service")
    sender = connected(middleware=[Tagging()], numbered=numbered)
    sender.emit_event(event(1), TOPIC)
    topic, payload = subscriber.recv_multipart()
    assert topic.startswith(b"my_service\0")
    assert MyEvent.model_validate_json(payload) == event(1)


def test_topics_with_headers_match_exactly(connected: Callable[..., Bus]) -> None:
    """With headers, too, `my_service` does not get what is meant for `my_service_scheduler`."""
    receiver = connected(topics=[TOPIC])
    recorder = Recorder()
    receiver.attach_callback(UPDATED, recorder)
    receiver.start_consumer()
    sender = connected(middleware=[Tagging()])
    sender.emit_event(event(1), MyEventTopic.my_service_scheduler)
    sender.emit_event(event(2), TOPIC)
    assert recorder.wait_for(1) == [2]


def test_headers_that_are_refused_are_an_error_of_emitting(connected: Callable[..., Bus]) -> None:
    """A middleware that sets headers that cannot travel makes emit_event() raise, and nothing is sent."""

    class Wrong(Middleware):
        def emit(self, emission: Emission, call_next: EmitNext) -> None:
            call_next(Emission(emission.events, emission.topic, {"long": "x" * MAX_HEADER_BYTES}))

    sender = connected(middleware=[Wrong()])
    with pytest.raises(InvalidHeaders, match="long"):
        sender.emit_event(event(1), TOPIC)
    assert sender.stats().emitted == 0
