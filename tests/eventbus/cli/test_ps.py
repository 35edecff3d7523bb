"""`eventbus ps`: who is there."""

import json
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus import EventBusProxy
from eventbus.cli.ps import table
from eventbus.transports.memory import MemoryTransport
from eventbus.wire.presence import Presence, Seen, compare
from eventbus.wire.private_topics import PRESENCE_TOPIC
from tests.commands import Run, ports
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, RawPeers, event, eventually


def presence(**facts: object) -> Presence:
    known = {
        "id": "1",
        "name": "shop",
        "host": "till-1",
        "pid": 7,
        "uptime": 10.0,
        "state": "ready",
        "topics": ("my_service",),
        "emitted": 100,
        "received": 0,
        "handled": 0,
        "handler_errors": 0,
        "dropped": 0,
    }
    return Presence(**known | facts)  # type: ignore[arg-type] # a test gives what belongs there


@pytest.fixture
def listed(connected: Callable[..., Bus]) -> Callable[..., Bus]:
    """Makes listed clients that consume."""

    def make(**options: object) -> Bus:
        client = connected(**options)
        client.be_listed()
        client.be_listed()
        client.start_consumer()
        return client

    return make


@pytest.mark.process
def test_clients_are_listed(
    run: Run, proxy: EventBusProxy, listed: Callable[..., Bus], connected: Callable[..., Bus]
) -> None:
    """Each listed client that consumes answers with its name, its process, its topics and its counts; others do not."""
    shop = listed(name="shop", topics=[MyEventTopic.my_service])
    plant = listed(name="plant")
    plant.subscribe(None)
    connected(name="silent", topics=[MyEventTopic.my_service]).start_consumer()
    for _ in range(3):
        shop.emit_event(event(), MyEventTopic.my_service)
    eventually(lambda: plant.stats().received == 3)
    found: list[dict[str, Any]] = []

    def are_listed() -> bool:  # an answer that takes longer than the command waits is left out
        done = run("ps", "--json", "--wait=0.3", "--interval=0.4", *ports(proxy))
        assert (done.returncode, done.stderr) == (0, "")
        found[:] = [json.loads(line) for line in done.stdout.splitlines()]
        return len(found) >= 2 and all(one["received_per_second"] is not None for one in found)

    eventually(are_listed, PATIENCE)
    assert [(one["name"], one["topics"], one["all_topics"]) for one in found] == [
        ("plant", [], True),
        ("shop", ["my_service"], False),
    ]
    assert {one["pid"] for one in found} == {os.getpid()}
    assert {one["host"] for one in found} == {socket.gethostname()}
    assert [one["emitted"] for one in found][1] == 3
    assert found[0]["received"] == 3
    assert all(one["received_per_second"] == 0 for one in found)
    assert plant.stats().rejected == 0  # the question is no event


@pytest.mark.process
def test_nobody_is_there(run: Run, proxy: EventBusProxy) -> None:
    """Without listed clients the table has its heading only."""
    done = run("ps", *ports(proxy))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == list(table([])[0].split())


def test_the_question_is_no_event(proxy: EventBusProxy, listed: Callable[..., Bus], raw: RawPeers) -> None:
    """A question without a destination of answers, or with a wrong one, is ignored, and counts as nothing."""
    client = listed(topics=[MyEventTopic.my_service])
    client.subscribe(None)
    publisher = raw.publisher(PRESENCE_TOPIC)
    publisher.send_multipart([PRESENCE_TOPIC, b"[1,2,"])
    publisher.send_multipart([PRESENCE_TOPIC + b'\0\0{"reply-to":"my_service","correlation-id":"1"}\0', b"{}"])
    publisher.send_multipart([b"my_service", b'{"type":"updated","time":"x"}'])
    eventually(lambda: client.stats().received == 1)
    assert (client.stats().rejected, client.stats().emitted) == (0, 0)


def test_a_disabled_client_is_not_listed() -> None:
    """It has no transport that could answer."""
    with Bus(MyEvent, enabled=False) as client:
        client.be_listed()


def test_who_is_there_in_memory() -> None:
    """Without a proxy it works as well, and the subscription is not one of the client's topics."""
    with Bus(MyEvent, transport=MemoryTransport()) as client:
        client.be_listed()
        assert client.topics == frozenset()
        client.attach_callback(MyEventType.updated, lambda _: None)


def test_rates_are_taken_between_two_answers() -> None:
    """By the client's own clock; one that has answered once, or was made anew, has none."""
    before = [presence(), presence(id="2", name="gone")]
    now = [presence(uptime=12.0, emitted=150, received=10), presence(id="3", name="a", uptime=0.5)]
    new, old = compare(before, now)
    assert (new.client.name, new.emitted_per_second, new.received_per_second) == ("a", None, None)
    assert (old.client.name, old.emitted_per_second, old.received_per_second) == ("shop", 25.0, 5.0)


def test_the_table() -> None:
    """Columns are as wide as what is in them; many topics are cut."""
    many = presence(topics=tuple(f"t{number}" for number in range(8)), uptime=90_000.0, name="a longer name")
    lines = table([Seen(presence(uptime=65.0), 0.5, 1234.5), Seen(many, None, None), Seen(presence(topics=("",)), 99.96, 0)])
    assert lines == [
        "NAME           PID  HOST    UP     STATE  EMITTED/S  RECEIVED/S  ERRORS  DROPPED  TOPICS",
        "shop           7    till-1  1m05s  ready  0.5        1,234       0       0        my_service",
        "a longer name  7    till-1  1d01h  ready  -          -           0       0        t0, t1, t2, t3, t4 and 3 more",
        "shop           7    till-1  10s    ready  100.0      0.0         0       0        *",
    ]


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*Presence.__dataclass_fields__]), inner, max_size=12)
        ),
        max_leaves=12,
    )
)
def test_anything_may_answer(answer: object) -> None:
    """Whatever comes instead of an answer, it is read or left out."""
    Presence.decode(json.dumps(answer).encode())


def test_an_answer_survives_the_way() -> None:
    """What is sent is read; texts of strangers are made printable."""
    assert Presence.decode(presence().encode()) == presence()
    shown = Presence.decode(presence(name="a\x1b[31m").encode())
    assert shown is not None
    assert "\x1b" not in shown.name
    assert Presence.decode(b"\xff") is None
