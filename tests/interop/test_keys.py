"""An original client, which has no keys, at a proxy that wants some: refused and counted, and no other client notices."""

from pathlib import Path

from tests.interop.support import (
    OLD_TOPIC,
    TOPIC,
    Ports,
    new,
    new_event,
    numbers_in,
    old,
    old_event,
)
from tests.security import Guarded
from tests.support import PATIENCE, eventually


def test_without_keys(tmp_path: Path) -> None:
    """The original client gets nothing in and nothing out, the proxy counts it, and clients with keys go on."""
    with Guarded(tmp_path) as guarded:
        ports = Ports(guarded.proxy.pub_port, guarded.proxy.sub_port)
        keys = guarded.admit("service")
        with new(ports, TOPIC, keys=keys) as client, old(ports, OLD_TOPIC) as stranger:

            def refused() -> bool:
                failures = guarded.proxy.health().handshake_failures
                return failures.no_detail + failures.protocol >= 2  # its two sockets; libzmq may try again, or not

            eventually(refused, PATIENCE)
            stranger.emit(old_event(1))
            for number in range(10):
                client.emit(new_event(number))
            assert numbers_in(client.events, 10) == list(range(10))
            assert (stranger.client.messages, client.client.stats().rejected) == ([], 0)
            assert client.client.is_connected()
