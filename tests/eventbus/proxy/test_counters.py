"""Counts of a proxy: connections, failed handshakes, subscriptions."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from eventbus import EventBusProxy
from eventbus.keys import reveal
from eventbus.proxy import Connections, HandshakeFailures
from eventbus.proxy.counters import Port
from eventbus.proxy.enforcer import SubscriptionCounter
from tests.faults import zmtp
from tests.security import Guarded, new_keys
from tests.support import PATIENCE, Bus, MyEventTopic, RawPeers, eventually

ACCEPTED, ENDED, THROUGH = int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED), int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
NO_DETAIL, STOPPED = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL), int(zmq.EVENT_MONITOR_STOPPED)
PROTOCOL, AUTH = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL), int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)

HTTP = b"GET / HTTP/1.1\r\nHost: plant.example\r\n\r\n"


def throw(port: int, content: bytes) -> None:
    with zmtp.connect(port) as connection:
        zmtp.finish(connection, content)


# One port, from its events


def port_after(*events: tuple[int, int], now: float = 0.0) -> Port:
    port = Port()
    for event, value in events:
        port.note(event, value, now)
    return port


def test_a_connection_comes_and_goes() -> None:
    """It is open from being accepted to its end, and has not failed."""
    port = port_after((ACCEPTED, 7), (THROUGH, 0))
    assert port.open == 1
    port.note(ENDED, 7, 1.0)
    assert port.open == 0
    assert port.failures(100.0) == HandshakeFailures()


def test_an_end_that_is_told_before_the_beginning() -> None:
    """libzmq has two threads that tell: one may be ahead of the other."""
    port = port_after((NO_DETAIL, 32), (ENDED, 7), (ACCEPTED, 7))
    assert port.open == 0
    port.note(ACCEPTED, 7, 0.0)
    assert port.open == 1
    port.note(ENDED, 7, 0.0)
    assert port.open == 0
    port.note(THROUGH, 0, 0.0)
    assert port.failures(100.0) == HandshakeFailures(no_detail=1)


def test_what_libzmq_reports() -> None:
    """Each kind of failure is counted as what it is."""
    events = [
        event
        for number, kind in enumerate((NO_DETAIL, PROTOCOL, PROTOCOL, AUTH, AUTH, AUTH))
        for event in ((ACCEPTED, number), (kind, 1), (ENDED, number))
    ]
    assert port_after(*events).failures(0.0) == HandshakeFailures(no_detail=1, protocol=2, auth=3)


def test_what_libzmq_does_not_report() -> None:
    """A connection that ended without a word counts as soon as it is sure that it is not one of those in their handshake."""
    port = port_after((ACCEPTED, 7), (ENDED, 7))
    assert port.failures(0.0) == HandshakeFailures(protocol=1)
    for event, value in ((ACCEPTED, 7), (ACCEPTED, 8), (THROUGH, 0), (ENDED, 7)):
        port.note(event, value, 1.0)
    assert port.failures(7.0) == HandshakeFailures(protocol=1)  # the other one may be in its handshake, and this one through
    assert port.failures(7.1) == HandshakeFailures(protocol=2)


def test_those_that_are_open_at_the_end_have_not_failed() -> None:
    """When a proxy stops, nothing is open any more, and what was counted stays."""
    port = port_after((ACCEPTED, 7), (ACCEPTED, 8), (THROUGH, 0), (ACCEPTED, 9), (ENDED, 9), (STOPPED, 0))
    assert port.open == 0
    assert port.failures(100.0).protocol <= 1


@given(st.lists(st.sampled_from(["good", NO_DETAIL, PROTOCOL, AUTH, "silent"]), max_size=6), st.randoms())
def test_any_order(kinds: list[str | int], random: Random) -> None:
    """However the events mingle, counts never go back, are never more than what has failed, and all of it in the end."""
    connections = []
    for number, kind in enumerate(kinds):
        events = [(ACCEPTED, number), (ENDED, number)]
        if kind != "silent":
            events.insert(random.choice([0, 1]), (THROUGH, 0) if kind == "good" else (int(kind), 1))
        if random.choice([True, False]):  # two threads tell, and the one that tells of the beginning may come last
            events.remove((ACCEPTED, number))
            events.append((ACCEPTED, number))
        connections.append(events)
    port, now, before = Port(), 0.0, HandshakeFailures()
    failed = {kind: kinds.count(kind) for kind in kinds}
    while waiting := [events for events in connections if events]:
        event, value = random.choice(waiting).pop(0)
        now += 0.1 * random.random()  # all of it takes less time than a handshake may
        port.note(event, value, now)
        seen = port.failures(now)
        assert seen.no_detail >= before.no_detail
        assert seen.auth >= before.auth
        assert before.protocol <= seen.protocol <= failed.get(PROTOCOL, 0) + failed.get("silent", 0)
        before = seen
    assert port.open == 0
    assert port.failures(now) == HandshakeFailures(
        failed.get(NO_DETAIL, 0), failed.get(PROTOCOL, 0) + failed.get("silent", 0), failed.get(AUTH, 0)
    )


# A proxy


def await_connections(proxy: EventBusProxy, publishers: int, subscribers: int) -> None:
    expected = Connections(publishers, subscribers)
    eventually(lambda: proxy.health().connections == expected, PATIENCE, f"{expected}")


def test_connections_of_clients(proxy: EventBusProxy, connected: Callable[..., Bus]) -> None:
    """Each client has one connection to either port while it is connected; a stopped proxy has none."""
    assert proxy.health().connections == Connections(0, 0)
    clients = [connected(), connected()]
    await_connections(proxy, 2, 2)
    clients[0].close()
    await_connections(proxy, 1, 1)
    assert proxy.health().handshake_failures == HandshakeFailures()
    proxy.stop()
    assert proxy.health().connections == Connections(0, 0)


def test_garbage_is_counted_as_failed_handshakes(proxy: EventBusProxy) -> None:
    """Connections that are no ZeroMQ, that leave or that are of the wrong kind are counted, also where libzmq says nothing,
    and none of them stays."""
    for port in (proxy.pub_port, proxy.sub_port):
        for content in (HTTP, b"", zmtp.SIGNATURE, zmtp.GREETING.replace(b"NULL", b"GSAP")):
            throw(port, content)
        throw(port, zmtp.GREETING + zmtp.ready(b"REQ"))
    expected = HandshakeFailures(no_detail=4, protocol=6)
    eventually(lambda: proxy.health().handshake_failures == expected, PATIENCE, f"{expected}")
    await_connections(proxy, 0, 0)


def test_a_scanner_is_counted_to_the_last(proxy: EventBusProxy) -> None:
    """Each of a thousand short connections is counted, and none is left over."""
    for _ in range(1_000):
        with zmtp.connect(proxy.sub_port) as connection:
            connection.sendall(b"\x16\x03\x01")

    def count() -> int:
        failed = proxy.health().handshake_failures
        return failed.no_detail + failed.protocol

    eventually(lambda: count() == 1_000, PATIENCE, "1,000 failures")
    await_connections(proxy, 0, 0)


def without_keys(failures: HandshakeFailures) -> int:
    return failures.no_detail + failures.protocol


def test_strangers_at_a_proxy_with_keys(tmp_path: Path) -> None:
    """A key that is not on the list, and a client without keys, are failures, each of its own kind."""
    with Guarded(tmp_path) as guarded, zmq.Context() as context, ExitStack() as stack:
        for keys in (guarded.keys_for(new_keys()), None):
            stranger = stack.enter_context(context.socket(zmq.SUB))
            stranger.set(zmq.LINGER, 0)
            if keys is not None:
                stranger.set(zmq.CURVE_SERVERKEY, keys.server_public_key.encode())
                stranger.set(zmq.CURVE_PUBLICKEY, keys.public_key.encode())
                stranger.set(zmq.CURVE_SECRETKEY, reveal(keys.secret_key).encode())
            stranger.connect(f"tcp://127.0.0.1:{guarded.proxy.sub_port}")
        # Both sides see that the mechanisms differ. If the proxy sees it first, that is a protocol failure, else a closed
        # connection. If both see it at the same time, the stranger never tries again.
        eventually(lambda: guarded.proxy.health().handshake_failures.auth == 1, PATIENCE)
        eventually(lambda: without_keys(guarded.proxy.health().handshake_failures) >= 1, PATIENCE)
        assert guarded.proxy.health().refused == 1


# Subscriptions


def await_subscriptions(proxy: EventBusProxy, count: int) -> None:
    eventually(lambda: proxy.health().subscriptions == count, PATIENCE, f"{count} subscriptions")


def subscriber(raw: RawPeers, *topics: bytes) -> "zmq.Socket[bytes]":
    made = raw.subscriber(topics[0])
    for topic in topics[1:]:
        made.subscribe(topic)
    return made


def test_subscriptions_are_different_topics(proxy: EventBusProxy, raw: RawPeers, connected: Callable[..., Bus]) -> None:
    """A topic counts once, however many are subscribed to it, until the last has left; the tokens of echoes never do."""
    client = connected(echo_interval=0.02)
    assert proxy.health().subscriptions == 0
    client.subscribe(MyEventTopic.my_service)
    one, two = subscriber(raw, b"my_service", b"a", b"b"), subscriber(raw, b"", b"b")
    await_subscriptions(proxy, 4)
    one.close(linger=0)
    await_subscriptions(proxy, 3)
    two.unsubscribe(b"")
    await_subscriptions(proxy, 2)
    client.close()
    two.close(linger=0)
    await_subscriptions(proxy, 0)


def test_a_stopped_proxy_has_no_subscriptions(proxy: EventBusProxy, raw: RawPeers) -> None:
    """Subscriptions end with the proxy."""
    raw.subscriber(b"topic")
    await_subscriptions(proxy, 1)
    proxy.stop()
    assert proxy.health().subscriptions == 0


@pytest.fixture
def ruled(tmp_path: Path) -> Iterator[Guarded]:
    """A proxy that enforces rules."""
    made = Guarded(tmp_path)
    made.admit("nobody", publish=[], subscribe=[])
    with made:
        yield made


def test_subscriptions_under_rules(ruled: Guarded) -> None:
    """Under rules what was granted counts, by its topic; what was denied does not, and ends nobody's."""
    boss = ruled.raw(ruled.admit())
    bound = ruled.raw(ruled.admit("bound", subscribe=["a", "b*"]))
    one, two = subscriber(boss, b"a", b"denied"), subscriber(bound, b"a", b"b1", b"denied", b"other")
    await_subscriptions(ruled.proxy, 3)
    eventually(lambda: ruled.proxy.health().denied.get("bound") == 2, PATIENCE)
    two.unsubscribe(b"b1")
    await_subscriptions(ruled.proxy, 2)
    two.close(linger=0)
    boss.settle(one)
    assert ruled.proxy.health().subscriptions == 2
    one.close(linger=0)
    await_subscriptions(ruled.proxy, 0)


def test_subscriptions_under_rules_are_counted_up_to_a_limit() -> None:
    """A client can invent any number of topics: those beyond the limit are not counted, and their ends harm no other."""
    counter = SubscriptionCounter(limit=2)
    for topic in (b"a", b"b", b"c", b"a", b"c"):
        counter.begin(topic, granted=True)
    assert len(counter) == 2
    for topic, left in ((b"b", 1), (b"c", 1), (b"a", 1), (b"a", 0), (b"c", 0)):
        counter.end(topic)
        assert len(counter) == left
    counter.begin(b"c", granted=True)
    assert len(counter) == 1


def test_the_counts_go_on_when_a_proxy_begins_anew(tmp_path: Path) -> None:
    """The first rule makes the proxy begin anew: what it has counted stays, and the clients come back."""
    with Guarded(tmp_path) as guarded:
        keys = guarded.admit()
        client = guarded.connected(keys, topics=["my_service"])
        throw(guarded.proxy.sub_port, b"")
        raw = guarded.raw(keys)
        raw.publisher(b"my_service").send_multipart([b"my_service", b"{}"])
        eventually(lambda: guarded.proxy.health().from_publishers.frames == 2, PATIENCE)
        eventually(lambda: guarded.proxy.health().handshake_failures.no_detail == 1, PATIENCE)
        raw.close()
        before = guarded.proxy.health()
        guarded.admit("bound", publish=[])

        def seen() -> bool:
            """Whether the new one has got the client; at no time has it counted less."""
            health = guarded.proxy.health()
            assert health.from_publishers.frames >= 2
            assert health.uptime >= before.uptime
            assert health.handshake_failures.no_detail >= 1
            assert health.from_subscribers.frames >= before.from_subscribers.frames
            return "with rules" in guarded.proxy.protection and health.connections == Connections(1, 1)

        eventually(seen, PATIENCE)
        client.connect(PATIENCE)
        guarded.raw(keys).publisher(b"").send_multipart([b"my_service", b"{}"])
        eventually(lambda: guarded.proxy.health().from_publishers.frames == 4, PATIENCE)
        await_subscriptions(guarded.proxy, 1)
