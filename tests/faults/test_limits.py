"""Limits of the proxy's memory and descriptors: what one peer does ends its connection, and no other peer notices."""

import os
import re
import resource
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from threading import Event

import pytest
import zmq

from eventbus.errors import UnknownClient
from eventbus.keys import ClientKeys
from eventbus.options import ProxyOptions
from eventbus.proxy.denials import Denials
from eventbus.proxy.forwarding import Forwarding
from eventbus.proxy.health import ProxyHealth
from eventbus.proxy.process import command
from tests.faults import zmtp
from tests.faults.bystanders import Bystanders, memory_of
from tests.keys import Pair, listed, pair, write_list
from tests.security import Guarded, wait_for_line
from tests.support import PATIENCE, Bus, MyEvent, RawPeers, eventually, in_thread, run_threads
from tests.web import ask, scrape

pytestmark = pytest.mark.process

MIB = 1_048_576
PROXY, GUEST = pair("proxy"), pair("guest")

_PACE = 0.01  # seconds from one piece of an attack to the next: 100 MB/s at most


class Served(Bystanders):
    """A proxy in a process with an HTTP server, and well-behaved clients at it."""

    def __init__(self, process: subprocess.Popen[str], line: str, errors: Path, stack: ExitStack) -> None:
        self.url = line.split()[-1]
        self.errors = errors
        pub_port, sub_port = map(int, re.findall(r" port (\d+)", line))
        super().__init__(process, pub_port, sub_port, stack)

    def disconnected(self, reason: str) -> float:
        return scrape(self.url)[f'eventbus_proxy_disconnected_total{{reason="{reason}"}}']

    def await_disconnected(self, reason: str, count: int = 1) -> None:
        eventually(lambda: self.disconnected(reason) >= count, PATIENCE, f"{count} disconnected: {reason}")

    def dropped(self) -> float:
        return scrape(self.url)['eventbus_proxy_dropped_total{reason="slow"}']

    def log(self) -> str:
        return self.errors.read_text()


@contextmanager
def process_of(
    errors: Path, options: ProxyOptions, before: Callable[[], None] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A proxy in a process of its own, and the line that it prints."""
    with errors.open("w") as stream:
        process = subprocess.Popen(
            command("127.0.0.1", 0, 0, options, http_port=0),
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            close_fds=False,
            preexec_fn=before,
        )
        with process:
            try:
                assert process.stdout is not None
                yield process, process.stdout.readline()
            finally:
                process.kill()


@contextmanager
def served(errors: Path, options: ProxyOptions, before: Callable[[], None] | None = None) -> Iterator[Served]:
    with process_of(errors, options, before) as (process, line), ExitStack() as stack:
        yield Served(process, line, errors, stack)


def send_until_the_end(connection: socket.socket, piece: bytes, limit: int) -> int:
    """Send the same again and again until the other side closes, at the latest after `limit` bytes; return how many."""
    sent = 0
    pause = Event()
    try:
        while sent < limit:
            connection.sendall(piece)
            sent += len(piece)
            pause.wait(_PACE)
    except OSError:
        return sent
    pytest.fail(f"{sent} bytes have passed")


def subscribe_until_the_end(connection: socket.socket, limit: int) -> None:
    """Subscribe to one topic after the other until the other side closes, at the latest after `limit` topics."""
    pause = Event()
    try:
        for first in range(0, limit, 200):
            connection.sendall(b"".join(zmtp.frame(b"\x01%016d" % number) for number in range(first, first + 200)))
            pause.wait(_PACE)
    except OSError:
        return
    pytest.fail(f"there are {limit} subscriptions")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A proxy that may have little memory; no test restarts it."""
    errors = tmp_path_factory.mktemp("small") / "errors"
    with served(errors, ProxyOptions(max_memory=200 * MIB)) as made:
        yield made
    assert "restarts" not in errors.read_text()


@pytest.mark.parametrize(("port", "kind", "size"), [("pub_port", b"PUB", MIB), ("sub_port", b"SUB", 4_000)])
def test_a_message_that_never_ends(small: Served, port: str, kind: bytes, size: int) -> None:
    """A peer that sends frame after frame of one message is disconnected, on either port; the memory is free again."""
    before = small.disconnected("unfinished")
    frames = zmtp.frame(bytes(size), 1) * (MIB // size)
    with small.undisturbed(), zmtp.peer(getattr(small, port), kind) as connection:
        send_until_the_end(connection, frames, 400 * MIB)
    small.await_disconnected("unfinished", int(before) + 1)
    assert small.disconnected("unfinished") == before + 1
    eventually(lambda: memory_of(small.process.pid) < 80 * 1024)
    eventually(lambda: "it sends faster than its messages end" in small.log())


def test_a_subscriber_that_does_not_read(small: Served) -> None:
    """A subscriber that stops reading large messages is disconnected; one that reads gets all of them."""
    message = [b"large", bytes(MIB)]
    before = small.disconnected("slow")
    pause = Event()
    with zmtp.peer(small.sub_port, b"SUB") as stopped, closing(RawPeers(small.pub_port, small.sub_port)) as raw:
        stopped.sendall(zmtp.frame(b"\x01large"))
        reading, publisher = raw.subscriber(b"large"), raw.publisher(b"large")
        for _ in range(300):
            publisher.send_multipart(message)
            assert len(reading.recv_multipart()[1]) == MIB
            pause.wait(_PACE)
        small.await_disconnected("slow", int(before) + 1)
        zmtp.await_end(stopped)
    assert small.disconnected("slow") == before + 1
    eventually(lambda: memory_of(small.process.pid) < 80 * 1024)
    eventually(lambda: "it reads too slowly" in small.log())


def test_what_waits_for_one_subscriber_is_bounded(tmp_path: Path) -> None:
    """A subscriber for which too many bytes wait is disconnected, although the process may have any memory."""
    message = [b"large", bytes(MIB)]
    pause = Event()
    with (
        served(tmp_path / "errors", ProxyOptions(max_backlog=20 * MIB)) as proxy,
        zmtp.peer(proxy.sub_port, b"SUB") as stopped,
        closing(RawPeers(proxy.pub_port, proxy.sub_port)) as raw,
    ):
        stopped.sendall(zmtp.frame(b"\x01large"))
        reading, publisher = raw.subscriber(b"large"), raw.publisher(b"large")
        for _ in range(60):
            publisher.send_multipart(message)
            assert len(reading.recv_multipart()[1]) == MIB
            pause.wait(_PACE)
        proxy.await_disconnected("slow", 1)
        zmtp.await_end(stopped)
        eventually(lambda: "it reads too slowly" in proxy.log())


def test_what_a_full_queue_drops_is_counted(tmp_path: Path) -> None:
    """The proxy counts and logs the messages that it drops for a subscriber that does not read."""
    with (
        served(tmp_path / "errors", ProxyOptions(hwm=1_000)) as proxy,
        zmtp.peer(proxy.sub_port, b"SUB") as stopped,
        closing(RawPeers(proxy.pub_port, proxy.sub_port)) as raw,
    ):
        stopped.sendall(zmtp.frame(b"\x01small"))
        reading, publisher = raw.subscriber(b"small"), raw.publisher(b"small")

        def counted() -> bool:
            for _ in range(500):
                publisher.send_multipart([b"small", bytes(10_000)])
                reading.recv_multipart()
            return proxy.dropped() > 0

        eventually(counted)
        full = re.compile(r"subscriber 127\.0\.0\.1:\d+ reads too slowly: its queue of 1000 messages is full")
        eventually(lambda: full.search(proxy.log()))


class Sleeper:
    """A subscriber to every other message, which sleeps and wakes; the rest is sent to nobody who is slow."""

    _MESSAGES = [b"other", bytes(4_000)], [b"slept", bytes(4_000)]
    _SIZE = 2 + 5 + 9 + 4_000  # bytes of one, with headers

    def __init__(self, proxy: Served, stack: ExitStack) -> None:
        self._connection = stack.enter_context(zmtp.peer(proxy.sub_port, b"SUB", 65_536))
        self._connection.sendall(zmtp.frame(b"\x01slept"))
        raw = stack.enter_context(closing(RawPeers(proxy.pub_port, proxy.sub_port)))
        self._others, self._publisher = raw.subscriber(b""), raw.publisher(b"slept")
        self._awake = Event()
        self._pause = Event()
        self._ended = False
        self._received_bytes = 0
        self._sent = 0
        self.awake()
        stack.enter_context(in_thread(self._read))
        stack.callback(self._end)

    def awake(self) -> None:
        self._awake.set()

    def asleep(self) -> None:
        self._awake.clear()

    def send(self, count: int) -> None:
        """Send so many messages of each kind, steadily, no faster than others receive."""
        for number in range(count):
            for message in self._MESSAGES:
                self._publisher.send_multipart(message)
                self._others.recv_multipart()
            if number % 50 == 0:
                self._pause.wait(_PACE)
        self._sent += count

    @property
    def missed(self) -> int:
        """The messages that were sent and have not come."""
        return self._sent - self._received_bytes // self._SIZE

    def _read(self) -> None:
        self._connection.settimeout(_PACE)
        while not self._ended:
            self._awake.wait()
            with suppress(TimeoutError):
                self._received_bytes += len(self._connection.recv(MIB))

    def _end(self) -> None:
        self._ended = True
        self.awake()


def test_what_a_full_queue_drops_is_counted_well(tmp_path: Path) -> None:
    """When a subscriber of a part of the traffic has slept and reads again, the count is right to five per cent."""
    with served(tmp_path / "errors", ProxyOptions(hwm=1_000)) as proxy, ExitStack() as stack:
        sleeper = Sleeper(proxy, stack)

        def is_right() -> bool:
            sleeper.send(1_500)  # the proxy learns its share of the traffic
            counted, missed = proxy.dropped(), sleeper.missed
            sleeper.asleep()
            sleeper.send(3_000)
            sleeper.awake()
            sleeper.send(1_500)
            missed = sleeper.missed - missed
            print(missed, proxy.dropped() - counted)
            return missed > 500 and abs(proxy.dropped() - counted - missed) < missed / 20

        eventually(is_right, 3 * PATIENCE)


def test_a_message_that_is_too_large_is_counted(tmp_path: Path) -> None:
    """The proxy counts and logs the connections that end by a message above its limit; one that its peer ends is another."""
    with process_of(tmp_path / "errors", ProxyOptions(max_event_bytes=2_000)) as (_, line):
        pub_port, url = int(re.findall(r" port (\d+)", line)[0]), line.split()[-1]

        def has(name: str, count: int) -> bool:
            return scrape(url)[f"eventbus_proxy_{name}"] == count

        for count, size in enumerate((2_001, 5 * MIB), 1):
            with zmtp.peer(pub_port, b"PUB") as leaving, zmtp.peer(pub_port, b"PUB") as connection:
                eventually(lambda: has('connections{role="publisher"}', 2), PATIENCE)
                leaving.sendall(zmtp.frame(b"topic", 1) + zmtp.frame(bytes(2_000)))
                with suppress(OSError):  # it may be disconnected while it sends
                    connection.sendall(zmtp.frame(b"topic", 1) + zmtp.frame(bytes(size)))
                zmtp.await_end(connection)
            eventually(lambda: has('connections{role="publisher"}', 0), PATIENCE)
            eventually(lambda c=count: has('disconnected_total{reason="too_large"}', c), PATIENCE)  # type: ignore[misc]
        said = "it has sent a message above EVENTBUS_MAX_EVENT_BYTES, which was refused"
        eventually(lambda: said in (tmp_path / "errors").read_text(), PATIENCE)


def changing(changes: int) -> bytes:
    """One subscription that begins and ends again and again; each change goes to the publishers."""
    topic = b"changing".ljust(240, b".")
    return (zmtp.frame(b"\x01" + topic) + zmtp.frame(b"\x00" + topic)) * (changes // 2)


def test_a_publisher_that_does_not_read() -> None:
    """A publisher that does not read the subscriptions sent to it is disconnected in time; a subscriber stays."""
    with ExitStack() as stack:
        proxy = Forwarding(
            "127.0.0.1",
            0,
            0,
            ProxyOptions(),
            allow_list=None,
            denials=Denials(),
            restart=pytest.fail,
            previous=ProxyHealth(),
            readiness_key=None,
            upstream_timeout=0.5,
        )
        stack.callback(proxy.stop)
        stopped = stack.enter_context(zmtp.peer(proxy.pub_port, b"PUB", 4_096))
        connection = stack.enter_context(zmtp.peer(proxy.sub_port, b"SUB"))
        connection.sendall(changing(24_000))
        eventually(lambda: proxy.health().connections.publishers == 0, PATIENCE)
        zmtp.await_end(stopped)
        assert proxy.health().connections.subscribers == 1


def test_subscriptions_without_end(tmp_path: Path) -> None:
    """A subscriber with too many subscriptions is disconnected, and they are gone; others keep theirs."""
    with served(tmp_path / "errors", ProxyOptions(max_subscriptions=1_000)) as proxy, ExitStack() as stack:
        raw = stack.enter_context(closing(RawPeers(proxy.pub_port, proxy.sub_port)))
        many = raw.subscriber(b"many")
        for number in range(600):
            many.subscribe(b"many-%d" % number)
        raw.settle(many)
        with proxy.undisturbed(), zmtp.peer(proxy.sub_port, b"SUB") as connection:
            subscribe_until_the_end(connection, 100_000)
        proxy.await_disconnected("subscriptions")
        eventually(lambda: scrape(proxy.url)["eventbus_proxy_subscriptions"] < 700, PATIENCE)
        assert proxy.disconnected("subscriptions") == 1
        raw.publisher(b"many-7").send_multipart([b"many-7", b""])
        assert many.recv_multipart() == [b"many-7", b""]
        assert ask(f"{proxy.url}/readyz").status == 200


def test_what_cannot_be_told_apart(tmp_path: Path) -> None:
    """If no connection can be named for the memory, the proxy says so and restarts; clients reconnect."""
    options = ProxyOptions(max_memory=48 * MIB, max_subscriptions=1_000_000)
    with process_of(tmp_path / "errors", options) as (process, line):
        pub_port, sub_port = map(int, re.findall(r" port (\d+)", line))
        with closing(RawPeers(pub_port, sub_port)) as raw:
            subscriber = raw.subscriber(b"plant")
            publisher = raw.publisher(b"plant")
            with zmtp.peer(sub_port, b"SUB") as connection:
                subscribe_until_the_end(connection, 1_000_000)
            eventually(lambda: memory_of(process.pid) < 48 * 1024, PATIENCE)

            def arrives() -> int:
                publisher.send_multipart([b"plant", b"{}"])
                return subscriber.poll(50)

            eventually(arrives, PATIENCE)
    assert re.search(
        r"has \d+ MiB of memory, above EVENTBUS_PROXY_MAX_MEMORY, .* the proxy restarts", (tmp_path / "errors").read_text()
    )


def test_a_full_history_is_no_reason_to_end_connections(tmp_path: Path) -> None:
    """The memory that a history may have counts for no limit: a subscriber may lag behind as without one."""
    options = ProxyOptions(max_memory=128 * MIB, history=1_000, history_bytes=192 * MIB)
    # No others that get all of it: on a busy machine they would lag behind, too.
    with process_of(tmp_path / "errors", options) as (_, line):
        (pub_port, sub_port), url = map(int, re.findall(r" port (\d+)", line)), line.split()[-1]
        with closing(RawPeers(pub_port, sub_port)) as raw:
            reading, publisher = raw.subscriber(b"large"), raw.publisher(b"large")

            def publish(count: int) -> None:
                for _ in range(count):
                    publisher.send_multipart([b"large", b"{" + bytes(MIB)])
                    reading.recv_multipart()

            publish(230)
            eventually(lambda: scrape(url)["eventbus_proxy_history_evicted_total"] > 30, PATIENCE)
            with zmtp.peer(sub_port, b"SUB", receive_buffer=4_096) as lagging:
                lagging.sendall(zmtp.frame(b"\x01large") + zmtp.frame(b"\x01lagging"))
                raw.await_subscription(publisher, b"lagging")
                for _ in range(4):
                    publish(2)
                    checked = scrape(url)["eventbus_proxy_uptime_seconds"] + 0.5  # two checks later
                    eventually(lambda end=checked: scrape(url)["eventbus_proxy_uptime_seconds"] > end, PATIENCE)  # type: ignore[misc]
                assert scrape(url)['eventbus_proxy_disconnected_total{reason="slow"}'] == 0
    assert "restarts" not in (tmp_path / "errors").read_text()


# With keys


def test_too_much_before_authentication(tmp_path: Path) -> None:
    """Without a key on the list nobody can send more than a handshake needs, however large messages may be."""
    with Guarded(tmp_path) as guarded, zmtp.connect(guarded.proxy.pub_port) as connection:
        connection.sendall(zmtp.GREETING.replace(b"NULL\0", b"CURVE"))
        zmtp.read(connection, len(zmtp.GREETING))
        connection.sendall(zmtp.announcement(8 * MIB)[:1].replace(b"\x02", b"\x06") + zmtp.announcement(8 * MIB)[1:])
        send_until_the_end(connection, bytes(64 * 1024), 8 * MIB)
        eventually(lambda: guarded.proxy.health().disconnected["handshake"] == 1)


def test_many_send_too_much_before_authentication(tmp_path: Path) -> None:
    """Nor can many at once: each is disconnected, and what they have sent is free again."""
    allow_list = write_list(tmp_path / "allow.toml", listed("guest", GUEST.public))
    options = ProxyOptions(max_event_bytes=4 * MIB, secret_key=PROXY.secret, allow_list=allow_list)
    with process_of(tmp_path / "errors", options) as (process, line), ExitStack() as stack:
        pub_port, _ = map(int, re.findall(r" port (\d+)", line))
        before = memory_of(process.pid)
        strangers = [stack.enter_context(zmtp.connect(pub_port)) for _ in range(25)]
        for stranger in strangers:
            stranger.sendall(zmtp.GREETING.replace(b"NULL\0", b"CURVE"))
            zmtp.read(stranger, len(zmtp.GREETING))
            stranger.sendall(struct.pack(">BQ", 6, 4 * MIB))

        def send(index: int) -> None:
            with suppress(OSError):
                strangers[index].sendall(bytes(4 * MIB - 1))
            zmtp.await_end(strangers[index])

        run_threads(len(strangers), send)
        eventually(lambda: memory_of(process.pid) < before + 16 * 1024)
        url = line.split()[-1]
        assert scrape(url)['eventbus_proxy_disconnected_total{reason="handshake"}'] == len(strangers)


def test_a_client_with_too_many_subscriptions_is_expelled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Under rules a client with too many subscriptions, granted or denied, is not let in again until the list changes."""
    guarded = Guarded(tmp_path, max_subscriptions=500)
    greedy, modest = guarded.admit("greedy", subscribe=["plant*"]), guarded.admit("modest")
    with guarded:
        raw, others = guarded.raw(greedy), guarded.raw(modest)
        bystander = others.subscriber(b"plant")
        subscriber = raw._socket(zmq.SUB)
        subscriber.connect(f"tcp://127.0.0.1:{guarded.proxy.sub_port}")
        for number in range(600):
            subscriber.subscribe(b"%s%d" % (b"plant" if number % 2 else b"other", number))
        wait_for_line(caplog.records, "client greedy has more than 500 subscriptions")
        eventually(lambda: guarded.proxy.health().disconnected["subscriptions"] == 1)
        with pytest.raises(UnknownClient):
            guarded.connected(greedy)
        guarded.connected(modest)
        others.publisher(b"").send_multipart([b"plant", b"{}"])
        assert bystander.recv_multipart()[0] == b"plant"
        guarded.set("newcomer", pair().public)
        guarded.reload()
        guarded.connected(greedy)


def test_a_client_may_subscribe_anew(tmp_path: Path) -> None:
    """Only subscriptions that last count: those that have ended, and those of a connection that has ended, do not."""
    guarded = Guarded(tmp_path, max_subscriptions=500)
    keys = guarded.admit("changing", subscribe=["plant*"])
    with guarded:
        for _ in range(3):
            with closing(guarded.raw(keys)) as raw:
                subscriber = raw._socket(zmq.SUB)
                subscriber.set(zmq.SNDHWM, 0)
                subscriber.connect(raw.sub_endpoint)
                for number in range(1_000):
                    subscriber.subscribe(b"plant%d" % number)
                    if number >= 300:
                        subscriber.unsubscribe(b"plant%d" % (number - 300))
                raw.settle(subscriber)
        assert guarded.proxy.health().disconnected["subscriptions"] == 0


@pytest.mark.parametrize(
    ("rules", "others", "hwm", "line"),
    [
        (True, True, 100_000, r"disconnected client sleepy at 127\.0\.0\.1:\d+, which holds about \d+ MiB of memory"),
        (True, True, 20, r"client sleepy at 127\.0\.0\.1:\d+ reads too slowly: its queue of 20 messages is full"),
        (False, False, 20, r"client sleepy at 127\.0\.0\.1:\d+ reads too slowly"),
        (False, True, 20, r"subscriber 127\.0\.0\.1:\d+ reads too slowly"),
    ],
)
def test_a_slow_subscriber_is_named(tmp_path: Path, rules: bool, others: bool, hwm: int, line: str) -> None:
    """The log has the name of the client that reads too slowly: under rules, or if no other comes from the same address."""
    other = pair()
    allowed = {"publish": ["plant"], "subscribe": ["plant"]} if rules else {}
    allow_list = write_list(
        tmp_path / "allow.toml", listed("sleepy", GUEST.public, **allowed) + listed("other", other.public, **allowed)
    )
    options = ProxyOptions(max_memory=80 * MIB, hwm=hwm, secret_key=PROXY.secret, allow_list=allow_list)
    with process_of(tmp_path / "errors", options) as (_, ports), ExitStack() as stack:
        pub_port, sub_port = map(int, re.findall(r" port (\d+)", ports))

        def peers(keys: Pair) -> "closing[RawPeers]":
            return closing(RawPeers(pub_port, sub_port, ClientKeys(PROXY.public, keys.secret)))

        if others:
            with peers(other) as gone:
                gone.subscriber(b"plant")
        raw = stack.enter_context(peers(GUEST))
        stopped = raw._socket(zmq.SUB)
        stopped.set(zmq.RCVHWM, 1)
        stopped.subscribe(b"plant")
        stopped.connect(f"tcp://127.0.0.1:{sub_port}")
        publisher = raw.publisher(b"" if rules else b"plant")  # under rules the proxy subscribes to everything
        pause = Event()

        def is_named() -> bool:
            publisher.send_multipart([b"plant", bytes(MIB)])
            pause.wait(_PACE)
            return re.search(line, (tmp_path / "errors").read_text()) is not None

        eventually(is_named, PATIENCE)


# Descriptors


def limited(soft: int, hard: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_soft_limit_is_raised(tmp_path: Path) -> None:
    """The process allows itself as many descriptors as it may."""
    with process_of(tmp_path / "errors", ProxyOptions(), limited(64, 512)) as (process, _):
        [line] = [
            line for line in Path(f"/proc/{process.pid}/limits").read_text().splitlines() if line.startswith("Max open")
        ]
        assert line.split()[3:5] == ["512", "512"]


def test_silent_strangers_leave_room(tmp_path: Path) -> None:
    """Three hundred connections that say nothing keep nobody out of a proxy with 64 descriptors, nor does it spin."""
    with served(tmp_path / "errors", ProxyOptions(), limited(64, 64)) as proxy, ExitStack() as stack:
        with proxy.undisturbed(strange=None):
            for _ in range(150):
                for port in (proxy.pub_port, proxy.sub_port):
                    with suppress(ConnectionError):  # it is ended already, to make room
                        stack.enter_context(zmtp.connect(port))
            before = cpu_seconds(proxy.process.pid)
            with Bus(MyEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port) as newcomer:
                newcomer.connect(PATIENCE)
            for path in ("/healthz", "/readyz"):
                eventually(lambda path=path: answers_well(proxy.url + path))  # type: ignore[misc] # a lambda's default
        assert cpu_seconds(proxy.process.pid) - before < 2
        assert proxy.disconnected("descriptors") > 20
    assert len(re.findall(r"of 64 descriptors are left", proxy.log())) == 1


def answers_well(url: str) -> bool:
    try:
        return ask(url).status == 200
    except OSError:  # there was no descriptor for the answer at that moment
        return False


def cpu_seconds(process: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
