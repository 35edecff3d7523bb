"""The reason why a client finds no proxy: from connect(), or in one line of the log, in the words of `eventbus check`."""

import logging
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from eventbus import EventBusProxy, ProxyUnreachable, SwappedPorts, WrongServerKey
from eventbus._base.deadline import Deadline
from eventbus.keys import ClientKeys
from eventbus.observe.state import ClientState
from eventbus.transports.zeromq.explanation import Explanation
from eventbus.transports.zeromq.reachability import CheckFailed, Reachability
from tests.container.support import free_ports
from tests.security import Guarded, new_keys
from tests.support import PATIENCE, Bus, MyEvent, client_of, eventually

pytestmark = pytest.mark.patience

ROOT = Path(__file__).parents[4]
UNKNOWN = "no-such-host.invalid"


def bus(host: str, ports: tuple[int, int], **options: object) -> Bus:
    return Bus(MyEvent, host, *ports, **options)  # type: ignore[arg-type] # any of them


@pytest.fixture
def web_port() -> Iterator[int]:
    """The port of a web server."""

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 # the name that it has there
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        server.daemon_threads, server.block_on_close = True, False
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join(PATIENCE)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# What connect() says


def test_swapped_ports(proxy: EventBusProxy) -> None:
    """Exchanged ports are recognised at once, with the right values."""
    with pytest.raises(SwappedPorts, match=f"set EVENTBUS_PUB_PORT={proxy.pub_port} and EVENTBUS_SUB_PORT={proxy.sub_port}"):
        bus("127.0.0.1", (proxy.sub_port, proxy.pub_port)).connect(PATIENCE)


def test_swapped_ports_with_keys(tmp_path: Path) -> None:
    """They are recognised with encryption, too, which hides the kind of a listener; a wrong key gives its own error."""
    with Guarded(tmp_path) as guarded:
        keys = guarded.admit()
        ports = guarded.proxy.sub_port, guarded.proxy.pub_port
        with pytest.raises(SwappedPorts):
            bus("127.0.0.1", ports, keys=keys).connect(PATIENCE)
        wrong = ClientKeys(new_keys().public, keys.secret_key)
        with pytest.raises(WrongServerKey):
            client_of(guarded.proxy, keys=wrong).connect(PATIENCE)


@pytest.mark.parametrize("both", ["pub_port", "sub_port"])
def test_the_same_port_twice(proxy: EventBusProxy, both: str) -> None:
    """If one port stands in both places, connect() names the socket that listens there, and the variable to set."""
    port = getattr(proxy, both)
    with pytest.raises(ProxyUnreachable) as caught:
        bus("127.0.0.1", (port, port)).connect(1.0)
    found, wanted, variable = ("XSUB", "XPUB", "SUB") if both == "pub_port" else ("XPUB", "XSUB", "PUB")
    assert caught.value.hint == f"the ZeroMQ socket at tcp://127.0.0.1:{port} is {found}, but a proxy has {wanted} there"
    assert caught.value.remedy.startswith(f"set EVENTBUS_{variable}_PORT to")


def test_nothing_listens(dead_ports: tuple[int, int]) -> None:
    """If nothing listens, the remedy is to start a proxy."""
    with pytest.raises(ProxyUnreachable, match="start a proxy there") as caught:
        bus("127.0.0.1", dead_ports).connect(1.0)
    assert caught.value.hint == f"nothing listens at tcp://127.0.0.1:{dead_ports[0]}"


def test_a_host_that_nobody_knows() -> None:
    """A name without an address gives an error that says so."""
    with pytest.raises(ProxyUnreachable, match="set EVENTBUS_HOST") as caught:
        bus(UNKNOWN, (5559, 5560)).connect(2)
    assert f"cannot find an address of '{UNKNOWN}'" in caught.value.hint


def test_something_listens_and_is_silent() -> None:
    """A proxy that hangs is told from one that is not there, also by a client with the usual timeout."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        client = bus("127.0.0.1", (one.getsockname()[1], other.getsockname()[1]))
        with pytest.raises(ProxyUnreachable, match=r"accepts the connection, but does not answer within 1 s\): .* it hangs"):
            client.connect()


def test_something_else_listens(web_port: int) -> None:
    """An answer that is no ZeroMQ is quoted."""
    with pytest.raises(ProxyUnreachable, match="does not speak ZeroMQ"):
        bus("127.0.0.1", (web_port, web_port)).connect(2)


# What the log says, if no proxy is required


@pytest.mark.parametrize(("host", "text"), [(UNKNOWN, "cannot find an address"), ("127.0.0.1", "nothing listens")])
def test_one_warning(host: str, text: str, dead_ports: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    """A client that needs no proxy yet warns once, after its connect timeout, and keeps trying."""
    with bus(host, dead_ports, connect_required=False, connect_timeout=1.0) as client:
        eventually(lambda: warnings_of(caplog), PATIENCE)
        [line] = warnings_of(caplog)
        assert text in line
        assert line.endswith("the client keeps trying")
        assert client.state is ClientState.CONNECTING


def test_its_end_has_the_same_level(caplog: pytest.LogCaptureFixture) -> None:
    """After that warning the state READY is a warning, too; without one it is for information."""
    caplog.set_level(logging.INFO)
    ports = free_ports()
    with bus("127.0.0.1", ports, connect_required=False, connect_timeout=0.1) as client:
        eventually(lambda: warnings_of(caplog), PATIENCE)
        with EventBusProxy("127.0.0.1", *ports):
            client.wait_ready(PATIENCE)
            eventually(lambda: "event bus ready, was connecting" in warnings_of(caplog)[-1])
            caplog.clear()
            with bus("127.0.0.1", ports):
                pass
            assert warnings_of(caplog) == []


def test_no_warning_when_a_proxy_comes_in_time(proxy: EventBusProxy, caplog: pytest.LogCaptureFixture) -> None:
    """A client that is connected in time warns of nothing, also after its connect timeout."""
    with bus("127.0.0.1", (proxy.pub_port, proxy.sub_port), connect_required=False, connect_timeout=2.0) as client:
        client.wait_ready(PATIENCE)
        eventually(lambda: (client._transport.status.echo_age or 0) > 1.3)  # an explanation begins a second before
    assert warnings_of(caplog) == []


# A name with several addresses


TWO_ADDRESSES = """
from eventbus import EventBusProxy
from eventbus.observe.state import ClientState
from tests.container.support import free_ports
from tests.support import Bus, MyEvent, PATIENCE

for host in ("127.0.0.1", "::1"):
    ports = free_ports()
    with EventBusProxy(host, *ports), Bus(MyEvent, "twofold", *ports) as client:
        assert client.state is ClientState.READY
    with Bus(MyEvent, "twofold", *ports, connect_required=False) as client, EventBusProxy(host, *ports):
        client.wait_ready(PATIENCE)
print("done")
"""


@pytest.mark.process
def test_each_address_of_a_name_is_tried(tmp_path: Path) -> None:
    """A proxy at either address of a name is found, also one that starts later. The name is that of a namespace's own."""
    hosts, program = tmp_path / "hosts", tmp_path / "program.py"
    hosts.write_text("127.0.0.1 twofold\n::1 twofold\n")
    program.write_text(TWO_ADDRESSES)
    enter = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount --bind {shlex.quote(str(hosts))} /etc/hosts"
    if shutil.which("unshare") is None or subprocess.run([*enter, mount], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no namespaces to its users")
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    run = f"{mount} && exec {shlex.quote(sys.executable)} {shlex.quote(str(program))}"
    done = subprocess.run(
        [*enter, run],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr


# The checks themselves


def test_all_is_well(proxy: EventBusProxy) -> None:
    """A proxy that is as it should be gives no finding."""
    assert Reachability("127.0.0.1", proxy.pub_port, proxy.sub_port, None, timeout=PATIENCE).failure() is None


def test_an_explanation_begins_late(dead_ports: tuple[int, int]) -> None:
    """It begins in the last second before the deadline, and once."""
    calls: list[float] = []

    def find(timeout: float) -> CheckFailed | None:
        calls.append(timeout)
        return Reachability("127.0.0.1", *dead_ports, None, timeout=timeout).failure()

    explanation = Explanation(find)
    assert explanation.begin_before(Deadline(PATIENCE))
    assert (calls, explanation.found()) == ([], None)
    deadline = Deadline(0.1)
    eventually(lambda: explanation.begin_before(deadline) and calls)
    eventually(lambda: explanation.found() is not None)
    assert explanation.begin_before(deadline)
    assert len(calls) == 1
