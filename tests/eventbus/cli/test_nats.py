"""The commands over NATS: check, emit, tail, top, request, and the bridge."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from eventbus import EventBusProxy
from eventbus.cli.bridge import Way, mark
from eventbus.nats_options import NatsOptions
from eventbus.options import ClientOptions
from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.transports.nats.core import CoreTransport
from eventbus.transports.nats.jetstream import JetStreamTransport
from eventbus.transports.zeromq.transport import ZeroMQTransport
from eventbus.wire.first_frame import FirstFrame, Head, parse
from tests.commands import Run, Start, complaint, lines_of, output, ports
from tests.eventbus.transports.nats.support import QUICK, TOPIC, Values, client
from tests.nats import Server, running
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, client_of, event, eventually

pytestmark = pytest.mark.process

EVENT = '{"type": "updated", "time": "now", "value": 7}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("nats")) as started:
        yield started


def variables(server: Server, kind: str, **more: str) -> dict[str, str]:
    return {"EVENTBUS_TRANSPORT": kind, "EVENTBUS_URL": server.url, "EVENTBUS_STORE": "file,32MiB,1h,1", **more}


@pytest.mark.parametrize("kind", ["nats", "jetstream"])
def test_emit_and_tail(run: Run, start: Start, server: Server, kind: str) -> None:
    """What one command emits another one prints."""
    of = variables(server, kind, EVENTBUS_SUBJECT_PREFIX=f"tail-{kind}")
    if kind == "nats":
        del of["EVENTBUS_STORE"]
    with start("tail", "my_service", "--count", "1", **of) as tail:

        def printed() -> bool:
            assert run("emit", TOPIC, EVENT, **of).returncode == 0
            return tail.poll() is not None

        eventually(printed, PATIENCE)
        [line] = lines_of(tail, 1)
        assert line["event"] == json.loads(EVENT)


def test_top_counts(start: Start, server: Server) -> None:
    """Events per second, of all topics."""
    of = {"EVENTBUS_TRANSPORT": "nats", "EVENTBUS_URL": server.url, "EVENTBUS_SUBJECT_PREFIX": "top"}
    with (
        client(CoreTransport(NatsOptions(url=server.url, prefix="top"), QUICK)) as bus,
        start("top", "--json", "--interval", "0.2", **of) as top,
    ):

        def counted() -> bool:
            bus.emit_event(event(), TOPIC)
            return [one["topic"] for one in json.loads(output(top).readline())["topics"]] == [TOPIC]

        eventually(counted, PATIENCE)


@pytest.mark.parametrize("kind", ["nats", "jetstream"])
def test_request(run: Run, server: Server, kind: str) -> None:
    """A service over NATS answers; without JetStream it is known at once when nobody does."""
    options = NatsOptions(url=server.url, prefix=f"request-{kind}", store="file,32MiB,1h,1")
    transport = CoreTransport(options, QUICK) if kind == "nats" else JetStreamTransport(options, QUICK)
    of = variables(server, kind, EVENTBUS_SUBJECT_PREFIX=f"request-{kind}")
    if kind == "nats":
        del of["EVENTBUS_STORE"]
        assert "nobody" in complaint(run("request", TOPIC, EVENT, **of), 1).lower()
    with client(transport, TOPIC) as bus:
        bus.attach_callback(MyEventType.updated, lambda one: one, topic=TOPIC, answers=True)
        bus.start_consumer()
        done = run("request", TOPIC, EVENT, "--timeout", "10", **of)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["value"] == 7


def test_what_a_stream_has_is_printed_and_recorded(run: Run, start: Start, server: Server, tmp_path: Path) -> None:
    """No historian is asked; a recording goes on with what arrives, each event once."""
    options = NatsOptions(url=server.url, prefix="history", store="file,32MiB,1h,1")
    of = variables(server, "jetstream", EVENTBUS_SUBJECT_PREFIX="history")
    transport = JetStreamTransport(options, QUICK)
    with client(transport) as bus:
        bus.emit_events([event(1), event(2)], MyEventTopic.my_service)
        eventually(transport.is_flushed, PATIENCE)
        done = run("history", TOPIC, "--count", "1", **of)
        assert (done.returncode, json.loads(done.stdout)["event"]["value"]) == (0, 2)
        with start("record", "--since", "1h", "--count", "3", "--to", "all.jsonl", **of) as process:
            assert process.stderr is not None
            process.stderr.readline()
            bus.emit_event(event(3), MyEventTopic.my_service)
            assert process.wait(PATIENCE) == 0
    assert "stores events itself" in complaint(run("historian", **of), 2)
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"]["value"] for line in lines] == [1, 2, 3]


def test_check_diagnoses_what_is_there(run: Run, server: Server) -> None:
    """The server with its version, the payload limit, JetStream, the stream, the group."""
    options = NatsOptions(url=server.url, prefix="check", store="file,32MiB,1h,1", group="workers")
    of = variables(server, "jetstream", EVENTBUS_SUBJECT_PREFIX="check", EVENTBUS_GROUP="workers")
    steps = steps_of(run("check", "--json", **of).stdout)
    assert "is missing: the first service makes it" in steps["stream"]["detail"]
    with client(JetStreamTransport(options, QUICK), TOPIC) as bus:
        Values(bus)
        steps = steps_of(run("check", "--json", **of).stdout)
    assert list(steps) == ["settings", "server", "permissions", "payload", "jetstream", "stream", "group", "round trip"]
    assert {step["status"] for step in steps.values()} == {"ok"}
    assert "version 2.15.1" in steps["server"]["detail"]
    assert "1048576" in steps["payload"]["detail"]
    assert steps["group"]["detail"].startswith("workers has the topics my_service; 0 events waiting")
    differs = run("check", **of | {"EVENTBUS_STORE": "memory,1MiB,2h,1"})
    assert differs.returncode == 1
    assert "storage is file, not memory; max_bytes is 33554432, not 1048576" in differs.stdout
    large = run("check", EVENTBUS_MAX_EVENT_BYTES="2000000", **of)
    assert "raise max_payload" in large.stdout


def test_check_says_what_is_wrong(run: Run, tmp_path: Path) -> None:
    """No server; no JetStream; wrong credentials. Nobody is told to start a proxy."""
    config = 'authorization { user: "ada", password: "x" }'
    with running(tmp_path / "nats", config, jetstream=False) as server:
        url = server.url.replace("//", "//ada@")
        missing = run("check", EVENTBUS_TRANSPORT="jetstream", EVENTBUS_URL=url, EVENTBUS_SECURITY__PASSWORD="x")
        wrong = run("check", EVENTBUS_TRANSPORT="nats", EVENTBUS_URL=url, EVENTBUS_SECURITY__PASSWORD="y")
    gone = run("check", EVENTBUS_TRANSPORT="nats", EVENTBUS_URL=server.url, EVENTBUS_CONNECT_TIMEOUT="0.2")
    assert "nats-server -js" in missing.stdout
    assert "wrong credentials" in wrong.stdout
    assert "no NATS server answered" in gone.stdout
    for done in (missing, wrong, gone):
        assert done.returncode == 1
        assert "eventbus proxy" not in done.stdout


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"EVENTBUS_TRANSPORT": "nats", "EVENTBUS_PUB_PORT": "7"},
            "EVENTBUS_PUB_PORT has no effect with EVENTBUS_TRANSPORT=nats",
        ),
        ({"EVENTBUS_TRANSPORT": "jetstream", "EVENTBUS_HOST": "x"}, "EVENTBUS_HOST has no effect"),
        ({"EVENTBUS_TRANSPORT": "nats", "EVENTBUS_EMBEDDED_PROXY": "true"}, "EVENTBUS_EMBEDDED_PROXY has no effect"),
        ({"EVENTBUS_TRANSPORT": "nats", "EVENTBUS_STORE": "memory"}, "or set EVENTBUS_TRANSPORT=jetstream"),
        ({"EVENTBUS_GROUP": "g"}, "EVENTBUS_GROUP has no effect with EVENTBUS_TRANSPORT=zeromq"),
        ({"EVENTBUS_URL": "nats://x"}, "EVENTBUS_URL has no effect with EVENTBUS_TRANSPORT=zeromq"),
        ({"EVENTBUS_SECURITY__TOKEN": "x"}, "EVENTBUS_SECURITY__TOKEN has no effect with EVENTBUS_TRANSPORT=zeromq"),
        ({"EVENTBUS_TRANSPORT": "nats", "EVENTBUS_URL": "nats://a:geheim@b"}, "EVENTBUS_SECURITY__PASSWORD_FILE"),
        ({"EVENTBUS_TRANSPORT": "nats", "EVENTBUS_GROUP": "a b"}, "no name of a group"),
        ({"EVENTBUS_TRANSPORT": "kafka"}, "EVENTBUS_TRANSPORT='kafka'"),
        ({"EVENTBUS_TRANSPORT": "nats", "EVENTBUS_SECURITY__PASSWORD_FILE": "nowhere"}, "cannot read nowhere"),
        ({"EVENTBUS_TRANSPORT": "nats", "EVENTBUS_SECURITY__CERT_FILE": "a"}, "go together"),
    ],
)
def test_settings_of_another_transport_are_refused(run: Run, given: dict[str, str], text: str) -> None:
    """They would have no effect; the error names the variable, the transport, and the remedy. No secret is shown."""
    said = complaint(run("emit", TOPIC, EVENT, **given), 2)
    assert text in said
    assert "geheim" not in said


def test_a_proxy_is_not_needed(run: Run) -> None:
    """`eventbus proxy` says what is needed instead."""
    assert "needs no proxy" in complaint(run("proxy", EVENTBUS_TRANSPORT="nats"), 2)


# The bridge


def test_a_bridge_carries_both_ways_without_loops(start: Start, server: Server, proxy: EventBusProxy) -> None:
    """Events of services at the proxy reach those over NATS, and the other way, once each; answers, too. Ctrl-C ends it."""
    options = NatsOptions(url=server.url, prefix="bridge")
    with ExitStack() as stack:
        process = stack.enter_context(
            start(
                "bridge",
                "--from",
                "zeromq",
                "--to",
                "nats",
                *ports(proxy),
                "--url",
                server.url,
                "--subject-prefix",
                "bridge",
            )
        )
        assert output(process).readline().startswith("bridge between tcp://")
        at_proxy: Bus = stack.enter_context(client_of(proxy, topics=[TOPIC, MyEventTopic.other], numbered=True))
        over_nats = stack.enter_context(client(CoreTransport(options, QUICK), TOPIC, MyEventTopic.other))
        of_proxy, of_nats = Values(at_proxy), Values(over_nats)
        for value in range(100):
            at_proxy.emit_event(event(float(value)), TOPIC)
            over_nats.emit_event(event(float(1_000 + value)), MyEventTopic.other)
        expected = [*range(100), *range(1_000, 1_100)]
        eventually(lambda: sorted(of_proxy.all) == sorted(of_nats.all) == expected, PATIENCE)
        at_proxy.attach_callback(MyEventType.started, lambda one: one, topic=TOPIC, answers=True)
        asked = event(5.0, MyEventType.started)
        assert over_nats.request(asked, TOPIC, MyEvent, timeout=PATIENCE) == asked
        scheduled = (
            MyEventTopic.my_service_scheduler
        )  # to which nobody at the proxy subscribes but the bridge, which may answer
        over_nats.subscribe(scheduled)
        over_nats.attach_callback(MyEventType.started, lambda one: one, topic=scheduled, answers=True)
        assert at_proxy.request(asked, scheduled, MyEvent, timeout=PATIENCE) == asked
        assert sorted(of_proxy.all) == sorted(of_nats.all) == expected
        assert at_proxy.stats().lost == over_nats.stats().lost == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_a_bridge_copies_the_topics_that_it_was_given(proxy: EventBusProxy) -> None:
    """Those only, although a subscription of ZeroMQ brings what longer topics have, too."""
    with ExitStack() as stack:
        hub = MemoryHub()
        source, sender = (ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port, ClientOptions()) for _ in range(2))
        target, receiver = MemoryTransport(hub), MemoryTransport(hub)
        source.subscribe(b"worker-1")
        receiver.subscribe(b"")
        for transport in (source, sender, target, receiver):
            stack.callback(transport.close, 0.0)
            transport.open(PATIENCE)
        stack.enter_context(Way(source, target, {b"worker-1"}))
        for topic in (b"worker-10", b"worker-1"):
            sender.send(topic, b"{}")
        batch = receiver.receive()
        assert batch is not None
        assert [parse(first).topic for first in batch[0]] == [b"worker-1"]


def test_a_bridge_needs_two_transports(run: Run) -> None:
    """The same twice is a mistake."""
    assert "needs two transports" in complaint(run("bridge", "--from", "nats", "--to", "nats"), 2)


def test_what_a_bridge_copies() -> None:
    """A first frame is copied with its number and its headers, and marked; what is marked is not copied again."""
    head = Head(b"plant", b"\x01publish", 3)
    marked = mark(FirstFrame(b"plant", b'{"a":"b"}', head, 7).encode())
    assert marked is not None
    assert parse(marked) == FirstFrame(b"plant", b'{"a":"b","eventbus-bridge":"1"}', head, 7)
    assert mark(marked) is None
    assert mark(b"") is None
    assert parse(mark(b"plain") or b"").topic == b"plain"


def steps_of(text: str) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in json.loads(text)["steps"]}
