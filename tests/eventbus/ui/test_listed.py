"""The page asks clients who they are, over a real proxy."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from eventbus import EventBusProxy
from eventbus.keys import ClientKeys
from eventbus.options import ZeroMQOptions
from eventbus.transports.zeromq.transport import ZeroMQTransport
from eventbus.ui.clients import Change, KnownClient
from eventbus.ui.listed import ListedClients
from tests.security import Guarded
from tests.support import PATIENCE, Bus, MyEventTopic, Recorder, event, eventually

TOPIC = MyEventTopic.my_service


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventbus.ui.listed._INTERVAL_S", 0.0)


def names(found: Sequence[KnownClient]) -> list[str]:
    return [client.name for client in found]


def told_by(source: ListedClients, told: list[Change]) -> list[Change]:
    told += source.look()[1]
    return told


@contextmanager
def opened(proxy: EventBusProxy, keys: ClientKeys | None = None) -> Iterator[ZeroMQTransport]:
    """An open transport."""
    transport = ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port, ZeroMQOptions(keys=keys))
    transport.open(PATIENCE)
    try:
        yield transport
    finally:
        transport.close(0.0)


def listed(client: Bus) -> Bus:
    client.be_listed()
    client.subscribe(TOPIC)
    client.attach_callback(event().type, Recorder())
    client.start_consumer()
    return client


def test_who_is_there(proxy: EventBusProxy, connected: Callable[..., Bus]) -> None:
    """Clients are listed with what they are subscribed to, what they emit and their publisher's id; who leaves is told."""
    client = listed(connected(name="opc", numbered=True))
    client.emit_event(event(), topic=MyEventTopic.other)
    with opened(proxy) as transport, closing(ListedClients(transport)) as source:
        told: list[Change] = []
        found: list[Sequence[KnownClient]] = []

        def look(*expected: str) -> bool:  # an answer that takes longer than the page waits comes with the next look
            clients, changes = source.look()
            found.append(clients)
            told.extend(changes)
            return names(clients) == list(expected)

        eventually(lambda: look("opc"), PATIENCE)
        (opc,) = found[-1]
        assert (opc.name, opc.topics, list(opc.emits), opc.state) == ("opc", ("my_service",), ["other"], "ready")
        assert opc.publisher.startswith("01")
        assert len(found) > 1 or told == []
        assert source.own_topics()[0].startswith(b"_reply/")
        listed(connected(name="late"))
        eventually(lambda: look("late", "opc"), PATIENCE)
        assert [change.text.partition(":")[0] for change in told][-1] == "late is there"
        client.close()
        gone: list[Change] = []
        eventually(lambda: told_by(source, gone), PATIENCE)
        assert [change.text.partition(":")[0] for change in gone] == ["opc does not answer any more"]


@pytest.mark.patience
def test_rules_that_deny_the_question(tmp_path: Path) -> None:
    """Where the rules do not let the page ask, it says so once, and asks no more."""
    with Guarded(tmp_path) as guarded:
        keys = guarded.admit("page", publish=[], subscribe=["my_service"])
        listed(guarded.connected(guarded.admit("opc")))
        with opened(guarded.proxy, keys) as transport, closing(ListedClients(transport, keys.public_key)) as source:
            told: list[Change] = []
            eventually(lambda: told_by(source, told), PATIENCE)
            assert [change.kind for change in told] == ["denied"]
            denied = guarded.proxy.health().denied
            assert source.look() == ([], ())
            assert guarded.proxy.health().denied == denied
