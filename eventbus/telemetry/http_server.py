"""A small read-only HTTP server for orchestrators and scrapers: /healthz, /readyz and /metrics of a service or a proxy.

Its clients see states, counts, and the names of topics, handlers and clients that metrics have as labels; no event and no
key. Keep it in a network that may know these.

Why it is not `http.server.ThreadingHTTPServer`: that one starts a thread for each connection without a limit, so a few
thousand silent connections take all threads and descriptors of the service; its timeout, off by default, is for one read and
not for a request; it reads up to 6 MB of headers, prints to stderr, and names the version of Python in each answer. This one
has 32 threads at most, ends the oldest idle connection for a new one, and bounds each request in bytes and in seconds.
tests/eventbus/telemetry/test_http_server.py proves that with silent, slow and hostile connections.
"""

import errno
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from socketserver import StreamRequestHandler, TCPServer
from threading import Event, Lock, Thread
from time import monotonic
from types import TracebackType
from typing import Any, Self

from eventbus._base.addresses import ANY, check_port, host_and_port, is_ipv6, resolve
from eventbus._base.deadline import Deadline
from eventbus._base.forks import register_fork
from eventbus._base.log import Log
from eventbus._base.printable import printable
from eventbus._base.single_flight import SingleFlight
from eventbus.errors import ExtraMissing, ProbePortInUse, reason_of
from eventbus.telemetry.http_responses import JSON, head_of, json_of, refusal

log = Log()

type Facts = Mapping[str, str | float | None]
type Probe = Callable[[], tuple[bool, Facts]]
type Metrics = Callable[[], tuple[bytes, str]]

_DRAIN_TIMEOUT_S = 0.5  # for bytes that still arrive after the answer
_ACCEPT_RETRY_S = 0.1  # after a connection could not be accepted
_JOIN_TIMEOUT_S = 1.0
_LISTEN_BACKLOG = 128  # connections
_MAX_LINE_BYTES = 8_192  # of the request line
_MAX_HEADERS_BYTES = 8_192  # of all lines after it, up to the blank line
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """The limits of a `ProbeServer`. Times are seconds.

    Attributes:
        probe_timeout: for the answer of a probe.
        metrics_timeout: for the metrics; Prometheus waits for ten seconds.
        silence_timeout: how long a connection may send nothing.
        connection_timeout: how long a connection may exist.
        check_interval: between two checks for connections that exceed `connection_timeout`.
        max_connections: the most connections, and so threads, that are served at a time.
    """

    probe_timeout: float = 2.0
    metrics_timeout: float = 8.0
    silence_timeout: float = 5.0
    connection_timeout: float = 15.0
    check_interval: float = 1.0
    max_connections: int = 32


@dataclass(frozen=True, slots=True)
class _Content:
    """The functions that the server calls for its answers."""

    live: Probe
    ready: Probe
    metrics: Metrics


class ProbeServer:
    """Answers GET and HEAD in threads of its own, from `start` to `stop`. Any thread may call any method.

    /healthz and /readyz answer with status 200 or 503, and facts as JSON. /metrics answers with 200, with 500 if the
    function raises, and with 501 if a library is missing. If a function raises, or takes longer than two seconds (eight for
    metrics), the answer gives the reason. The server has 32 connections at most. For a new one it ends the oldest that does
    not wait for an answer; if all do, it refuses the new one with 503. Headers are read, up to 8 KiB, and ignored. Each
    connection is for one request.

    Args:
        port: where to listen; 0 picks a free port.
        host: the address to bind.
        live: called for /healthz, in a thread and never twice at a time: returns whether all is well, and the facts.
        ready: called for /readyz in the same way.
        metrics: called for /metrics in the same way: returns the text and its content type.
        limits: timeouts, and how many connections are served at a time.

    Raises:
        InvalidSettings: the port is none.
    """

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        live: Probe,
        ready: Probe,
        metrics: Metrics,
        limits: HttpLimits | None = None,
    ) -> None:
        check_port(port)
        self.host = host
        self._requested_port = port
        self._content = _Content(live, ready, metrics)
        self._limits = limits or HttpLimits()
        self._lock = Lock()
        self._server: _Server | None = None
        register_fork(self)

    @property
    def port(self) -> int:
        """The bound port while it runs, else the requested one."""
        server = self._server
        return server.server_address[1] if server else self._requested_port

    @property
    def url(self) -> str:
        """The server's URL without a path."""
        return f"http://{host_and_port(self.host, self.port)}"

    def start(self) -> None:
        """Bind the port and answer requests from now on. Idempotent.

        Raises:
            ProbePortInUse: the port is taken.
            OSError: the host cannot be bound.
        """
        with self._lock:
            if self._server is None:
                self._server = _Server(self.host, self._requested_port, self._content, self._limits)

    def stop(self) -> None:
        """Close all connections, also those that wait for an answer, and free the port. Idempotent.

        A probe that hangs stays in its daemon thread.
        """
        with self._lock:
            if self._server is not None:
                self._server.stop()
                self._server = None

    def _after_fork(self) -> None:
        self._lock = Lock()
        if self._server is not None:
            self._server.server_close()  # the child's copy of the listening socket; no thread accepts here
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


@dataclass(eq=False)
class _Connection:
    """A connection, which has a thread."""

    thread: Thread
    since: float
    answering: bool = False  # its request is complete, and the answer is not written yet
    ended: bool = False  # shut down; its thread will notice


class _Server(TCPServer):
    """Listens and answers from its creation to `stop`; each connection has one request and one thread."""

    allow_reuse_address = True
    request_queue_size = _LISTEN_BACKLOG

    def __init__(self, host: str, port: int, content: _Content, limits: HttpLimits) -> None:
        self.probes = {"/healthz": SingleFlight(content.live), "/readyz": SingleFlight(content.ready)}
        self.metrics = SingleFlight(content.metrics)
        self.limits = limits
        self._lock = Lock()
        self._open: dict[socket.socket, _Connection] = {}  # all that have a thread, the oldest first
        self._stopped = Event()
        self._spare: int | None = None  # a descriptor that is given up for a connection when no other is left
        address = resolve(host)
        self.address_family = socket.AF_INET6 if is_ipv6(address) else socket.AF_INET
        try:
            super().__init__(("" if address == ANY else address, port), _Handler)
        except OSError as error:
            url = f"http://{host_and_port(host, port)}"
            if error.errno == errno.EADDRINUSE:
                raise ProbePortInUse(url, port) from None
            raise OSError(error.errno, f"cannot serve metrics and probes at {url}: {error.strerror}") from None
        self._keep_spare()
        self._thread = Thread(target=self.serve_forever, args=(limits.check_interval,), name="eventbus-http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self.shutdown()
        self._thread.join()
        self.server_close()
        for probe in self.probes.values():
            probe.cancel()
        self.metrics.cancel()
        self._end_connections(older_than=0.0)
        deadline = Deadline(_JOIN_TIMEOUT_S)
        with self._lock:
            threads = [connection.thread for connection in self._open.values()]
        for thread in threads:
            thread.join(deadline.left())

    # The base class calls these; `Any` is how it declares them.

    def server_close(self) -> None:
        super().server_close()
        self._release_spare()

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:  # the socket stays readable, and the next attempt follows at once
            if error.errno in {errno.EMFILE, errno.ENFILE} and self._release_spare():
                return super().get_request()
            self._stopped.wait(_ACCEPT_RETRY_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._make_room():
            self._refuse(request)
            return
        thread = Thread(target=self._serve, args=(request, client_address), name="eventbus-http-request", daemon=True)
        with self._lock:
            thread.start()  # raises if the process may have no more threads
            self._open[request] = _Connection(thread, monotonic())

    def service_actions(self) -> None:
        self._keep_spare()
        self._end_connections(older_than=self.limits.connection_timeout)

    def _keep_spare(self) -> None:
        if self._spare is None:
            with suppress(OSError):  # none is left; the next attempt follows
                self._spare = os.open(os.devnull, os.O_RDONLY)

    def _release_spare(self) -> bool:
        spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare)
        return spare is not None

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        log.debug("a connection to the HTTP server has failed", exc_info=error, error=type(error).__name__)

    def begin_answer(self, request: socket.socket) -> bool:
        """Return whether a connection, whose request is complete, may have its answer; from now on it is not ended early."""
        with self._lock:
            connection = self._open[request]
            connection.answering = not connection.ended
            return connection.answering

    def _serve(self, request: socket.socket, client_address: object) -> None:
        try:
            self.finish_request(request, client_address)
            with self._lock:
                self._open[request].answering = False
            # Unread bytes would reset the connection, and the client could lose the answer.
            request.shutdown(socket.SHUT_WR)
            request.settimeout(_DRAIN_TIMEOUT_S)
            while request.recv(_MAX_HEADERS_BYTES):
                pass
        except TimeoutError:
            pass
        except Exception:
            self.handle_error(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)
            request.close()

    def _make_room(self) -> bool:
        """Return whether one more thread may start; if needed, end the oldest connection that waits for no answer."""
        with self._lock:
            if len(self._open) < self.limits.max_connections:
                return True
            idle = next(
                ((request, each) for request, each in self._open.items() if not (each.answering or each.ended)), None
            )
            if idle is None:
                return False
            request, connection = idle
            _end(request, connection)
        connection.thread.join(_JOIN_TIMEOUT_S)  # it waits in recv, which returns at once
        with self._lock:
            return len(self._open) < self.limits.max_connections

    def _refuse(self, request: socket.socket) -> None:
        """Answer with 503 without a thread, as far as the socket takes it without waiting."""
        content = refusal("too many connections are waiting for an answer")
        request.setblocking(False)
        with suppress(OSError):
            request.send(head_of(HTTPStatus.SERVICE_UNAVAILABLE, len(content), JSON) + content)
            request.recv(_MAX_HEADERS_BYTES)  # unread bytes would reset the connection
        self.shutdown_request(request)

    def _end_connections(self, *, older_than: float) -> None:
        """Shut down connections that are at least `older_than` seconds old; their threads notice."""
        now = monotonic()
        with self._lock:
            for request, connection in self._open.items():
                if not connection.ended and now - connection.since >= older_than:
                    _end(request, connection)


def _end(request: socket.socket, connection: _Connection) -> None:
    connection.ended = True
    with suppress(OSError):  # the client has closed it
        request.shutdown(socket.SHUT_RDWR)


class _Refused(Exception):
    """The request cannot be answered."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class _Handler(StreamRequestHandler):
    """Answers one request."""

    server: _Server

    def setup(self) -> None:
        super().setup()
        self.request.settimeout(self.server.limits.silence_timeout)

    def handle(self) -> None:
        self._line = b""
        self._command = ""
        try:
            path = self._read()
        except _Refused as refused:
            self._send_error(refused.status)
        except EOFError:
            pass
        else:
            if self.server.begin_answer(self.request):
                self._answer(path)

    def _read(self) -> str:
        """Read the request, keep its first line, and return its path."""
        self._line = self._read_line(_MAX_LINE_BYTES, HTTPStatus.REQUEST_URI_TOO_LONG)
        words = self._line.split()
        if len(words) != 3 or not _VERSION.fullmatch(words[2]):
            raise _Refused(HTTPStatus.BAD_REQUEST)
        if not words[2].startswith(b"HTTP/1."):
            raise _Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        self._command = words[0].decode("latin-1")
        left = _MAX_HEADERS_BYTES
        while (line := self._read_line(left, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)) not in (b"\r\n", b"\n"):
            left -= len(line)
        return words[1].partition(b"?")[0].decode("latin-1")

    def _read_line(self, most: int, status: HTTPStatus) -> bytes:
        line = self.rfile.readline(most + 1)
        if len(line) > most:
            raise _Refused(status)
        if not line.endswith(b"\n"):
            raise EOFError
        return line

    def _answer(self, path: str) -> None:
        if self._command not in ("GET", "HEAD"):
            self._send_error(HTTPStatus.METHOD_NOT_ALLOWED)
        elif path in self.server.probes:
            self._answer_probe(self.server.probes[path])
        elif path == "/metrics":
            self._answer_metrics()
        else:
            self._send_error(HTTPStatus.NOT_FOUND, "there are /healthz, /readyz and /metrics")

    def _answer_probe(self, probe: SingleFlight[tuple[bool, Facts]]) -> None:
        try:
            well, facts = probe.call(self.server.limits.probe_timeout)
        except (Exception, CancelledError) as error:
            well, facts = False, {"reason": reason_of(error)}
        self._send(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, json_of({"ok": well, **facts}), JSON)

    def _answer_metrics(self) -> None:
        try:
            content, kind = self.server.metrics.call(self.server.limits.metrics_timeout)
        except ExtraMissing as error:
            self._send_error(HTTPStatus.NOT_IMPLEMENTED, str(error))
        except (Exception, CancelledError) as error:
            self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR, reason_of(error))
        else:
            self._send(HTTPStatus.OK, content, kind)

    def _send_error(self, status: HTTPStatus, reason: str = "") -> None:
        self._send(status, refusal(reason or status.phrase), JSON)

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        if log.isEnabledFor(logging.DEBUG):
            request = printable(self._line.rstrip(b"\r\n").decode("latin-1"))
            log.debug("answered %s with status %d", request, status, request=request, status=int(status))
        head = head_of(status, len(content), kind)
        self.wfile.write(head if self._command == "HEAD" else head + content)
