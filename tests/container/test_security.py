"""Keys in a service: from its variables to the client, and to the proxy that its container runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from dependency_injector import providers

from eventbus import EventBusProxy, InvalidSettings, UnknownClient
from eventbus.container import lifespan
from eventbus.settings import EventBusSettings
from eventbus.transports.memory import MemoryHub, MemoryTransport
from tests.container.support import TOPIC, App, free_ports, leaving_nothing
from tests.keys import listed, pair, write_list
from tests.support import event, eventually

PROXY, CLIENT = pair("proxy"), pair("client")

type Set = Callable[..., None]


@pytest.fixture
def secure(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Sets variables of security."""

    def do(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"EVENTBUS_SECURITY__{name.upper()}", str(value))

    return do


@pytest.fixture
def fixed_ports(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Free ports, to which the variables lead."""
    ports = free_ports()
    monkeypatch.setenv("EVENTBUS_HOST", "127.0.0.1")
    monkeypatch.setenv("EVENTBUS_PUB_PORT", str(ports[0]))
    monkeypatch.setenv("EVENTBUS_SUB_PORT", str(ports[1]))
    monkeypatch.setenv("EVENTBUS_CONNECT_TIMEOUT", "20")
    return ports


def works(app: App) -> None:
    """An event goes from the app's client through the proxy to its handler."""
    app.bus.client().emit_event(event(1), TOPIC)
    eventually(lambda: app.listener().values == [1])


def refusal() -> str:
    """The reason why the service does not start; nothing is left open."""
    with leaving_nothing(), pytest.raises(InvalidSettings) as caught, lifespan(App()):
        raise AssertionError("it must not start")
    return str(caught.value)


def test_keys_reach_the_client(fixed_ports: tuple[int, int], secure: Set, tmp_path: Path) -> None:
    """The keys in the variables let the service in to a proxy that asks for them."""
    (tmp_path / "secret").write_text(CLIENT.secret)
    allow_list = write_list(tmp_path / "allow.toml", listed("service", CLIENT.public))
    secure(server_public_key=PROXY.public, secret_key_file=tmp_path / "secret")
    with EventBusProxy("127.0.0.1", *fixed_ports, settle=0, secret_key=PROXY.secret, allow_list=allow_list):
        with lifespan(App()) as app:
            works(app)
        write_list(allow_list, listed("another", pair().public))
        with leaving_nothing(), pytest.raises(UnknownClient, match="allow-list"), lifespan(App()):
            raise AssertionError("it must not start")


@pytest.mark.parametrize("rules", [{}, {"publish": ["my_service"], "subscribe": ["my_service"]}])
def test_an_embedded_proxy_with_keys(
    fixed_ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch, secure: Set, tmp_path: Path, rules: dict[str, list[str]]
) -> None:
    """A service that runs the proxy has one secret key for both: the proxy's, which is on the allow-list too."""
    monkeypatch.setenv("EVENTBUS_EMBEDDED_PROXY", "true")
    allow_list = write_list(tmp_path / "allow.toml", listed("itself", PROXY.public, **rules))
    secure(server_public_key=PROXY.public, secret_key=PROXY.secret, allow_list=allow_list)
    with leaving_nothing(), lifespan(App()) as app:
        works(app)


@pytest.mark.parametrize("embedded", ["false", "true"])
def test_disabled(monkeypatch: pytest.MonkeyPatch, secure: Set, embedded: str) -> None:
    """With EVENTBUS_ENABLED=false no key is asked for or read, and no proxy is started, whatever half of them is set."""
    monkeypatch.setenv("EVENTBUS_ENABLED", "false")
    monkeypatch.setenv("EVENTBUS_EMBEDDED_PROXY", embedded)
    secure(secret_key_file="/nowhere", allow_list="/nowhere")
    with leaving_nothing(), lifespan(App()) as app:
        app.bus.client().emit_event(event(1), TOPIC)


def test_another_transport_needs_no_keys(secure: Set) -> None:
    """Messages of a transport of its own are not encrypted: a test of the service needs no keys."""
    secure(secret_key_file="/nowhere")
    app = App()
    app.bus.transport.override(providers.Object(MemoryTransport(MemoryHub())))
    with lifespan(app):
        works(app)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"secret_key": CLIENT.secret}, "set EVENTBUS_SECURITY__SERVER_PUBLIC_KEY"),
        ({"server_public_key": PROXY.public}, "set EVENTBUS_SECURITY__SECRET_KEY_FILE"),
        ({"server_public_key": PROXY.public, "secret_key_file": "/nowhere"}, "from /nowhere: No such file"),
        ({"server_public_key": PROXY.public, "secret_key": "short"}, "EVENTBUS_SECURITY__SECRET_KEY: it is no CURVE key"),
        ({"secret_kye": CLIENT.secret}, "did you mean EVENTBUS_SECURITY__SECRET_KEY"),
    ],
)
def test_bad_keys_stop_the_start(at_proxy: EventBusProxy, secure: Set, values: dict[str, str], expected: str) -> None:
    """Keys that are bad, missing by half or misspelt stop the start and say what to set: nothing goes unencrypted."""
    secure(**values)
    assert expected in refusal()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"secret_key": PROXY.secret}, "a proxy with a secret key needs an allow-list"),
        ({"secret_key": PROXY.secret, "allow_list": "/nowhere"}, "cannot read the allow-list /nowhere"),
        ({"secret_key": CLIENT.secret, "allow_list": "/nowhere"}, "is that one of a client?"),
    ],
)
def test_an_embedded_proxy_that_cannot_encrypt(
    fixed_ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch, secure: Set, values: dict[str, str], expected: str
) -> None:
    """A service whose embedded proxy lacks an allow-list or its own key does not start, and the error says what to set."""
    monkeypatch.setenv("EVENTBUS_EMBEDDED_PROXY", "true")
    secure(server_public_key=PROXY.public, **values)
    assert expected in refusal()


def test_settings_in_code(fixed_ports: tuple[int, int], tmp_path: Path) -> None:
    """Settings that are overridden by ones with arguments bring their keys along."""
    allow_list = write_list(tmp_path / "allow.toml", listed("itself", PROXY.public))
    security = {"server_public_key": PROXY.public, "secret_key": PROXY.secret, "allow_list": allow_list}
    app = App()
    app.bus.settings.override(providers.Object(EventBusSettings(embedded_proxy=True, security=security)))
    with leaving_nothing(), lifespan(app):
        works(app)
