"""The fixtures that all tests share."""

import gc
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from eventbus import EventBusProxy
from tests.container.support import free_ports
from tests.support import Bus, MyEventTopic, RawPeers, client_of

# Always the same examples, so that a run tells something about the code and nothing about luck or the machine's speed.
settings.register_profile(
    "deterministic", derandomize=True, deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("deterministic")
# Hypothesis also tries constants of the modules that happen to be loaded: these depend on the tests that ran before.
with suppress(ImportError):  # it is not in its public interface
    from hypothesis.internal.conjecture import providers

    providers._get_local_constants = lambda: providers._local_constants

# A shell without job control, and `nohup`, have signals ignored by what they start, and so by the programs of tests.
for _signal, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--soak SECONDS`: how long tests that search for rare failures go on; each for its own short time without it."""
    parser.addoption("--soak", type=float, metavar="SECONDS", help="how long each test that takes `soak_seconds` goes on")


SLOW = ("process", "namespace", "terminal", "browser", "docs", "patience")
"""The needs that make a test slow, by the mark that says so; see pyproject.toml."""

_processes: list[str] = []  # what has started one, since the test began
sys.addaudithook(
    lambda event, _: _processes.append(event) if event in ("subprocess.Popen", "os.fork", "os.posix_spawn") else None
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark slow tests as such, and give tests that soak the time they need."""
    soak = config.getoption("soak")
    for item in items:
        if item.path.is_relative_to(config.rootpath / "tests" / "docs"):
            item.add_marker(pytest.mark.docs)
        if any(item.get_closest_marker(name) for name in SLOW):
            item.add_marker(pytest.mark.slow)
        if soak is not None and "soak_seconds" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(soak + 60))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Look no more at what is there now: many tests have garbage collected, each of which would take a tenth of a second."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Forget what other tests have started; what the fixtures of this one start, also those that it shares, is its own."""
    _processes.clear()
    return (yield)


@pytest.fixture(autouse=True)
def _starts_no_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test without a mark starts no process: what needs one is slow, and `-m "not slow"` is to be fast."""
    yield
    if request.node.get_closest_marker("slow") is None:
        assert not _processes, f"{request.node.name} starts a process: mark it with `process`, or what else it needs"


@pytest.fixture
def soak_seconds(pytestconfig: pytest.Config) -> float | None:
    """The seconds to go on searching for rare failures; None: as long as the test itself thinks right."""
    seconds: float | None = pytestconfig.getoption("soak")
    return seconds


@pytest.fixture
def proxy() -> Iterator[EventBusProxy]:
    """A running proxy on free ports."""
    with EventBusProxy(pub_port=0, sub_port=0) as running:
        yield running


@pytest.fixture
def connected(proxy: EventBusProxy) -> Iterator[Callable[..., Bus]]:
    """Makes connected clients of the proxy, with the options that it is given, and closes them at the end."""
    with ExitStack() as stack:

        def make(**options: Any) -> Bus:
            client = client_of(proxy, **options)
            client.connect(20)
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def bus(connected: Callable[..., Bus]) -> Bus:
    """A connected client that is subscribed to `my_service`."""
    client = connected()
    client.subscribe(MyEventTopic.my_service)
    return client


@pytest.fixture
def raw(proxy: EventBusProxy) -> Iterator[RawPeers]:
    """Plain ZeroMQ peers at the proxy."""
    peers = RawPeers(proxy.pub_port, proxy.sub_port)
    yield peers
    peers.close()


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two ports on which proxies can be started one after the other."""
    return free_ports()


@pytest.fixture
def dead_ports() -> Iterator[tuple[int, int]]:
    """Two ports that nobody listens on, and that nobody else gets meanwhile."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        yield one.getsockname()[1], two.getsockname()[1]
