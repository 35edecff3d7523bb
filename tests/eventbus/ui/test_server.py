"""The server of the page: who is answered, what is sent, and that no browser can make it grow."""

import asyncio
import gc
import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from importlib.resources import files
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from eventbus.ui import server
from eventbus.ui.access import Access
from eventbus.ui.feeds import MAX_FEEDS, Feed, message
from tests.eventbus.ui.serving import Served, served
from tests.support import PATIENCE, eventually

TOKEN = "a-token-that-nobody-guesses"
PAGE = files("eventbus.ui") / "page"


@pytest.fixture(scope="module")
def page() -> Iterator[Served]:
    """A page without a token."""
    with served() as running:
        yield running


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    """A page with a token."""
    with served(TOKEN) as running:
        yield running


def wait_for(messages: Iterator[tuple[str, Any]], name: str) -> Any:
    return next(content for found, content in messages if found == name)


@pytest.mark.parametrize("path", ["/", "/ui.css", "/ui.js", "/graph.js", "/icon.svg"])
def test_files(page: Served, path: str) -> None:
    """The files are served with headers that forbid everything from elsewhere, and not sent again if they are the same."""
    answer = page.get(path)
    assert answer.status == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["server"] is None
    assert page.get(path, if_none_match=answer.headers["etag"]).status == 304


@pytest.mark.parametrize("path", ["/../ui.js", "/page/ui.js", "/%2e%2e/server.py", "/favicon.ico", "/events/x"])
def test_nothing_else_is_served(page: Served, path: str) -> None:
    """There are no other paths."""
    assert page.get(path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_only_reads(page: Served, method: str) -> None:
    """No method changes anything."""
    assert page.get("/", method).status == 405
    assert page.get("/events", method).status == 405


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", ""])
@pytest.mark.parametrize("path", ["/", "/events", "/ui.js"])
def test_dns_rebinding(page: Served, path: str, host: str) -> None:
    """A request under a name that is not this machine's is refused, because a website may have made the browser send it."""
    assert page.get(path, Host=host).status == 421


def test_other_sites(page: Served) -> None:
    """A website can make a browser open the page, as with a link, but not read from it or hold its streams."""
    assert page.get("/", sec_fetch_site="cross-site", sec_fetch_mode="navigate").status == 200
    assert page.get("/events", sec_fetch_site="cross-site", sec_fetch_mode="cors").status == 403
    assert page.get("/ui.js", sec_fetch_site="same-site", sec_fetch_mode="no-cors").status == 403


def test_the_page_refers_to_its_own_files_only() -> None:
    """No address of another host, no script or style inside: the policy would forbid them."""
    for name in ("index.html", "token.html"):
        text = (PAGE / name).read_text()
        assert not re.search(r"<script(?![^>]* src=\"/)|<style|style=|\son\w+=|https?:", text)
    for name in ("ui.js", "graph.js"):
        code = (PAGE / name).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|\.html\(", code)


def test_events_as_they_come(page: Served) -> None:
    """A stream begins with everything, and goes on with events, figures and notices."""
    with page.events() as messages:
        name, content = next(messages)
        assert (name, content["figures"]["state"]) == ("everything", "ready")
        page.send("plant", type="alarm", text="<script>")
        page.bus.send(b"plant", b"no JSON")
        (event,) = [each for each in wait_for(messages, "events") if each["topic"] == "plant"]
        assert (event["type"], event["fields"]) == ("alarm", [["text", "<script>"]])
        assert any("not" in notice["text"] for notice in wait_for(messages, "notices"))
        figures = wait_for(messages, "figures")
        assert [topic["name"] for topic in figures["topics"]] == ["plant"]


def test_without_the_token(guarded: Served) -> None:
    """Nothing about the bus is answered; the page asks for the token."""
    for path in ("/events", "/ui.js", "/graph.js"):
        assert guarded.get(path).status == 401
    answer = guarded.get("/")
    assert answer.status == 401
    assert 'name="token"' in answer.text
    assert guarded.get("/ui.css").status == 200
    for wrong in (TOKEN[:-1], TOKEN.upper(), "", "%ff"):
        answer = guarded.get(f"/?token={wrong}")
        assert (answer.status, answer.headers["set-cookie"]) == (401, None)


def test_the_token_in_the_address_or_the_form(guarded: Served) -> None:
    """It becomes a cookie that scripts and other sites cannot use, and leaves the address."""
    by_address = guarded.get(f"/?token={TOKEN}", Host="bus.example")
    by_form = guarded.get("/token", "POST", f"token={TOKEN}", content_type="application/x-www-form-urlencoded")
    for answer in (by_address, by_form):
        assert (answer.status, answer.headers["location"]) == (303, "/")
        cookie, *flags = answer.headers["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(flags)
        assert guarded.get("/", cookie=cookie).status == 200
        with guarded.events(cookie=cookie) as messages:
            assert next(messages)[0] == "everything"
    assert guarded.get("/", authorization=f"Bearer {TOKEN}").status == 200
    assert guarded.get("/token", "POST", "token=wrong").status == 401
    assert guarded.get("/token", "POST", "token=" + "x" * 10_000).status == 413


def test_a_slow_browser_gets_a_fresh_start() -> None:
    """A browser that takes nothing costs a queue of a few messages; when it reads again, it gets everything anew."""

    async def follow() -> None:
        feed = Feed()
        assert await feed.next() is None
        for number in range(3):
            feed.offer(message("events", number))
        assert [await feed.next() for _ in range(3)] == [b"event: events\ndata: %d\n\n" % number for number in range(3)]
        for number in range(100_000):
            feed.offer(message("events", number))
        assert len(feed._queue) <= 16
        assert await feed.next() is None
        feed.offer(message("events", 4))
        assert await feed.next() == b"event: events\ndata: 4\n\n"

    asyncio.run(follow())


def test_a_browser_that_never_reads(page: Served) -> None:
    """It does not hold up another one, and leaves nothing behind when it goes."""
    with page.connect() as silent:
        silent.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with page.events() as messages:
            for number in range(2_000):
                page.send("plant", type="measured", text="x" * 300, number=number)
            wait_for(messages, "events")
            wait_for(messages, "figures")
    eventually(lambda: page.get("/").status == 200)


def test_a_browser_that_falls_asleep(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Its connection is ended after a while, and that is nobody's error."""
    monkeypatch.setattr(server, "_SEND_TIMEOUT_S", 0.2)
    with served(send_buffer=4_096) as page, page.connect() as asleep:
        asleep.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert asleep.recv(12) == b"HTTP/1.1 200"
        protocols = [each for each in gc.get_objects() if isinstance(each, H11Protocol)]
        [connection] = [each for each in protocols if each.client == asleep.getsockname()]

        def is_full() -> bool:
            for number in range(100):
                page.send(f"topic-{number}", type="measured", text="x" * 300, number=number)
            return bool(connection.flow.write_paused)

        eventually(is_full, 2 * PATIENCE)
        eventually(connection.transport.is_closing)
        with suppress(ConnectionResetError):
            while asleep.recv(65_536):
                pass
    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_no_more_browsers_than_there_is_room_for() -> None:
    """The stream is refused to one more than the limit, and free again when one has left."""
    with served() as page:
        held = []
        for _ in range(MAX_FEEDS):
            connection = page.connect()
            connection.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
            held.append(connection)
        refused = page.get("/events")
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        for connection in held:
            connection.close()
        with eventually_events(page) as messages:
            assert next(messages)[0] == "everything"


BEGUN = (
    b"",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n",
    b"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\ntoken=",
)


def test_connections_that_ask_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """They lock nobody out for long: each is ended after a while, and beyond a limit at once; a stream goes on."""
    monkeypatch.setattr(server, "_REQUEST_TIMEOUT_S", 0.5)
    with served() as page, page.events() as messages, ExitStack() as stack:
        held = [stack.enter_context(page.connect()) for _ in range(server._MAX_OPEN_CONNECTIONS + 20)]
        for connection, begun in zip(held, cycle(BEGUN), strict=False):
            with suppress(OSError):  # it is one too many
                connection.sendall(begun)
        eventually(lambda: page.status() == 200)
        for connection in held:
            with suppress(ConnectionError):
                while connection.recv(65_536):
                    pass
        wait_for(messages, "figures")


def eventually_events(page: Served) -> Any:
    eventually(lambda: page.get("/events", "HEAD").status == 200)
    return page.events()


def test_it_ends_with_browsers_there() -> None:
    """When the watcher ends, so does the server, although browsers hold streams; they see the end of the answer."""
    with served() as page, page.events() as messages:
        next(messages)
        assert threading.active_count() > 1
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        page.get("/")
    gc.collect()


def test_the_files_are_in_the_package() -> None:
    """Nothing lies in the folder that is not served."""
    names = {path.name for path in Path(str(PAGE)).iterdir()}
    assert names == {"index.html", "token.html", "ui.css", "ui.js", "graph.js", "icon.svg"}


def test_the_cookie_is_of_the_port() -> None:
    """Two pages on one machine do not exchange cookies."""
    assert Access(TOKEN, 1).cookie != Access(TOKEN, 2).cookie
