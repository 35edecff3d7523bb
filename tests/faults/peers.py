"""Publishers and subscribers in processes of their own, and the books that are kept of what they emit and receive.

``python -m tests.faults.peers emit|receive OPTIONS`` is such a process. Each event has its emitter, its time, and its
number, so that a receiver knows which events are missing, out of order or there twice.
"""

import json
import logging
import random
import select
import subprocess
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from threading import Event
from time import monotonic
from typing import Any, NamedTuple, Protocol, Self

from eventbus import DropReason
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, eventually

TOPIC = MyEventTopic.my_service
CALM = 100  # events of each publisher that must arrive once a fault is over
SEED = 20_260_131
_MANY = 1_000_000  # a value is the publisher's number times this, and the event's own


class Place(Protocol):
    """The address that clients connect to: that of a proxy, or of a relay before one."""

    @property
    def host(self) -> str: ...
    @property
    def pub_port(self) -> int: ...
    @property
    def sub_port(self) -> int: ...


class Arrival(NamedTuple):
    """An event that has been received: its number, and when it was emitted and received."""

    number: int
    emitted: float
    received: float


class Books:
    """A callback that keeps what arrives, by publisher."""

    def __init__(self) -> None:
        self.arrivals: defaultdict[int, list[Arrival]] = defaultdict(list)

    def __call__(self, event: MyEvent) -> None:
        publisher, number = divmod(int(event.value), _MANY)
        self.arrivals[publisher].append(Arrival(number, float(event.time.strip()), monotonic()))

    def count(self) -> int:
        """The number of events that have arrived."""
        return sum(map(len, list(self.arrivals.values())))

    def missing(self) -> int:
        """The number of events missing among those emitted before the latest arrival."""
        return sum(arrivals[-1].number + 1 - len(arrivals) for arrivals in list(self.arrivals.values()))

    def latest(self) -> float:
        """When the latest event arrived."""
        return max(arrivals[-1].received for arrivals in list(self.arrivals.values()))

    def first_after(self, publisher: int, moment: float) -> Arrival | None:
        """The first arrival of those that a publisher has emitted after a moment."""
        arrivals = self.arrivals[publisher]
        index = bisect_right(arrivals, moment, key=lambda arrival: arrival.emitted)
        return arrivals[index] if index < len(arrivals) else None

    def check_order(self) -> None:
        """Check that the events of each publisher have come in order and none of them twice."""
        for publisher, arrivals in self.arrivals.items():
            wrong = [(one.number, two.number) for one, two in pairwise(arrivals) if one.number >= two.number]
            assert not wrong, f"of publisher {publisher}, one after the other: {wrong[:10]}"

    def check_calm(self, since: dict[int, int]) -> None:
        """Check that of each publisher all has come since an event of this number."""
        for publisher, number in since.items():
            came = [arrival.number for arrival in self.arrivals[publisher] if arrival.number >= number]
            assert came == list(range(number, number + len(came)))
            assert len(came) >= CALM


class Report(NamedTuple):
    """The report of an `Emitter` about itself.

    Attributes:
        emitted: how many events its client has taken.
        longest: the longest that a call of `emit_event` took, in seconds.
        states: all states since it was connected.
    """

    emitted: int
    longest: float
    states: list[str]


class _Peer:
    """A process that takes orders and answers, line by line; it is killed at the end of the block."""

    def __init__(self, role: str, place: Place, options: dict[str, Any]) -> None:
        options = {"host": place.host, "pub_port": place.pub_port, "sub_port": place.sub_port, **options}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.peers", role, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Let it die at once, as after a crash; returns when it is gone."""
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"ended with status {self._process.wait(PATIENCE)}"
        return json.loads(line)


class Emitter(_Peer):
    """A publisher that emits `rate` events a second from the moment on that `ready` returns.

    Args:
        number: tells it from others.
        place: where it connects to.
        rate: events a second.
        options: of its client.
    """

    def __init__(self, number: int, place: Place, rate: float = 1_000.0, **options: Any) -> None:
        super().__init__("emit", place, {"number": number, "rate": rate, **options})
        self.number = number

    def ready(self) -> None:
        """Return once it is connected."""
        self._answer()

    def pause(self) -> Report:
        """Stop emitting, and return the report."""
        self._tell("pause")
        return Report(*self._answer())


class Receiver(_Peer):
    """A subscriber that keeps books. It is subscribed when `ready` returns.

    Args:
        place: where it connects to.
        slow: whether the handler waits at each event until `let_go`.
        options: of its client.
    """

    def __init__(self, place: Place, *, slow: bool = False, **options: Any) -> None:
        super().__init__("receive", place, {"slow": slow, **options})

    def ready(self) -> None:
        """Return once it is subscribed."""
        self._answer()

    def let_go(self) -> None:
        """Let a slow handler no longer wait."""
        self._tell("go")
        self._answer()

    def look(self) -> tuple[dict[int, list[int]], int]:
        """Return the numbers of what it has received, by publisher, and how many events it knows to be lost."""
        self._tell("look")
        numbers, lost = self._answer()
        return {int(publisher): arrived for publisher, arrived in numbers.items()}, lost


class Scene:
    """Two publishers and a subscriber at a proxy: the publishers emit in processes of their own, this one keeps the books.

    Args:
        place: where all of them connect to.
        stack: closes them.
        rate: events a second, of both publishers together.
        receiving: options of the subscriber only.
        options: of all clients.
    """

    def __init__(
        self,
        place: Place,
        stack: ExitStack,
        *,
        rate: float = 2_000.0,
        receiving: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.books = Books()
        options = {"connect_timeout": PATIENCE, **options}
        receiver_options = options | (receiving or {})
        self.client = Bus(MyEvent, place.host, place.pub_port, place.sub_port, **receiver_options)
        self.client.subscribe(TOPIC)
        self.client.attach_callback(MyEventType.updated, self.books)
        self.states: list[str] = []
        stack.enter_context(self.client)
        self.client.on_state_change(lambda change: self.states.append(change.state))
        self.client.start_consumer()
        self.emitters = [stack.enter_context(Emitter(number, place, rate / 2, **options)) for number in range(2)]
        for emitter in self.emitters:
            emitter.ready()
        self.flows()

    def flows(self) -> dict[int, int]:
        """Wait until events of both publishers arrive that are emitted from now on; return the number of one of each."""
        now = monotonic()
        return {emitter.number: self.wait_for(emitter.number, now).number for emitter in self.emitters}

    def wait_for(self, publisher: int, moment: float) -> Arrival:
        """The first arrival of those that a publisher has emitted after a moment."""
        found: list[Arrival] = []

        def arrived() -> bool:
            arrival = self.books.first_after(publisher, moment)
            if arrival is not None:
                found.append(arrival)
            return arrival is not None

        eventually(arrived, PATIENCE, f"an event of publisher {publisher}")
        return found[0]

    def finish(self) -> list[Report]:
        """Go on for a while without a fault, in which nothing is lost, and let all be accounted for; return the reports.

        Order is checked, and that none came twice.
        """
        since = self.flows()

        def enough() -> bool:
            return all(self.books.arrivals[number][-1].number >= first + CALM for number, first in since.items())

        eventually(enough, PATIENCE, "a calm end")
        reports = [emitter.pause() for emitter in self.emitters]
        emitted = {emitter.number: report.emitted for emitter, report in zip(self.emitters, reports, strict=True)}

        def complete() -> bool:
            return all(self.books.arrivals[number][-1].number == count - 1 for number, count in emitted.items())

        eventually(complete, PATIENCE, "the last events")
        self.books.check_order()
        self.books.check_calm(since)
        stats = self.client.stats()
        assert stats.received == self.books.count()
        assert set(stats.drops) <= {DropReason.UNREAD}  # nobody reads the buffer
        return reports


@contextmanager
def scene(place: Place, **options: Any) -> Iterator[Scene]:
    """A `Scene` that is closed at the end of the block."""
    with ExitStack() as stack:
        yield Scene(place, stack, **options)


def rounds(count: int, soak_seconds: float | None) -> Iterator[random.Random]:
    """The rounds of a test, as many as given or as there is time for; each gets the same source of chance, with one seed."""
    chance, began, done = random.Random(SEED), monotonic(), 0
    while done < count if soak_seconds is None else monotonic() < began + soak_seconds:
        yield chance
        done += 1


# The processes.


def emit(number: int, rate: float, **options: Any) -> None:
    """Emit until the order to pause; then print how many, and wait to be killed."""
    states: list[str] = []
    taken, longest = 0, 0.0
    with Bus(MyEvent, **options) as client:
        client.on_state_change(lambda change: states.append(change.state))
        answer(None)
        due = monotonic()
        while not select.select([sys.stdin], [], [], max(0.0, due - monotonic()))[0]:
            now = monotonic()
            client.emit_event(MyEvent(type=MyEventType.updated, time=f"{now:.6f}", value=_MANY * number + taken), TOPIC)
            taken += 1
            longest = max(longest, monotonic() - now)
            due += 1 / rate
        sys.stdin.readline()
        answer((taken, longest, states))
        sys.stdin.read()


def receive(slow: bool, **options: Any) -> None:
    """Keep books until killed."""
    books, go = Books(), Event()

    def handle(event: MyEvent) -> None:
        if slow:
            go.wait()
        books(event)

    with Bus(MyEvent, **options) as client:
        client.subscribe(TOPIC)
        client.attach_callback(MyEventType.updated, handle)
        client.start_consumer()
        client.connect()  # by now the proxy has the subscription
        answer(None)
        for line in sys.stdin:
            if line.strip() == "go":
                go.set()
                answer(None)
            else:
                numbers = {publisher: [one.number for one in list(found)] for publisher, found in books.arrivals.items()}
                answer((numbers, client.stats().lost))


def answer(what: object) -> None:
    print(json.dumps(what), flush=True)


def main(role: str, options: str) -> None:
    logging.getLogger("eventbus").addHandler(logging.NullHandler())  # what happens is meant to
    arguments = json.loads(options)
    if role == "emit":
        emit(**arguments)
    else:
        receive(**arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
