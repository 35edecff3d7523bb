"""The protocol of NATS, without a socket: what is written is read again, in any pieces; anything else is refused."""

from contextlib import suppress
from itertools import pairwise, zip_longest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.transports.nats import protocol
from eventbus.transports.nats.delivered import from_stream
from eventbus.transports.nats.protocol import (
    Arrived,
    Headers,
    Info,
    Message,
    Parser,
    Ping,
    Pong,
    ProtocolError,
    ServerError,
    header_block,
    identified_publication,
    parse_headers,
    publications,
    publish,
    published_bytes,
)

FEWER = settings(max_examples=100)

words = st.binary(min_size=1, max_size=20).filter(lambda word: not set(word) & set(b" \t\r\n\x0b\x0c\x1c\x1d\x1e\x1f\x85"))
blocks = st.lists(st.tuples(st.sampled_from(["a", "Nats-Msg-Id", "traceparent"]), st.sampled_from(["", "1", "x:y"]))).map(
    lambda lines: header_block(lines) if lines else b""
)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    return Message(draw(words), draw(words), draw(st.just(b"") | words), draw(blocks), draw(st.binary(max_size=60)))


others = st.sampled_from([Ping(), Pong(), ServerError("Authorization Violation"), Info({"version": "2.10.0"})])


def sent(other: protocol.Other) -> bytes:
    """What a server sends."""
    match other:
        case Message(subject, sid, reply, headers, payload):
            sizes = b"%d %d" % (len(headers), len(headers) + len(payload)) if headers else b"%d" % len(payload)
            name = b"HMSG" if headers else b"MSG"
            line = b" ".join(filter(None, (name, subject, sid, reply, sizes)))
            return line + b"\r\n" + headers + payload + b"\r\n"
        case Ping():
            return protocol.PING
        case Pong():
            return protocol.PONG
        case Info():
            return b'INFO {"version": "2.10.0"}\r\n'
        case ServerError(text):
            return b"-ERR '%b'\r\n" % text.encode()


def fed(parser: Parser, data: bytes, cuts: list[int]) -> Arrived:
    """Feed the bytes in pieces."""
    whole = Arrived([], [], [], [], [])
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        arrived = parser.feed(data[start:end])
        whole.firsts.extend(arrived.firsts)
        whole.payloads.extend(arrived.payloads)
        whole.stored.extend(arrived.stored)
        whole.others.extend(arrived.others)
        whole.acks.extend(arrived.acks)
    return whole


@FEWER
@given(st.lists(messages() | others, max_size=20), st.lists(st.integers(0, 10_000), max_size=10))
def test_what_is_sent_is_read_in_any_pieces(expected: list[protocol.Other], cuts: list[int]) -> None:
    """Wherever the network cuts the bytes."""
    assert fed(Parser(), b"".join(map(sent, expected)), cuts).others == expected


@FEWER
@given(st.lists(messages(), max_size=20), st.lists(st.integers(0, 10_000), max_size=10))
def test_direct_messages_are_collected(expected: list[Message], cuts: list[int]) -> None:
    """Those of direct subscriptions become two lists, in order, also when their lines repeat."""
    direct = {message.sid for message in expected}
    data = b"".join(map(sent, expected + expected))
    arrived = fed(Parser(direct, lambda subject, headers: subject + b"|" + headers), data, cuts)
    assert arrived.firsts == [message.subject + b"|" + message.headers for message in expected + expected]
    assert arrived.payloads == [message.payload for message in expected + expected]
    assert not arrived.others


numbers = st.integers(1, 10**19 - 1)
replies = st.builds(
    lambda form, number: form % number,
    st.sampled_from([b"$JS.ACK.s.worker.1.%d.5.1700000000.3", b"$JS.ACK.hub.HASH.s.worker.1.%d.5.1700000000.3.x"]),
    numbers,
)


@FEWER
@given(
    st.lists(st.builds(Message, words, st.just(b"2"), replies, blocks, st.binary(max_size=60)), max_size=10),
    st.lists(messages().filter(lambda message: message.sid != b"2"), max_size=10),
    st.lists(st.integers(0, 10_000), max_size=10),
)
def test_messages_from_a_stream_are_collected(stored: list[Message], others: list[Message], cuts: list[int]) -> None:
    """In order, with and without headers or a domain, and whatever comes between them."""
    pairs = zip_longest(stored, others)
    data = b"".join(sent(message) for pair in pairs for message in pair if message is not None)
    arrived = fed(Parser(from_stream=b"2"), data, cuts)
    assert arrived.stored == [from_stream(one.subject, one.reply, one.headers, one.payload) for one in stored]
    assert arrived.others == others


@FEWER
@given(
    st.lists(st.tuples(st.integers(0, 10**19 - 1), st.binary(max_size=60)), max_size=10),
    st.lists(messages().filter(lambda message: not message.subject.startswith(b"inbox.a")), max_size=10),
    st.lists(st.integers(0, 10_000), max_size=10),
)
def test_acknowledgements_are_collected(acks: list[tuple[int, bytes]], others: list[Message], cuts: list[int]) -> None:
    """With their numbers, in order, whatever comes between them."""
    messages = [Message(b"inbox.a%d" % number, b"1", b"", b"", answer) for number, answer in acks]
    pairs = zip_longest(messages, others)
    data = b"".join(sent(message) for pair in pairs for message in pair if message is not None)
    arrived = fed(Parser(acks=b"inbox.a"), data, cuts)
    assert (arrived.acks, arrived.others) == (acks, others)


def test_what_only_begins_as_an_acknowledgement_stays_a_message() -> None:
    """It has headers, or no number. What is longer than it says is refused as any message is."""
    refused = Message(b"inbox.a7", b"1", b"", b"NATS/1.0 503\r\n\r\n", b"")
    answer = Message(b"inbox.answer", b"1", b"", b"", b"{}")
    arrived = Parser(acks=b"inbox.a").feed(sent(refused) + sent(answer))
    assert (arrived.acks, arrived.others) == ([], [refused, answer])
    with pytest.raises(ProtocolError):
        Parser(acks=b"inbox.a").feed(b"MSG inbox.a7 1 2\r\n{...}\r\n")


def test_what_is_no_message_of_a_stream_stays_a_message() -> None:
    """An answer to a pull comes to the same subscription; another one's messages may look the same."""
    status = Message(b"inbox.1", b"2", b"", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", b"")
    other = Message(b"a", b"22", b"$JS.ACK.s.worker.1.7.5.1700000000.3", b"NATS/1.0\r\n\r\n", b"x")
    arrived = Parser(from_stream=b"2").feed(sent(status) + sent(other))
    assert (arrived.stored, arrived.others) == ([], [status, other])


@pytest.mark.parametrize("sizes", [b"20 10", b"10 999999999999", b"10 99999999999"])
def test_sizes_of_a_message_from_a_stream_are_checked(sizes: bytes) -> None:
    """As those of any other message."""
    line = b"HMSG a 2 $JS.ACK.s.worker.1.7.5.1700000000.3 %b\r\n" % sizes
    with pytest.raises(ProtocolError):
        Parser(from_stream=b"2").feed(line + b"NATS/1.0\r\n\r\n" + b"x" * 20)


# The line of these messages is the same; some payloads contain it, so that the message could be split there.
twins = [b"x" * 15, b"\r\nMSG a 1 15\r\n.", b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n.", b"MSG a 1 15\r\nabc"]


@FEWER
@given(st.lists(st.sampled_from([*twins, b"", b"shorter"]), max_size=60), st.lists(st.integers(0, 2_000), max_size=4))
def test_messages_with_the_same_line_are_read_at_once(payloads: list[bytes], cuts: list[int]) -> None:
    """Whatever is in them, and where the network cuts; after the run the others follow."""
    stranger = Message(b"b", b"2", b"", b"", b"x")
    expected = [Message(b"a", b"1", b"", b"", payload) for payload in payloads]
    data = b"".join(map(sent, [*expected, stranger, *expected * 4, stranger]))
    arrived = fed(Parser({b"1"}), data, cuts)
    assert arrived.payloads == payloads * 5
    assert arrived.firsts == [b"a"] * len(payloads) * 5
    assert arrived.others == [stranger, stranger]


def test_a_known_line_may_come_before_its_payload() -> None:
    """Lines repeat, and the network cuts where it likes."""
    parser = Parser({b"1"})
    for data, payloads in ((b"MSG a 1 2\r\nxy\r\nMSG a 1 2\r\nx", [b"xy"]), (b"y\r", []), (b"\n", [b"xy"])):
        assert parser.feed(data).payloads == payloads


def test_messages_without_a_first_frame_are_skipped() -> None:
    """Probes, for example."""
    assert Parser({b"1"}, lambda subject, headers: b"").feed(b"MSG a 1 1\r\nx\r\n") == ([], [], [], [], [])


def test_messages_of_a_subscription_that_has_ended_are_dropped() -> None:
    """The server may send some until it knows."""
    direct = {b"1"}
    parser = Parser(direct)
    line = b"MSG a 1 1\r\nx\r\n"
    assert parser.feed(line).firsts == [b"a"]
    direct.clear()
    assert parser.feed(line).firsts == []


@FEWER
@given(st.binary(max_size=200), st.lists(st.integers(0, 10_000), max_size=5))
def test_anything_may_come(data: bytes, cuts: list[int]) -> None:
    """Garbage is refused as such, and nothing else is raised."""
    with suppress(ProtocolError):
        fed(Parser({b"1"}), data, cuts)


@FEWER
@given(st.lists(messages() | others, min_size=1, max_size=5), st.data())
def test_damage_is_refused_or_read_as_something_else(found: list[protocol.Other], draw: st.DataObject) -> None:
    """One wrong byte raises nothing but ProtocolError."""
    data = b"".join(map(sent, found))
    at = draw.draw(st.integers(0, len(data) - 1))
    damaged = data[:at] + draw.draw(st.binary(min_size=1, max_size=3)) + data[at + 1 :]
    with suppress(ProtocolError):
        Parser({b"1"}).feed(damaged)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 b c 5\r\n",
        b"MSG a 1 x\r\n",
        b"MSG a 1 999999999999\r\n",
        "MSG a 1 ²\r\n".encode(),
        b"HMSG a 1 20 10\r\n",
        b"HMSG a 1 b 20 10\r\n",
        b"HMSG a 1 b x 10\r\n",
        b"MSG a 1 1\r\nxyz\r\n",
        b"INFO nothing\r\n",
        b"INFO []\r\n",
        b"+OK\r\n",
        b"x" * 1_100_000,
    ],
)
def test_what_is_not_the_protocol_is_refused(data: bytes) -> None:
    """So that a port of something else is noticed at once."""
    with pytest.raises(ProtocolError):
        Parser().feed(data)


def test_many_different_lines_are_forgotten() -> None:
    """What is remembered of lines has a limit."""
    parser = Parser({b"1"})
    for number in range(10_000):
        assert parser.feed(b"MSG a%d 1 1\r\nx\r\n" % number).firsts == [b"a%d" % number]
    assert len(parser._lines) <= 4_096


def test_what_a_server_says_of_itself() -> None:
    """Fields that are missing or strange have harmless values."""
    info = protocol.parse_info(
        b'{"version": "2.11.1", "max_payload": 10, "cluster": "c", "connect_urls": ["a:1", 3], "nonce": "n", '
        b'"tls_required": true, "jetstream": true, "ldm": true}'
    )
    assert (info.version, info.max_payload, info.cluster, info.servers) == ("2.11.1", 10, "c", ["a:1"])
    assert (info.nonce, info.tls_required, info.tls_available, info.jetstream) == ("n", True, True, True)
    assert info.is_leaving
    strange = Info({"max_payload": "x", "connect_urls": 5})
    assert (strange.version, strange.max_payload, strange.servers) == ("", 1_048_576, [])
    assert (strange.tls_required, strange.tls_available, strange.jetstream, strange.is_leaving) == (False,) * 4


def test_what_a_client_writes() -> None:
    """The lines of the protocol."""
    assert protocol.connect({"a": 1}) == b'CONNECT {"a":1}\r\n'
    assert protocol.subscribe(b"s", b"1") == b"SUB s 1\r\n"
    assert protocol.subscribe(b"s", b"1", b"g") == b"SUB s g 1\r\n"
    assert protocol.unsubscribe(b"1") == b"UNSUB 1\r\n"
    assert protocol.publish(b"s", b"xy") == b"PUB s 2\r\nxy\r\n"
    assert protocol.publish(b"s", b"xy", reply=b"r") == b"PUB s r 2\r\nxy\r\n"
    block = header_block([("a", "b")])
    assert protocol.publish(b"s", b"xy", headers=block) == b"HPUB s 18 20\r\nNATS/1.0\r\na: b\r\n\r\nxy\r\n"


def test_headers_are_read() -> None:
    """Names, values and the status of the server's own answers; the rest of a strange block is left out."""
    assert parse_headers(b"NATS/1.0 503\r\n\r\n") == Headers(503)
    assert parse_headers(b"NATS/1.0 100 Idle Heartbeat\r\nA: 1\r\nno\r\na: 2\r\n\r\n") == Headers(
        100, "Idle Heartbeat", (("A", "1"), ("a", "2"))
    )
    assert parse_headers(b"HTTP/1.1 200\r\na: 1\r\n\r\n") == Headers()
    assert Headers(lines=(("Nats-Msg-Id", "x"),)).get("nats-msg-id") == "x"
    assert Headers().get("x") == ""


@FEWER
@given(st.binary(max_size=100))
def test_headers_may_be_anything(block: bytes) -> None:
    """Nothing is raised."""
    parse_headers(block)
    parse_headers(b"NATS/1.0" + block)


@pytest.mark.parametrize("number", [1, 99, 1_234_567])
def test_a_format_makes_the_same_publications(number: int) -> None:
    """Whatever the subject holds."""
    subject, reply, payload = b"eb.100%25%d", b"_INBOX.x.a", b'{"a":1}'
    form, header_bytes = identified_publication(subject, reply, "Nats-Msg-Id", b"publisher-")
    header_bytes += len(str(number))
    block = header_block([("Nats-Msg-Id", f"publisher-{number}")])
    assert form % (number, header_bytes, header_bytes + len(payload), number, payload) == publish(
        subject, payload, reply=b"%b%d" % (reply, number), headers=block
    )


def test_what_was_written_is_taken_apart() -> None:
    """Each message with its line, and how much of it a server counts."""
    written = [
        publish(b"s", b"PUB x 1\r\n"),
        publish(b"s", b"ab", reply=b"r", headers=header_block([("a", "b")])),
        publish(b"s", b""),
    ]
    assert list(publications(b"".join(written))) == written
    assert [published_bytes(one) for one in written] == [9, len(header_block([("a", "b")])) + 2, 0]
