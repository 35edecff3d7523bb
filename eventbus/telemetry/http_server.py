"""A small HTTP server for whoever supervises and scrapes a service or a proxy: /healthz, /readyz and /metrics.

It is read only. Who can reach it sees how things are, what was counted, and the names of topics, handlers and clients that
metrics have as labels; no event and no key. Keep it in a network that may know that.
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
from weakref import WeakSet

from eventbus._base.addresses import host_and_port, is_ipv6, resolve
from eventbus._base.deadline import Deadline
from eventbus._base.printable import printable
from eventbus._base.single_flight import SingleFlight
from eventbus.errors import ExtraMissing, ProbePortInUse, reason_of
from eventbus.telemetry.http_responses import JSON, head_of, json_of, refusal

logger = logging.getLogger("eventbus")

type Facts = Mapping[str, str | float | None]
type Probe = Callable[[], tuple[bool, Facts]]
type Metrics = Callable[[], tuple[bytes, str]]

_ANSWER = 2.0  # seconds that a probe may take
_SCRAPE = 8.0  # that metrics may take; Prometheus waits for ten
_SILENCE = 5.0  # that a connection may say nothing
_WHOLE = 15.0  # that it may take altogether
_FAREWELL = 0.5  # for what still comes after the answer
_LOOK = 1.0  # between two looks for those that take too long
_PAUSE = 0.1  # when nobody can be accepted
_STOP = 1.0  # for threads to come to an end
_MOST = 32  # connections at a time, and so threads
_LINE = 8_192  # bytes of the first line of a request
_HEADERS = 8_192  # bytes of all that follows up to the blank line
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")


class ProbeServer:
    """Answers GET and HEAD in threads of its own, from `start` to `stop`. Any thread may call any method.

    /healthz and /readyz answer with status 200 or 503, and facts as JSON. /metrics answers with 200, with 500 if that fails,
    and with 501 if a library is missing. What raises, or takes longer than two seconds (of metrics: eight), is answered with
    the reason. Slow and silent connections keep nobody else from being answered: there are 32 at most, and for a new one the
    oldest of those that wait for no answer is ended. If all wait for one, the new one is refused with 503.
    Headers of requests are read, up to 8 KiB, and mean nothing; each connection is for one request.

    Args:
        port: where to listen; 0 picks a free one.
        host: the address to bind.
        live: asked by /healthz, in a thread of its own and never twice at a time: whether all is well, and the facts.
        ready: asked by /readyz in the same way.
        metrics: asked by /metrics: the text, and its content type.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", *, live: Probe, ready: Probe, metrics: Metrics) -> None:
        self.host = host
        self._asked = port
        self._live, self._ready, self._metrics = live, ready, metrics
        self._lock = Lock()
        self._server: _Server | None = None
        _servers.add(self)

    @property
    def port(self) -> int:
        """The port: while it runs the bound one, else the one asked for."""
        server = self._server
        return server.server_address[1] if server else self._asked

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        return f"http://{host_and_port(self.host, self.port)}"

    def start(self) -> None:
        """Bind the port and answer. Returns when it does. Idempotent.

        Raises:
            ProbePortInUse: the port is taken.
            OSError: the host cannot be bound.
        """
        with self._lock:
            if self._server is None:
                self._server = _Server(self.host, self._asked, self._live, self._ready, self._metrics)

    def stop(self) -> None:
        """Answer no more, and free the port; returns when it is free. Idempotent.

        Whoever waits for an answer gets none. What hangs in a probe hangs on, in a daemon thread.
        """
        with self._lock:
            if self._server is not None:
                self._server.stop()
                self._server = None

    def forget(self) -> None:
        """In a forked child: the port is the parent's, and nobody answers here."""
        self._lock = Lock()
        if self._server is not None:
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


_servers: "WeakSet[ProbeServer]" = WeakSet()


def _forget_servers() -> None:
    for server in list(_servers):
        server.forget()


os.register_at_fork(after_in_child=_forget_servers)


@dataclass(eq=False)
class _Connection:
    """A connection that has a thread."""

    thread: Thread
    since: float
    answering: bool = False  # its request is whole, and the answer not written yet
    ended: bool = False  # its thread is to notice


class _Server(TCPServer):
    """Listens and answers, from its creation to `stop`: each connection one request, in a thread."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, live: Probe, ready: Probe, metrics: Metrics) -> None:
        self.probes = {"/healthz": SingleFlight(live), "/readyz": SingleFlight(ready)}
        self.metrics = SingleFlight(metrics)
        self._lock = Lock()
        self._open: dict[socket.socket, _Connection] = {}  # all that have a thread; the oldest first
        self._stopped = Event()
        address = resolve(host)
        self.address_family = socket.AF_INET6 if is_ipv6(address) else socket.AF_INET
        try:
            super().__init__(("" if address == "*" else address, port), _Handler)
        except OSError as error:
            url = f"http://{host_and_port(host, port)}"
            if error.errno == errno.EADDRINUSE:
                raise ProbePortInUse(url, port) from None
            raise OSError(error.errno, f"cannot serve metrics and probes at {url}: {error.strerror}") from None
        self._thread = Thread(target=self.serve_forever, args=(_LOOK,), name="eventbus-http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self.shutdown()
        self._thread.join()
        self.server_close()
        for probe in self.probes.values():
            probe.give_up()
        self.metrics.give_up()
        self._cut(older_than=0.0)
        deadline = Deadline(_STOP)
        with self._lock:
            threads = [connection.thread for connection in self._open.values()]
        for thread in threads:
            thread.join(deadline.left())

    # What the base class calls. `Any`: as it declares them.

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:  # perhaps there is no descriptor left; the listening socket remains readable, and is tried at once
            self._stopped.wait(_PAUSE)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._make_room():
            self._refuse(request)
            return
        thread = Thread(target=self._serve, args=(request, client_address), name="eventbus-http-request", daemon=True)
        with self._lock:
            thread.start()  # unless the process may have no more threads
            self._open[request] = _Connection(thread, monotonic())

    def service_actions(self) -> None:
        self._cut(older_than=_WHOLE)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        logger.debug("a connection to the probes has failed", exc_info=error, extra={"eventbus_error": type(error).__name__})

    def begin_answer(self, request: socket.socket) -> bool:
        """Whether a connection, whose request is whole now, may have its answer; it is not ended for a new one then."""
        with self._lock:
            connection = self._open[request]
            connection.answering = not connection.ended
            return connection.answering

    def _serve(self, request: socket.socket, client_address: object) -> None:
        try:
            self.finish_request(request, client_address)
            with self._lock:
                self._open[request].answering = False
            # With anything left unread the connection would be reset, and what was answered be lost on the way.
            request.shutdown(socket.SHUT_WR)
            request.settimeout(_FAREWELL)
            while request.recv(_HEADERS):
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
        """Whether there may be one thread more; if need be, after ending the oldest connection that awaits no answer."""
        with self._lock:
            if len(self._open) < _MOST:
                return True
            idle = next(
                ((request, each) for request, each in self._open.items() if not (each.answering or each.ended)), None
            )
            if idle is None:
                return False
            request, connection = idle
            _end(request, connection)
        connection.thread.join(_STOP)  # it waits for the other side only, and so notices at once
        with self._lock:
            return len(self._open) < _MOST

    def _refuse(self, request: socket.socket) -> None:
        """Answer without a thread, as far as that goes without waiting."""
        content = refusal("too many connections are waiting for an answer")
        request.setblocking(False)
        with suppress(OSError):
            request.send(head_of(HTTPStatus.SERVICE_UNAVAILABLE, len(content), JSON) + content)
            request.recv(_HEADERS)  # left unread, it would reset the connection
        self.shutdown_request(request)

    def _cut(self, *, older_than: float) -> None:
        """End connections; their threads notice."""
        now = monotonic()
        with self._lock:
            for request, connection in self._open.items():
                if not connection.ended and now - connection.since >= older_than:
                    _end(request, connection)


def _end(request: socket.socket, connection: _Connection) -> None:
    connection.ended = True
    with suppress(OSError):  # the other side has ended it
        request.shutdown(socket.SHUT_RDWR)


class _Refused(Exception):
    """A request is none that can be answered."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class _Handler(StreamRequestHandler):
    """Answers one request."""

    server: _Server
    timeout = _SILENCE

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
        """Read the request, keep its first line, and return the path."""
        self._line = self._read_line(_LINE, HTTPStatus.REQUEST_URI_TOO_LONG)
        words = self._line.split()
        if len(words) != 3 or not _VERSION.fullmatch(words[2]):
            raise _Refused(HTTPStatus.BAD_REQUEST)
        if not words[2].startswith(b"HTTP/1."):
            raise _Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        self._command = words[0].decode("latin-1")
        left = _HEADERS
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
            well, facts = probe.answer(_ANSWER)
        except (Exception, CancelledError) as error:
            well, facts = False, {"reason": reason_of(error)}
        self._send(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, json_of({"ok": well, **facts}), JSON)

    def _answer_metrics(self) -> None:
        try:
            content, kind = self.server.metrics.answer(_SCRAPE)
        except ExtraMissing as error:
            self._send_error(HTTPStatus.NOT_IMPLEMENTED, str(error))
        except (Exception, CancelledError) as error:
            self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR, reason_of(error))
        else:
            self._send(HTTPStatus.OK, content, kind)

    def _send_error(self, status: HTTPStatus, reason: str = "") -> None:
        self._send(status, refusal(reason or status.phrase), JSON)

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            request = printable(self._line.rstrip(b"\r\n").decode("latin-1"))
            logger.debug(
                "answered %s with status %d",
                request,
                status,
                extra={"eventbus_request": request, "eventbus_status": int(status)},
            )
        head = head_of(status, len(content), kind)
        self.wfile.write(head if self._command == "HEAD" else head + content)
