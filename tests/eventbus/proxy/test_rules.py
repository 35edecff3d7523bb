"""Rules over real sockets: what clients may publish and subscribe to, and what a hostile client with a valid key can do."""

import asyncio
import tracemalloc
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zmq

from eventbus import ClientState, DropReason
from eventbus.errors import UnknownClient
from eventbus.keys import ClientKeys
from eventbus.proxy.allow_list import AllowedClient, AllowList, TopicRule
from eventbus.proxy.authorizer import Authorizer
from eventbus.proxy.denials import LastingNotices
from eventbus.wire.first_frame import FirstFrame, Head, parse
from eventbus.wire.notices import MIN_PAYLOAD_LIMIT, Action, DenialNotice, LimitNotice
from tests.security import Guarded, logged, wait_for_line
from tests.support import (
    PATIENCE,
    Bus,
    MyEventTopic,
    MyEventType,
    RawPeers,
    Recorder,
    event,
    eventually,
    fields_of,
    json_of,
)

pytestmark = pytest.mark.patience

TOPIC, SCHEDULER, OTHER = MyEventTopic.my_service, MyEventTopic.my_service_scheduler, MyEventTopic.other
UPDATED = MyEventType.updated

END = b"zz-end"  # the topic of a message after everything else

type Socket = zmq.Socket[bytes]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A proxy that enforces rules; each test lets its own clients in."""
    with started(tmp_path_factory.mktemp("allow-lists")) as made:
        yield made


def started(directory: Path) -> Guarded:
    """A proxy that enforces rules from its start on."""
    made = Guarded(directory)
    made.admit("nobody", publish=[], subscribe=[])
    return made


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """The name of the client that the test is about: each test has another."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)


@pytest.fixture
def boss(guarded: Guarded) -> ClientKeys:
    """Keys of a client that may do everything."""
    return guarded.admit()


@pytest.fixture
def hostile(guarded: Guarded, name: str) -> ClientKeys:
    """Keys of a client that may have little."""
    return guarded.admit(name, publish=["mine", END.decode()], subscribe=["mine", "my_service", END.decode()])


def record(client: Bus) -> Recorder:
    recorder = Recorder()
    client.attach_callback(UPDATED, recorder)
    client.start_consumer()
    return recorder


def denied(guarded: Guarded, name: str) -> int:
    return guarded.proxy.health().denied.get(name, 0)


def await_denied(guarded: Guarded, name: str, times: int) -> None:
    eventually(lambda: denied(guarded, name) >= times, PATIENCE, f"{times} times denied")
    assert denied(guarded, name) == times


def read_to_end(subscriber: Socket) -> list[bytes]:
    """The topics of what came before the end, without what follows them."""
    topics = []
    while (topic := subscriber.recv_multipart()[0].partition(b"\0")[0]) != END:
        topics.append(topic)
    return topics


# Our own clients


@pytest.mark.parametrize("numbered", [False, True], ids=["plain", "numbered"])
def test_exact_topics(guarded: Guarded, boss: ClientKeys, name: str, numbered: bool) -> None:
    """A client that may have one topic gets its events, packed or not, and none of a topic that begins alike."""
    bound = guarded.admit(name, publish=["my_service"], subscribe=["my_service"])
    one = guarded.connected(boss, numbered=numbered)
    two = guarded.connected(bound, numbered=numbered, topics=["my_service", "my_service_scheduler"])
    recorder = record(two)
    one.emit_event(event(-1), SCHEDULER)
    one.emit_event(event(0), TOPIC)
    one.emit_events([event(number) for number in range(1, 50)], TOPIC)
    assert recorder.wait_for(50) == list(range(50))
    two.emit_event(event(-2), SCHEDULER)
    two.emit_events([event(-3)] * 5, SCHEDULER)
    two.emit_event(event(50), TOPIC)
    assert recorder.wait_for(51) == list(range(51))
    assert two.stats().lost == two.stats().rejected == 0
    # To subscribe to the other topic, to publish a single event there, and a packed message.
    await_denied(guarded, name, 3)
    for client in (one, two):
        client.close()


@pytest.mark.parametrize("numbered", [False, True], ids=["plain", "numbered"])
def test_prefixes(guarded: Guarded, boss: ClientKeys, name: str, numbered: bool) -> None:
    """A client that may have what begins with a prefix may publish and subscribe to all of that, and nothing else."""
    bound = guarded.admit(name, publish=["my_*"], subscribe=["my_*"])
    one = guarded.connected(boss, numbered=numbered, topics=["my_service", "my_service_scheduler", "other"])
    two = guarded.connected(bound, numbered=numbered, topics=["my_service", "my_service_scheduler", "other"])
    recorders = record(one), record(two)
    two.emit_event(event(-1), OTHER)
    two.emit_event(event(1), TOPIC)
    two.emit_event(event(2), SCHEDULER)
    for recorder in recorders:
        assert recorder.wait_for(2) == [1, 2]
    one.emit_event(event(-2), OTHER)
    one.emit_event(event(3), SCHEDULER)
    assert recorders[1].wait_for(3) == [1, 2, 3]
    await_denied(guarded, name, 2)
    for client in (one, two):
        client.close()


def test_all_topics(guarded: Guarded, boss: ClientKeys, name: str) -> None:
    """subscribe(None) is for clients that may have all topics; another is denied, and its other subscriptions stay."""
    bound = guarded.admit(name, subscribe=["my_service"])
    one, two = guarded.connected(boss), guarded.connected(bound)
    one.subscribe(None)
    two.subscribe(TOPIC)
    two.subscribe(None)
    recorders = record(one), record(two)
    for number, topic in enumerate([SCHEDULER, TOPIC, OTHER, TOPIC]):
        two.emit_event(event(number), topic)
    assert recorders[0].wait_for(4) == [0, 1, 2, 3]
    assert recorders[1].wait_for(2) == [1, 3]
    await_denied(guarded, name, 1)
    two.unsubscribe(None)
    one.emit_event(event(5), TOPIC)
    assert recorders[1].wait_for(3) == [1, 3, 5]
    for client in (one, two):
        client.close()


def test_many_topics(guarded: Guarded, boss: ClientKeys, name: str) -> None:
    """A client gets the 500 of 1,000 topics that it may have."""
    topics = [f"topic/{number:04}" for number in range(1_000)]
    bound = guarded.admit(name, subscribe=topics[::2])
    client = guarded.connected(bound, topics=topics)
    recorder = record(client)
    publisher = guarded.raw(boss).publisher(b"")
    for number, topic in enumerate(topics):
        publisher.send_multipart([topic.encode(), json_of(number)])
    assert recorder.wait_for(500) == list(range(0, 1_000, 2))
    await_denied(guarded, name, 500)
    client.close()


def test_subscribing_and_unsubscribing(guarded: Guarded, boss: ClientKeys, name: str) -> None:
    """On an event loop as elsewhere a subscription is in force when subscribe() returns, and ends with unsubscribe()."""
    bound = guarded.admit(name, subscribe=["my_service", "other"])
    one, two = guarded.connected(boss), guarded.connected(bound, topics=["other"])
    recorder = record(two)

    async def change() -> None:
        for number in range(20):
            await asyncio.to_thread(two.subscribe, TOPIC)
            two.emit_event(event(number), TOPIC)
            two.emit_event(event(number), OTHER)
            await asyncio.to_thread(recorder.wait_for, 2 * number + 2)
            await asyncio.to_thread(two.unsubscribe, TOPIC)

    asyncio.run(change())
    assert recorder.values == [number for number in range(20) for _ in range(2)]
    assert denied(guarded, name) == 0
    for client in (one, two):
        client.close()


def test_the_log_names_who_is_denied(
    guarded: Guarded, boss: ClientKeys, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first denial of each kind is logged with the client's name and the topic; the next ones only counted."""
    bound = guarded.admit(name, publish=[], subscribe=[])
    client = guarded.connected(bound)
    for number in range(100):
        client.emit_event(event(number), OTHER)
    for topic in (TOPIC, SCHEDULER, OTHER):
        client.subscribe(topic)
    await_denied(guarded, name, 103)
    lines = logged(caplog.records, name)
    assert len(lines) == 2
    assert any("publish on topic b'other'" in line for line in lines)
    assert any("subscribe on topic b'my_service'" in line for line in lines)
    client.close()


def test_a_client_learns_what_it_is_denied(
    guarded: Guarded, boss: ClientKeys, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its denied events count as dropped, and it logs both kinds of denial with their topics; no other client does."""
    other = guarded.connected(boss)
    client = guarded.connected(guarded.admit(name, publish=["other"], subscribe=["other"]))
    for number in range(10):
        client.emit_event(event(number), TOPIC)
        client.emit_event(event(number), OTHER)
    client.subscribe(SCHEDULER)
    eventually(lambda: client.stats().drops == {DropReason.DENIED: 10}, PATIENCE)
    eventually(lambda: len([line for line in caplog.messages if "this client" in line]) == 2, PATIENCE)
    lines = sorted(line for line in caplog.messages if "this client" in line)
    assert "publish on topic b'my_service'" in lines[0]
    assert "subscribe on topic b'my_service_scheduler'" in lines[1]
    assert other.stats().dropped == 0
    client.close()
    other.close()


def next_frame(publisher: Socket) -> bytes:
    """The next frame from upstream."""
    assert publisher.poll(round(1000 * PATIENCE))
    return publisher.recv()


def notices_until_now(guarded: Guarded, boss: ClientKeys, publisher: Socket) -> list[DenialNotice]:
    """The notices of denials that wait at a publisher."""
    token = b"\xff" + uuid.uuid4().bytes
    subscriber = guarded.raw(boss).subscriber()
    subscriber.subscribe(token)
    frames = list(iter(lambda: next_frame(publisher), b"\x01" + token))
    return [notice for notice in map(DenialNotice.of, frames) if notice is not None]


def test_a_notice_reaches_a_publishing_connection_that_comes_late(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each publishing connection gets the notice of a denied subscription once: one that is there, and one that comes after
    it was sent. A client with the same keys logs nothing of a topic to which it has not subscribed."""
    with started(tmp_path) as guarded:
        boss, bound = guarded.admit(), guarded.admit(name, subscribe=["my_service"])
        bystander = guarded.connected(bound, topics=["my_service"])
        there = guarded.raw(boss).publisher(b"")
        guarded.raw(bound).subscriber(b"other")
        expected = DenialNotice(bound.public_key, Action.SUBSCRIBE, b"other", 1)
        while DenialNotice.of(next_frame(there)) != expected:
            pass
        late = guarded.raw(bound).publisher(b"")
        assert notices_until_now(guarded, boss, late) == [expected]
        assert notices_until_now(guarded, boss, there) == []
        bystander.connect(PATIENCE)  # and has read what has come upstream
        assert logged(caplog.records, "this client") == []
        client = guarded.connected(bound, topics=["other"])
        eventually(lambda: logged(caplog.records, "this client"), PATIENCE)  # perhaps a moment after it has connected
        [line] = logged(caplog.records, "this client")
        assert "subscribe on topic b'other'" in line
        for made in (client, bystander):
            made.close()


def test_a_notice_ends_with_the_rule(tmp_path: Path, name: str) -> None:
    """Once a rule permits a subscription, a client that starts again is not told that it was denied; others still are."""
    with started(tmp_path) as guarded:
        boss, bound = guarded.admit(), guarded.admit(name, subscribe=["my_service"])
        there = guarded.raw(boss).publisher(b"")
        guarded.raw(bound).subscriber(b"other")
        lifted, kept = (DenialNotice(bound.public_key, Action.SUBSCRIBE, topic, 1) for topic in (b"other", b"zz"))
        while DenialNotice.of(begin := next_frame(there)) != lifted:
            pass
        guarded.raw(bound).subscriber(b"zz")
        while DenialNotice.of(next_frame(there)) != kept:
            pass
        guarded.set(name, bound.public_key, subscribe=["my_service", "other"])
        guarded.reload()
        while next_frame(there) != b"\0" + begin[1:]:
            pass
        assert notices_until_now(guarded, boss, guarded.raw(bound).publisher(b"")) == [kept]


def test_lasting_notices_are_bounded() -> None:
    """A notice ends after a minute, and sooner only for the hundredth after it of the same client, or for a new rule."""
    notices = LastingNotices()

    def add(key: str, number: int, now: float) -> bytes | None:
        return notices.add(DenialNotice(key, Action.SUBSCRIBE, b"%d" % (number // 2), 1), b"%d" % number, now)

    assert add("other", 7, 0.0) is None
    assert [add("client", number, 1.0) for number in range(102)] == [None] * 100 + [b"0", b"1"]
    assert notices.take_permitted(lambda key, topic: (key, topic) == ("client", b"1")) == [b"2", b"3"]
    assert notices.take_ended(59.9) == []
    assert notices.take_ended(60.0) == [b"7"]
    assert notices.take_ended(61.0) == [b"%d" % number for number in range(4, 102)]
    assert not notices


# A hostile client of plain pyzmq, with a valid key of its own


def forbidden() -> Iterator[tuple[str, list[bytes]]]:
    payload = json_of(666)
    for topic in (b"my_service", b"min", b"mine2", b"mine ", b"MINE", b"other", b"zz", b"\xff", b"\xfe\xff"):
        yield repr(topic), [topic, payload]
    yield "with a header", [b"my_service\0" + bytes(16), payload]
    yield "with its own topic after the mark", [b"my_service\0mine", payload]
    yield "with nothing before the mark", [b"\0mine", payload]
    yield "a token", [b"\xff" + bytes(16), payload]
    yield "a token with a mark", [b"\xffmine\0", payload]
    yield "one frame", [b"my_service"]
    yield "three frames", [b"my_service", payload, b"mine"]
    yield "an empty frame", [b""]
    yield "empty frames", [b"", b"", b""]
    yield "the payload first", [payload, b"my_service"]
    yield "its own topic second", [b"", b"mine", payload]
    yield "like a subscription", [b"\x01mine", payload]
    yield "a long topic", [b"my_service" * 10_000, payload]


FORBIDDEN = dict(forbidden())


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_must_not_be_published(guarded: Guarded, boss: ClientKeys, hostile: ClientKeys, name: str, what: str) -> None:
    """Nobody gets what the client may not publish; it is counted once, and what it may publish passes as before."""
    observer = guarded.raw(boss).subscriber(b"")
    token = b"\xff" + bytes(16)
    observer.subscribe(token)
    publisher = guarded.raw(hostile).publisher(b"")
    publisher.send_multipart([b"mine", b"before"])
    publisher.send_multipart(FORBIDDEN[what])
    publisher.send_multipart([b"mine", b"after"])
    assert observer.recv_multipart() == [b"mine\0", b"before"]
    assert observer.recv_multipart() == [b"mine\0", b"after"]
    assert denied(guarded, name) == 1


MALFORMED: dict[str, list[bytes]] = {
    "one frame": [b"mine"],
    "one numbered frame": [b"mine\0" + bytes(range(1, 17))],
    "three frames": [b"mine", json_of(1), b"my_service"],
    "another message behind it": [b"mine", json_of(1), b"my_service", json_of(666)],
    "another message behind a numbered one": [b"mine\0" + bytes(range(1, 17)), json_of(1), b"my_service", json_of(666)],
    "another message in it": [b"mine", b"my_service", json_of(666)],
    "two messages in it": [b"mine", b"my_service", json_of(666), b"my_service", json_of(666)],
    "empty frames": [b"mine", b"", b"", b""],
    "ten thousand frames": [b"mine", *[b"my_service", json_of(666)] * 5_000],
}


@pytest.mark.parametrize("what", MALFORMED)
def test_nothing_passes_but_two_frames(
    guarded: Guarded, boss: ClientKeys, hostile: ClientKeys, name: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """On a topic of its own a client smuggles no event of another topic to subscribers of both, even in a burst: a message
    that does not have two frames is dropped whole, counted and logged. What it sends before and after passes."""
    client = guarded.connected(boss, topics=["my_service", "my_service_scheduler"])
    client.subscribe(None)
    recorder = record(client)
    observer = guarded.raw(boss).subscriber(b"mine")
    publisher = guarded.raw(hostile).publisher(b"")
    for _ in range(20):
        publisher.send_multipart([b"mine", json_of(1)])
        publisher.send_multipart(MALFORMED[what])
    publisher.send_multipart([b"mine", b"end"])
    for payload in [json_of(1)] * 20 + [b"end"]:
        assert observer.recv_multipart() == [b"mine\0", payload]
    client.emit_event(event(2), TOPIC)
    eventually(lambda: recorder.values[-1:] == [2])
    assert 666 not in recorder.values
    assert denied(guarded, name) == 20
    [line] = logged(caplog.records, "does not have two frames")
    assert line.startswith(f"denied client {name} to publish on topic b'mine'")
    client.close()


def test_nothing_passes_on_what_is_no_topic(guarded: Guarded, boss: ClientKeys, name: str) -> None:
    """Receivers take a frame that begins as a compressed payload does, and is no topic, for the payload of the frame before
    it: a client with a rule that matches it would publish on any topic so."""
    compressed = zlib.compress(json_of(666))
    assert compressed.startswith(b"x\x9c")
    client = guarded.connected(boss, topics=["my_service"])
    client.subscribe(None)
    recorder = record(client)
    publisher = guarded.raw(guarded.admit(name, publish=["x*"])).publisher(b"")
    for _ in range(100):
        publisher.send_multipart([b"x", b"my_service"])
        publisher.send_multipart([compressed, b""])
    await_denied(guarded, name, 100)
    client.emit_event(event(2), TOPIC)
    assert recorder.wait_for(1) == [2]
    client.close()


def numbered(publisher: bytes, number: int, topic: bytes = b"my_service") -> bytes:
    """The first frame of a numbered message with one event."""
    return FirstFrame(topic, head=Head(topic, publisher, 1), number=number).encode()


def test_nobody_uses_the_numbers_of_another(guarded: Guarded, boss: ClientKeys, name: str) -> None:
    """Numbers far ahead cost another client no event: with the id that the other sends, and with the one that receivers see,
    a client is still another publisher."""
    raw = guarded.raw(guarded.admit(name))
    observer, victim, forger = (
        guarded.raw(boss).subscriber(b"my_service"),
        guarded.raw(boss).publisher(b""),
        raw.publisher(b""),
    )
    client = guarded.connected(boss, topics=["my_service"])
    recorder = record(client)
    sent = b"\x01victims"
    victim.send_multipart([numbered(sent, 1), json_of(1)])
    seen = parse(observer.recv_multipart()[0])
    assert seen.head is not None
    assert (seen.topic, seen.head.events, seen.number) == (b"my_service", 1, 1)
    for publisher in (sent, seen.head.publisher):
        forger.send_multipart([numbered(publisher, 900_000), json_of(2)])
        forged = parse(observer.recv_multipart()[0])
        assert forged.head is not None
        assert forged.head.publisher not in (sent, seen.head.publisher)
    for number in range(2, 100):
        victim.send_multipart([numbered(sent, number), json_of(1)])
    assert recorder.wait_for(101).count(1) == 99
    assert client.stats().lost == client.stats().repeated == 0
    client.close()


def test_a_publisher_stays_the_same_across_restarts(tmp_path: Path) -> None:
    """A publisher has the same id for receivers after a restart of the proxy, so that they know what they have."""
    with started(tmp_path) as guarded:
        keys = guarded.admit()
        seen = []
        for _ in range(2):
            with closing(guarded.raw(keys)) as raw:
                observer = raw.subscriber(b"my_service")
                raw.publisher(b"").send_multipart([numbered(b"\x01another", 1), json_of(1)])
                seen.append(observer.recv_multipart())
            guarded.proxy.stop()
            guarded.proxy.start()
        assert seen[0] == seen[1]


def test_ten_thousand_topics(guarded: Guarded, boss: ClientKeys, hostile: ClientKeys, name: str) -> None:
    """A flood of different topics is denied one by one, logged on one line, and delays nobody for long."""
    client = guarded.connected(boss, topics=["my_service"])
    recorder = record(client)
    publisher = guarded.raw(hostile).publisher(b"")
    for number in range(10_000):
        publisher.send_multipart([b"topic%d" % number, b""])
        if number % 1_000 == 0:
            client.emit_event(event(number), TOPIC)
    await_denied(guarded, name, 10_000)
    assert recorder.wait_for(10) == list(range(0, 10_000, 1_000))
    client.close()


def test_the_memory_of_decisions_is_bounded() -> None:
    """However many topics a client invents, and however long they are, few decisions are remembered."""
    authorizer = Authorizer(AllowList([AllowedClient("hostile", "k" * 40, publish=TopicRule(frozenset([b"mine"]), ()))]))
    tracemalloc.start()
    try:
        for number in range(30_000):
            authorizer.message("k" * 40, b"topic%d" % number)
            authorizer.message("k" * 40, numbered(b"\x01%07d" % number, 1, b"mine"))
        for number in range(200):
            authorizer.message("k" * 40, b"%d" % number + bytes([120]) * 100_000)
            authorizer.message("k" * 40, b"%d" % number + bytes([120]) * 100_000 + b"\0header")
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 8_000_000


LOG_LIMIT = 500  # characters


def test_lines_of_the_log_are_bounded(
    guarded: Guarded, hostile: ClientKeys, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A line about what was denied is short and has no line breaks or control characters in it, whatever the topic."""
    raw = guarded.raw(hostile)
    raw.publisher(b"").send_multipart([b"\x1b[2J\r\nERROR forged" * 1_000, b""])
    raw.subscriber(b"\x1b[2J\r\nERROR forged" * 100)
    await_denied(guarded, name, 2)
    eventually(lambda: len(logged(caplog.records, name)) == 2, PATIENCE)
    for line in logged(caplog.records, name):
        assert len(line) < LOG_LIMIT
        assert line.isprintable()
    topics = [
        str(fields_of(record)["eventbus_topic"]) for record in caplog.records if "eventbus_client" in fields_of(record)
    ]
    assert len(topics) == 2
    assert all(topic.isprintable() and len(topic) < LOG_LIMIT for topic in topics)


@pytest.mark.parametrize(
    "prefix",
    [b"", b"m", b"my_servic", b"my_service_", b"my_service_scheduler", b"other", b"mine2", b"\xfe", b"x" * 4_000],
    ids=lambda prefix: repr(prefix[:20]),
)
def test_what_must_not_be_subscribed(
    guarded: Guarded, boss: ClientKeys, hostile: ClientKeys, name: str, prefix: bytes
) -> None:
    """Beginnings of what a client may have, what begins like it, and other topics are denied; it goes on with its own."""
    subscriber = guarded.raw(hostile).subscriber(prefix)
    assert denied(guarded, name) == 1
    raw = guarded.raw(hostile)
    subscriber.subscribe(END)
    raw.settle(subscriber)
    publisher = guarded.raw(boss).publisher(b"")
    for topic in (b"m", b"my_service", b"my_service_scheduler", b"my_service2", b"other", b"mine2", prefix or b"x", END):
        publisher.send_multipart([topic, json_of(666)])
    assert read_to_end(subscriber) == []


@pytest.mark.parametrize("prefix", [b"my_service", b"my_service\0", b"my_service\0\0\0"], ids=repr)
def test_an_exact_topic_is_exact(guarded: Guarded, boss: ClientKeys, hostile: ClientKeys, prefix: bytes) -> None:
    """A client that may have exactly one topic gets its messages, numbered or not, and none of topics that begin alike."""
    raw = guarded.raw(hostile)
    subscriber = raw.subscriber(prefix)
    subscriber.subscribe(END)
    raw.settle(subscriber)
    publisher = guarded.raw(boss).publisher(b"")
    for topic in (b"my_service2", b"my_service_scheduler", b"my_servic", b"my_service", b"my_service\0" + bytes(16), END):
        publisher.send_multipart([topic, b"{}"])
    expected = {b"my_service": 2, b"my_service\0": 2, b"my_service\0\0\0": 1}[prefix]
    assert read_to_end(subscriber) == [b"my_service"] * expected


def test_tokens_tell_nothing(guarded: Guarded, boss: ClientKeys, hostile: ClientKeys) -> None:
    """Each client may subscribe to tokens; no message ever comes from that."""
    raw = guarded.raw(hostile)
    subscriber = raw.subscriber(b"\xff")
    subscriber.subscribe(END)
    raw.settle(subscriber)
    publisher = guarded.raw(boss).publisher(b"")
    for topic in (b"\xff", b"\xff" + bytes(16), b"\xffmine", END):
        publisher.send_multipart([topic, b"{}"])
    assert read_to_end(subscriber) == []


def test_nobody_forges_notices(guarded: Guarded, boss: ClientKeys, hostile: ClientKeys) -> None:
    """A client's notices in the proxy's name reach no publisher."""
    raw = guarded.raw(hostile)
    publisher = guarded.raw(boss).publisher(b"")
    while publisher.poll(0):
        publisher.recv()
    subscriber = raw.subscriber(b"mine")
    for length in range(20):
        subscriber.subscribe(LimitNotice(MIN_PAYLOAD_LIMIT, length * "x").frame()[1:])
    token = b"\xff" + uuid.uuid4().bytes
    subscriber.subscribe(token)
    told: list[bytes] = []
    while told[-1:] != [b"\x01" + token]:
        assert publisher.poll(round(1000 * PATIENCE))
        told.append(publisher.recv())
    assert not any(map(LimitNotice.of, told))


def test_the_subscriptions_of_others_do_not_end(guarded: Guarded, boss: ClientKeys, hostile: ClientKeys) -> None:
    """Whatever a hostile client unsubscribes, subscribed or not, denied or not, no subscription of another client ends."""
    exact = guarded.admit(subscribe=["my_service"])
    clients = [guarded.connected(keys, topics=["my_service"]) for keys in (boss, exact)]
    clients[0].subscribe(None)
    recorders = [record(client) for client in clients]
    raw = guarded.raw(hostile)
    sender = upstream(raw)
    for topic in (b"", b"my_service", b"my_service\0", b"\xff", b"other", b"my"):
        for change in (b"\x00", b"\x01", b"\x00", b"\x00"):
            sender.send(change + topic)
    settle_upstream(raw, sender)
    clients[0].emit_event(event(1), TOPIC)
    for recorder in recorders:
        assert recorder.wait_for(1) == [1]
    for client in clients:
        client.connect(PATIENCE)  # echoes still come back
        client.close()


def upstream(raw: RawPeers) -> Socket:
    """A socket that can send a proxy's port for subscribers whatever it likes."""
    made = raw._socket(zmq.XSUB)
    made.set(zmq.SNDHWM, 0)
    made.set(zmq.RCVHWM, 0)
    made.set(zmq.RCVTIMEO, round(PATIENCE * 1000))
    made.connect(raw.sub_endpoint)
    return made


def settle_upstream(raw: RawPeers, sender: Socket) -> None:
    """Return when the proxy has done all that was sent."""
    token = b"\xffsettle" + bytes(10)
    sender.send(b"\x01" + token)
    raw.publisher(token).close(linger=0)
    sender.send(b"\x00" + token)


def test_what_is_asked_for_twice_ends_once(tmp_path: Path) -> None:
    """What a client has asked for twice ends with its connection: else new publishers would be told of it for ever."""
    with started(tmp_path) as guarded:
        boss, hostile = guarded.admit(), guarded.admit(publish=[], subscribe=["mine"])
        tokens = [b"\xffagain%d" % number + bytes(10) for number in range(10)]
        raw, others = guarded.raw(hostile), guarded.raw(boss)
        sender = upstream(raw)
        for topic in (*tokens, *tokens, b"mine", b"mine", b"other", b"other"):
            sender.send(b"\x01" + topic)
        settle_upstream(raw, sender)
        assert guarded.proxy.health().subscriptions == 1
        raw.close()
        eventually(lambda: guarded.proxy.health().subscriptions == 0, PATIENCE)
        last = b"\xff" * 17
        others.subscriber(b"mine").subscribe(last)
        publisher = others.publisher(b"")
        told: list[bytes] = []
        while told[-1:] != [b"\x01" + last]:
            assert publisher.poll(round(1000 * PATIENCE))
            told.append(publisher.recv())
        assert not {frame[1:] for frame in told} & set(tokens)


def test_one_that_disconnects_ends_nothing(guarded: Guarded, boss: ClientKeys, hostile: ClientKeys, name: str) -> None:
    """When a client with granted and denied subscriptions goes, libzmq reports their end; no other subscription ends."""
    client = guarded.connected(boss, topics=["my_service", "my_service_scheduler"])
    client.subscribe(None)
    recorder = record(client)
    for times in range(1, 11):
        raw = guarded.raw(hostile)
        sender = upstream(raw)
        for topic in (b"", b"my_service", b"my_service_scheduler", b"mine"):
            sender.send(b"\x01" + topic)
        settle_upstream(raw, sender)
        before = guarded.proxy.health().from_subscribers.frames
        raw.close()
        eventually(lambda before=before: guarded.proxy.health().from_subscribers.frames >= before + 4, PATIENCE)  # type: ignore[misc]
        client.emit_event(event(times), SCHEDULER)
        assert recorder.wait_for(times)[-1] == times
    assert denied(guarded, name) == 20
    client.close()


def test_a_flood_of_changes(guarded: Guarded, boss: ClientKeys, hostile: ClientKeys, name: str) -> None:
    """While one client subscribes and unsubscribes as fast as it can, others subscribe, publish and receive."""
    client = guarded.connected(boss, topics=["my_service"])
    recorder = record(client)
    raw = guarded.raw(hostile)
    sender = upstream(raw)
    for number in range(20_000):
        sender.send((b"\x01", b"\x00")[number % 2] + (b"mine", b"other")[number // 2 % 2])
        if number % 1_000 == 0:
            client.emit_event(event(number), TOPIC)
    assert recorder.wait_for(20) == list(range(0, 20_000, 1_000))
    client.subscribe(OTHER)
    client.emit_event(event(1), OTHER)
    assert recorder.wait_for(21)[-1] == 1
    settle_upstream(raw, sender)
    assert denied(guarded, name) == 5_000
    client.close()


UPSTREAM: dict[str, Callable[[Socket], Any]] = {
    "an empty message": lambda sender: sender.send(b""),
    "a subscription in the second frame": lambda sender: sender.send_multipart([b"user", b"\x01mine"]),
    "a subscription in the first frame": lambda sender: sender.send_multipart([b"\x01mine", b"user"]),
}


@pytest.mark.parametrize("what", UPSTREAM)
def test_one_that_sends_what_no_subscriber_sends(
    tmp_path: Path, name: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that sends messages to the subscribers' port is not admitted any more. All others reconnect by themselves,
    and the counts go on."""
    with started(tmp_path) as guarded:
        client = guarded.connected(guarded.admit(), topics=["my_service"])
        recorder = record(client)
        states: list[ClientState] = []
        client.on_state_change(lambda change: states.append(change.state))
        client.emit_event(event(0), TOPIC)
        recorder.wait_for(1)
        hostile = guarded.admit(name, subscribe=["mine"])
        UPSTREAM[what](upstream(guarded.raw(hostile)))
        wait_for_line(caplog.records, f"{name} has sent what no subscriber sends")
        eventually(lambda: states[-1:] == [ClientState.READY], PATIENCE)
        client.emit_event(event(1), TOPIC)
        assert recorder.wait_for(2) == [0, 1]
        assert guarded.proxy.health().from_publishers.frames == 4
        with pytest.raises(UnknownClient):
            guarded.client(hostile).connect(PATIENCE)
        assert guarded.proxy.health().running
        assert guarded.proxy.health().denied == {name: 1}
        assert len(logged(caplog.records, "disconnected once")) == 1
        guarded.set(name, hostile.public_key, subscribe=["mine", "other"])
        guarded.reload()
        guarded.connected(hostile).close()


def test_messages_upstream_gain_nothing(tmp_path: Path) -> None:
    """libzmq takes an upstream message for a subscription, and the next subscriber for its sender: no client can use that.

    Otherwise a client that sends messages while others subscribe would be subscribed to their topics.
    """
    with started(tmp_path) as guarded:
        victim = guarded.admit()
        publisher = guarded.raw(victim).publisher(b"")
        subscriber = guarded.raw(victim).subscriber(b"secret")
        hostile = upstream(guarded.raw(guarded.admit(subscribe=["mine"])))
        for number in range(200):
            for _ in range(50):
                hostile.send(b"user")
            subscriber.subscribe(b"secret%d" % number)
            for _ in range(10):
                hostile.send(b"user")
            hostile.send(b"\x01mine%d" % number)

        def all_arrive() -> int:
            for number in range(200):
                publisher.send_multipart([b"secret%d" % number, b""])
            return subscriber.poll(10)

        eventually(all_arrive, PATIENCE)
        seen = []
        while hostile.poll(100):
            seen.append(hostile.recv_multipart()[0])
        assert seen == []


def test_a_hostile_publisher_that_goes_in_the_midst(guarded: Guarded, boss: ClientKeys, hostile: ClientKeys) -> None:
    """Publishers that disconnect in the midst of a message leave no part of it behind."""
    client = guarded.connected(boss)
    client.subscribe(None)
    recorder = record(client)
    for number in range(10):
        raw = guarded.raw(hostile)
        publisher = raw.publisher(b"")
        publisher.send(b"mine", zmq.SNDMORE)
        publisher.send(b"x" * 1_000_000, zmq.SNDMORE)
        raw.close()
        client.emit_event(event(number), TOPIC)
    assert recorder.wait_for(10) == list(range(10))
    assert client.stats().rejected == 0
    client.close()


def test_a_slow_hostile_subscriber_delays_nobody(guarded: Guarded, boss: ClientKeys, hostile: ClientKeys) -> None:
    """A subscriber that never reads what it may have loses it, and delays nobody."""
    client = guarded.connected(boss, topics=["my_service"])
    recorder = record(client)
    lazy = guarded.raw(hostile)
    lazy.subscriber(b"my_service")
    client.emit_events([event(number) for number in range(1_000)], TOPIC)
    assert recorder.wait_for(1_000) == list(range(1_000))
    client.close()
