"""`eventbus ui` as a command: from its start to its end, at real proxies."""

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from eventbus import EventBusProxy
from eventbus.keys import reveal
from eventbus.proxy.serving import serving
from tests.commands import Run, Start, complaint, output, ports, said
from tests.eventbus.ui.serving import Page
from tests.nats import running
from tests.security import Guarded
from tests.support import PATIENCE, MyEventTopic, RawPeers, event, json_of, run_script

PAGE = re.compile(r"(http://\S+?)/(?:\?token=(\S+))? +watches (.+)\n")


def page_of(process: subprocess.Popen[str]) -> tuple[Page, str | None]:
    """The page that the command serves, and its token."""
    found = PAGE.fullmatch(output(process).readline())
    assert found, said(process)
    return Page(found[1]), found[2]


def wait_for(messages: Iterator[tuple[str, Any]], name: str, condition: str) -> Any:
    """The first message with this name that has this text."""
    return next(content for found, content in messages if found in (name, "everything") and condition in str(content))


@pytest.mark.process
def test_a_bus_in_a_browser(start: Start, proxy: EventBusProxy, raw: RawPeers) -> None:
    """It serves what passes at the proxy, and what the proxy's probes tell, until Ctrl-C, although a browser is there."""
    with (
        serving(proxy, 0) as probes,
        start("ui", "--port=0", f"--probe={probes.url}", *ports(proxy)) as process,
    ):
        page, token = page_of(process)
        assert token is None
        with page.events() as messages:
            raw.publisher(b"").send_multipart([b"plant", json_of(7.0)])
            wait_for(messages, "events", "['value', '7.0']")
            wait_for(messages, "figures", "'publishers connected': ")
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
            assert said(process) == ""


@pytest.mark.process
def test_other_machines_need_a_token(start: Start, proxy: EventBusProxy) -> None:
    """At an address that is not loopback, a token is made and printed with the address, unless one is set."""
    with start("ui", "--port=0", "--listen=0.0.0.0", *ports(proxy)) as process:
        page, token = page_of(process)
        assert token is not None
        assert len(token) > 20
        assert page.get("/events").status == 401
        assert page.get(f"/?token={token}").status == 303
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    with start("ui", "--port=0", *ports(proxy), EVENTBUS_UI_TOKEN="nobody-guesses-this") as process:
        page, token = page_of(process)
        assert token is None
        assert page.get("/").status == 401
        assert page.get("/", authorization="Bearer nobody-guesses-this").status == 200


@pytest.mark.process
def test_over_nats(start: Start, tmp_path: Path, ports: tuple[int, int]) -> None:
    """It watches a bus over NATS, too, takes no events from a group that works, and shows the server's monitoring."""
    with running(tmp_path, f'http: "127.0.0.1:{ports[0]}"') as server, ExitStack() as stack:
        bus = {"EVENTBUS_TRANSPORT": "jetstream", "EVENTBUS_URL": server.url, "EVENTBUS_STORE": "file,32MiB,1h,1"}
        group = {"EVENTBUS_GROUP": "workers"}
        process = stack.enter_context(start("ui", "--port=0", f"--probe=127.0.0.1:{ports[0]}", **bus, **group))
        messages = stack.enter_context(page_of(process)[0].events())
        # From the beginning, because nothing tells when it listens.
        tail = stack.enter_context(start("tail", "--count=3", "--json", EVENTBUS_START="all", **bus, **group))
        for number in range(3):
            with start("emit", "my_service", f'{{"type": "updated", "value": {number}}}', **bus) as emit:
                assert emit.wait(PATIENCE) == 0
        wait_for(messages, "events", "['value', '2']")
        wait_for(messages, "figures", "'slow consumers': 0")
        assert tail.wait(PATIENCE) == 0


@pytest.mark.process
def test_rules(start: Start, tmp_path: Path) -> None:
    """It is a client with keys: what the rules deny it, it does not see; the denial is among the notices."""
    with Guarded(tmp_path) as guarded:
        keys = guarded.admit("page", publish=[], subscribe=["my_service"])
        client = guarded.connected(guarded.admit("opc"))
        flags = (f"--security.server-public-key={guarded.keys.public}", *ports(guarded.proxy))
        secret = {"EVENTBUS_SECURITY__SECRET_KEY": reveal(keys.secret_key)}
        with start("ui", "--port=0", *flags, **secret) as process, page_of(process)[0].events() as messages:
            wait_for(messages, "notices", "does not permit this client to subscribe to all topics")
        with start("ui", "my_service", "--port=0", *flags, **secret) as process, page_of(process)[0].events() as messages:
            client.emit_event(event(1.0), topic=MyEventTopic.other)
            client.emit_event(event(2.0), topic=MyEventTopic.my_service)
            assert "'other'" not in str(wait_for(messages, "events", "['value', '2.0']"))


@pytest.mark.process
def test_while_the_proxy_is_away(start: Start, ports: tuple[int, int]) -> None:
    """The page says that the proxy went away, and that it is back; if it stays away, the command ends with the reason."""
    flags = ("--host=127.0.0.1", f"--pub-port={ports[0]}", f"--sub-port={ports[1]}", "--reconnect-attempts=20")
    with (
        EventBusProxy("127.0.0.1", *ports) as proxy,
        start("ui", "--port=0", *flags) as process,
        page_of(process)[0].events() as messages,
    ):
        proxy.stop()
        wait_for(messages, "notices", "this page is degraded")
        proxy.start()
        wait_for(messages, "figures", "'state': 'ready'")
        proxy.stop()
        assert process.wait(PATIENCE) == 1
        assert "no event bus proxy came back" in said(process)  # perhaps also that a question of its own was dropped


@pytest.mark.process
def test_without_a_proxy(run_process: Run, dead_ports: tuple[int, int]) -> None:
    """Without a proxy it gives one line and status 1."""
    flags = ("--host=127.0.0.1", f"--pub-port={dead_ports[0]}", f"--sub-port={dead_ports[1]}", "--connect-timeout=0.2")
    assert "no event bus proxy answered" in complaint(run_process("ui", "--port=0", *flags), 1)


def test_a_port_that_is_taken(run: Run, proxy: EventBusProxy) -> None:
    """A taken port gives one line with the remedy and status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = complaint(run("ui", f"--port={taken.getsockname()[1]}", *ports(proxy)), 1)
    assert "taken" in text
    assert "--port" in text


def test_an_address_of_another_machine(run: Run, proxy: EventBusProxy) -> None:
    """Another port would not help."""
    text = complaint(run("ui", "--listen=192.0.2.1", *ports(proxy)), 1)
    assert text.endswith("; name one of this machine with --listen")


@pytest.mark.parametrize(
    "flags",
    [
        ("--port=70000",),
        ("--probe=ftp://host:1",),
        ("--probe=http://",),
        ("--probe=file:///etc/passwd",),
        ("--probe=http://[::1",),
        ("--probe=http://host:99999",),
        ("--ui-token=short",),
    ],
)
def test_bad_arguments(run: Run, flags: tuple[str, ...]) -> None:
    """A bad argument gives one line, and status 2."""
    complaint(run("ui", *flags), 2)


@pytest.mark.process
def test_without_the_extra() -> None:
    """Without starlette the page is refused with the remedy and status 2."""
    done = run_script(
        "import sys\nsys.modules['starlette.applications'] = None\n"
        "from eventbus.cli.main import main\nsys.exit(main(['ui']))\n"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("eventbus: starlette is not installed: pip install 'eventbus[ui]'")
