"""Whatever is thrown at the proxy's ports, no event comes out of it, every good event arrives, everybody lives on."""

import random
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.faults import zmtp
from tests.faults.bystanders import Bystanders
from tests.support import PATIENCE, eventually, json_of, proxy_process

pytestmark = pytest.mark.process

CONNECTIONS = 300

PORTS = ["pub", "sub"]
# At the port for publishers one misbehaves as a publisher does, at the other as a subscriber does.
KINDS = {"pub": b"PUB", "sub": b"SUB"}


def tls_hello() -> bytes:
    """The first bytes of a TLS connection."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="plant.example").do_handshake()
    return outgoing.read()


OTHER_PROTOCOLS = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: plant.example\r\n\r\n",
    "tls": tls_hello(),
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    # A peer of 2011: its identity, and a message of two frames, each with its length, flags and content.
    "zmtp-1": b"\x01\0" + b"\x0b\x01my_service" + bytes([len(json_of(-1)) + 1, 0]) + json_of(-1),
    "zmtp-2": zmtp.SIGNATURE + b"\x01\x01\0\0" + b"\x01\x0amy_service\0" + bytes([len(json_of(-1))]) + json_of(-1),
    "half-a-greeting": zmtp.GREETING[:32],
    "unknown-mechanism": zmtp.GREETING.replace(b"NULL", b"GSAP"),
    "no-handshake": zmtp.GREETING + zmtp.message([b"my_service", json_of(-1)]),
    "wrong-kind": zmtp.GREETING + zmtp.ready(b"REQ") + zmtp.message([b"my_service", json_of(-1)]),
}

MALFORMED = {
    "empty-frame": [b""],
    "1-frame": [b"my_service"],
    "3-frames": [b"my_service", json_of(-1), b"{}"],
    "1000-frames": [b"my_service", *[b"{}"] * 999],
}


def throw(port: int, content: bytes) -> None:
    with zmtp.connect(port) as connection:
        zmtp.finish(connection, content)


@pytest.fixture(scope="module")
def bystanders() -> Iterator[Bystanders]:
    """The same for all tests: nothing that was thrown before may have left a trace."""
    with proxy_process() as (process, pub_port, sub_port), ExitStack() as stack:
        yield Bystanders(process, pub_port, sub_port, stack)


@pytest.fixture(params=PORTS)
def port(request: pytest.FixtureRequest, bystanders: Bystanders) -> int:
    return bystanders.pub_port if request.param == "pub" else bystanders.sub_port


@pytest.fixture
def kind(port: int, bystanders: Bystanders) -> bytes:
    return KINDS["pub" if port == bystanders.pub_port else "sub"]


def test_random_bytes(bystanders: Bystanders, port: int) -> None:
    """Random bytes on hundreds of connections."""
    source = random.Random(port == bystanders.pub_port)
    with bystanders.undisturbed():
        for _ in range(CONNECTIONS):
            throw(port, source.randbytes(source.randint(1, 2_000)))


@pytest.mark.parametrize("content", OTHER_PROTOCOLS.values(), ids=OTHER_PROTOCOLS.keys())
def test_other_protocols(bystanders: Bystanders, port: int, content: bytes) -> None:
    """Beginnings of another protocol, of an older version of this one, and of this one out of turn."""
    with bystanders.undisturbed():
        throw(port, content)


@pytest.mark.patience
def test_a_half_greeting_that_is_held_open(bystanders: Bystanders) -> None:
    """A peer that begins a greeting and does not go on is disconnected within seconds, on both ports."""
    with bystanders.undisturbed(), ExitStack() as stack:
        start = time.monotonic()
        held = [stack.enter_context(zmtp.connect(port)) for port in (bystanders.pub_port, bystanders.sub_port)]
        for connection in held:
            connection.sendall(zmtp.SIGNATURE)
        for connection in held:
            zmtp.await_end(connection)
        assert time.monotonic() - start < 2 * PATIENCE


def test_random_bytes_after_the_greeting(bystanders: Bystanders, port: int) -> None:
    """Random bytes where the handshake should follow."""
    source = random.Random(2)
    with bystanders.undisturbed():
        for _ in range(CONNECTIONS):
            throw(port, zmtp.GREETING + source.randbytes(source.randint(1, 2_000)))


def test_random_bytes_after_the_handshake(bystanders: Bystanders, port: int, kind: bytes) -> None:
    """Random bytes where frames should follow may be frames by chance, and so messages or subscriptions, but no event."""
    source = random.Random(3)
    with bystanders.undisturbed(strange=None):
        for _ in range(CONNECTIONS):
            with zmtp.peer(port, kind) as connection:
                zmtp.finish(connection, source.randbytes(source.randint(1, 2_000)))


@pytest.mark.parametrize("size", [2**30, 2**63 - 1, 2**64 - 1], ids=["1-GB", "largest-signed", "largest"])
def test_a_frame_that_announces_too_much(bystanders: Bystanders, port: int, kind: bytes, size: int) -> None:
    """A peer that announces a huge frame is disconnected at once, before anything is kept for it."""
    with bystanders.undisturbed(), zmtp.peer(port, kind) as connection:
        connection.sendall(zmtp.announcement(size) + bytes(1_000))
        zmtp.await_end(connection)


def test_a_subscription_that_is_too_long(bystanders: Bystanders) -> None:
    """A peer that subscribes to far more bytes than a topic has is disconnected: it would cost many times its size."""
    with bystanders.undisturbed(), zmtp.peer(bystanders.sub_port, b"SUB") as connection:
        connection.sendall(zmtp.frame(b"\x01" + bytes(10_000)))
        zmtp.await_end(connection)


def test_a_message_that_is_cut_off(bystanders: Bystanders, port: int, kind: bytes) -> None:
    """A peer that leaves in the middle of a message has sent none of it, wherever it breaks off."""
    whole = zmtp.message([b"my_service", json_of(-1)])
    with bystanders.undisturbed():
        for length in range(1, len(whole)):
            with zmtp.peer(port, kind) as connection:
                zmtp.finish(connection, whole[:length])


@pytest.mark.parametrize("frames", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_messages(bystanders: Bystanders, frames: list[bytes]) -> None:
    """Valid messages that are no events pass, as any message does; the client counts each as rejected."""
    # Who is subscribed to everything cannot tell where in a batch a message ends before a malformed one has come.
    strange = [[b"{}"], *[frames] * 3]
    with bystanders.undisturbed(strange), zmtp.peer(bystanders.pub_port, b"PUB") as connection:
        for message in strange:
            before = bystanders.rejected
            connection.sendall(zmtp.message(message))
            eventually(lambda before=before: bystanders.rejected > before)  # type: ignore[misc] # a lambda's default


@pytest.mark.parametrize("frames", MALFORMED.values(), ids=MALFORMED.keys())
def test_messages_against_the_stream(bystanders: Bystanders, frames: list[bytes]) -> None:
    """Messages that a subscriber sends reach no other subscriber."""
    with bystanders.undisturbed(), zmtp.peer(bystanders.sub_port, b"SUB") as connection:
        zmtp.finish(connection, zmtp.message(frames) * 3)


@pytest.mark.parametrize("frames", [[b"\0nobody"], [b"\x01", b"\x01x", b"\0"], [b"\x01\xff\0\xfe"]])
def test_odd_subscriptions(bystanders: Bystanders, frames: list[bytes]) -> None:
    """Ending subscriptions that nobody has, or making and leaving odd ones, takes nothing from anybody."""
    with bystanders.undisturbed(), zmtp.peer(bystanders.sub_port, b"SUB") as connection:
        zmtp.finish(connection, zmtp.message(frames) * 3)
