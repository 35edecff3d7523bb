"""Errors are one tree; each has its facts as attributes, composes its text from them, and travels between processes."""

import copy
import errno
import multiprocessing
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Any

import pytest

from eventbus import EventBusProxy, errors
from eventbus.errors import (
    AddressInUse,
    CompressionMissing,
    DescriptorsExhausted,
    EncryptionRequired,
    EventBusError,
    EventTooLarge,
    ExtraMissing,
    ForkedClient,
    GroupDiffers,
    HandlerTimeout,
    HandshakeFailed,
    HistorianMissing,
    HistoryDamaged,
    InvalidAnswer,
    InvalidEvent,
    InvalidHandler,
    InvalidHeaders,
    InvalidRecording,
    InvalidSettings,
    InvalidTopic,
    JetStreamMissing,
    MonkeyPatched,
    NatsRefused,
    NoAnswer,
    NobodyAnswers,
    NotConnected,
    NotEncrypted,
    NotSettled,
    PayloadDamaged,
    PayloadTooLarge,
    PermissionDenied,
    ProbePortInUse,
    ProxyUnreachable,
    ReconnectFailed,
    RequestFailed,
    SendBufferFull,
    SendTimeout,
    ServerTooOld,
    ServiceFailed,
    ServiceTimeout,
    StreamDiffers,
    SwappedPorts,
    TlsFailed,
    TooManyValues,
    UnknownClient,
    WrongCredentials,
    WrongServerKey,
    reason_of,
)
from eventbus.policies import Compression
from eventbus.transports.zeromq.reachability import CheckFailed
from tests.faults.programs import run_program
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, event

HERE = "tcp://127.0.0.1:5559"
NATS = "nats://127.0.0.1:4222"
type Way = Callable[[EventBusError], Any]
type Call = Callable[..., object]

NOTE = "2 of these 3 events had been sent before"


@dataclass(frozen=True)
class Example:
    """An error, what it must say, and its attributes."""

    error: EventBusError
    text: str
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return type(self.error).__name__


EXAMPLES = [
    *(
        Example(kind("it says why"), "it says why")
        for kind in (
            EventBusError,
            InvalidEvent,
            InvalidTopic,
            InvalidHeaders,
            InvalidHandler,
            InvalidSettings,
            PayloadDamaged,
        )
    ),
    Example(
        ExtraMissing(extra="otel", wanted_by="EVENTBUS_TRACES"),
        "otel is not installed: pip install 'eventbus[otel]' (EVENTBUS_TRACES)",
        {"extra": "otel", "wanted_by": "EVENTBUS_TRACES", "library": ""},
    ),
    Example(
        ExtraMissing(extra="top", wanted_by="for the tables", library="rich"),
        "rich is not installed: pip install 'eventbus[top]' (for the tables)",
        {"extra": "top", "wanted_by": "for the tables", "library": "rich"},
    ),
    Example(
        CompressionMissing(compression=Compression.ZSTD),
        "zstd is not installed: pip install 'eventbus[zstd]' (EVENTBUS_COMPRESSION)",
        {"compression": "zstd", "extra": "zstd", "wanted_by": "EVENTBUS_COMPRESSION", "library": ""},
    ),
    Example(
        EventTooLarge(topic="plant", size=9_100, limit=8_192),
        "plant: the event is 9100 bytes of JSON, the limit is 8192: make it smaller, or raise EVENTBUS_MAX_EVENT_BYTES "
        "for this client, its receivers and the proxy",
        {"topic": "plant", "size": 9_100, "limit": 8_192},
    ),
    Example(
        TooManyValues(topic="plant", limit=100),
        "plant: the event has more than 100 values: send it in parts or as one text, or raise EVENTBUS_MAX_EVENT_VALUES "
        "for this client and its receivers",
        {"topic": "plant", "limit": 100},
    ),
    Example(
        PayloadTooLarge(limit=8_192),
        "more than 8192 bytes, compressed (the limit is EVENTBUS_MAX_EVENT_BYTES, and never above 8 MiB)",
        {"limit": 8_192},
    ),
    Example(
        NotConnected(endpoints=HERE),
        f"the client for {HERE} is not connected: call connect(), or use it inside `with client:`",
        {"endpoints": HERE},
    ),
    Example(
        ForkedClient(endpoints=HERE),
        f"the client for {HERE} was connected before this process was forked: "
        "create and connect a client of its own in the child",
        {"endpoints": HERE},
    ),
    Example(
        ReconnectFailed(endpoints=HERE, attempts=3),
        f"no event bus proxy came back at {HERE} in 3 attempts to reconnect, and no more are made: "
        "call connect() again once it runs, or raise EVENTBUS_RECONNECT_ATTEMPTS (-1: never give up)",
        {"endpoints": HERE, "attempts": 3},
    ),
    Example(
        ProxyUnreachable(endpoints=HERE, timeout=0.25),
        f"no event bus proxy answered at {HERE} within 0.25 s: "
        "start one with `eventbus proxy`, or set EVENTBUS_HOST, EVENTBUS_PUB_PORT and EVENTBUS_SUB_PORT",
        {"endpoints": HERE, "timeout": 0.25, "hint": "", "remedy": ""},
    ),
    Example(
        ProxyUnreachable(endpoints=HERE, timeout=5.0, hint="no connection", remedy="plug it in"),
        f"no event bus proxy answered at {HERE} within 5 s (no connection): plug it in",
        {"endpoints": HERE, "timeout": 5.0, "hint": "no connection", "remedy": "plug it in"},
    ),
    Example(
        HandshakeFailed(endpoint=HERE),
        f"the proxy at {HERE} and this client do not agree on who may talk: see `eventbus check`",
        {"endpoint": HERE},
    ),
    Example(
        SwappedPorts(endpoint=HERE, pub_port=5560, sub_port=5559),
        f"the ports of the proxy at {HERE} are swapped (publishers connect to 5559 and subscribers to 5560): "
        "set EVENTBUS_PUB_PORT=5559 and EVENTBUS_SUB_PORT=5560",
        {"endpoint": HERE, "pub_port": 5560, "sub_port": 5559},
    ),
    Example(
        WrongServerKey(endpoint=HERE, server_public_key="k" * 40),
        f"wrong server key: the proxy at {HERE} has not the secret key that belongs to the public key kkkkkk…: "
        "set EVENTBUS_SECURITY__SERVER_PUBLIC_KEY to what `eventbus keygen` printed for the proxy",
        {"endpoint": HERE, "server_public_key": "k" * 40},
    ),
    Example(
        UnknownClient(endpoint=HERE, public_key="k" * 40),
        f"unknown client: the proxy at {HERE} does not have the public key of this client on its allow-list: "
        f"add {'k' * 40} there (no restart is needed), or set EVENTBUS_SECURITY__SECRET_KEY_FILE to the right key",
        {"endpoint": HERE, "public_key": "k" * 40},
    ),
    Example(
        EncryptionRequired(endpoint=HERE),
        f"encryption required: the proxy at {HERE} uses CURVE, and this client has no keys: "
        "set EVENTBUS_SECURITY__SERVER_PUBLIC_KEY and EVENTBUS_SECURITY__SECRET_KEY_FILE",
        {"endpoint": HERE},
    ),
    Example(
        NotEncrypted(endpoint=HERE),
        f"not encrypted: the proxy at {HERE} does not use CURVE, and this client does: start the proxy with "
        "EVENTBUS_SECURITY__SECRET_KEY_FILE and EVENTBUS_SECURITY__ALLOW_LIST, "
        "or leave out this client's EVENTBUS_SECURITY__SERVER_PUBLIC_KEY",
        {"endpoint": HERE},
    ),
    Example(
        NatsRefused(NATS, "maximum connections exceeded"),
        f"the NATS server at {NATS} does not let this client in: maximum connections exceeded: see `eventbus check`",
        {"endpoint": NATS, "reason": "maximum connections exceeded"},
    ),
    Example(
        WrongCredentials(NATS, user="ada", reason="Authorization Violation"),
        f"wrong credentials: the NATS server at {NATS} does not let ada in (Authorization Violation): set the user in "
        "EVENTBUS_URL (nats://user@host) and EVENTBUS_SECURITY__PASSWORD_FILE, or EVENTBUS_SECURITY__TOKEN, or "
        "EVENTBUS_SECURITY__CREDENTIALS",
        {"endpoint": NATS, "user": "ada", "reason": "Authorization Violation"},
    ),
    Example(
        TlsFailed(NATS, reason="certificate has expired"),
        f"TLS failed with the NATS server at {NATS}: certificate has expired: set EVENTBUS_SECURITY__CA_FILE to the "
        "certificate of its authority, EVENTBUS_SECURITY__CERT_FILE and EVENTBUS_SECURITY__KEY_FILE if it asks for the "
        "client's, and the name in its certificate as the host in EVENTBUS_URL",
        {"endpoint": NATS, "reason": "certificate has expired"},
    ),
    Example(
        ServerTooOld(NATS, version="2.9.10", required="2.10"),
        f"the NATS server at {NATS} is version 2.9.10, and 2.10 is needed: upgrade it, or set EVENTBUS_URL to another one",
        {"endpoint": NATS, "version": "2.9.10", "required": "2.10"},
    ),
    Example(
        JetStreamMissing(NATS, reason="JetStream not enabled"),
        f"the NATS server at {NATS} has no JetStream (JetStream not enabled): start it with `nats-server -js -sd DIR`, or "
        "set EVENTBUS_TRANSPORT=nats, which stores nothing",
        {"endpoint": NATS, "reason": "JetStream not enabled"},
    ),
    Example(
        StreamDiffers(NATS, stream="eb", subjects=("x.>",), wanted=("eb.>",)),
        f"the stream 'eb' at {NATS} has the subjects x.>, and this bus needs eb.>: set EVENTBUS_SUBJECT_PREFIX to one that "
        "is free, or change the stream (`nats stream edit`)",
        {"endpoint": NATS, "stream": "eb", "subjects": ("x.>",), "wanted": ("eb.>",)},
    ),
    Example(
        GroupDiffers(NATS, group="workers", topics=("a",), wanted=("a", "b")),
        f"the group 'workers' at {NATS} has the topics a, and this client subscribes to a, b: all workers of a group need "
        "the same topics. Stop the others first, or set EVENTBUS_GROUP to another name",
        {"endpoint": NATS, "group": "workers", "topics": ("a",), "wanted": ("a", "b")},
    ),
    Example(
        PermissionDenied(NATS, action="subscribe", subject="eb.plant", user="ada"),
        f"the NATS server at {NATS} does not permit ada to subscribe on eb.plant: change the permissions in the server's "
        "configuration, or the user in EVENTBUS_URL",
        {"endpoint": NATS, "action": "subscribe", "subject": "eb.plant", "user": "ada"},
    ),
    Example(
        SendBufferFull(endpoint=HERE, limit=1_000),
        f"the send buffer to {HERE} is full (1000 messages), the event was not sent: "
        "is the proxy running? (EVENTBUS_SEND_HWM, EVENTBUS_SEND_POLICY)",
        {"endpoint": HERE, "limit": 1_000},
    ),
    Example(
        EventTooLarge("plant", 9_100, 16_384, 8_192, peer="NATS server", remedy="raise its max_payload"),
        "plant: the payload is 9100 bytes, the NATS server accepts 8192 (this client's own limit is 16384): make it "
        "smaller, or raise its max_payload",
        {
            "topic": "plant",
            "size": 9_100,
            "limit": 16_384,
            "proxy_limit": 8_192,
            "peer": "NATS server",
            "remedy": "raise its max_payload",
        },
    ),
    Example(
        ProxyUnreachable(HERE, 5.0, remedy="start one", peer="NATS server"),
        f"no NATS server answered at {HERE} within 5 s: start one",
        {"endpoints": HERE, "timeout": 5.0, "hint": "", "remedy": "start one", "peer": "NATS server"},
    ),
    Example(
        ReconnectFailed(HERE, 3, peer="NATS server"),
        f"no NATS server came back at {HERE} in 3 attempts to reconnect, and no more are made: "
        "call connect() again once it runs, or raise EVENTBUS_RECONNECT_ATTEMPTS (-1: never give up)",
        {"endpoints": HERE, "attempts": 3, "peer": "NATS server"},
    ),
    Example(
        SendBufferFull(HERE, 1_000, peer="NATS server"),
        f"the send buffer to {HERE} is full (1000 messages), the event was not sent: is the NATS server running? "
        "(EVENTBUS_SEND_HWM, EVENTBUS_SEND_POLICY)",
        {"endpoint": HERE, "limit": 1_000, "peer": "NATS server"},
    ),
    Example(
        SendTimeout(endpoint=HERE, limit=1_000, timeout=0.5),
        f"the send buffer to {HERE} stayed full (1000 messages) for 0.5 s, the event was not sent: "
        "is the proxy running? (EVENTBUS_SEND_HWM, EVENTBUS_SEND_TIMEOUT)",
        {"endpoint": HERE, "limit": 1_000, "timeout": 0.5},
    ),
    Example(
        NobodyAnswers(topic="plant", event_type="wanted"),
        "nobody subscribes to plant, so nobody answers wanted: start the service that has the handler marked with @answers",
        {"topic": "plant", "event_type": "wanted"},
    ),
    Example(
        NoAnswer(topic="plant", event_type="wanted", timeout=2.0),
        "no answer to wanted on plant within 2 s: either no subscriber of the topic has a handler marked with @answers for "
        "this type, or it takes longer (timeout=…)",
        {"topic": "plant", "event_type": "wanted", "timeout": 2.0},
    ),
    Example(
        NoAnswer(topic="plant", event_type="wanted", timeout=2.0, option="--timeout"),
        "no answer to wanted on plant within 2 s: either no subscriber of the topic has a handler marked with @answers for "
        "this type, or it takes longer (--timeout)",
        {"topic": "plant", "event_type": "wanted", "timeout": 2.0, "option": "--timeout"},
    ),
    Example(
        RequestFailed(topic="plant", event_type="wanted", error_type="KeyError", error_text="'x'"),
        "the handler of wanted on plant has failed with KeyError: 'x' (the log of the answering service has the traceback)",
        {"topic": "plant", "event_type": "wanted", "error_type": "KeyError", "error_text": "'x'"},
    ),
    Example(
        InvalidAnswer(topic="plant", event_type="wanted", reply="Price", detail="amount: Field required"),
        "the answer to wanted on plant is no Price: amount: Field required; `reply` and what the handler returns must be of "
        "the same class",
        {"topic": "plant", "event_type": "wanted", "reply": "Price", "detail": "amount: Field required"},
    ),
    Example(
        HistorianMissing(HERE, timeout=2.0),
        f"no historian has answered within 2 s at {HERE}: run `eventbus historian`, or a proxy with EVENTBUS_HISTORY=1000",
        {"endpoints": HERE, "timeout": 2.0},
    ),
    Example(
        HistoryDamaged(HERE, "it is cut off"),
        f"an answer of the historian at {HERE} cannot be read: it is cut off; give both the same version, and run one "
        "historian on a bus, in the proxy or beside it",
        {"endpoints": HERE, "detail": "it is cut off"},
    ),
    Example(
        InvalidRecording("plant.jsonl", 3, "it is no JSON"),
        "line 3 of plant.jsonl is none of a recording: it is no JSON; `eventbus record` writes such files",
        {"path": "plant.jsonl", "line": 3, "detail": "it is no JSON"},
    ),
    Example(
        HandlerTimeout(handler="plant.Thermostat.regulate", limit=0.5),
        "plant.Thermostat.regulate was cancelled: it took longer than its time limit of 0.5 s",
        {"handler": "plant.Thermostat.regulate", "limit": 0.5},
    ),
    Example(
        ServiceFailed(service="Thermostat", reason="KeyError: 'sensor'"),
        "service Thermostat has failed and is not run again: KeyError: 'sensor'",
        {"service": "Thermostat", "reason": "KeyError: 'sensor'"},
    ),
    Example(
        ServiceTimeout(service="Thermostat", timeout=5.0, remedy="wait by `self.pause`"),
        "service Thermostat did not stop within 5 s: wait by `self.pause`, or give it a longer stop_timeout",
        {"service": "Thermostat", "timeout": 5.0, "remedy": "wait by `self.pause`"},
    ),
    Example(
        NotSettled(timeout=10.0, under_way="thread eventbus-service-Thermostat"),
        "still under way after 10 s: thread eventbus-service-Thermostat: let it end, or wait by the clock of the test, "
        "as `Service.pause`, `Retry` and `TimeLimit` do",
        {"timeout": 10.0, "under_way": "thread eventbus-service-Thermostat"},
    ),
    Example(
        AddressInUse(endpoint=HERE, port=5559, variable="EVENTBUS_PUB_PORT"),
        f"port 5559 is taken, cannot bind {HERE}: "
        "is another proxy running (`eventbus check`)? Stop it, or set EVENTBUS_PUB_PORT",
        {"endpoint": HERE, "port": 5559, "variable": "EVENTBUS_PUB_PORT", "errno": errno.EADDRINUSE},
    ),
    Example(
        ProbePortInUse(endpoint="http://127.0.0.1:80", port=80),
        "port 80 is taken, cannot serve metrics and probes at http://127.0.0.1:80: "
        "stop what listens there, or set EVENTBUS_HTTP_PORT",
        {"endpoint": "http://127.0.0.1:80", "port": 80, "variable": "EVENTBUS_HTTP_PORT", "errno": errno.EADDRINUSE},
    ),
    Example(
        DescriptorsExhausted(needed=8, limit=1_024),
        "8 more descriptors are needed, and too many of the 1024 that this process may have are in use: "
        "raise the limit (`ulimit -n`, or LimitNOFILE= of its systemd unit), or close what is not needed",
        {"needed": 8, "limit": 1_024, "errno": errno.EMFILE},
    ),
    Example(
        MonkeyPatched(library="gevent"),
        "gevent has replaced Python's threads, and waiting for ZeroMQ would block all of them: "
        "use another worker class (gunicorn: gthread), or call gevent.monkey.patch_all(thread=False)",
        {"library": "gevent"},
    ),
    Example(
        CheckFailed(detail="nothing listens", remedy="start a proxy"),
        "nothing listens: start a proxy",
        {"detail": "nothing listens", "remedy": "start a proxy"},
    ),
]


# What a user may derive from them


class Renamed(NotConnected):
    """Adds nothing."""


class OfAnObject(NotConnected):
    """Its `__init__` takes something else than that of its base, and keeps something that it was not given."""

    def __init__(self, room: dict[str, str]) -> None:
        super().__init__(room["endpoints"])
        self.room = room


class OfKeywords(EventBusError):
    """An error whose arguments are not in its `args`."""

    def __init__(self, *, sensor: str, value: float) -> None:
        super().__init__(f"sensor {sensor} measures {value:g}")
        self.sensor = sensor
        self.value = value


class OfTheSystem(EventBusError, OSError):
    """Made as an OSError is: of errno, text and file names."""


class OfTheSystemWithInit(ProxyUnreachable):
    """Has what an OSError keeps outside of its `__dict__`."""

    def __init__(self, place: str) -> None:
        super().__init__(place, 1.0)
        self.errno, self.strerror, self.filename = errno.ENOENT, "no such file", place


class OfSeveral(EventBusError, ExceptionGroup[Exception]):
    """Python makes a group in `__new__`."""


DERIVED = [
    Example(Renamed(HERE), str(NotConnected(HERE)), {"endpoints": HERE}),
    Example(
        OfAnObject({"endpoints": HERE, "door": "blue"}),
        str(NotConnected(HERE)),
        {"endpoints": HERE, "room": {"endpoints": HERE, "door": "blue"}},
    ),
    Example(OfKeywords(sensor="a", value=1.5), "sensor a measures 1.5", {"sensor": "a", "value": 1.5}),
    Example(OfTheSystem("just a text"), "just a text"),
    Example(
        OfTheSystem(errno.EACCES, "may not read", "one", None, "two"),
        f"[Errno {errno.EACCES}] may not read: 'one' -> 'two'",
        {"errno": errno.EACCES, "strerror": "may not read", "filename": "one", "filename2": "two"},
    ),
    Example(
        OfTheSystemWithInit("here"),
        str(ProxyUnreachable("here", 1.0)),
        {
            "endpoints": "here",
            "timeout": 1.0,
            "hint": "",
            "remedy": "",
            "errno": errno.ENOENT,
            "strerror": "no such file",
            "filename": "here",
        },
    ),
]


# Copying


def pickled(protocol: int) -> Way:
    return lambda error: pickle.loads(pickle.dumps(error, protocol))


WAYS: dict[str, Way] = {
    **{f"pickle-{protocol}": pickled(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}

all_ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
all_examples = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)


def facts_of(error: BaseException) -> dict[str, object]:
    """Its attributes, and those of an OSError that are not in its `__dict__`; without what it has none of."""
    facts = {name: getattr(error, name, None) for name in ("errno", "strerror", "filename", "filename2")}
    return {name: fact for name, fact in (facts | vars(error)).items() if fact is not None and name != "__notes__"}


def assert_same(error: BaseException, example: Example, notes: list[str] | None = None) -> None:
    """Everything that has to travel is as in the example."""
    assert type(error) is type(example.error)
    assert str(error) == example.text
    assert facts_of(error) == example.facts
    assert error.args == example.error.args
    assert getattr(error, "__notes__", []) == (notes or [])


def ours() -> Iterator[type[EventBusError]]:
    """Every class of the tree that this package defines and that is imported."""
    found = [EventBusError]
    for kind in found:
        found += [derived for derived in kind.__subclasses__() if derived not in found]
    return (kind for kind in found if kind.__module__.partition(".")[0] == "eventbus")


# The tree


def test_every_class_has_an_example() -> None:
    """A new error needs an example here, so that it is tested as all others are."""
    assert {type(example.error) for example in EXAMPLES} == set(ours())


def test_the_tree_is_the_one_that_is_written() -> None:
    """The docstring of the module has every class, below its base, with the class of Python that it also is."""
    line = re.compile(r"^(?P<indent>[│ ]*)[├└]── (?P<name>\w+) +\S.*?(?: +\(also an? (?P<also>\w+)\))?$", re.MULTILINE)
    above = [EventBusError.__name__]
    written = []
    for found in line.finditer(errors.__doc__ or ""):
        depth = len(found["indent"]) // 4 + 1
        above[depth:] = [found["name"]]
        written.append((found["name"], above[depth - 1], found["also"]))
    real = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind is not EventBusError]
    assert written == [
        (kind.__name__, kind.__bases__[0].__name__, kind.__bases__[1].__name__ if kind.__bases__[1:] else None)
        for kind in real
    ]


@all_examples
def test_facts_and_text(example: Example) -> None:
    """Each error has its facts as attributes and says them in its text, which its repr shows, too."""
    assert_same(example.error, example)
    assert repr(example.error) == f"{example.name}({example.text!r})"


@all_examples
def test_facts_are_documented(example: Example) -> None:
    """A class or its base says what each attribute means."""
    documented = {
        name
        for kind in type(example.error).__mro__
        for name in re.findall(r"^ {4}(\w+): ", cleandoc(kind.__doc__ or ""), re.MULTILINE)
    }
    assert example.facts.keys() <= documented


@all_examples
def test_args_make_the_same_error(example: Example) -> None:
    """`args` are what the class takes, in order, as with exceptions of Python; some tools rebuild errors from them."""
    assert_same(type(example.error)(*example.error.args), example)


def test_the_text_is_composed_of_the_facts() -> None:
    """A fact that is changed is changed in the text."""
    error = EventTooLarge("plant", 9_100, 8_192)
    error.limit = 4_096
    assert "the limit is 4096" in str(error)
    assert "the limit is 4096" in str(copy.copy(error))


# Copies


@all_ways
@pytest.mark.parametrize("example", [*EXAMPLES, *DERIVED], ids=lambda example: example.name)
def test_copies_are_the_same(example: Example, way: Way) -> None:
    """A copy, and a copy of it, have the same class, text, attributes and notes; also one of a class that a user derives."""
    error = copy.copy(example.error)
    try:
        raise error from KeyError("cause")
    except EventBusError:
        error.add_note(NOTE)
    copied = way(error)
    assert copied is not error
    assert_same(copied, example, [NOTE])
    assert_same(way(copied), example, [NOTE])
    copied = way(example.error)
    assert_same(copied, example)


@all_ways
def test_copies_of_a_group_are_the_same(way: Way) -> None:
    """The same holds for a class that is also an exception group."""
    group = OfSeveral("two failed", [NotConnected(HERE), PayloadTooLarge(8_192)])
    copied = way(group)
    assert type(copied) is OfSeveral
    assert str(copied) == str(group) == "two failed (2 sub-exceptions)"
    assert repr(copied.exceptions) == repr(group.exceptions)


# Pools of processes


@contextmanager
def pool(method: str) -> Iterator[Call]:
    """Calls in the one worker of a `multiprocessing.Pool`."""
    workers = multiprocessing.get_context(method).Pool(1)
    with workers:
        yield lambda function, *arguments: workers.apply_async(function, arguments).get(PATIENCE)
    workers.join()


@contextmanager
def executor(method: str) -> Iterator[Call]:
    """Calls in the one worker of a `ProcessPoolExecutor`."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as workers:
        yield lambda function, *arguments: workers.submit(function, *arguments).result(PATIENCE)


POOLS = {"Pool": pool, "ProcessPoolExecutor": executor}


def connect(pub_port: int, sub_port: int) -> None:
    """In a worker: look for a proxy where there is none."""
    Bus(MyEvent, "127.0.0.1", pub_port, sub_port).connect(0.25)


def emit(pub_port: int, sub_port: int) -> None:
    """In a worker: emit without connecting."""
    Bus(MyEvent, "127.0.0.1", pub_port, sub_port).emit_event(event(), MyEventTopic.my_service)


def give_back(error: Exception) -> None:
    """In a worker: raise what has come from the parent."""
    raise error


@pytest.mark.patience
@pytest.mark.parametrize("kind", POOLS)
def test_errors_travel_from_workers(kind: str, dead_ports: tuple[int, int]) -> None:
    """A client's error in a worker of a pool is raised in the parent; no pool breaks or hangs."""
    with POOLS[kind]("spawn") as call:
        with pytest.raises(ProxyUnreachable) as unreachable:
            call(connect, *dead_ports)
        with pytest.raises(NotConnected) as closed:
            call(emit, *dead_ports)
        for example in EXAMPLES:
            error = copy.copy(example.error)
            error.add_note(NOTE)
            with pytest.raises(type(error)) as caught:
                call(give_back, error)
            assert_same(caught.value, example, [NOTE])
    endpoints = closed.value.endpoints
    assert all(str(port) in endpoints for port in dead_ports)
    assert_same(closed.value, Example(NotConnected(endpoints), str(NotConnected(endpoints)), {"endpoints": endpoints}))
    expected = ProxyUnreachable(endpoints, 0.25, unreachable.value.hint, unreachable.value.remedy)
    assert_same(unreachable.value, Example(expected, str(expected), facts_of(expected)))


@pytest.mark.process
@pytest.mark.parametrize("kind", POOLS)
def test_forked_workers_say_what_is_wrong(kind: str, proxy: EventBusProxy) -> None:
    """The use of an inherited client in a forked worker is ForkedClient in the parent, whose client goes on."""
    run_program(
        "tests.eventbus.test_errors", kind, proxy.pub_port, proxy.sub_port, warnings="ignore"
    )  # of fork with threads


# The program.


def emit_with_inherited() -> None:
    """In a worker: use the parent's client."""
    inherited.emit_event(event(), MyEventTopic.my_service)


if __name__ == "__main__":
    kind, pub_port, sub_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with Bus(MyEvent, "127.0.0.1", pub_port, sub_port) as inherited:
        with POOLS[kind]("fork") as call, pytest.raises(ForkedClient) as caught:
            call(emit_with_inherited)
        inherited.emit_event(event(), MyEventTopic.my_service)
    expected = ForkedClient(caught.value.endpoints)
    assert str(pub_port) in expected.endpoints
    assert_same(caught.value, Example(expected, str(expected), {"endpoints": expected.endpoints}))


def test_the_reason_of_an_error_without_words() -> None:
    """The class stands alone for an error whose text is empty, or cannot be had because its `__str__` raises."""

    class Wordless(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert reason_of(ValueError("no")) == "ValueError: no"
    assert reason_of(ValueError()) == "ValueError"
    assert reason_of(Wordless()) == "Wordless"
