"""`eventbus check`: each common mistake is distinguished from the others, with its remedy."""

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import zmq

from eventbus import EventBusProxy
from tests.commands import Run, ports
from tests.faults.proxies import running_proxy
from tests.keys import listed, pair, write_list
from tests.support import PATIENCE, run_script

STEPS = ["settings", "host", "publishers", "subscribers", "protocol", "security", "round trip", "history"]
PROXY, CLIENT = pair("proxy"), pair("client")
SERVER_KEY, SECRET_KEY = "EVENTBUS_SECURITY__SERVER_PUBLIC_KEY", "EVENTBUS_SECURITY__SECRET_KEY"
KEYS = {SERVER_KEY: PROXY.public, SECRET_KEY: CLIENT.secret}


def at(pub_port: int, sub_port: int) -> tuple[str, ...]:
    return "--host=127.0.0.1", f"--pub-port={pub_port}", f"--sub-port={sub_port}"


def failure(done: subprocess.CompletedProcess[str], step: str) -> str:
    """The result of the step that has failed; those before it are good, those after it were not tried."""
    assert done.returncode == 1
    assert not done.stderr.startswith("eventbus: ")  # where the log of a proxy in this process goes
    lines = done.stdout.splitlines()
    marks = [line.split()[0] for line in lines]
    place = STEPS.index(step)
    assert marks == ["ok"] * place + ["FAIL"] + ["-"] * (len(STEPS) - place - 1)
    assert [line[6:].split("  ")[0] for line in lines] == STEPS
    return lines[place][6 + 13 :]


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[EventBusProxy]:
    """A proxy that asks for keys."""
    allow_list = write_list(tmp_path / "allow.toml", listed("client", CLIENT.public))
    with EventBusProxy(pub_port=0, sub_port=0, secret_key=PROXY.secret, allow_list=allow_list) as running:
        yield running


@pytest.fixture
def web_port() -> Iterator[int]:
    """The port of a web server."""

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 # the name that it has there
            pass

    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(PATIENCE)


@pytest.mark.process
def test_all_is_well(run_process: Run, proxy: EventBusProxy) -> None:
    """Each step is a line that begins with ok, and the last line has where and how long; no codes in a pipe."""
    done = run_process("check", *ports(proxy))
    assert (done.returncode, done.stderr) == (0, "")
    *steps, last = done.stdout.splitlines()
    assert [re.split(r"  +", line)[:2] for line in steps] == [["ok", name] for name in STEPS]
    assert re.fullmatch(rf"ok: tcp://127.0.0.1:{proxy.pub_port} .* tcp://127.0.0.1:{proxy.sub_port} .* \d+\.\d ms", last)
    assert "\x1b" not in done.stdout


@pytest.mark.process
def test_imports_what_it_needs() -> None:
    """A check over ZeroMQ imports neither what NATS needs nor, before there is a historian, what asks: it starts sooner."""
    done = run_script(
        "import sys\n"
        "from eventbus.cli import check\n"
        "from eventbus.settings import EventBusSettings\n"
        "EventBusSettings().check_transport()\n"
        "print(*sys.modules)\n"
    )
    modules = set(done.stdout.split())
    assert "eventbus.transports.zeromq.transport" in modules
    assert modules.isdisjoint({"eventbus.nats_options", "eventbus.ask", "eventbus.history.reader", "difflib"})


def test_json(run: Run, proxy: EventBusProxy, dead_ports: tuple[int, int]) -> None:
    """--json prints one object and nothing else, with the same statuses."""
    done = run("check", "--json", *ports(proxy))
    content = json.loads(done.stdout)
    assert (done.returncode, done.stderr, content["ok"]) == (0, "", True)
    assert [step["name"] for step in content["steps"]] == STEPS
    assert 0 < content["round_trip_ms"] < 1000 * PATIENCE
    done = run("check", "--format=json", *at(*dead_ports))
    content = json.loads(done.stdout)
    assert (done.returncode, done.stderr, content["ok"], content["round_trip_ms"]) == (1, "", False, None)
    assert [step["status"] for step in content["steps"]] == ["ok"] * 2 + ["failed"] + ["not_tried"] * 5
    assert "eventbus proxy" in content["steps"][2]["remedy"]


def test_a_bus_that_is_switched_off(run: Run, proxy: EventBusProxy) -> None:
    """The bus is well, but a service with these settings does nothing, which explains why no event comes."""
    done = run("check", *ports(proxy), EVENTBUS_ENABLED="false")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].endswith("no keys; EVENTBUS_ENABLED=false: a service with it does nothing")


def test_an_encrypted_bus(run: Run, encrypted: EventBusProxy) -> None:
    """With the right keys all is well; the client's public key is shown, which the allow-list must have."""
    done = run("check", *ports(encrypted), **KEYS)
    assert done.returncode == 0
    assert CLIENT.public in done.stdout
    assert "CURVE" in done.stdout


def test_a_host_without_address(run: Run) -> None:
    """A name that nobody knows is named, and the variable for it."""
    said = failure(run("check", "--host", "no.invalid"), "host")
    assert "cannot find an address of 'no.invalid'" in said
    assert "set EVENTBUS_HOST" in said


def test_name_servers_that_are_silent(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Resolving a name takes no longer than the connect timeout."""
    never: socket.socket = socket.socket()

    def silent(*arguments: object) -> None:
        never.settimeout(PATIENCE)
        never.accept()[0].close()
        raise OSError("nobody waits any more")

    never.bind(("127.0.0.1", 0))
    never.listen()
    with never:
        monkeypatch.setattr(socket, "getaddrinfo", silent)
        said = failure(run("check", "--host=plant-1", "--connect-timeout=0.05"), "host")
        monkeypatch.undo()
        socket.create_connection(never.getsockname()).close()  # which ends the thread
    assert "no name server answered for 'plant-1' within 0.05 s" in said


def test_nobody_listens(run: Run, dead_ports: tuple[int, int]) -> None:
    """If nobody listens at either port, the remedy is to start a proxy."""
    said = failure(run("check", *at(*dead_ports)), "publishers")
    assert said.startswith(f"nothing listens at tcp://127.0.0.1:{dead_ports[0]}: start a proxy there with `eventbus proxy`")


@pytest.mark.parametrize("name", ["publishers", "subscribers"])
def test_one_port_only(run: Run, proxy: EventBusProxy, dead_ports: tuple[int, int], name: str) -> None:
    """If one of the ports answers, the variable of the other one is wrong."""
    right = {"publishers": proxy.pub_port, "subscribers": proxy.sub_port}
    given = right | {name: dead_ports[0]}
    said = failure(run("check", *at(*given.values())), name)
    other = next(right[key] for key in right if key != name)
    assert f"nothing listens at tcp://127.0.0.1:{dead_ports[0]}, but something does at port {other}" in said
    assert said.endswith(f"set EVENTBUS_{name[:3].upper()}_PORT to the proxy's port for {name}")


def test_swapped_ports(run: Run, proxy: EventBusProxy) -> None:
    """Exchanged ports are named as such, with the right values."""
    said = failure(run("check", *at(proxy.sub_port, proxy.pub_port)), "protocol")
    assert f"set EVENTBUS_PUB_PORT={proxy.pub_port} and EVENTBUS_SUB_PORT={proxy.sub_port}" in said


def test_swapped_ports_of_an_encrypted_bus(run: Run, encrypted: EventBusProxy) -> None:
    """Exchanged ports are named as such there too, and not taken for a wrong key."""
    said = failure(run("check", *at(encrypted.sub_port, encrypted.pub_port), **KEYS), "security")
    assert f"set EVENTBUS_PUB_PORT={encrypted.pub_port} and EVENTBUS_SUB_PORT={encrypted.sub_port}" in said


def test_the_same_kind_of_port_twice(run: Run, proxy: EventBusProxy) -> None:
    """The wrong one of a proxy's two ports is reported with the kind of its socket."""
    with EventBusProxy(pub_port=0, sub_port=0) as other:
        said = failure(run("check", *at(proxy.pub_port, other.pub_port)), "protocol")
        assert f"the ZeroMQ socket at tcp://127.0.0.1:{other.pub_port} is XSUB, but a proxy has XPUB there" in said
    assert "set EVENTBUS_SUB_PORT" in said


@pytest.mark.patience
def test_ports_of_two_proxies(run: Run, proxy: EventBusProxy) -> None:
    """Two ports that are right, but not of one proxy, let no subscription through."""
    with EventBusProxy(pub_port=0, sub_port=0) as other:
        done = run("check", *at(proxy.pub_port, other.sub_port), "--connect-timeout=1")
    assert "are they the two ports of one proxy?" in failure(done, "round trip")


def test_a_web_server(run: Run, proxy: EventBusProxy, web_port: int) -> None:
    """A peer that is not ZeroMQ is recognised by its answer."""
    said = failure(run("check", *at(proxy.pub_port, web_port), "--connect-timeout=1"), "protocol")
    assert re.search(rf'the program at tcp://127.0.0.1:{web_port} does not speak ZeroMQ: it answers "HTTP/1.0 501', said)
    assert "set EVENTBUS_SUB_PORT" in said


@pytest.mark.process
def test_a_proxy_that_hangs(run: Run) -> None:
    """A proxy that is stopped lets connections in, and says nothing: restart it."""
    with running_proxy() as proxy:
        proxy.stop()
        done = run("check", *at(proxy.pub_port, proxy.sub_port), "--connect-timeout=0.2")
        proxy.go_on()
    said = failure(done, "protocol")
    assert (
        f"the program at tcp://127.0.0.1:{proxy.pub_port} accepts the connection, but does not answer within 0.2 s" in said
    )
    assert "it hangs" in said


def test_a_firewall(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing comes back at all, the firewall is named. A full backlog drops packets as one does."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for filling in (first, second):
            filling.setblocking(False)
            filling.connect_ex(address)
        done = run("check", *at(address[1], 1), "--connect-timeout=0.2")
    said = failure(done, "publishers")
    assert f"tcp://127.0.0.1:{address[1]} does not answer within 0.2 s" in said
    assert "firewall" in said


def test_keys_that_are_missing_or_too_much(run: Run, proxy: EventBusProxy, encrypted: EventBusProxy) -> None:
    """A client without keys where they are needed, or with keys where they are not, learns so at once."""
    assert failure(run("check", *ports(encrypted)), "security").startswith("encryption required: ")
    assert failure(run("check", *ports(proxy), **KEYS), "security").startswith("not encrypted: ")


@pytest.mark.patience
def test_wrong_keys(run: Run, encrypted: EventBusProxy) -> None:
    """Keys that do not fit are named with their owner."""
    stranger = pair()
    for variables, expected in (
        (KEYS | {SERVER_KEY: stranger.public}, "wrong server key: "),
        (KEYS | {SECRET_KEY: stranger.secret}, "unknown client: "),
    ):
        assert failure(run("check", *ports(encrypted), **variables), "security").startswith(expected)


def test_another_mechanism(run: Run) -> None:
    """A proxy with a mechanism that this package has not is named."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sockets = [context.socket(kind) for kind in (zmq.XSUB, zmq.XPUB)]
    for made in sockets:
        made.set(zmq.PLAIN_SERVER, 1)
    found = [made.bind_to_random_port("tcp://127.0.0.1") for made in sockets]
    assert "wants the security mechanism PLAIN" in failure(run("check", *at(found[0], found[1])), "security")
    context.destroy(linger=0)


def test_settings_come_first(run: Run) -> None:
    """Bad settings are status 2 on stderr, each by its variable, and nothing is tried."""
    done = run("check", EVENTBUS_PUB_PORT="many", **{SECRET_KEY: CLIENT.secret})
    assert (done.returncode, done.stdout) == (2, "")
    assert "EVENTBUS_PUB_PORT='many'" in done.stderr
    done = run("check", **{SECRET_KEY: CLIENT.secret})
    assert (done.returncode, done.stdout) == (2, "")
    assert SERVER_KEY in done.stderr
