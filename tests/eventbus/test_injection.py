"""Received messages are data: nothing of them is unpickled or evaluated, or gets into the log as it is."""

import ast
import json
import logging
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, field_validator

from eventbus import BaseEvent, EventBusClient, RejectReason
from eventbus._base.log_throttle import LogThrottle
from eventbus.transports.memory import MemoryHub, MemoryTransport
from tests.support import PATIENCE, MyEventTopic, MyEventType, eventually, json_of

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("eventbus", "container", "settings") for path in (ROOT / folder).rglob("*.py"))
TOPIC = b"my_service"
EVIL = "\x1b[2J\r\nforged: line\x07\x7f\x9b31m\u2028\u202e"

# Modules that make objects out of bytes, and functions that make code out of text.
MAKERS = {
    "pickle",
    "_pickle",
    "cPickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "copyreg",
    "code",
    "codeop",
    "runpy",
    "yaml",
}
RUNNERS = {"eval", "exec", "compile", "__import__", "import_module", "literal_eval", "system", "popen"}
# The names of its own modules, and of the program that a person names on the command line; never a text that has arrived.
ALLOWED = {"eventbus/exports.py": {"import_module"}, "eventbus/cli/app.py": {"import_module"}}
READERS = {"recv_pyobj", "send_pyobj", "recv_serialized", "Unpickler", "import_string", "ImportString"}


# What can be seen in the sources


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_in_the_sources_makes_objects_or_code(path: Path) -> None:
    """No module imports what unpickles, or names what evaluates."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                found |= {alias.name.split(".")[0] for alias in node.names} & MAKERS
            case ast.ImportFrom():
                found |= {str(node.module).split(".")[0]} & MAKERS
                found |= {alias.name for alias in node.names} & (RUNNERS | READERS)
            case ast.Name(id=name):
                found |= {name} & (RUNNERS | READERS)
            case ast.Attribute(attr=name):
                found |= {name} & (RUNNERS | READERS) - {"compile"}  # a regular expression
    assert found == ALLOWED.get(str(path.relative_to(ROOT)), set())


# What arrives


class MakesFolder:
    """When it is unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


class Part(BaseModel, extra="forbid"):
    size: int = 0


class Open(BaseEvent[MyEventType], extra="allow"):
    """Keeps what it does not know, has keys of the sender's choice, and quotes what it refuses."""

    type: Literal[MyEventType.updated, MyEventType.stopped]
    time: str = ""
    value: float = 0.0
    counts: dict[str, int] = Field(default_factory=dict)
    parts: list[Part] = Field(default_factory=list)

    @field_validator("time")
    @classmethod
    def refuse(cls, value: str) -> str:
        if value.startswith("refused"):
            raise ValueError(f"{value} is refused")
        if value.startswith("careless"):
            raise KeyError(value)
        return value


class Started(BaseEvent[MyEventType], extra="allow"):
    type: Literal[MyEventType.started]


class Receiver:
    """A client in memory of any topic, each of whose handlers fails, and what it logs: one line for each thing."""

    def __init__(self) -> None:
        hub = MemoryHub()
        self.lines: SimpleQueue[logging.LogRecord] = SimpleQueue()
        self.handled: SimpleQueue[Any] = SimpleQueue()
        self.sender = MemoryTransport(hub)
        self.sender.open(PATIENCE)
        adapter: TypeAdapter[Open | Started] = TypeAdapter(Annotated[Open | Started, Field(discriminator="type")])
        self.client: EventBusClient[Open | Started, MyEventType, MyEventTopic] = EventBusClient(
            adapter, transport=MemoryTransport(hub), max_event_bytes=100_000
        )
        self.client._parts.consumer._report._throttle = LogThrottle(0.0)
        self.client.subscribe(None)
        for event_type in MyEventType:
            self.client.attach_callback(event_type, self.fail)

    def fail(self, event: Open | Started) -> None:
        self.handled.put(event)
        raise RuntimeError

    def send(self, payload: bytes, topic: bytes = TOPIC) -> list[str]:
        """Send this message, then a good one; return what was logged about the first, when the second has been handled."""
        self.sender.send(topic, payload)
        self.sender.send(TOPIC, b'{"type":"stopped","time":"good"}')
        while getattr(self.handled.get(timeout=PATIENCE), "time", "") != "good":
            pass
        said = []
        while not (text := self.lines.get(timeout=PATIENCE).getMessage()).endswith(
            "time='good', value=0.0, counts={}, parts=[])"
        ):
            said.append(text)
        return said


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """The same for all tests: nothing that it received may have stopped it."""
    made = Receiver()
    handler = logging.Handler()
    handler.emit = made.lines.put  # type: ignore[method-assign, assignment] # all it does
    logging.getLogger("eventbus").addHandler(handler)
    with made.client:
        made.client.start_consumer()
        yield made
    logging.getLogger("eventbus").removeHandler(handler)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_was_pickled_is_no_event(receiver: Receiver, tmp_path: Path, protocol: int) -> None:
    """Pickled bytes, alone or as text in an event, run nothing: they are rejected as no JSON, or are text."""
    made = tmp_path / "made"
    pickled = pickle.dumps(MakesFolder(made), protocol)
    pickle.loads(pickled)
    made.rmdir()  # it would have worked
    before = receiver.client.stats().rejects.get(RejectReason.JSON, 0)
    assert len(receiver.send(pickled)) == 1
    assert receiver.client.stats().rejects[RejectReason.JSON] == before + 1
    receiver.send(pickled, pickled)
    receiver.send(json.dumps({"type": "updated", "time": pickled.decode("latin-1"), "__reduce__": pickled.hex()}).encode())
    assert not made.exists()


def test_code_is_text(receiver: Receiver) -> None:
    """Expressions, templates and conversions in received text stay what they are, in the log too."""
    code = "{0.__class__} %s %(x)d ${HOME} __import__('os').getpid()"
    assert code in receiver.send(json.dumps({"type": "updated", "time": code}).encode())[0]
    assert code[:30] in receiver.send(json.dumps({"type": code}).encode())[0]


# What is logged

HOSTILE = {
    "type": {"type": EVIL},
    "type-in-a-list": {"type": [EVIL]},
    "key-of-a-dict": {"type": "updated", "counts": {EVIL: "x"}},
    "key-of-a-model": {"type": "updated", "parts": [{EVIL: 1}]},
    "quoted-by-a-validator": {"type": "updated", "time": "refused" + EVIL},
    "raised-by-a-validator": {"type": "updated", "time": "careless" + EVIL},
    "text-of-a-failed-event": {"type": "updated", "time": EVIL},
    "name-in-a-failed-event": {"type": "updated", EVIL: 1},
    "name-in-a-failed-event-of-a-union": {"type": "started", EVIL: EVIL},
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("packed", [False, True])
def test_received_text_is_escaped_in_the_log(receiver: Receiver, content: dict[str, Any], packed: bool) -> None:
    """Wherever a line tells what was received, that cannot speak to a terminal or pass for another line."""
    [said] = receiver.send(json.dumps([content] if packed else content).encode())
    assert said.isprintable()
    assert r"\x1b[2J" in said
    assert len(said) < 1_200


@pytest.mark.parametrize(
    ("topic", "reason"),
    [(EVIL.encode(), "unheard"), (b"\xff\x1b\n", "UTF-8"), (b"\x1b" * 10_000, "the topic has 10000 bytes")],
    ids=["evil", "no text", "long"],
)
def test_a_received_topic_is_escaped_in_the_log(receiver: Receiver, topic: bytes, reason: str) -> None:
    """The same holds for a topic, whose name is cut off so that the error can be read."""
    [said] = receiver.send(b'{"type":"unheard"}', topic)
    assert said.isprintable()
    assert r"\x1b" in said
    assert len(said) < 500
    assert reason in said


def test_a_huge_event_is_cut_off_in_the_log(receiver: Receiver) -> None:
    """An event of the largest size makes no line of that size."""
    for content in ({"type": "updated", "time": "x" * 90_000}, {"type": "x" * 90_000}, {"type": ["x" * 90_000]}):
        [said] = receiver.send(json.dumps(content).encode())
        assert len(said) < 1_200


# Anything

TEXT = st.text(st.characters() | st.sampled_from(EVIL), max_size=20)
NAMES = st.sampled_from(["type", "time", "value", "counts", "parts", "size", "__class__"]) | TEXT
ATOMS = (
    st.sampled_from(["updated", "started", "refused", "careless", *HOSTILE])
    | TEXT
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.none()
    | st.just(10**4_000)
)
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=20
)
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["updated", "started"]) | TEXT},
    optional={"time": TEXT, "value": ATOMS, "counts": st.dictionaries(TEXT, st.integers() | TEXT), EVIL: VALUES},
)
ANY_JSON = st.builds(
    lambda value, ascii_only: json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass"),
    VALUES | EVENTS | st.lists(EVENTS, max_size=5),
    st.booleans(),
)


@settings(max_examples=150)
@given(
    payload=ANY_JSON | st.binary(max_size=100), topic=st.just(TOPIC) | TEXT.map(lambda text: text.encode(errors="replace"))
)
@example(payload=b"[" * 100_000, topic=TOPIC)
@example(payload=b'{"type":' * 10_000, topic=TOPIC)
@example(payload=b'{"type":' + b"1" * 5_000 + b"}", topic=TOPIC)
@example(payload=b'[{"type":"updated","value":' + b"1" * 4_200 + b"},3]", topic=TOPIC)
@example(payload=b'{"type":"updated","type":"unheard","type":"started"}', topic=TOPIC)
@example(payload=b'{"type":"\\ud800"}', topic=TOPIC)
@example(payload=b'{"type":"\xed\xa0\x80"}', topic=TOPIC)
def test_whatever_arrives(receiver: Receiver, payload: bytes, topic: bytes) -> None:
    """Any bytes and any JSON: the next event is handled, and every line that was logged prints and is short."""
    for said in receiver.send(payload, topic):
        assert said.isprintable()
        assert len(said) < 1_200


def test_nothing_is_left_uncounted(receiver: Receiver) -> None:
    """After all that, the client counts each event once, and still receives."""
    receiver.client.detach_callback(MyEventType.updated, receiver.fail)
    before = receiver.client.stats()
    receiver.sender.send(TOPIC, json_of(1))
    eventually(lambda: receiver.client.stats().received == before.received + 1)
    stats = receiver.client.stats()
    assert stats.rejected == sum(stats.rejects.values())
    assert len(stats.unknown_types) <= 100
    assert all(name.isprintable() and len(name) <= 64 for name in stats.unknown_types)
