"""The small HTTP server: what it answers, and that nobody can keep others from being answered."""

import json
import logging
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from threading import Event

import pytest

from eventbus.errors import AddressInUse, ExtraMissing, ProbePortInUse
from eventbus.telemetry.http_server import Facts, HttpLimits, ProbeServer
from tests.container.support import leaving_nothing
from tests.support import PATIENCE, eventually, is_waiting, run_script, run_threads
from tests.web import ask


class Subject:
    """The facts that the server shows; a test may replace any of them."""

    def __init__(self) -> None:
        self.live: Callable[[], tuple[bool, Facts]] = lambda: (True, {"uptime": 1.5})
        self.ready: Callable[[], tuple[bool, Facts]] = lambda: (False, {"state": "degraded", "round_trip": None})
        self.metrics: Callable[[], tuple[bytes, str]] = lambda: (b"events_total 1.0\n", "text/plain; version=0.0.4")

    def server(self, port: int = 0, host: str = "127.0.0.1", limits: HttpLimits | None = None) -> ProbeServer:
        return ProbeServer(
            port,
            host,
            live=lambda: self.live(),
            ready=lambda: self.ready(),
            metrics=lambda: self.metrics(),
            limits=limits,
        )


@pytest.fixture
def subject() -> Subject:
    return Subject()


@pytest.fixture
def server(subject: Subject) -> Iterator[ProbeServer]:
    """A running server."""
    with subject.server() as running:
        yield running


def connect(server: ProbeServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE)


def exchange(server: ProbeServer, content: bytes) -> bytes:
    """Send this and no more, and return all that comes back."""
    with connect(server) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has had enough
        return read(connection)


def read(connection: socket.socket) -> bytes:
    """The bytes that come until the end."""
    found = b""
    try:
        while part := connection.recv(65_536):
            found += part
    except ConnectionError:
        pass
    return found


# What is answered


def test_probes_answer_with_a_status_and_facts(server: ProbeServer) -> None:
    """/healthz and /readyz answer 200 if all is well and 503 if not, and tell the facts as JSON."""
    healthz, readyz = ask(f"{server.url}/healthz"), ask(f"{server.url}/readyz?verbose=1")
    assert (healthz.status, healthz.facts) == (200, {"ok": True, "uptime": 1.5})
    assert (readyz.status, readyz.facts) == (503, {"ok": False, "state": "degraded", "round_trip": None})
    assert healthz.headers["Content-Type"] == readyz.headers["Content-Type"] == "application/json"


def test_metrics_are_what_they_are(server: ProbeServer) -> None:
    """/metrics answers with the text and its own content type."""
    answer = ask(f"{server.url}/metrics")
    assert (answer.status, answer.text) == (200, "events_total 1.0\n")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/nowhere"])
def test_head_answers_as_get_without_a_body(server: ProbeServer, path: str) -> None:
    """HEAD has the status and the headers of GET."""
    get, head = ask(server.url + path), ask(server.url + path, "HEAD")
    assert head.status == get.status
    assert head.text == ""
    assert head.headers["Content-Length"] == str(len(get.text))


@pytest.mark.parametrize("path", ["", "/", "/healthz/", "/metrics.txt", "/../metrics", "/%00"])
def test_there_is_nothing_else(server: ProbeServer, path: str) -> None:
    """Any other path is 404."""
    assert ask(server.url + path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_only_get_and_head_are_allowed(server: ProbeServer, method: str) -> None:
    """Any other method is 405, also with a body, which is read before the connection ends."""
    answer = ask(f"{server.url}/healthz", method, bytes(100_000))
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_it_does_not_tell_what_it_runs_on(server: ProbeServer) -> None:
    """No header names the server or the version of Python, whatever is asked."""
    for path in ("/healthz", "/nowhere"):
        assert ask(server.url + path).headers["Server"] is None
    assert b"Python" not in exchange(server, b"nonsense\r\n\r\n")


def test_a_missing_library_is_501(server: ProbeServer, subject: Subject) -> None:
    """Without the library for metrics /metrics answers 501 with what to install; the probes answer all the same."""

    def missing() -> tuple[bytes, str]:
        raise ExtraMissing("prometheus", "EVENTBUS_HTTP_PORT")

    subject.metrics = missing
    answer = ask(f"{server.url}/metrics")
    assert answer.status == 501
    assert "pip install 'eventbus[prometheus]'" in answer.facts["reason"]
    assert ask(f"{server.url}/healthz").status == 200


def test_what_raises_is_told(server: ProbeServer, subject: Subject) -> None:
    """A probe that raises is 503 and metrics that raise are 500, with the reason; the next answer may be another one."""

    def fail() -> tuple[bool, Facts]:
        raise TimeoutError("nobody\nthere")

    def fail_too() -> tuple[bytes, str]:
        raise ZeroDivisionError

    subject.ready, subject.metrics = fail, fail_too
    answer = ask(f"{server.url}/readyz")
    assert (answer.status, answer.facts) == (503, {"ok": False, "reason": "TimeoutError: nobody\nthere"})
    answer = ask(f"{server.url}/metrics")
    assert (answer.status, answer.facts["reason"]) == (500, "ZeroDivisionError")
    subject.ready = lambda: (True, {})
    assert ask(f"{server.url}/readyz").status == 200


def test_what_hangs_is_told(subject: Subject) -> None:
    """A probe that does not answer in time is 503, metrics are 500. It hangs in one thread, however often it is asked."""
    go = Event()
    asked: list[threading.Thread] = []

    def hang() -> tuple[bool, Facts]:
        asked.append(threading.current_thread())
        go.wait()
        return True, {}

    subject.live = hang
    subject.metrics = lambda: (bytes(hang()[0]), "text/plain")
    with subject.server(limits=HttpLimits(probe_timeout=0.05, metrics_timeout=0.05)) as server:
        try:
            for _ in range(5):
                answer = ask(f"{server.url}/healthz")
                assert (answer.status, answer.facts["reason"]) == (503, "TimeoutError: no answer within 0.05 s")
                assert ask(f"{server.url}/metrics").status == 500
            assert len(asked) == 2
            assert ask(f"{server.url}/nowhere").status == 404
        finally:
            go.set()
        for thread in asked:
            thread.join(PATIENCE)
        eventually(lambda: ask(f"{server.url}/healthz").status == 200)


def test_many_ask_at_once(subject: Subject) -> None:
    """A client that asks while an answer is being found gets the same one."""
    go = Event()
    asked: list[None] = []

    def count() -> tuple[bool, Facts]:
        asked.append(None)
        go.wait(PATIENCE)
        return True, {"number": len(asked)}

    subject.live = count
    eventually(lambda: not _requests())
    with subject.server(limits=HttpLimits(probe_timeout=PATIENCE, connection_timeout=2 * PATIENCE)) as server:

        def use(number: int) -> None:
            if number == 0:
                try:
                    eventually(lambda: sum(map(is_waiting, _requests())) == 8)  # each for the answer, for all have asked
                    assert len(asked) == 1
                finally:
                    go.set()
            else:
                assert ask(f"{server.url}/healthz").facts["ok"]

        run_threads(9, use)
    assert len(asked) == 1


def _requests() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "eventbus-http-request"]


# Who would disturb


@pytest.mark.patience
def test_silent_connections_keep_nobody_out(server: ProbeServer) -> None:
    """Hundreds of connections that say nothing, or half of something, do not delay an answer: the oldest are ended."""
    with ExitStack() as stack:
        held = [stack.enter_context(connect(server)) for _ in range(200)]
        for connection in held[::2]:
            connection.sendall(b"GET /healthz HTTP/1.0\r\nX-")
        for _ in range(3):
            assert ask(f"{server.url}/healthz").status == 200
        assert read(held[0]) == b""
        eventually(lambda: len(_requests()) <= 32)


def _answering(server: ProbeServer) -> int:
    """The number of connections that wait for an answer."""
    running = server._server
    return sum(each.answering for each in list(running._open.values())) if running else 0


def test_who_waits_for_an_answer_is_not_ended(server: ProbeServer, subject: Subject) -> None:
    """However many connections come that say nothing, the one whose request is whole gets its answer."""
    go = Event()
    subject.metrics = lambda: (bytes(go.wait(PATIENCE)), "text/plain")
    with ExitStack() as stack:
        waiting = stack.enter_context(connect(server))
        waiting.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        eventually(lambda: _answering(server) == 1)
        silent = [stack.enter_context(connect(server)) for _ in range(50)]
        assert read(silent[0]) == b""
        go.set()
        assert read(waiting).startswith(b"HTTP/1.0 200")


def test_more_than_can_be_answered(subject: Subject) -> None:
    """While all served connections wait, a new one is refused without a thread; the waiting ones are answered."""
    go = Event()
    subject.metrics = lambda: (bytes(go.wait(PATIENCE)), "text/plain")
    with subject.server(limits=HttpLimits(max_connections=4)) as server, ExitStack() as stack:
        waiting = []
        for _ in range(4):
            waiting.append(stack.enter_context(connect(server)))
            waiting[-1].sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            eventually(lambda: _answering(server) == len(waiting))
        for _ in range(50):
            with connect(server) as refused:
                answer = read(refused)
                assert answer.startswith(b"HTTP/1.0 503")
                assert b"too many connections" in answer
        assert len(_requests()) == 4
        go.set()
        for connection in waiting:
            assert read(connection).startswith(b"HTTP/1.0 200")
        eventually(lambda: ask(f"{server.url}/healthz").status == 200)


def test_headers_are_thrown_away(server: ProbeServer) -> None:
    """Headers mean nothing, and of more than 8 KiB of them no more is read than that: the answer is 431."""
    line = b"GET /healthz HTTP/1.1\r\n"
    assert exchange(server, line + b"no header at all\r\n" + b"X: y\r\n" * 1_000 + b"\r\n").startswith(b"HTTP/1.0 200")
    for headers in (b"X: y\r\n" * 1_500, b"X: " + b"y" * 9_000 + b"\r\n"):
        assert exchange(server, line + headers + b"\r\n").startswith(b"HTTP/1.0 431")


def test_half_a_request_is_not_answered(server: ProbeServer, subject: Subject) -> None:
    """A client that ends before the blank line gets no answer, and nothing is computed for it."""
    asked: list[None] = []

    def count() -> tuple[bool, Facts]:
        asked.append(None)
        return True, {}

    subject.live = count
    assert exchange(server, b"GET /healthz HTTP/1.0\r\nX: y\r\n") == b""
    assert exchange(server, b"GET /healthz") == b""
    assert not asked


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"PRI * HTTP/2.0", b"505"),
        (b"GET /healthz HTTP/0.9", b"505"),
        (b"GET /healthz HTTP/9.9.9", b"400"),
        (b"GET /healthz HTTP/x", b"400"),
        (b"GET /healthz ICE/1.0", b"400"),
        (b"GET /healthz", b"400"),
        (b"GET /health z HTTP/1.0", b"400"),
        (b"", b"400"),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.0", b"414"),
    ],
)
def test_a_bad_first_line(server: ProbeServer, line: bytes, status: bytes) -> None:
    """Whatever the first line is, the answer has a status line, and a reason as JSON."""
    head, _, content = exchange(server, line + b"\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 " + status + b" ")
    facts = json.loads(content)
    assert facts.keys() == {"ok", "reason"}
    assert not facts["ok"]
    assert facts["reason"]


def test_a_connection_that_takes_for_ever_is_ended(subject: Subject) -> None:
    """A client that sends a byte now and then, and never comes to an end, is disconnected."""
    limits = HttpLimits(connection_timeout=0.1, check_interval=0.01)
    with subject.server(limits=limits) as server, connect(server) as connection:

        def is_ended() -> bool:
            try:
                connection.sendall(b"x")
            except OSError:
                return True
            return False

        eventually(is_ended)


def test_nobody_waits_for_silence(subject: Subject) -> None:
    """A client that sends nothing at all is disconnected without an answer."""
    with subject.server(limits=HttpLimits(silence_timeout=0.05)) as server, connect(server) as connection:
        assert read(connection) == b""


def test_garbage(
    server: ProbeServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], subject: Subject
) -> None:
    """Whatever comes, it is refused at most: nothing is printed or logged above DEBUG, and the next one is answered."""
    caplog.set_level(logging.DEBUG, "eventbus")
    source = random.Random(1)
    for content in (
        b"",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET",
        b"GET /healthz",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/x\r\n\r\n",
        b"GET \x1b[31m\xff\xfe HTTP/1.0\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n" + b"X: y\r\n" * 1_000 + b"\r\n",
        b"GET /healthz HTTP/1.0\r\nContent-Length: -1\r\nTransfer-Encoding: chunked\r\n\x00\xff\r\n\r\n",
        *(source.randbytes(source.randint(1, 2_000)) for _ in range(50)),
    ):
        answer = exchange(server, content)
        assert not answer or answer.startswith((b"HTTP/1.0 200", b"HTTP/1.0 4", b"HTTP/1.0 505")), answer
    assert ask(f"{server.url}/healthz").status == 200
    with connect(server) as connection:  # who leaves before the answer
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert ask(f"{server.url}/healthz").status == 200
    assert capfd.readouterr() == ("", "")
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_no_descriptor_left(server: ProbeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no connection can be accepted it waits a little each time, and answers as soon as one can be."""
    refused = Event()
    accept = socket.socket.accept

    def fail(listening: socket.socket) -> object:
        refused.set()
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "accept", fail)
        with connect(server) as connection:
            assert refused.wait(PATIENCE)
            patch.setattr(socket.socket, "accept", accept)
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert read(connection).startswith(b"HTTP/1.0 200")


# Starting and stopping


def test_start_and_stop(subject: Subject) -> None:
    """Both are idempotent; the port is known while it runs, and free afterwards. It can be started again."""
    server = subject.server()
    server.stop()
    with leaving_nothing():
        for _ in range(2):
            run_threads(4, lambda _: server.start())
            port = server.port
            assert port != 0
            assert server.url == f"http://127.0.0.1:{port}"
            assert ask(f"{server.url}/healthz").status == 200
            run_threads(4, lambda _: server.stop())
            assert server.port == 0
            with subject.server(port):
                pass


def test_stop_ends_what_goes_on(subject: Subject) -> None:
    """stop() ends connections that say nothing, and those that wait for an answer; it leaves nothing behind."""
    go, asked = Event(), Event()

    def hang() -> tuple[bool, Facts]:
        asked.set()
        go.wait()
        return True, {}

    subject.live = hang
    with leaving_nothing():
        with subject.server() as server, closing(connect(server)), closing(connect(server)) as waiting:
            waiting.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert asked.wait(PATIENCE)
            server.stop()
            assert b"200 OK" not in read(waiting)
            eventually(lambda: not _requests())
        go.set()


def test_a_taken_port_is_named(server: ProbeServer, subject: Subject) -> None:
    """ProbePortInUse names the port and the variable to set, and leaves nothing open."""
    second = subject.server(server.port)
    expected = rf"port {server.port} is taken.*EVENTBUS_HTTP_PORT"
    with leaving_nothing(), pytest.raises(ProbePortInUse, match=expected) as caught:
        second.start()
    assert caught.value.port == server.port
    assert caught.value.endpoint == server.url
    assert isinstance(caught.value, AddressInUse)


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_a_host_of_elsewhere_is_an_os_error(subject: Subject, host: str) -> None:
    """A host that is no address of this machine raises OSError with its name, and leaves nothing open."""
    with leaving_nothing(), pytest.raises(OSError, match=host):
        subject.server(host=host).start()


_FORK = """
import os
from eventbus.telemetry.http_server import ProbeServer
from tests.web import ask

def server_at(port):
    return ProbeServer(port, live=lambda: (True, {}), ready=lambda: (True, {}), metrics=lambda: (b"", "text/plain"))

server = server_at(0)
server.start()
port = server.port
reading, writing = os.pipe()
if (child := os.fork()) == 0:
    server.stop()
    own = server_at(0)
    own.start()
    answered = ask(own.url + "/healthz").status == 200
    os.read(reading, 1)
    os._exit(0 if answered and server.port == 0 else 1)
assert ask(server.url + "/healthz").status == 200
server.stop()
with server_at(port) as again:  # while the child lives
    assert ask(again.url + "/healthz").status == 200
os.write(writing, b"x")
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


@pytest.mark.process
def test_a_forked_child() -> None:
    """In a forked child the server does not run and the port is not taken; it may have one of its own."""
    done = run_script(_FORK)
    assert done.stdout == "done\n"


@pytest.mark.parametrize(("host", "reached"), [("localhost", "127.0.0.1"), ("::1", "[::1]"), ("*", "127.0.0.1")])
def test_hosts(subject: Subject, host: str, reached: str) -> None:
    """It listens at names and addresses of either family, and everywhere."""
    with subject.server(host=host) as server:
        assert ask(f"http://{reached}:{server.port}/healthz").status == 200


_WITHOUT_DESCRIPTORS = """
import os, resource, socket
from eventbus.telemetry.http_server import ProbeServer

def well():
    return True, {}

with ProbeServer(0, live=well, ready=well, metrics=lambda: (b"", "")) as server:
    clients = [socket.socket() for _ in range(5)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            os.open(os.devnull, os.O_RDONLY)
    except OSError:
        pass
    for client in clients:
        client.settimeout(20)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /healthz HTTP/1.1\\r\\nHost: it\\r\\n\\r\\n")
        answer = b""
        while part := client.recv(1_000):
            answer += part
        client.shutdown(socket.SHUT_RDWR)
        print(answer.split()[1].decode())
"""


@pytest.mark.process
def test_without_descriptors() -> None:
    """A process that has used up its descriptors answers probes nevertheless, one after the other."""
    assert run_script(_WITHOUT_DESCRIPTORS).stdout.split() == ["200"] * 5
