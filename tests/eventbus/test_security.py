"""Encryption and authentication over real sockets: which clients get in, which errors the others get, how they recover."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import zmq

from eventbus import ClientState, DropReason, EventBusHistorian, EventBusProxy
from eventbus.cli.main import main
from eventbus.errors import (
    EncryptionRequired,
    HandshakeFailed,
    NoAnswer,
    NobodyAnswers,
    NotEncrypted,
    ProxyUnreachable,
    UnknownClient,
    WrongServerKey,
)
from eventbus.keys import ClientKeys, reveal
from eventbus.proxy import Traffic
from eventbus.wire.frames import topic_of
from tests.container.support import free_ports
from tests.faults import zmtp
from tests.security import Guarded, Keys, leaving_no_more, logged, new_keys, wait_for_line
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, Recorder, event, eventually, json_of

pytestmark = pytest.mark.patience

TOPIC, SCHEDULER = MyEventTopic.my_service, MyEventTopic.my_service_scheduler
UPDATED = MyEventType.updated
READY, DEGRADED = ClientState.READY, ClientState.DEGRADED

LONG = 3 * PATIENCE  # a connect_timeout that nobody may use up
ANSWER_TIMEOUT = 1.0  # of requests that nobody answers; the first one has to open its inbox meanwhile

GUEST = new_keys()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("allow-lists")


@pytest.fixture(scope="module")
def guarded(directory: Path) -> Iterator[Guarded]:
    """A proxy that uses CURVE and lets the guest in."""
    made = Guarded(directory)
    made.set("guest", GUEST.public)
    made.write()
    with made:
        yield made


@pytest.fixture(scope="module")
def plain() -> Iterator[EventBusProxy]:
    """A proxy without keys."""
    with EventBusProxy(pub_port=0, sub_port=0) as proxy:
        yield proxy


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def client_at(ports: tuple[int, int], keys: ClientKeys | None, **options: Any) -> Bus:
    """A client that is not connected yet, subscribed to `my_service`."""
    return Bus(MyEvent, "127.0.0.1", *ports, topics=["my_service"], keys=keys, linger=0.1, **options)


def record(client: Bus) -> Recorder:
    recorder = Recorder()
    client.attach_callback(UPDATED, recorder)
    client.start_consumer()
    return recorder


def states_of(client: Bus) -> list[ClientState]:
    """A list that each state from now on is put into."""
    seen: list[ClientState] = []
    client.on_state_change(lambda change: seen.append(change.state))
    return seen


def passes(sender: Bus, receiver: Recorder, value: float) -> None:
    """An event goes from one to the other."""
    sender.emit_event(event(value), TOPIC)
    eventually(lambda: receiver.values and receiver.values[-1] == value, PATIENCE)


# The matrix: what a client has × what the proxy has

WRONG: dict[str, type[HandshakeFailed]] = {
    "another proxy's public key": WrongServerKey,
    "its own public key for the proxy's": WrongServerKey,
    "another proxy's public key, and unknown": WrongServerKey,
    "a key that is not on the list": UnknownClient,
    "the proxy's own key": UnknownClient,
    "no keys": EncryptionRequired,
    "keys, at a proxy without": NotEncrypted,
}
REMEDY = {
    WrongServerKey: "EVENTBUS_SECURITY__SERVER_PUBLIC_KEY",
    UnknownClient: "allow-list",
    EncryptionRequired: "EVENTBUS_SECURITY__SECRET_KEY_FILE",
    NotEncrypted: "EVENTBUS_SECURITY__ALLOW_LIST",
}


def keys_of(case: str, guarded: Guarded) -> ClientKeys | None:
    match case:
        case "another proxy's public key":
            return ClientKeys(new_keys().public, GUEST.secret)
        case "its own public key for the proxy's":
            return ClientKeys(GUEST.public, GUEST.secret)
        case "another proxy's public key, and unknown":
            return ClientKeys(new_keys().public, new_keys().secret)
        case "a key that is not on the list":
            return guarded.keys_for(new_keys())
        case "the proxy's own key":
            return guarded.keys_for(guarded.keys)
        case "no keys":
            return None
        case _:
            return guarded.keys_for(GUEST)


def ports_of(case: str, guarded: Guarded, plain: EventBusProxy) -> tuple[int, int]:
    proxy = plain if case == "keys, at a proxy without" else guarded.proxy
    return proxy.pub_port, proxy.sub_port


@pytest.mark.parametrize("numbered", [False, True], ids=["plain", "numbered"])
@pytest.mark.parametrize("case", WRONG)
def test_connect_says_what_is_wrong(guarded: Guarded, plain: EventBusProxy, case: str, numbered: bool) -> None:
    """connect() raises the error of the case long before its timeout, with endpoint and remedy, and leaves nothing open."""
    ports, keys = ports_of(case, guarded, plain), keys_of(case, guarded)
    client = client_at(ports, keys, numbered=numbered, connect_timeout=LONG)
    with leaving_no_more():
        began = monotonic()
        with pytest.raises(HandshakeFailed) as caught:
            client.connect()
        assert monotonic() - began < LONG / 2
        assert client.state is ClientState.CLOSED
    error = caught.value
    assert type(error) is WRONG[case]
    assert isinstance(error, ConnectionError)
    assert error.endpoint in [f"tcp://127.0.0.1:{port}" for port in ports]
    assert error.endpoint in str(error)
    assert REMEDY[type(error)] in str(error)
    if keys is not None:
        assert reveal(keys.secret_key) not in str(error)
    if isinstance(error, UnknownClient):
        assert keys is not None
        assert error.public_key == keys.public_key
        assert error.public_key in str(error)
    if isinstance(error, WrongServerKey):
        assert keys is not None
        assert error.server_public_key == keys.server_public_key
        assert f"{error.server_public_key[:6]}…" in str(error)


@pytest.mark.parametrize("numbered", [False, True], ids=["plain", "numbered"])
@pytest.mark.parametrize("case", WRONG)
def test_one_that_need_not_be_connected_waits(
    guarded: Guarded, plain: EventBusProxy, case: str, numbered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With `connect_required` off connect() returns; what is wrong is logged once, wait_ready() raises it, events stay."""
    client = client_at(
        ports_of(case, guarded, plain),
        keys_of(case, guarded),
        numbered=numbered,
        connect_required=False,
        connect_timeout=LONG,
        reconnect_max_interval=0.05,
    )
    with leaving_no_more(), closing(client):
        client.connect()
        client.emit_event(event(1), TOPIC)
        text = wait_for_line(caplog.records, "tcp://127.0.0.1:")
        with pytest.raises(HandshakeFailed) as caught:
            client.wait_ready(0)
        assert type(caught.value) is WRONG[case]
        assert client.state is ClientState.CONNECTING
        assert not client.is_connected()
        assert not client.health().ready
        assert client.health().live
    assert logged(caplog.records, "tcp://127.0.0.1:") == [text]
    assert [entry.levelno for entry in caplog.records if entry.getMessage() == text] == [logging.ERROR]
    assert client.stats().drops == {"closed": 1}


def test_what_is_wrong_is_not_said_again(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """However often a client that need not be connected tries, one line is logged, by it and by the proxy."""
    before = guarded.proxy.health().refused
    client = guarded.client(guarded.keys_for(new_keys()), connect_required=False, reconnect_max_interval=0.02)
    client.connect()
    eventually(lambda: guarded.proxy.health().refused >= before + 20, PATIENCE)
    client.close()
    assert len(logged(caplog.records, "unknown client")) == 1
    assert len(logged(caplog.records, "refused a client")) <= 1  # none if others were refused in the same minute


@pytest.mark.parametrize("numbered", [False, True], ids=["plain", "numbered"])
@pytest.mark.parametrize("required", [True, False])
def test_the_right_keys(guarded: Guarded, required: bool, numbered: bool) -> None:
    """Clients with the right keys connect at once, and exchange events in both directions, packed or not."""
    one, two = (
        guarded.connected(guarded.keys_for(GUEST), topics=["my_service"], connect_required=required, numbered=numbered)
        for _ in range(2)
    )
    recorders = [record(client) for client in (one, two)]
    for first, client in ((0, one), (100, two)):
        client.wait_ready(PATIENCE)
        client.emit_event(event(first), TOPIC)
        client.emit_events([event(number) for number in range(first + 1, first + 100)], TOPIC)
    for client, recorder in zip((one, two), recorders, strict=True):
        assert sorted(recorder.wait_for(200)) == list(range(200))
        assert client.stats().lost == 0
        client.close()


def test_plain_pyzmq_with_keys(guarded: Guarded) -> None:
    """Sockets of plain pyzmq with CURVE and keys that are allowed exchange events with a client, in both directions."""
    client = guarded.connected(guarded.keys_for(GUEST), topics=["my_service"])
    raw = guarded.raw(guarded.keys_for(GUEST))
    recorder = record(client)
    raw.publisher(b"my_service", zmq.XPUB).send_multipart([b"my_service", json_of(1)])
    assert recorder.wait_for(1) == [1]
    subscriber = raw.subscriber(b"my_service")
    client.emit_event(event(2), TOPIC)
    assert subscriber.recv_multipart() == [b"my_service", json_of(2)]
    client.close()


def test_both_legs_are_looked_at(stack: ExitStack) -> None:
    """If only one of the ports uses CURVE, the error names the port that is wrong, for clients with and without keys."""
    context: zmq.Context[zmq.Socket[bytes]] = stack.enter_context(zmq.Context())
    server, own = new_keys(), new_keys()
    for secure_leg in (0, 1):
        sockets = [context.socket(kind) for kind in (zmq.XSUB, zmq.XPUB)]
        sockets[secure_leg].set(zmq.CURVE_SERVER, 1)
        sockets[secure_leg].set(zmq.CURVE_SECRETKEY, server.secret.encode())
        ports = [made.bind_to_random_port("tcp://127.0.0.1") for made in sockets]
        for keys, wrong_leg, error in (
            (None, secure_leg, EncryptionRequired),
            (ClientKeys(server.public, own.secret), 1 - secure_leg, NotEncrypted),
        ):
            with pytest.raises(error) as caught:
                client_at((ports[0], ports[1]), keys, connect_timeout=LONG).connect()
            assert caught.value.endpoint == f"tcp://127.0.0.1:{ports[wrong_leg]}"
        for made in sockets:
            made.close(linger=0)


@pytest.mark.parametrize("case", WRONG)
def test_check_tells_each_case(
    guarded: Guarded,
    plain: EventBusProxy,
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`eventbus check` says on one line what is wrong, with exit status 1, and is through long before its timeout."""
    ports, keys = ports_of(case, guarded, plain), keys_of(case, guarded)
    arguments = ["check", "--host=127.0.0.1", f"--pub-port={ports[0]}", f"--sub-port={ports[1]}"]
    if keys is not None:
        file = tmp_path / "own.secret"
        file.write_text(reveal(keys.secret_key))
        monkeypatch.setenv("EVENTBUS_SECURITY__SECRET_KEY_FILE", str(file))
        monkeypatch.setenv("EVENTBUS_SECURITY__SERVER_PUBLIC_KEY", keys.server_public_key)
    began = monotonic()
    assert main([*arguments, f"--connect-timeout={LONG}"]) == 1
    assert monotonic() - began < LONG / 2
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    beginnings = {
        WrongServerKey: "wrong server key: ",
        UnknownClient: "unknown client: ",
        EncryptionRequired: "encryption required: ",
        NotEncrypted: "not encrypted: ",
    }
    assert line.removeprefix("FAIL  security     ").startswith(beginnings[WRONG[case]])


# Recovery


def wait_for_diagnosis(client: Bus, error: type[HandshakeFailed]) -> None:
    """Return once the client knows why it is not let in."""

    def known() -> bool:
        try:
            client.wait_ready(0)
        except error:
            return True
        except ProxyUnreachable:
            pass
        return False

    eventually(known, PATIENCE, error.__name__)


@pytest.mark.parametrize("numbered", [False, True], ids=["plain", "numbered"])
def test_recovery_once_allowed(guarded: Guarded, numbered: bool) -> None:
    """Once its key is on the list a client that waits is READY without a restart, and all that it has emitted arrives."""
    keys = new_keys()
    client = guarded.client(
        guarded.keys_for(keys), topics=["my_service"], connect_required=False, numbered=numbered, connect_timeout=LONG
    )
    states = states_of(client)
    client.connect()
    recorder = record(client)
    for number in range(10):
        client.emit_event(event(number), TOPIC)
    wait_for_diagnosis(client, UnknownClient)
    guarded.set(f"late-{numbered}", keys.public)
    guarded.reload()
    client.wait_ready(PATIENCE)
    client.emit_event(event(10), TOPIC)
    assert recorder.wait_for(11) == list(range(11))
    assert client.stats().dropped == 0
    assert client.health().ready
    client.close()
    eventually(lambda: states == [ClientState.CONNECTING, READY, ClientState.CLOSED], PATIENCE)


@pytest.mark.parametrize("numbered", [False, True], ids=["plain", "numbered"])
@pytest.mark.parametrize("error", [WrongServerKey, EncryptionRequired, NotEncrypted])
def test_recovery_once_the_right_proxy_is_back(
    directory: Path, stack: ExitStack, error: type[HandshakeFailed], numbered: bool
) -> None:
    """A client tells when its proxy comes back with other keys, or without; with the right one back nothing is missing."""
    ports = free_ports()
    own = new_keys()

    def secure() -> Guarded:
        made = Guarded(directory, ports, server)
        made.set("own", own.public)
        made.write()
        return made

    server = new_keys()
    right = EventBusProxy("127.0.0.1", *ports) if error is EncryptionRequired else secure()
    keys = None if error is EncryptionRequired else ClientKeys(server.public, own.secret)
    server = new_keys()
    wrong = EventBusProxy("127.0.0.1", *ports) if error is NotEncrypted else secure()
    client = client_at(ports, keys, numbered=numbered, connect_timeout=LONG)
    stack.callback(client.close)
    with right:
        client.connect()
        recorder = record(client)
        states = states_of(client)
        passes(client, recorder, 0)
    eventually(lambda: client.state is DEGRADED, PATIENCE)
    with wrong:
        client.emit_event(event(1), TOPIC)
        wait_for_diagnosis(client, error)
        with pytest.raises(error):
            client.connect()
        client.emit_event(event(2), TOPIC)
    with right:
        client.wait_ready(PATIENCE)
        client.emit_event(event(3), TOPIC)
        assert recorder.wait_for(4) == [0, 1, 2, 3]
        eventually(lambda: states == [DEGRADED, READY], PATIENCE)
        client.connect()
        client.close()
    stats = client.stats()
    assert stats.lost == 0
    assert stats.drops.keys() <= {DropReason.UNPROVEN}  # which counts what may have been lost; nothing was, as has been seen


# Rotation and revocation


def test_a_client_gets_a_new_key(guarded: Guarded) -> None:
    """While both keys are on the list a client may use either, later only the new one. Other clients notice nothing."""
    old, new = new_keys(), new_keys()
    other = guarded.connected(guarded.keys_for(GUEST), topics=["my_service"])
    recorder, states = record(other), states_of(other)
    guarded.set("rotating-old", old.public)
    guarded.set("rotating-new", new.public)
    guarded.reload()
    before = guarded.connected(guarded.keys_for(old))
    after = guarded.connected(guarded.keys_for(new))
    passes(before, recorder, 1)
    passes(after, recorder, 2)
    guarded.remove("rotating-old")
    guarded.reload()
    passes(after, recorder, 3)
    before.close()
    with pytest.raises(UnknownClient):
        before.connect(LONG)
    passes(after, recorder, 4)
    assert other.state is READY
    assert states == []
    for client in (other, after):
        client.close()


def test_the_proxy_gets_a_new_key(directory: Path, stack: ExitStack) -> None:
    """When the proxy restarts with a new key, clients that have the new one connect, and others log what is wrong."""
    ports, own = free_ports(), new_keys()

    def proxy_with(server: Keys) -> Guarded:
        made = Guarded(directory, ports, server)
        made.set("own", own.public)
        made.write()
        return made

    old, new = new_keys(), new_keys()
    stale = client_at(ports, ClientKeys(old.public, own.secret))
    fresh = client_at(ports, ClientKeys(new.public, own.secret))
    stack.callback(stale.close)
    stack.callback(fresh.close)
    with proxy_with(old):
        stale.connect(PATIENCE)
        with pytest.raises(WrongServerKey, match="wrong server key"):
            fresh.connect(LONG)
    with proxy_with(new):
        fresh.connect(PATIENCE)
        recorder = record(fresh)
        wait_for_diagnosis(stale, WrongServerKey)
        stale.emit_event(event(1), TOPIC)
        passes(fresh, recorder, 2)
        assert recorder.values == [2]


def test_a_removed_key(guarded: Guarded) -> None:
    """Without rules a removed key is cut off at its next connection; no other client is disturbed, and it may come back."""
    keys = new_keys()
    guarded.set("removed", keys.public)
    guarded.reload()
    other = guarded.connected(guarded.keys_for(GUEST), topics=["my_service"])
    recorder, states = record(other), states_of(other)
    removed = guarded.connected(guarded.keys_for(keys))
    passes(removed, recorder, 1)
    guarded.remove("removed")
    guarded.reload()
    removed.close()
    with pytest.raises(UnknownClient):
        removed.connect(LONG)
    passes(other, recorder, 2)
    assert states == []
    guarded.set("removed", keys.public)
    guarded.reload()
    removed.connect(PATIENCE)
    passes(removed, recorder, 3)
    for client in (other, removed):
        client.close()


def test_a_removed_key_under_rules(directory: Path) -> None:
    """Under rules a removed key publishes nothing more at once, on the connection that it has, and that is counted."""
    guarded = Guarded(directory)
    guarded.set("with-rules", new_keys().public, publish=[])
    guarded.set("removed", (keys := new_keys()).public)
    guarded.set("guest", GUEST.public)
    guarded.write()
    with guarded:
        other = guarded.connected(guarded.keys_for(GUEST), topics=["my_service"])
        recorder, states = record(other), states_of(other)
        removed = guarded.connected(guarded.keys_for(keys))
        passes(removed, recorder, 1)
        guarded.remove("removed")
        guarded.reload()
        removed.emit_event(event(2), TOPIC)
        eventually(lambda: sum(guarded.proxy.health().denied.values()) == 1, PATIENCE)
        passes(other, recorder, 3)
        assert recorder.values == [1, 3]
        assert states == []
        [name] = guarded.proxy.health().denied
        assert keys.public in name


# The allow-list of a proxy that runs


def test_the_list_is_read_again_by_itself(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """A change of the file is in force before the next client is asked for its key, without a signal."""
    caplog.set_level(logging.INFO)
    keys = new_keys()
    with pytest.raises(UnknownClient):
        guarded.client(guarded.keys_for(keys)).connect(LONG)
    guarded.set("by-itself", keys.public)
    guarded.write()
    guarded.connected(guarded.keys_for(keys)).close()
    assert logged(caplog.records, "read again")
    guarded.remove("by-itself")
    guarded.write()
    with pytest.raises(UnknownClient):
        guarded.client(guarded.keys_for(keys)).connect(LONG)


@pytest.mark.parametrize("broken", ["[clients.guest\n", "[clients.guest]\npublic_key = 'short'\n", "\0", "", None])
def test_a_broken_list(guarded: Guarded, broken: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """While the file is broken or away the last list stays in force, and each reading logs an error, but no connection."""
    if broken is None:
        guarded.file.unlink()
    else:
        guarded.write(broken)
    guarded.proxy.reload()  # the proxy may have noticed the change before
    lines = logged(caplog.records, "stays in force")
    guarded.connected(guarded.keys_for(GUEST)).close()
    with pytest.raises(UnknownClient):
        guarded.client(guarded.keys_for(new_keys())).connect(LONG)
    assert logged(caplog.records, "stays in force") == lines
    assert len(lines) in {1, 2}
    assert all(str(guarded.file) in line for line in lines)
    assert {entry.levelno for entry in caplog.records if entry.getMessage() in lines} == {logging.ERROR}
    guarded.reload()
    guarded.connected(guarded.admit()).close()


def test_a_pipe_in_the_place_of_the_list(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """A named pipe that nobody writes to blocks neither clients that connect nor the end of the proxy."""
    guarded.file.unlink()
    os.mkfifo(guarded.file)
    wait_for_line(caplog.records, "it is no regular file; what was read before stays in force")
    guarded.connected(guarded.keys_for(GUEST)).close()
    guarded.proxy.reload()
    guarded.proxy.stop()
    guarded.write()
    guarded.proxy.start()
    guarded.connected(guarded.keys_for(GUEST)).close()


def test_the_list_gets_rules(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the list gets rules the proxy starts again once: clients recover, what was subscribed without rules is gone."""
    guarded = Guarded(directory)
    guarded.set("guest", GUEST.public)
    guarded.set("eve", (eve := new_keys()).public)
    guarded.write()
    with guarded:
        ports = guarded.proxy.pub_port, guarded.proxy.sub_port
        client = guarded.connected(guarded.keys_for(GUEST), topics=["my_service"])
        recorder, states = record(client), states_of(client)
        listening = guarded.raw(guarded.keys_for(eve)).subscriber(b"")
        passes(client, recorder, 1)
        assert listening.recv_multipart() == [b"my_service", json_of(1)]
        guarded.set("eve", eve.public, publish=[], subscribe=["other"])
        guarded.write()
        wait_for_line(caplog.records, "has rules now")
        eventually(lambda: states == [DEGRADED, READY], PATIENCE)
        assert (guarded.proxy.pub_port, guarded.proxy.sub_port) == ports
        # It comes back, which a socket does only when it is used.
        eventually(lambda: listening.poll(0) or guarded.proxy.health().denied.get("eve"), PATIENCE)
        passes(client, recorder, 2)
        assert not listening.poll(0)
        guarded.set("eve", eve.public, publish=[], subscribe=[])
        guarded.reload()
        passes(client, recorder, 3)
        assert guarded.proxy.is_running()
        assert len(logged(caplog.records, "has rules now")) == 1


def test_the_list_loses_its_rules(directory: Path) -> None:
    """When the list loses its rules, each client may do everything, at the latest after its next connection."""
    guarded = Guarded(directory)
    guarded.set("guest", GUEST.public)
    guarded.set("bound", (bound := new_keys()).public, publish=[], subscribe=[])
    guarded.write()
    with guarded:
        client = guarded.connected(guarded.keys_for(GUEST), topics=["my_service"])
        other = guarded.connected(guarded.keys_for(bound), topics=["my_service"])
        recorder, denied = record(client), record(other)
        other.emit_event(event(1), TOPIC)
        eventually(lambda: guarded.proxy.health().denied.get("bound") == 2, PATIENCE)
        guarded.set("bound", bound.public, publish=["*"], subscribe=["*"])
        guarded.reload()
        passes(other, recorder, 2)
        other.close()
        other.connect(PATIENCE)
        denied = record(other)
        passes(client, denied, 3)
        assert recorder.wait_for(2) == [2, 3]


@pytest.mark.parametrize("rules", [False, True], ids=["without rules", "rules"])
def test_who_only_watches_is_no_answerer(directory: Path, rules: bool) -> None:
    """With keys a historian does not answer requests, a client that subscribes to all topics may, and without rules both are
    told apart. Under rules nobody is denied anything for that."""
    guarded = Guarded(directory)
    if rules:
        guarded.admit("bound", publish=[], subscribe=["my_service"])
    with guarded:
        client, watching = guarded.connected(guarded.admit()), guarded.client(guarded.admit())
        with EventBusHistorian(watching._transport):
            if rules:
                with pytest.raises(NoAnswer):
                    client.request(event(1), SCHEDULER, MyEvent, timeout=ANSWER_TIMEOUT)
            else:
                with pytest.raises(NobodyAnswers):  # at once
                    client.request(event(1), SCHEDULER, MyEvent, timeout=PATIENCE)
            listener = guarded.connected(guarded.admit("all"))
            listener.subscribe(None)
            with pytest.raises(NoAnswer):
                client.request(event(1), SCHEDULER, MyEvent, timeout=ANSWER_TIMEOUT)
        assert guarded.proxy.health().denied == {}


@pytest.mark.parametrize("numbered", [False, True], ids=["plain", "numbered"])
def test_a_rule_changes_under_a_subscription(directory: Path, numbered: bool) -> None:
    """A topic that was allowed exactly, then by its beginning, then exactly again comes all the time, and can be left."""
    guarded = Guarded(directory)
    guarded.set("guest", GUEST.public)
    guarded.set("bound", (bound := new_keys()).public, subscribe=["my_service"])
    guarded.write()
    with guarded:
        client = guarded.connected(guarded.keys_for(GUEST), numbered=numbered)
        other = guarded.connected(guarded.keys_for(bound), topics=["my_service"])
        recorder = record(other)
        passes(client, recorder, 1)
        for value, rule in ((2, "my_service*"), (3, "my_service"), (4, "*"), (5, "my_service")):
            guarded.set("bound", bound.public, subscribe=[rule])
            guarded.reload()
            passes(client, recorder, value)
        other.unsubscribe(TOPIC)
        other.subscribe(MyEventTopic.other)
        assert recorder.values == [1, 2, 3, 4, 5]


def test_a_rule_changes_before_the_end_of_a_subscription(directory: Path) -> None:
    """A subscription made under one rule ends with its unsubscription under another."""
    guarded = Guarded(directory)
    guarded.set("guest", GUEST.public)
    guarded.set("bound", (bound := new_keys()).public, subscribe=["my_service"])
    guarded.write()
    with guarded:
        publisher = guarded.raw(guarded.keys_for(GUEST)).publisher(b"")
        raw = guarded.raw(guarded.keys_for(bound))
        for rule in ("my_service*", "my_service"):
            subscriber = raw.subscriber(b"my_service")
            guarded.set("bound", bound.public, subscribe=[rule, "my_service/end"])
            guarded.reload()
            subscriber.unsubscribe(b"my_service")
            subscriber.subscribe(b"my_service/end")
            raw.settle(subscriber)
            publisher.send_multipart([b"my_service", b"{}"])
            publisher.send_multipart([b"my_service/end", b"{}"])
            assert topic_of(subscriber.recv_multipart()[0]) == b"my_service/end"


# Strangers


@pytest.mark.parametrize("leg", ["pub_port", "sub_port"])
def test_strangers_at_a_secure_port(guarded: Guarded, leg: str) -> None:
    """Whatever a stranger says, nothing of it gets in, the proxy ends it, and clients go on."""
    port = getattr(guarded.proxy, leg)
    client = guarded.connected(guarded.keys_for(GUEST), topics=["my_service"])
    client.subscribe(None)
    recorder, states = record(client), states_of(client)
    before = guarded.proxy.health().from_publishers
    message = zmtp.message([b"my_service", json_of(666)])
    kind = b"PUB" if leg == "pub_port" else b"SUB"

    def greeting(mechanism: bytes, major: bytes = b"\x03") -> bytes:
        return zmtp.SIGNATURE + major + b"\x01" + mechanism.ljust(20, b"\0") + bytes(32)

    for content in (
        b"",
        b"\xff",
        zmtp.SIGNATURE,
        zmtp.GREETING[:-1],
        zmtp.GREETING + zmtp.ready(kind) + message,
        greeting(b"PLAIN") + zmtp.frame(b"\x05HELLO\x05admin\x05admin", 4) + zmtp.ready(kind) + message,
        greeting(b"CURVE") + zmtp.ready(kind) + message,
        greeting(b"CURVE") + zmtp.frame(b"\x05HELLO\x01\x00" + bytes(192), 4) + message,
        greeting(b"CURVE") + zmtp.frame(b"\x08INITIATE" + bytes(200), 4) + message,
        greeting(b"CURVE") + message,
        greeting(b"CURVE") + zmtp.announcement(2**62),
        zmtp.SIGNATURE + b"\x01" + (b"\x01" if leg == "pub_port" else b"\x02") + b"\0\0" + message,  # ZMTP 2
        b"\x01\x00" + b"\x0b\x01my_service" + b'\x06\x00{"a"}',  # ZMTP 1
        b"GET / HTTP/1.1\r\nHost: eventbus\r\n\r\n",
        bytes(range(256)) * 100,
    ):
        with zmtp.connect(port) as connection:
            zmtp.finish(connection, content)
    passes(client, recorder, 1)
    assert recorder.values == [1]
    assert guarded.proxy.health().from_publishers.frames == before.frames + 2
    assert states == []
    client.close()


def test_a_stranger_that_stops_in_the_midst(guarded: Guarded, stack: ExitStack) -> None:
    """Strangers that send half a greeting and keep the connection do not keep others out."""
    for port in (guarded.proxy.pub_port, guarded.proxy.sub_port):
        for content in (b"", zmtp.SIGNATURE, zmtp.GREETING[:40]):
            for _ in range(10):
                stack.enter_context(zmtp.connect(port)).sendall(content)
    client = guarded.connected(guarded.keys_for(GUEST), topics=["my_service"])
    passes(client, record(client), 1)
    client.close()


# Health


def test_health_counts_who_is_refused(guarded: Guarded) -> None:
    """health() counts the refused connections, and protection says what keeps strangers out."""
    before = guarded.proxy.health().refused
    with pytest.raises(UnknownClient):
        guarded.client(guarded.keys_for(new_keys())).connect(LONG)
    assert guarded.proxy.health().refused > before
    assert guarded.proxy.protection.startswith("encrypted, ")


def test_counts_mean_the_same_under_rules(directory: Path) -> None:
    """A proxy that enforces rules counts frames and bytes as one without: what came in, and what was handed on once."""
    guarded = Guarded(directory)
    guarded.set("guest", GUEST.public)
    guarded.set("bound", (bound := new_keys()).public, publish=["t"])
    guarded.write()
    with guarded:
        assert guarded.proxy.protection == "encrypted, 2 clients may connect, with rules"
        raw = guarded.raw(guarded.keys_for(bound))
        one, two = raw.subscriber(b"t"), raw.subscriber(b"t")
        publisher = raw.publisher(b"")
        publisher.send_multipart([b"denied", b"12345"])
        publisher.send_multipart([b"t", b"12345"])
        assert one.recv_multipart() == two.recv_multipart() == [b"t", b"12345"]
        health = guarded.proxy.health()
        assert health.from_publishers == Traffic(frames=4, bytes=17)
        assert health.to_subscribers == Traffic(frames=2, bytes=6)
        assert health.from_subscribers.frames >= health.to_publishers.frames >= 2
        assert health.denied == {"bound": 1}
        assert health.running
        last = health
    assert guarded.proxy.health().denied == last.denied


def test_nobody_answers_who_may_connect(tmp_path: Path) -> None:
    """If the authenticator has died, no client gets in, listed or not, and the proxy counts as down."""
    with Guarded(tmp_path) as guarded:
        known, stranger = guarded.admit("known"), guarded.keys_for(new_keys())
        running = guarded.proxy._running
        assert running is not None
        assert running._authenticator is not None
        running._authenticator.stop()
        for keys in (known, stranger):
            with pytest.raises((HandshakeFailed, ProxyUnreachable)):
                guarded.client(keys, connect_timeout=1.0).connect()
        assert not guarded.proxy.is_running()
        assert not guarded.proxy.health().running
