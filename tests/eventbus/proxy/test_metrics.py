"""The metrics of a proxy, as Prometheus scrapes them from a process."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import zmq
from prometheus_client import CollectorRegistry

from eventbus import ClientKeys
from eventbus.options import ProxyOptions
from eventbus.proxy import Connections, HandshakeFailures, ProxyHealth, Traffic
from eventbus.proxy.metrics import ProxyCollector
from eventbus.proxy.process import command
from tests.faults import zmtp
from tests.keys import listed, pair, write_list
from tests.support import PATIENCE, RawPeers, eventually
from tests.web import ask, scrape

PROXY, GUEST, STRANGER = pair("proxy"), pair("guest"), pair("stranger")

RUNNING = "eventbus_proxy_running"
MESSAGES_IN, MESSAGES_OUT = (f'eventbus_proxy_messages_total{{direction="{way}"}}' for way in ("in", "out"))
BYTES_IN, BYTES_OUT = (f'eventbus_proxy_bytes_total{{direction="{way}"}}' for way in ("in", "out"))
PUBLISHERS, SUBSCRIBERS = (f'eventbus_proxy_connections{{role="{role}"}}' for role in ("publisher", "subscriber"))
SUBSCRIPTIONS = "eventbus_proxy_subscriptions"
REFUSED = "eventbus_proxy_refused_total"
NO_DETAIL, PROTOCOL, AUTH = (
    f'eventbus_proxy_handshake_failures_total{{reason="{reason}"}}' for reason in ("no_detail", "protocol", "auth")
)


def denied(client: str) -> str:
    return f'eventbus_proxy_denied_total{{client="{client}"}}'


class Served(NamedTuple):
    """A process that runs a proxy and serves its metrics."""

    process: subprocess.Popen[str]
    pub_port: int
    sub_port: int
    url: str

    def await_samples(self, **expected: float) -> dict[str, float]:
        """The samples, as soon as these are among them."""
        samples: dict[str, float] = {}

        def are_there() -> bool:
            samples.update(scrape(self.url))
            return expected.items() <= samples.items()

        eventually(are_there, PATIENCE, f"{expected}")
        return samples


@contextmanager
def served(secret_key: str | None = None, allow_list: Path | None = None) -> Iterator[Served]:
    arguments = command(
        "127.0.0.1",
        0,
        0,
        ProxyOptions(max_event_bytes=100_000, secret_key=secret_key, allow_list=allow_list),
        http_port=0,
    )
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, close_fds=False) as process:
        try:
            assert process.stdout is not None
            printed = process.stdout.readline()
            pub_port, sub_port = map(int, re.findall(r" port (\d+)", printed))
            yield Served(process, pub_port, sub_port, printed.split()[-1])
        finally:
            process.kill()


@pytest.fixture(scope="module")
def plain() -> Iterator[Served]:
    """One without keys."""
    with served() as running:
        yield running


@pytest.fixture(scope="module")
def allow_list(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rules = {"publish": ["plant"], "subscribe": ["plant"]}
    return write_list(tmp_path_factory.mktemp("lists") / "allow.toml", listed('the "guest"', GUEST.public, **rules))


@pytest.fixture(scope="module")
def ruled(allow_list: Path) -> Iterator[Served]:
    """One that enforces rules."""
    with served(PROXY.secret, allow_list) as running:
        yield running


def throw(port: int, content: bytes) -> None:
    with zmtp.connect(port) as connection:
        zmtp.finish(connection, content)


# A process


@pytest.mark.process
def test_traffic_subscriptions_and_connections(plain: Served) -> None:
    """Traffic is counted in messages and bytes; open connections are shown, without the proxy's own, until they close."""
    before = plain.await_samples(**{PUBLISHERS: 0, SUBSCRIBERS: 0, SUBSCRIPTIONS: 0, RUNNING: 1})
    assert ask(f"{plain.url}/readyz").status == 200
    with closing(RawPeers(plain.pub_port, plain.sub_port)) as raw:
        one, two = raw.subscriber(b"plant"), raw.subscriber(b"plant")
        publisher = raw.publisher(b"plant")
        for _ in range(10):
            publisher.send_multipart([b"plant", b"12345"])
        for subscriber in (one, two):
            assert [subscriber.recv_multipart() for _ in range(10)] == [[b"plant", b"12345"]] * 10
        samples = plain.await_samples(**{PUBLISHERS: 1, SUBSCRIBERS: 2, SUBSCRIPTIONS: 1})
        for name in (MESSAGES_IN, MESSAGES_OUT):
            assert samples[name] - before[name] == 10
        for name in (BYTES_IN, BYTES_OUT):
            assert samples[name] - before[name] == 100
    after = plain.await_samples(**{PUBLISHERS: 0, SUBSCRIBERS: 0, SUBSCRIPTIONS: 0})
    assert after[MESSAGES_IN] == samples[MESSAGES_IN]
    assert after["eventbus_proxy_uptime_seconds"] > before["eventbus_proxy_uptime_seconds"]


@pytest.mark.process
def test_the_process_is_shown(plain: Served) -> None:
    """The metrics of the process itself have their usual names; the process imports no pydantic."""
    assert scrape(plain.url)["process_resident_memory_bytes"] > 1_000_000
    maps = Path(f"/proc/{plain.process.pid}/maps").read_text()
    assert "libzmq" in maps
    assert "pydantic" not in maps


@pytest.mark.process
def test_a_scanner_shows(plain: Served) -> None:
    """Connections that do not speak ZeroMQ are counted as failed handshakes, and none of them stays open."""
    before = plain.await_samples(**{PUBLISHERS: 0, SUBSCRIBERS: 0})
    for port in (plain.pub_port, plain.sub_port):
        for _ in range(10):
            throw(port, zmtp.SIGNATURE)
            throw(port, zmtp.GREETING.replace(b"NULL", b"GSAP"))
    expected = {NO_DETAIL: before[NO_DETAIL] + 20, PROTOCOL: before[PROTOCOL] + 20}
    plain.await_samples(**expected, **{PUBLISHERS: 0, SUBSCRIBERS: 0})
    assert ask(f"{plain.url}/readyz").status == 200


@pytest.mark.process
def test_a_proxy_with_rules(ruled: Served) -> None:
    """A proxy with keys and rules is live and ready, and counts refusals and denials, but not its own connections."""
    assert ask(f"{ruled.url}/healthz").status == ask(f"{ruled.url}/readyz").status == 200
    samples = ruled.await_samples(**{RUNNING: 1, PUBLISHERS: 0, SUBSCRIBERS: 0, REFUSED: 0, AUTH: 0, SUBSCRIPTIONS: 0})
    assert not [name for name in samples if name.startswith("eventbus_proxy_denied_total")]
    with (
        closing(RawPeers(ruled.pub_port, ruled.sub_port, ClientKeys(PROXY.public, GUEST.secret))) as guest,
        closing(RawPeers(ruled.pub_port, ruled.sub_port, ClientKeys(PROXY.public, STRANGER.secret))) as stranger,
    ):
        stranger._socket(zmq.XPUB).connect(stranger.pub_endpoint)
        subscriber, publisher = guest.subscriber(b"plant"), guest.publisher(b"")
        for topic in (b"other", b"plant"):
            publisher.send_multipart([topic, b"{}"])
        assert subscriber.recv_multipart()[0].startswith(b"plant")
        expected = {REFUSED: 1, AUTH: 1, PUBLISHERS: 1, SUBSCRIBERS: 1, SUBSCRIPTIONS: 1, denied('the "guest"'): 1}
        samples = ruled.await_samples(**expected)
        assert (samples[MESSAGES_IN], samples[MESSAGES_OUT]) == (2, 1)
    ruled.await_samples(**{PUBLISHERS: 0, SUBSCRIBERS: 0, SUBSCRIPTIONS: 0})
    assert ask(f"{ruled.url}/readyz").status == 200


# The collector


HEALTH = ProxyHealth(
    running=True,
    uptime=12.5,
    from_publishers=Traffic(5, 100),
    to_subscribers=Traffic(4, 80),
    refused=3,
    denied={"ann": 1, "bob": 2},
    connections=Connections(7, 9),
    handshake_failures=HandshakeFailures(1, 2, 3),
    subscriptions=11,
    disconnected={"slow": 4, "unfinished": 5},
    dropped=7,
)


def samples_of(collector: ProxyCollector) -> dict[tuple[str, str], float]:
    """The samples by their name and the values of their labels."""
    registry = CollectorRegistry()
    registry.register(collector)
    return {
        (sample.name.removeprefix("eventbus_proxy_"), "".join(sample.labels.values())): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_what_is_collected() -> None:
    """Each fact of a proxy's health is a sample; a message has two frames."""
    assert samples_of(ProxyCollector(lambda: HEALTH, own=lambda: Connections(1, 1))) == {
        ("running", ""): 1,
        ("uptime_seconds", ""): 12.5,
        ("subscriptions", ""): 11,
        ("connections", "publisher"): 6,
        ("connections", "subscriber"): 8,
        ("messages_total", "in"): 2,
        ("messages_total", "out"): 2,
        ("bytes_total", "in"): 100,
        ("bytes_total", "out"): 80,
        ("handshake_failures_total", "no_detail"): 1,
        ("handshake_failures_total", "protocol"): 2,
        ("handshake_failures_total", "auth"): 3,
        ("refused_total", ""): 3,
        ("disconnected_total", "slow"): 4,
        ("disconnected_total", "unfinished"): 5,
        ("dropped_total", "slow"): 7,
        ("denied_total", "ann"): 1,
        ("denied_total", "bob"): 2,
    }


def test_a_connection_of_its_own_that_has_just_ended() -> None:
    """The number of connections is never negative."""
    samples = samples_of(ProxyCollector(ProxyHealth, own=lambda: Connections(1, 1)))
    assert samples["connections", "publisher"] == samples["connections", "subscriber"] == 0
    assert samples["running", ""] == 0
