"""`eventbus tail`, as its users meet it: what it selects, what it adds, and what it says while the proxy is away."""

import json
import re
import signal
import subprocess
from collections.abc import Callable

import pytest
import zmq

from eventbus import EventBusProxy
from eventbus.wire.first_frame import with_headers
from eventbus.wire.headers import encode_headers
from eventbus.wire.numbering import Numbering
from eventbus.wire.private_topics import PRESENCE_TOPIC
from eventbus.wire.requests import CORRELATION_ID, new_reply_topic, owner_of, request_headers
from tests.commands import Run, Start, complaint, lines_of, output, ports, said
from tests.faults.proxies import running_proxy
from tests.support import PATIENCE, RawPeers, eventually, json_of

type Publisher = zmq.Socket[bytes]


@pytest.fixture
def publisher(raw: RawPeers) -> Callable[[], Publisher]:
    """Makes one that knows of the subscription to all topics."""
    return lambda: raw.publisher(b"")


def send(publisher: Publisher, *events: object, topic: bytes = b"plant") -> None:
    for event in events:
        publisher.send_multipart([topic, json.dumps(event).encode()])


def values(process: subprocess.Popen[str], count: int) -> list[object]:
    return [line["event"] for line in lines_of(process, count)]


@pytest.mark.process
def test_types_and_conditions(publisher: Callable[[], Publisher], tailing: Start) -> None:
    """Events are printed that have one of the types, and fulfil all conditions, whatever signs are in them."""
    flags = ("--type", "a", "--type=b", "--where", "sensor.id=3", '--where=list=[1, {"x": 2}]', "--where", 'text="1,2"')
    good = {"sensor": {"id": 3}, "list": [1, {"x": 2}], "text": "1,2"}
    with tailing(flags=flags) as process:
        send(publisher(), {"type": "c"} | good, {"type": "a"}, {"type": "a"} | good | {"text": "1"}, 3, [3, "b"])
        send(publisher(), {"type": "a", "last": 1} | good, {"type": "b"} | good)
        assert values(process, 2) == [{"type": "a", "last": 1} | good, {"type": "b"} | good]


@pytest.mark.process
def test_a_type_of_any_signs(publisher: Callable[[], Publisher], tailing: Start) -> None:
    """A type is taken as it is written, also with a comma or a bracket in it."""
    with tailing(flags=("--type", "a,b", "--type=[c")) as process:
        send(publisher(), {"type": "a"}, {"type": "a,b"}, {"type": "b"}, {"type": "[c"})
        assert values(process, 2) == [{"type": "a,b"}, {"type": "[c"}]


@pytest.mark.process
def test_what_is_missing_is_said(publisher: Callable[[], Publisher], tailing: Start) -> None:
    """Missing numbered events are reported on stderr; those that come again are printed once."""
    numbering = Numbering()
    frames = []
    for _ in range(4):
        frames.append(numbering.next(b"plant"))
        numbering.taken(b"plant")
    with tailing() as process:
        sending = publisher()
        for index in (0, 0, 3):
            sending.send_multipart([frames[index], json.dumps({"type": "a", "n": index}).encode()])
        assert values(process, 2) == [{"type": "a", "n": 0}, {"type": "a", "n": 3}]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert said(process).startswith("eventbus: missing: 2 events on plant; ")


@pytest.mark.process
def test_numbers_that_json_does_not_have(publisher: Callable[[], Publisher], tailing: Start) -> None:
    """A number that another publisher sends as NaN or as infinite is null: the line can be parsed."""
    with tailing() as process:
        publisher().send_multipart([b"plant", b'{"type":"a","x":NaN,"y":[1e999],"z":1}'])
        assert "NaN" not in (line := output(process).readline())
        assert json.loads(line)["event"] == {"type": "a", "x": None, "y": [None], "z": 1}


@pytest.mark.process
def test_count(publisher: Callable[[], Publisher], tailing: Start) -> None:
    """After as many events as were asked for and have passed the filter it ends with status 0, in the midst of a message."""
    with tailing(flags=("--count", "3", "--type", "a")) as process:
        send(publisher(), {"type": "a", "n": 1}, {"type": "b"}, [{"type": "a", "n": n} for n in (2, 3, 4)])
        assert values(process, 3) == [{"type": "a", "n": n} for n in (1, 2, 3)]
        assert process.wait(PATIENCE) == 0
        assert (output(process).read(), said(process)) == ("", "")


@pytest.mark.process
def test_since_start(publisher: Callable[[], Publisher], tailing: Start) -> None:
    """With --since-start each line has the seconds since the subscriptions were in force, which grow."""
    with tailing(flags=("--since-start",)) as process:
        sending = publisher()
        send(sending, {"type": "a"})
        [first] = lines_of(process, 1)
        send(sending, {"type": "a"})
        [second] = lines_of(process, 1)
        assert isinstance(first["since_start"], float)
        assert isinstance(second["since_start"], float)
        assert 0 <= first["since_start"] < second["since_start"] < PATIENCE


@pytest.mark.process
def test_headers(raw: RawPeers, tailing: Start) -> None:
    """Headers are printed beside the event, those of a numbered message too; what is no header is left out."""
    numbering = Numbering()
    numbered = numbering.next(b"plant")
    numbering.taken(b"plant")
    headers = {"traceparent": "00-ab-cd-01", "evil": "\x1b[2J"}
    with tailing("plant") as process:
        sending = raw.publisher(b"plant")
        for frame in (b"plant", numbered):
            sending.send_multipart([with_headers(frame, encode_headers(headers)), json_of()])
        for frame in (b"plant\0\0no JSON\0", b"plant\0\0[1]\0", numbering.next(b"plant"), b"plant"):
            sending.send_multipart([frame, json_of()])
        for line in lines_of(process, 2):
            assert line == {"topic": "plant", "event": json.loads(json_of()), "headers": headers}
        for line in lines_of(process, 4):
            assert line == {"topic": "plant", "event": json.loads(json_of())}


@pytest.mark.process
def test_who_is_there_is_not_printed(raw: RawPeers, tailing: Start) -> None:
    """Neither questions of `eventbus ps` and the like nor their answers, unless they are asked for."""
    reply_topic = new_reply_topic(owner_of(None))
    question = with_headers(PRESENCE_TOPIC, request_headers(reply_topic, "1"))
    for topics, expected in (((), "plant"), ((PRESENCE_TOPIC.decode(),), PRESENCE_TOPIC.decode())):
        with tailing(*topics) as process:
            sending = raw.publisher("".join(topics).encode())
            for frame in (question, with_headers(reply_topic, encode_headers({CORRELATION_ID: "1"})), b"plant"):
                sending.send_multipart([frame, json_of()])
            [line] = lines_of(process, 1)
            assert line["topic"] == expected


@pytest.mark.process
def test_lines_for_people_in_a_pipe(publisher: Callable[[], Publisher], tailing: Start) -> None:
    """--format text prints for people in a pipe too, and no colours there."""
    with tailing(flags=("--format", "text")) as process:
        send(publisher(), {"type": "started", "value": 1, "evil": "\x1b[2J"})
        line = output(process).readline()
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} plant started value=1 evil=\\x1b\[2J\n", line)


@pytest.mark.process
def test_a_proxy_that_goes_away(start: Start) -> None:
    """The loss of the proxy is reported once, and so is its return; then events are printed as before."""
    with running_proxy() as proxy:
        flags = (f"--host={proxy.host}", f"--pub-port={proxy.pub_port}", f"--sub-port={proxy.sub_port}")
        peers = RawPeers(proxy.pub_port, proxy.sub_port)
        with start("tail", *flags) as process:
            assert process.stderr is not None
            send(peers.publisher(b""), {"type": "a"})
            assert values(process, 1) == [{"type": "a"}]  # so it is connected
            proxy.kill()
            lines = [process.stderr.readline()]
            proxy.start()
            lines.append(process.stderr.readline())
            send(peers.publisher(b""), {"type": "b"})
            assert values(process, 1) == [{"type": "b"}]
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 130
            lines += said(process).splitlines()
        peers.close()
    assert len(lines) == 2
    assert "event bus degraded" in lines[0]
    assert re.search(r"event bus ready again after \d+\.\d s, at ", lines[1])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--where", "id"), "write field=value"),
        (("--where",), "--where"),
        (("--where=",), "write field=value"),
        (("--count", "0"), "--count"),
        (("--format", "xml"), "auto, text or json"),
    ],
)
def test_bad_arguments(run: Run, proxy: EventBusProxy, flags: tuple[str, ...], named: str) -> None:
    """A bad argument gives one line that says what is right, and status 2."""
    assert named in complaint(run("tail", *flags, *ports(proxy)), 2)


@pytest.mark.process
def test_end_of_the_readers(publisher: Callable[[], Publisher], tailing: Start) -> None:
    """When nobody reads its output any more, it ends with status 0, also with lines for people."""
    with tailing(flags=("--format", "text")) as process:
        sending = publisher()
        send(sending, {"type": "a"})
        assert output(process).readline()
        output(process).close()

        def ended() -> bool:
            send(sending, {"type": "a"})
            return process.poll() is not None

        eventually(ended, PATIENCE)
        assert (process.returncode, said(process)) == (0, "")
