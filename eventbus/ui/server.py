"""Serves the page: a few files, and a stream of server-sent events. Starlette and uvicorn, in one event loop."""

import asyncio
import errno
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from urllib.parse import parse_qs

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from eventbus._base.addresses import ANY, host_and_port, is_ipv6, resolve
from eventbus.ui.access import Access
from eventbus.ui.feeds import Feeds
from eventbus.ui.watcher import Watcher

_PAGE_FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/ui.css": ("ui.css", "text/css; charset=utf-8"),
    "/ui.js": ("ui.js", "text/javascript; charset=utf-8"),
    "/graph.js": ("graph.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_WITHOUT_TOKEN = {"/ui.css", "/icon.svg", "/token"}  # what the page needs that asks for the token
_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_MAX_FORM_BYTES = 4_096
_CLOSE = {"connection": "close"}  # nobody reads the rest of the request
_SEND_TIMEOUT_S = 30.0  # of a browser that takes nothing any more
_GRACE_S = 2  # for browsers at the end
_REQUEST_TIMEOUT_S = (
    10.0  # for a browser to send a whole request, from its connection or its last answer on; up to twice that
)
_MAX_CONNECTIONS = 128  # beyond which each is answered that there are too many
_MAX_OPEN_CONNECTIONS = 2 * _MAX_CONNECTIONS  # beyond which they are ended without an answer
_BACKLOG = 128


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: the name or the address to bind; ``*`` is every address.
        port: 0 picks a free one.

    Raises:
        OSError: the host cannot be bound, or the port is taken.
    """
    address = "" if host == ANY else resolve(host)
    try:
        family = socket.AF_INET6 if is_ipv6(address) else socket.AF_INET
        return socket.create_server((address, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = "the port is taken" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
        remedy = (
            "name one of this machine with --listen" if error.errno == errno.EADDRNOTAVAIL else "choose another with --port"
        )
        raise OSError(error.errno, f"cannot serve the page at {host_and_port(host, port)}: {reason}; {remedy}") from None


def serve(watcher: Watcher, listening: socket.socket, access: Access, on_ready: Callable[[], None]) -> None:
    """Serve the page until a signal comes or the watcher ends.

    Args:
        watcher: what to show.
        listening: where to listen.
        access: who may see it.
        on_ready: called once, when browsers are answered.
    """
    config = uvicorn.Config(
        application(watcher, access, is_closing=lambda: server.should_exit, on_ready=on_ready, on_end=lambda: server.stop()),
        access_log=False,
        h11_max_incomplete_event_size=16_384,
        http=_ImpatientProtocol,
        lifespan="on",
        limit_concurrency=_MAX_CONNECTIONS,
        log_config=None,
        log_level="error",  # whoever sends no HTTP is told so, and nobody else
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        ws="none",
    )
    server = _Server(config)
    server.run([listening])


class _Server(uvicorn.Server):
    def stop(self) -> None:
        """End as after a signal."""
        self.should_exit = True


def application(
    watcher: Watcher,
    access: Access,
    *,
    is_closing: Callable[[], bool] = lambda: False,
    on_ready: Callable[[], None] = lambda: None,
    on_end: Callable[[], None] = lambda: None,
) -> ASGIApp:
    """Return the page as an ASGI application; it needs the lifespan protocol.

    Args:
        watcher: what to show.
        access: who may see it.
        is_closing: whether browsers should be let go.
        on_ready: called at the start.
        on_end: called when the watcher has ended.
    """
    feeds = Feeds(watcher, is_closing)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async def run() -> None:
            try:
                await feeds.run()
            finally:
                on_end()

        running = asyncio.create_task(run())
        on_ready()
        yield
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    async def events(request: Request) -> Response:
        if feeds.is_full:
            return PlainTextResponse("too many browsers watch already", 503, {"retry-after": "5"})
        return _EventStream(feeds)

    async def token(request: Request) -> Response:
        body = b""
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > _MAX_FORM_BYTES:
                        return PlainTextResponse("too long", 413, _CLOSE)
        except TimeoutError:
            return PlainTextResponse("too slow", 408, _CLOSE)
        given = parse_qs(body.decode(errors="replace")).get("token", [""])[0]
        return _let_in(request, access) if access.is_token(given) else _ask_for_token("That is not the token.")

    routes = [Route(path, _file(*of_file)) for path, of_file in _PAGE_FILES.items()]
    routes += [Route("/events", events), Route("/token", token, methods=["POST"])]
    return _Guard(Starlette(routes=routes, lifespan=lifespan), access)


class _ImpatientProtocol(H11Protocol):
    """Ends connections that ask for nothing, or take nothing: whoever holds the places of all would lock others out."""

    _asks: asyncio.TimerHandle | None = None
    _takes: asyncio.TimerHandle | None = None  # while nothing more can be written
    _last: object = None  # the request that had been answered at the last look

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the class itself
        """Take a connection, if there are not far too many."""
        super().connection_made(transport)
        if len(self.connections) > _MAX_OPEN_CONNECTIONS:
            transport.abort()
        else:
            self._asks = self.loop.call_later(_REQUEST_TIMEOUT_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        super().connection_lost(exc)
        for timer in (self._asks, self._takes):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        """Give the browser some time to take what waits for it."""
        super().pause_writing()
        self._takes = self.loop.call_later(_SEND_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it has taken that."""
        super().resume_writing()
        if self._takes is not None:
            self._takes.cancel()

    def _look(self) -> None:
        """End the connection if it has not asked for anything since the last look."""
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.cycle is self._last:
            self.transport.abort()
        else:
            self._last = self.cycle
            self._asks = self.loop.call_later(_REQUEST_TIMEOUT_S, self._look)


class _Guard:
    """Refuses requests of those who may not see the page, before anything else looks at them."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        request = Request(scope)
        answer = self._refusal(request) or self._app
        await answer(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        headers, path = request.headers, request.url.path
        if not self._access.is_host_known(headers.get("host", "")):
            return PlainTextResponse("the page has no such name: ask for localhost, or set EVENTBUS_UI_TOKEN", 421)
        site, is_navigation = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode") == "navigate"
        if site not in ("none", "same-origin") and not (is_navigation and request.method == "GET"):
            return PlainTextResponse("not for other sites", 403)
        if self._access.may_enter(headers) or path in _WITHOUT_TOKEN:
            return None
        given = request.query_params.get("token") if path == "/" else None
        if given is not None and self._access.is_token(given):
            return _let_in(request, self._access)
        return _ask_for_token("" if given is None else "That is not the token.")


class _EventStream(Response):
    """Server-sent events, until the browser leaves."""

    def __init__(self, feeds: Feeds) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._feeds = feeds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_gone(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            messages = self._feeds.messages()
            async for new in messages:
                if gone.done():
                    break
                await send({"type": "http.response.body", "body": new, "more_body": True})
            await messages.aclose()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _file(name: str, kind: str) -> Callable[[Request], Response]:
    content = (files("eventbus.ui") / "page" / name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'

    def answer(request: Request) -> Response:
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return answer


def _let_in(request: Request, access: Access) -> Response:
    """Go on to the page without the token in its address, with a cookie."""
    answer = RedirectResponse("/", 303)
    # Lax: the cookie comes along when a link to the page is followed from elsewhere, but not with another site's scripts.
    is_encrypted = request.url.scheme == "https"
    answer.set_cookie(access.cookie, access.pass_, path="/", httponly=True, samesite="lax", secure=is_encrypted)
    return answer


def _ask_for_token(complaint: str) -> Response:
    page = (files("eventbus.ui") / "page" / "token.html").read_text("utf-8")
    return Response(page.replace("{complaint}", complaint), 401, {"cache-control": "no-store"}, "text/html; charset=utf-8")
