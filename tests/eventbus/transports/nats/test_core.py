"""NATS without JetStream, against a real server: what arrives, what is lost and counted, and what is said."""

import logging
import signal
import socket
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from time import monotonic, process_time
from typing import Any

import pytest

from eventbus import DropReason, EventTooLarge, InvalidHeaders, NotConnected, ProxyUnreachable, ReconnectFailed
from eventbus._base.deadline import Deadline
from eventbus.ask.answering import Answerer
from eventbus.errors import EventBusError, PermissionDenied, ServerTooOld, WrongCredentials
from eventbus.nats_options import NatsOptions
from eventbus.observe.state import ClientState
from eventbus.policies import Packing, SendPolicy
from eventbus.transports.nats import window
from eventbus.transports.nats.core import CoreTransport
from eventbus.wire.first_frame import with_headers
from eventbus.wire.headers import encode_headers
from eventbus.wire.requests import Request, new_reply_topic, owner_of
from tests.container.support import free_ports
from tests.eventbus.transports.nats.support import QUICK, TOPIC, Values, client, emitting, transport_of, with_options
from tests.faults.programs import run_program
from tests.faults.relay import Relay
from tests.nats import Server, running
from tests.support import PATIENCE, Bus, MyEventTopic, event, eventually, in_thread

pytestmark = pytest.mark.process


# Interruptions


def test_a_numbering_client_loses_nothing_when_the_server_is_killed(server: Server) -> None:
    """kill -9 three times while 2,000 events a second are emitted: what no PONG has proven is sent again."""
    options = server.options()
    with (
        client(CoreTransport(options, QUICK), TOPIC) as receiver,
        client(CoreTransport(options, with_options(numbered=True))) as sender,
    ):
        values = Values(receiver)
        with emitting(sender) as emitted:
            for _ in range(3):
                before = emitted()
                eventually(lambda before=before: emitted() > before + 600)  # type: ignore[misc] # mypy cannot infer a lambda's default
                server.kill()
                server.start()
                sender.wait_ready(PATIENCE)
                receiver.wait_ready(PATIENCE)
        assert values.wait_for(emitted()) == list(range(emitted()))
        assert receiver.stats().lost == 0
        assert sender.stats().drops == {}


def test_what_is_emitted_while_the_server_is_away_arrives(server: Server) -> None:
    """It is kept, and sent only when other clients have had time to reconnect."""
    with (
        # Always the same interval: the server may take long to start, on a busy machine.
        client(
            CoreTransport(server.options(), with_options(reconnect_interval=0.1, reconnect_max_interval=0.1)), TOPIC
        ) as receiver,
        client(
            CoreTransport(server.options(), with_options(reconnect_interval=0.01, reconnect_max_interval=0.01))
        ) as sender,
    ):
        values = Values(receiver)
        server.kill()
        eventually(lambda: sender.state is ClientState.DEGRADED)
        for value in range(300):
            sender.emit_event(event(float(value)), TOPIC)
        server.start()
        assert values.wait_for(300) == list(range(300))


def test_what_a_broken_connection_may_have_lost_is_counted(server: Server) -> None:
    """Without numbers, no more than what was sent since the last PONG."""
    with client(CoreTransport(server.options(), QUICK)) as sender:
        server.signal(signal.SIGSTOP)
        for value in range(100):
            sender.emit_event(event(float(value)), TOPIC)
        eventually(lambda: not len(sender._transport._buffer), what="all is written")  # type: ignore[attr-defined] # what waits
        server.kill()
        eventually(lambda: sender.stats().drops.get(DropReason.UNPROVEN, 0) == 100)


def test_a_suspended_server_is_noticed_and_nothing_is_lost(server: Server) -> None:
    """SIGSTOP: the client is DEGRADED and keeps what is emitted; when the server goes on, all of it arrives."""
    with (
        client(CoreTransport(server.options(), QUICK), TOPIC) as receiver,
        client(CoreTransport(server.options(), QUICK)) as sender,
    ):
        values = Values(receiver)
        server.signal(signal.SIGSTOP)
        eventually(lambda: sender.state is ClientState.DEGRADED)
        for value in range(1_000):
            sender.emit_event(event(float(value)), TOPIC)
        server.signal(signal.SIGCONT)
        assert values.wait_for(1_000) == list(range(1_000))
        eventually(lambda: sender.state is ClientState.READY)


@pytest.mark.parametrize(("kind", "echo_timeout"), [("core", PATIENCE), ("jetstream", PATIENCE), ("jetstream", 0.1)])
def test_waiting_for_an_answer_takes_no_processor_time(
    server: Server, monkeypatch: pytest.MonkeyPatch, kind: str, echo_timeout: float
) -> None:
    """More was sent after a PING that the server, which is suspended, does not answer; or something is to be sent again."""
    # Before the second message: nothing new is sent while the first one is to be sent again.
    monkeypatch.setattr(window, "_FIRST_WAIT_S", PATIENCE if echo_timeout == PATIENCE else 0.1)
    options = with_options(echo_interval=PATIENCE, echo_timeout=echo_timeout)
    transport: Any = transport_of(kind, server.options(), options)
    transport.open(PATIENCE)
    link = transport._link
    try:
        server.signal(signal.SIGSTOP)
        transport.send(b"t", b"{}")
        pings = link._connection.pings
        eventually(lambda: bool(pings))
        if echo_timeout == PATIENCE:
            transport.send(b"t", b"{}")
            eventually(lambda: not pings.proves(transport.written()) and monotonic() > pings._proof_due)
        else:  # it may be DEGRADED already, and writes nothing more then
            eventually(lambda: transport.status.state is ClientState.DEGRADED and transport._window.again)
        before, began = process_time(), monotonic()
        Event().wait(0.5)
        assert process_time() - before < (monotonic() - began) / 2
    finally:
        server.signal(signal.SIGCONT)
        transport.close(PATIENCE)


@pytest.mark.patience
def test_a_connection_that_leads_nowhere_is_given_up(server: Server) -> None:
    """A partition that nobody tells of: the client dials again, and goes on."""
    relay = Relay(free_ports()[0], server.port)
    try:
        through = NatsOptions(url=f"nats://127.0.0.1:{relay.port}")
        with (
            client(CoreTransport(server.options(), QUICK), TOPIC) as receiver,
            client(CoreTransport(through, with_options(numbered=True))) as sender,
        ):
            values = Values(receiver)
            relay.silence()
            for value in range(100):
                sender.emit_event(event(float(value)), TOPIC)
            assert values.wait_for(100) == list(range(100))
    finally:
        relay.close()


def test_a_client_gives_up_after_as_many_attempts_as_it_may(server: Server) -> None:
    """The error names the server, not a proxy."""
    with client(CoreTransport(server.options(), with_options(reconnect_attempts=1)), TOPIC) as bus:
        server.kill()
        with pytest.raises(ReconnectFailed, match="no NATS server came back"):
            bus.recv_event(None)


def test_another_server_of_the_list_is_used(server: Server, shared: Server) -> None:
    """When one goes, the client connects to the next."""
    options = NatsOptions(url=f"{server.url},{shared.url}", prefix="list")
    with client(CoreTransport(options, QUICK), TOPIC) as bus:
        values = Values(bus)
        states: list[ClientState] = []
        bus.on_state_change(lambda change: states.append(change.state))
        server.kill()
        eventually(lambda: states == [ClientState.DEGRADED, ClientState.READY])
        bus.emit_event(event(1.0), TOPIC)
        assert values.wait_for(1) == [1]


def test_an_asker_that_comes_back_gets_answers(nats: NatsOptions) -> None:
    """An answerer that has found its reply topic without a subscriber, while its connection was down, asks again later."""
    request = Request(new_reply_topic(owner_of(None)), "1")
    answering, asking = CoreTransport(nats, QUICK), CoreTransport(nats, QUICK)
    with client(answering), client(asking):
        answerer = Answerer(answering)
        answerer.answer(request, b"{}")
        assert answering.drops.counts[DropReason.UNWANTED_ANSWER] == 1
        asking.subscribe(request.reply_to)

        def is_answered() -> bool:
            answerer.answer(request, b"{}")
            return answering.sent > 0

        eventually(is_answered)


def test_events_that_wait_share_a_message(nats: NatsOptions) -> None:
    """With packing `all`, as over a proxy; they arrive as single events, in order."""
    with client(CoreTransport(nats, with_options(packing=Packing.ALL)), TOPIC) as bus:
        values = Values(bus)
        for value in range(5_000):
            bus.emit_event(event(float(value)), TOPIC)
        assert values.wait_for(5_000) == list(range(5_000))


# Groups


def test_each_event_goes_to_one_worker_of_a_group(shared: Server, nats: NatsOptions) -> None:
    """All of them are handled, none twice, and numbers do not make them look lost."""
    group = NatsOptions(url=shared.url, prefix=nats.prefix, group="workers")
    with (
        client(CoreTransport(group, QUICK), TOPIC) as one,
        client(CoreTransport(group, QUICK), TOPIC) as other,
        client(CoreTransport(nats, with_options(numbered=True))) as sender,
    ):
        of_one, of_other = Values(one), Values(other)
        for value in range(1_000):
            sender.emit_event(event(float(value)), TOPIC)
        eventually(lambda: len(of_one.all) + len(of_other.all) >= 1_000)
        assert sorted(of_one.all + of_other.all) == list(range(1_000))
        assert of_one.all
        assert of_other.all
        assert one.stats().lost == other.stats().lost == 0


def test_a_worker_that_is_stopped_leaves_its_group(shared: Server, nats: NatsOptions) -> None:
    """Its consumer is stopped, the client stays open: the others get all events. Started again, it gets its share."""
    group = NatsOptions(url=shared.url, prefix=nats.prefix, group="workers")
    with (
        client(CoreTransport(group, QUICK), TOPIC) as one,
        client(CoreTransport(group, QUICK), TOPIC) as other,
        client(CoreTransport(nats, QUICK)) as sender,
    ):
        of_one, of_other = Values(one), Values(other)
        one.stop_consumer(PATIENCE)
        link = one._transport._link  # type: ignore[attr-defined] # of a transport over NATS
        assert link.prove(Deadline(PATIENCE))
        for value in range(200):
            sender.emit_event(event(float(value)), TOPIC)
        assert of_other.wait_for(200) == list(range(200))
        one.start_consumer()

        def one_has_some() -> bool:
            sender.emit_event(event(200.0), TOPIC)
            return bool(of_one.all)

        eventually(one_has_some)


def test_a_slow_subscriber_drops_and_counts(nats: NatsOptions) -> None:
    """The client reads on, because a server disconnects those that do not; what it has no room for is counted."""
    go_on = Event()
    with (
        client(CoreTransport(nats, with_options(receive_hwm=100)), TOPIC) as receiver,
        client(CoreTransport(nats, QUICK)) as sender,
    ):
        values: list[float] = []

        def handle(one: object) -> None:
            assert go_on.wait(PATIENCE)
            values.append(1.0)

        receiver.attach_callback(event().type, handle)
        receiver.start_consumer()
        for value in range(2_000):
            sender.emit_event(event(float(value)), TOPIC)
        eventually(lambda: receiver.stats().drops.get(DropReason.RECEIVE_QUEUE, 0) > 0)
        sender.close()
        go_on.set()
        eventually(lambda: len(values) + receiver.stats().drops[DropReason.RECEIVE_QUEUE] == 2_000)


# Topics and headers


@pytest.mark.parametrize("topic", ["a..b", ".a", "a b", "a*", ">", "100%", "ä.ö"])
def test_strange_topics_arrive(nats: NatsOptions, topic: str) -> None:
    """Whatever a topic is called, its subject is one that servers pass on."""
    transport = CoreTransport(nats, QUICK)
    transport.subscribe(topic.encode())
    transport.open(PATIENCE)
    first = with_headers(topic.encode(), encode_headers({"traceparent": "00-1-2-3", "ü": "a\r\nb"}))
    transport.send(first, b"{}")
    assert transport.receive() == ([first], [b"{}"])
    transport.close(0)


def test_headers_of_the_server_are_refused(nats: NatsOptions) -> None:
    """`send` says so, rather than the server doing what they ask for."""
    transport = CoreTransport(nats, QUICK)
    transport.open(PATIENCE)
    with pytest.raises(InvalidHeaders, match="Nats-Rollup"):
        transport.send(with_headers(b"t", encode_headers({"Nats-Rollup": "all"})), b"{}")
    assert transport.sent == 0
    transport.close(0)


# Limits


def test_too_large_messages_are_refused(nats: NatsOptions) -> None:
    """The server would end the connection; the error names its setting."""
    transport = CoreTransport(nats, QUICK)
    transport.open(PATIENCE)
    with pytest.raises(EventTooLarge, match="max_payload in the configuration of the NATS server"):
        transport.send(b"t", b"{" + b" " * 1_048_576 + b"}")
    assert transport.max_payload_bytes == 1_048_576 - 256
    assert transport.sent == 0
    transport.close(0)


def test_what_waits_and_is_too_large_is_dropped(tmp_path: Path) -> None:
    """The limit is not known before the first connection."""
    server = Server(tmp_path, "max_payload: 1000", jetstream=False)
    server.port = free_ports()[0]
    transport = CoreTransport(server.options(), with_options(connect_required=False))
    try:
        transport.open(PATIENCE)
        transport.subscribe(b"t")
        transport.send(b"t", b"{" + b" " * 2_000 + b"}")
        transport.send(b"t", b"{}")
        server.start()
        assert transport.receive() == ([b"t"], [b"{}"])
        assert transport.drops.counts == {DropReason.TOO_LARGE: 1}
        assert transport.sent == 2
    finally:
        transport.close(0)
        server.stop()


def test_denied_subjects_do_not_pile_up() -> None:
    """Answers go to a private subject of each asker."""
    transport = CoreTransport()
    for number in range(3_000):
        transport.complained(f'Permissions Violation for Publish to "eb.{number}"')
    assert len(transport._denials) <= 1_000
    assert transport.drops.counts == {DropReason.DENIED: 3_000}


@pytest.mark.parametrize("kind", ["core", "jetstream"])
def test_a_limit_that_shrinks(tmp_path: Path, kind: str) -> None:
    """The server ends the connection for a message that is too large, which is not sent again; what follows it arrives."""
    with running(tmp_path, "max_payload: 1000000") as server:
        transport = transport_of(kind, server.options(), with_options(numbered=True))
        transport.subscribe(b"t")
        transport.open(PATIENCE)
        try:
            server.reload("max_payload: 2000")
            eventually(lambda: server.info()["max_payload"] == 2_000)
            transport.send(b"t", b"{" + b" " * 20_000 + b"}")
            transport.send(b"t", b'{"last":1}')
            received: list[bytes] = []
            while not received or received[-1] != b'{"last":1}':
                received += (transport.receive() or ([], []))[1]
            assert transport.drops.counts == {DropReason.TOO_LARGE: 1}
            assert received == [b'{"last":1}']
            with pytest.raises(EventTooLarge):
                transport.send(b"t", b"{" + b" " * 20_000 + b"}")
        finally:
            transport.close(0)


@pytest.mark.parametrize("kind", ["core", "jetstream"])
def test_the_limit_of_an_account_is_known(tmp_path: Path, kind: str) -> None:
    """The server says it when it has let the client in."""
    accounts = "accounts { A { jetstream: enabled, users: [{user: a, password: x}], limits: {max_payload: 2048} } }"
    with running(tmp_path, accounts) as server:
        options = NatsOptions(url=server.url.replace("//", "//a@"), password="x")
        transport = transport_of(kind, options)
        transport.open(PATIENCE)
        assert transport.max_payload_bytes == 2048 - 256
        transport.close(0)


@pytest.mark.parametrize(("kind", "numbered"), [("core", True), ("jetstream", False), ("jetstream", True)])
def test_a_message_fits_with_the_headers_that_it_gets(nats: NatsOptions, kind: str, numbered: bool) -> None:
    """What the transport adds counts, too: the server would end the connection, again and again."""
    transport = transport_of(kind, nats, with_options(numbered=numbered))
    transport.subscribe(b"t")
    transport.open(PATIENCE)
    with suppress(EventTooLarge):
        transport.send(b"t", b"{" + b" " * (1_048_576 - 10) + b"}")
    largest = b"{" + b" " * (1_048_576 - 256 - 2) + b"}"
    transport.send(b"t", largest)
    batch = transport.receive()
    assert batch is not None
    assert batch[1] == [largest]
    transport.close(PATIENCE)
    assert transport.drops.counts == {}


def test_what_the_server_denies_on_each_connection(tmp_path: Path) -> None:
    """It is said, and there is a pause before each attempt."""
    with running(tmp_path, "max_subscriptions: 2") as server:
        transport = CoreTransport(server.options(), QUICK)
        for topic in (b"1", b"2", b"3"):
            transport.subscribe(topic)
        with pytest.raises(ProxyUnreachable, match="the server says: maximum subscriptions exceeded"):
            transport.open(1.0)
        assert server.info()["client_id"] < 100  # connections so far; it was more than 500


def test_a_limit_below_the_clients_own_is_said(shared: Server, caplog: pytest.LogCaptureFixture) -> None:
    """EVENTBUS_MAX_EVENT_BYTES is compared with what the server takes."""
    transport = CoreTransport(NatsOptions(url=shared.url, max_event_bytes=5_000_000), QUICK)
    transport.open(PATIENCE)
    transport.close(0)
    assert "EVENTBUS_MAX_EVENT_BYTES is 5000000, the NATS server takes 1048576" in caplog.text


def test_a_full_send_buffer_follows_the_policy(server: Server) -> None:
    """While the server is away, messages wait, up to the high-water mark."""
    transport = CoreTransport(server.options(), with_options(send_hwm=10, send_policy=SendPolicy.DROP))
    transport.open(PATIENCE)
    server.kill()
    eventually(lambda: transport.status.state is ClientState.DEGRADED)
    assert [transport.send(b"t", b"{}") for _ in range(12)] == [True] * 10 + [False] * 2
    assert transport.drops.counts[DropReason.SEND_BUFFER] == 2
    transport.close(0)
    assert transport.drops.counts[DropReason.CLOSED] == 10
    assert transport.sent == 10


def test_closing_waits_for_the_server_as_long_as_it_may(server: Server) -> None:
    """The server is away, and messages wait: `close` sends them if it comes back in time. Else they count as dropped."""
    for comes_back in (True, False):
        transport = CoreTransport(server.options(), with_options(reconnect_interval=0.02))
        transport.open(PATIENCE)
        server.kill()
        eventually(lambda: transport.status.state is ClientState.DEGRADED)  # noqa: B023 # this loop's
        transport.send(b"t", b"{}")
        with in_thread(lambda: transport.close(PATIENCE if comes_back else 0.3)):  # noqa: B023
            eventually(lambda: transport.status.state is ClientState.CLOSED)  # noqa: B023
            if comes_back:
                server.start()
        assert transport.drops.counts == ({} if comes_back else {DropReason.CLOSED: 1})


# Who may do what

PERMISSIONS = """
authorization { users: [ { user: "ada", password: "secret", permissions: {
    publish: ["eb.other", "_INBOX.>"], subscribe: ["eb.other", "_INBOX.>"]
} } ] }
"""


def test_what_is_not_permitted_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Subscribing raises an error with subject and user; publishing is counted and logged. The connection stays."""
    with running(tmp_path, PERMISSIONS, jetstream=False) as server:
        options = NatsOptions(url=server.url.replace("//", "//ada@"), password="secret")
        with pytest.raises(PermissionDenied, match=r"does not permit ada to subscribe on eb\.my_service"):
            client(CoreTransport(options, QUICK), TOPIC).__enter__()
        with client(CoreTransport(options, QUICK), MyEventTopic.other) as bus:
            with pytest.raises(PermissionDenied):
                bus.subscribe(TOPIC)
            assert bus.topics == {MyEventTopic.other.value}
            bus.emit_event(event(), TOPIC)
            eventually(lambda: bus.stats().drops.get(DropReason.DENIED) == 1)
            eventually(lambda: "does not permit this client to publish on topic 'my_service'" in caplog.text)
            bus.emit_event(event(1.0), MyEventTopic.other)
            received = bus.recv_event(PATIENCE)
            assert received is not None
            assert received.value == 1.0


@pytest.mark.parametrize(
    ("kind", "denied", "said"), [("core", "eb.>", "topic 'my_service'"), ("jetstream", "_INBOX.>", "subject '_INBOX")]
)
def test_permissions_that_change(
    kind: str, denied: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that denies a subscription ends it; it is made again when the server permits it again."""
    monkeypatch.setattr("eventbus.transports.nats.transport._RESUBSCRIBE_S", 0.1)
    users = 'authorization {{ users: [ {{user: "ada", password: "x", permissions: {{ subscribe: {{ deny: [{}] }} }} }} ] }}'
    with running(tmp_path, users.format('"none"')) as server:
        options = NatsOptions(url=server.url.replace("//", "//ada@"), password="x")
        with client(transport_of(kind, options), TOPIC) as bus:
            values = Values(bus)
            bus.emit_event(event(1.0), TOPIC)
            values.wait_for(1)
            server.reload(users.format(f'"{denied}"'))
            eventually(lambda: f"does not permit this client to subscribe on {said}" in caplog.text)
            server.reload(users.format('"none"'))

            def arrives() -> bool:
                bus.emit_event(event(2.0), TOPIC)
                return 2 in values.all

            eventually(arrives)


def test_wrong_credentials_are_said_at_once(tmp_path: Path) -> None:
    """The error says who was refused and which settings matter; no secret is in it."""
    with running(tmp_path, PERMISSIONS, jetstream=False) as server:
        for url, password in ((server.url, None), (server.url.replace("//", "//ada@"), "wrong-one")):
            began = monotonic()
            with pytest.raises(WrongCredentials, match="EVENTBUS_SECURITY__PASSWORD_FILE") as caught:
                CoreTransport(NatsOptions(url=url, password=password), QUICK).open(PATIENCE)
            assert monotonic() - began < PATIENCE / 2
            assert "wrong-one" not in str(caught.value)


def test_a_token_lets_a_client_in(tmp_path: Path) -> None:
    """Instead of a user with a password."""
    with running(tmp_path, 'authorization { token: "t0ken" }', jetstream=False) as server:
        transport = CoreTransport(server.options(token="t0ken"), QUICK)
        transport.open(PATIENCE)
        transport.close(0)
        with pytest.raises(WrongCredentials, match="the token"):
            CoreTransport(server.options(token="other"), QUICK).open(PATIENCE)


# What is no server, or not the right one


def test_no_server_is_unreachable() -> None:
    """The error says why, and names EVENTBUS_URL; nobody is told to start a proxy."""
    transport = CoreTransport(NatsOptions(url=f"nats://127.0.0.1:{free_ports()[0]}"), QUICK)
    with pytest.raises(
        ProxyUnreachable, match=r"no NATS server answered at nats.*Connection refused.*EVENTBUS_URL"
    ) as caught:
        transport.open(0.2)
    assert "eventbus proxy" not in str(caught.value)
    with pytest.raises(NotConnected):
        transport.send(b"t", b"{}")


@pytest.mark.parametrize(
    ("greeting", "error", "text"),
    [
        (b'INFO {"version": "2.9.10", "max_payload": 1048576}\r\n', ServerTooOld, r"version 2\.9\.10, and 2\.10 is needed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ProxyUnreachable, "is no NATS server"),
    ],
)
def test_who_else_may_answer(greeting: bytes, error: type[EventBusError], text: str) -> None:
    """An old server would ignore filters of consumers; something else is no server at all."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            try:
                while True:
                    peer, _ = listener.accept()
                    with peer:
                        peer.sendall(greeting)
                        peer.recv(1)
            except OSError:
                pass

        thread = Thread(target=greet, daemon=True)
        thread.start()
        with pytest.raises(error, match=text):
            CoreTransport(NatsOptions(url=f"nats://127.0.0.1:{listener.getsockname()[1]}"), QUICK).open(1)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


def test_a_server_that_falls_silent() -> None:
    """The reason is told why a connection is given up that was made and is of no use."""
    peers: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            with suppress(OSError):
                while True:
                    peers.append(listener.accept()[0])
                    peers[-1].sendall(b'INFO {"version": "2.10.0", "max_payload": 1048576}\r\nPONG\r\n')

        thread = Thread(target=greet, daemon=True)
        thread.start()
        url = f"nats://127.0.0.1:{listener.getsockname()[1]}"
        transport = CoreTransport(NatsOptions(url=url), with_options(connect_required=False, connect_timeout=0.1))
        try:
            transport.open(0)
            link = transport._link
            assert link is not None
            eventually(lambda: link.hint)
            assert link.hint == "the server does not answer"
        finally:
            transport.close(0)
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)
            for peer in peers:
                peer.close()


def test_a_server_that_is_not_required_may_come_later(tmp_path: Path) -> None:
    """`open` returns, what is sent waits, and arrives when there is a server."""
    server = Server(tmp_path, jetstream=False)
    server.port = free_ports()[0]
    transport = CoreTransport(server.options(), with_options(connect_required=False))
    try:
        transport.open(PATIENCE)
        transport.subscribe(b"t")
        transport.send(b"t", b"{}")
        server.start()
        assert transport.receive() == ([b"t"], [b"{}"])
    finally:
        transport.close(0)
        server.stop()


# Processes and signals


def test_a_forked_child_refuses_and_the_parent_goes_on(shared: Server) -> None:
    """The connection is the parent's."""
    run_program("tests.eventbus.transports.nats.forking", shared.url, warnings="ignore")  # of fork with threads


def test_a_signal_handler_may_emit_and_close(nats: NatsOptions) -> None:
    """In the midst of what its thread does."""
    handled = Event()
    with client(CoreTransport(nats, QUICK), TOPIC) as bus:

        def handle(number: int, frame: object) -> None:
            bus.emit_event(event(1.0), TOPIC)
            if bus.stats().emitted > 1_000:
                signal.setitimer(signal.ITIMER_REAL, 0)
                bus.close(1.0)
                handled.set()

        before = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        try:
            with pytest.raises(NotConnected):
                emit_without_end(bus)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert handled.is_set()


def emit_without_end(bus: Bus) -> None:
    while True:
        bus.emit_event(event(), TOPIC)


def test_closing_ends_a_send_that_waits(server: Server) -> None:
    """A full buffer holds `send` back, until the transport is closed."""
    transport = CoreTransport(server.options(), with_options(send_hwm=1, send_timeout=3_600))
    transport.open(PATIENCE)
    server.kill()
    eventually(lambda: transport.status.state is ClientState.DEGRADED)
    transport.send(b"t", b"{}")

    def send() -> None:
        with pytest.raises(NotConnected):
            transport.send(b"t", b"{}")

    with in_thread(send):
        transport.close(0)


def test_importing_loads_nothing_of_it() -> None:
    """`import eventbus`, a client and a container load nothing of NATS until it is chosen."""
    run_program("tests.eventbus.transports.nats.imports")


def test_a_server_that_is_about_to_leave_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An operator has told it to end its connections one by one ("lame duck mode"): said once, used as long as it lasts."""
    caplog.set_level(logging.WARNING)
    with running(tmp_path, 'lame_duck_duration: "60s"', jetstream=False) as server:
        with client(CoreTransport(server.options(), QUICK), TOPIC) as bus:
            server.signal(signal.SIGUSR2)
            eventually(lambda: "will be shut down" in caplog.text)
            values = Values(bus)
            bus.emit_event(event(1.0), TOPIC)
            assert values.wait_for(1) == [1]
        assert caplog.text.count("will be shut down") == 1


def test_a_cluster_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without JetStream, the promise about the first event does not hold between its servers."""
    caplog.set_level(logging.WARNING)
    with running(tmp_path, 'cluster { name: "c", listen: "127.0.0.1:-1" }', jetstream=False) as server:
        transport = CoreTransport(server.options(), QUICK)
        transport.open(PATIENCE)
        transport.close(0)
    assert "belongs to the cluster c" in caplog.text
