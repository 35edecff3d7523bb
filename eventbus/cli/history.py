"""``eventbus history``, ``record`` and ``replay``: stored events, printed, kept in a file and emitted again."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep

from pydantic_core import from_json

from eventbus._base.log import Log
from eventbus._base.moments import moment_of
from eventbus._base.printable import counted, printable_json
from eventbus.cli.connection import transport_for, wanted_topics
from eventbus.cli.stopping import until_stopped
from eventbus.cli.tail_lines import SHOW_ALL, Received, TextLines
from eventbus.cli.terminal import Paint, wants_colours
from eventbus.errors import InvalidSettings, InvalidTopic
from eventbus.history.reader import HistoryReader
from eventbus.history.recording import Recorded, delays, marked, read_recording
from eventbus.receive.unpacking import Unpacker
from eventbus.settings import EventBusSettings
from eventbus.telemetry import logs
from eventbus.transports.contract import KeepsHistory, Transport
from eventbus.wire.compression import Compressor
from eventbus.wire.first_frame import parse, with_headers
from eventbus.wire.frames import Batch, topic_frame
from eventbus.wire.headers import decode_headers, encode_headers
from eventbus.wire.history import Query, Stored, new_history_topic
from eventbus.wire.private_topics import PRIVATE_PREFIXES
from eventbus.wire.rejects import Reject
from eventbus.wire.requests import owner_of

_TIMEOUT_S = 5.0  # for each portion that a historian sends


def history(
    settings: EventBusSettings,
    names: Sequence[str],
    *,
    since: str | None,
    count: int | None,
    as_text: bool,
) -> None:
    """Print stored events, oldest first.

    Args:
        settings: the settings of the command.
        names: topics beside `settings.topics`; if both are empty, all topics.
        since: only those since then: a time, or how long ago.
        count: the newest, this many at most.
        as_text: print text for people; False: JSON.

    Raises:
        HistorianMissing: there is no historian.
        InvalidSettings, InvalidTopic, ProxyUnreachable, HandshakeFailed: as `eventbus tail`.
    """
    wanted = wanted_topics(settings, names)
    moment = None if since is None else moment_of(since, time.time())
    render = _for_people(TextLines(Paint(wants_colours(sys.stdout)), SHOW_ALL)) if as_text else _json_line
    last = count if len(wanted) == 1 else None
    query = Query(tuple(sorted(wanted)) or None, last=last, since=moment)
    unpacking = _Unpacking(settings, wanted)
    with transport_for(settings) as transport:
        transport.open(settings.connect_timeout)
        reader = HistoryReader(transport, _public_key(settings))
        try:
            events = (event for portion in _read(transport, reader, query) for event in unpacking.stored(portion))
            for event in events if count is None else deque(events, maxlen=count):
                print(render(event))
        finally:
            reader.close()


def record(settings: EventBusSettings, names: Sequence[str], path: Path, *, since: str | None, count: int | None) -> None:
    """Write events to a file as they arrive, until Ctrl-C.

    Args:
        settings: as with `history`, as are `names`.
        path: the file; what is in it is lost.
        since: begin with stored events since then.
        count: return after this many.

    Raises:
        OSError: the file cannot be written.

    And as `history`.
    """
    wanted = wanted_topics(settings, names)
    moment = None if since is None else moment_of(since, time.time())
    unpacking = _Unpacking(settings, wanted)
    written = 0
    with transport_for(settings) as transport, ExitStack() as stack:
        for topic in wanted or {b""}:
            transport.subscribe(topic)
        if isinstance(transport, KeepsHistory) and moment is not None:
            transport.begin_live()
        transport.open(settings.connect_timeout)
        stream = stack.enter_context(
            path.open("w", encoding="utf-8")
        )  # not before, so that nothing is lost if there is no proxy
        events = _live(transport, unpacking)
        if moment is not None:
            events = _from(transport, wanted, moment, settings, unpacking)
        with until_stopped():
            print(f"recording to {path}; Ctrl-C ends it", file=sys.stderr, flush=True)
            for portion in events:
                for event in filter(unpacking.has_topic, portion):
                    print(event.line(), file=stream)
                    written += 1
                    if written == count:
                        return
                stream.flush()
        transport.status.raise_failure()


def replay(settings: EventBusSettings, path: Path, rate: str) -> bool:
    """Emit the events of a file, with a header that tells handlers that they are replayed. Return whether none was dropped.

    Args:
        settings: the settings of the command.
        path: the file.
        rate: ``2x``: twice as fast as they were recorded; ``max`` or ``asap``: as fast as possible.

    Raises:
        InvalidRecording: a line of the file is none of a recording; nothing was emitted.
        InvalidSettings: the rate is none.
        ProxyUnreachable, HandshakeFailed, SendTimeout: not all was emitted.
        OSError: the file cannot be read.
    """
    factor = _factor(rate)
    for _ in read_recording(path):  # before anything is emitted, because half of a recording may be worse than none
        pass
    compressor = Compressor(settings.compression, settings.compression_threshold)
    emitted = 0
    with transport_for(settings) as transport:
        transport.open(settings.connect_timeout)
        began = monotonic()
        for delay, recorded in delays(read_recording(path), factor):
            sleep(max(0.0, began + delay - monotonic()))
            one = marked(recorded)
            first = with_headers(topic_frame(one.topic), encode_headers(one.headers))
            transport.send(first, compressor.shrink(one.json))
            emitted += 1
        took = monotonic() - began
    dropped = sum(transport.drops.counts.values())  # which the transport has logged
    print(f"{counted(emitted - dropped, 'event')} in {took:.1f} s", file=sys.stderr)
    return not dropped


class _Unpacking:
    """Makes recorded events of messages on the wanted topics, or on all if there are none; says which are none."""

    def __init__(self, settings: EventBusSettings, wanted: set[bytes]) -> None:
        self._log = Log(logs.COMMAND)
        self._wanted = wanted
        self._unpacker = Unpacker(self._takes, self, settings.max_event_bytes, settings.max_event_values)

    def stored(self, portion: list[Stored]) -> list[Recorded]:
        """The events in stored messages."""
        found: list[Recorded] = []
        for message in portion:
            first = parse(message.first)
            for content in self._unpacker.contents([first.topic], [message.payload], [first.headers]):
                found += self._events(message.time, content.topic, content.json, content.headers)
        return found

    def live(self, batch: Batch) -> list[Recorded]:
        """The events in a batch."""
        now = time.time()
        found: list[Recorded] = []
        for content in self._unpacker.contents(*self._unpacker.read_numbers(*batch)):
            found += self._events(now, content.topic, content.json, content.headers)
        return found

    def _takes(self, topic: bytes) -> bool:
        return topic in self._wanted if self._wanted else not topic.startswith(PRIVATE_PREFIXES)

    def _events(self, when: float, topic: bytes, json: bytes, headers: bytes) -> list[Recorded]:
        try:
            read = from_json(json)
        except ValueError as error:
            self._no_event(topic, f"no JSON: {error}")
            return []
        events = read if isinstance(read, list) else [read]
        if not all(isinstance(event, dict) for event in events):
            self._no_event(topic, "no JSON object")
        decoded = decode_headers(headers)
        return [Recorded(when, topic.decode(), event, decoded) for event in events if isinstance(event, dict)]

    def has_topic(self, event: Recorded) -> bool:
        """Whether its topic can be emitted to; if not, that is logged, because no recording with it could be replayed."""
        try:
            topic_frame(event.topic)
        except InvalidTopic as error:
            self._log.warning("not recorded: %s", error, reason=str(error))
            return False
        return True

    def lost(self, topic: bytes, count: int) -> None:
        if count > 0:
            self._log.warning("missing: %s on %r", counted(count, "event"), topic, count=count)

    def forged(self, topic: bytes, count: int) -> None:
        pass

    def repeated(self, count: int) -> None:
        pass

    def rejected(self, topic: bytes, reject: Reject) -> None:
        self._no_event(topic, reject.detail)

    def _no_event(self, topic: bytes, reason: str) -> None:
        self._log.warning("not an event, on %r: %s", topic, reason, reason=reason)


def _live(transport: Transport, unpacking: _Unpacking) -> Iterator[list[Recorded]]:
    while (batch := transport.receive()) is not None:
        yield unpacking.live(batch)


def _from(
    transport: Transport, wanted: set[bytes], since: float, settings: EventBusSettings, unpacking: _Unpacking
) -> Iterator[list[Recorded]]:
    """Stored events, then live ones, each once; see `receive.beginning`, which does the same for clients."""
    from eventbus.receive.beginning import Beginnings, Receiver
    from eventbus.receive.from_historian import FromHistorian
    from eventbus.receive.from_transport import FromTransport
    from eventbus.wire.starts import From

    found: list[list[Recorded]] = []

    def keep(batch: Batch) -> None:
        found.append(unpacking.live(batch))

    reader = HistoryReader(transport, _public_key(settings))
    owner = owner_of(_public_key(settings))

    def replay(messages: list[Stored]) -> None:  # with their times
        found.append(unpacking.stored(messages))

    receiver = Receiver(keep, replay, transport.status, transport.wake)
    beginnings: Beginnings
    if isinstance(transport, KeepsHistory):
        stored = transport.stored
        beginnings = FromTransport(receiver, lambda query: stored(query, _TIMEOUT_S), transport.begun_after)
    else:
        beginnings = FromHistorian(
            receiver,
            lambda query, topic: reader.portions(query, _TIMEOUT_S, topic),
            transport.subscribe,
            transport.unsubscribe,
            lambda: new_history_topic(owner),
        )
    for topic in wanted or {b""}:
        beginnings.register(topic, From(None, since))
        beginnings.begin(topic)
    transport.wake()
    try:
        while (batch := transport.receive()) is not None:
            batch = beginnings.take(batch, lambda: False)
            yield from found
            found.clear()
            yield unpacking.live(batch)
    finally:
        reader.close()


def _read(transport: Transport, reader: HistoryReader, query: Query) -> Iterator[list[Stored]]:
    if isinstance(transport, KeepsHistory):
        return transport.stored(query, _TIMEOUT_S)
    return reader.read(query, _TIMEOUT_S)


def _factor(rate: str) -> float | None:
    if rate in ("max", "asap"):
        return None
    try:
        factor = float(rate.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise InvalidSettings(f"--rate={rate!r}: write 1x, 2x or 0.5x; max is as fast as possible")
    return factor


def _public_key(settings: EventBusSettings) -> str | None:
    keys = settings.security.client_keys()
    return None if keys is None else keys.public_key


def _json_line(recorded: Recorded) -> str:
    return printable_json(recorded.line(strict=True))


def _for_people(lines: TextLines) -> Callable[[Recorded], str]:
    def render(recorded: Recorded) -> str:
        when = datetime.fromtimestamp(recorded.time).astimezone()
        received = Received(recorded.topic, recorded.event, recorded.headers)
        return lines.line(received, f"{when:%m-%d %H:%M:%S}.{when.microsecond // 1000:03}")

    return render
