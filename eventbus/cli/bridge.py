"""``eventbus bridge``: copy the events of two transports to each other, so that services can move one by one."""

from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import Event, Thread
from time import sleep

from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle
from eventbus.cli.connection import wanted_topics
from eventbus.cli.stopping import until_stopped
from eventbus.errors import EventBusError, InvalidSettings, SendBufferFull
from eventbus.policies import TransportKind
from eventbus.settings import EventBusSettings
from eventbus.telemetry import logs
from eventbus.transports.contract import KnowsWatchers, Transport
from eventbus.wire.first_frame import parse
from eventbus.wire.headers import decode_headers, encode_headers
from eventbus.wire.private_topics import EVERYTHING_TOPIC

HEADER = "eventbus-bridge"
"""Marks what a bridge has copied: no bridge copies it again."""

_GROUP = "eventbus-bridge"
_POLL_INTERVAL_S = 0.1


def bridge(settings: EventBusSettings, one: TransportKind, other: TransportKind, names: Sequence[str] = ()) -> None:
    """Copy until SIGTERM or Ctrl-C, or until one side gives up reconnecting.

    Args:
        settings: those of both transports.
        one: a transport.
        other: another one.
        names: topics; if there are none in the settings either, all topics.

    Raises:
        InvalidSettings: both are the same, or a setting is wrong.
        ProxyUnreachable, HandshakeFailed, ReconnectFailed: there is no connection to one of them.
    """
    if one is other:
        raise InvalidSettings(f"--from and --to are both {one}: a bridge needs two transports")
    topics = wanted_topics(settings, names) or {b""}
    with ExitStack() as stack:
        ends = [stack.enter_context(_end(settings, kind, topics)) for kind in (one, other)]
        ways = [Way(ends[0], ends[1], topics), Way(ends[1], ends[0], topics)]
        for way in ways:
            stack.enter_context(way)
        with until_stopped():
            print(f"bridge between {ends[0].endpoints} and {ends[1].endpoints}", flush=True)
            while not any(way.ended.is_set() for way in ways):
                sleep(_POLL_INTERVAL_S)
        for end in ends:
            end.status.raise_failure()


@contextmanager
def _end(settings: EventBusSettings, kind: TransportKind, topics: set[bytes]) -> Iterator[Transport]:
    made = _transport(settings, kind)
    if b"" in topics and isinstance(made, KnowsWatchers):
        made.subscribe(EVERYTHING_TOPIC)  # requests may be answered on the other side
    for topic in topics:
        made.subscribe(topic)
    try:
        made.open(settings.connect_timeout)
        yield made
    finally:
        made.close(settings.linger)


def _transport(settings: EventBusSettings, kind: TransportKind) -> Transport:
    if kind is TransportKind.ZEROMQ:
        from eventbus.transports.zeromq.transport import ZeroMQTransport

        options = replace(settings.client_options(), connect_required=True, numbered=False)
        return ZeroMQTransport(settings.host, settings.pub_port, settings.sub_port, options)
    # Numbers of publishers travel as they are.
    options = replace(settings.client_options(encrypted=False), connect_required=True, numbered=False)
    if kind is TransportKind.NATS:
        from eventbus.transports.nats.core import CoreTransport

        return CoreTransport(replace(settings.nats_options(), group=None), options)
    from eventbus.transports.nats.jetstream import JetStreamTransport

    # A group keeps the position while the bridge is away.
    return JetStreamTransport(replace(settings.nats_options(), group=settings.group or _GROUP), options)


class Way:
    """Copies from one transport to another, in a thread of its own, inside a `with` block.

    Args:
        source: where events come from; it may bring those of longer topics, too.
        target: where they go.
        topics: of what is copied; an empty one among them: everything.

    Attributes:
        ended: set when nothing more comes.
    """

    def __init__(self, source: Transport, target: Transport, topics: Set[bytes]) -> None:
        self.ended = Event()
        self._source = source
        self._target = target
        self._topics = frozenset() if b"" in topics else topics
        self._stopping = False
        self._log = Log(logs.COMMAND, endpoints=target.endpoints)
        self._throttle = LogThrottle()
        self._thread = Thread(target=self._run, name="eventbus-bridge", daemon=True)

    def __enter__(self) -> "Way":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping = True
        self._source.wake()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping and (batch := self._source.receive()) is not None:
                for first, payload in zip(*batch, strict=True):
                    if (marked := mark(first, self._topics)) is not None:
                        self._send(marked, payload)
                if not self._stopping:
                    self._source.confirm(batch)
        finally:
            self.ended.set()

    def _send(self, first: bytes, payload: bytes) -> None:
        while not self._stopping:
            try:
                self._target.send(first, payload)
                return
            except SendBufferFull:  # the other side is away: what comes meanwhile waits in front of us
                continue
            except EventBusError as error:
                if self._throttle.admit(type(error).__name__) is not None:
                    self._log.warning("could not copy an event: %s", error, error=type(error).__name__)
                return


def mark(first: bytes, topics: Set[bytes] = frozenset()) -> bytes | None:
    """Return a first frame with the header of a bridge; None if it has that, or is of no event, or of no topic of these.

    Args:
        first: the frame.
        topics: the topics that are wanted; empty: all.
    """
    read = parse(first)
    if topics and read.topic not in topics:
        return None
    headers = decode_headers(read.headers)
    if not read.topic or any(name.lower() == HEADER for name in headers):
        return None
    try:
        return read._replace(headers=encode_headers({**headers, HEADER: "1"})).encode()
    except EventBusError:  # its own headers are as long as they may be
        return None
