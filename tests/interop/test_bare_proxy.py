"""At libzmq's own proxy: our client's proof of its path, and both clients' recovery from a restart."""

import pytest

from eventbus import ClientState
from tests.faults.proxies import ProxyProcess, running_proxy
from tests.interop.support import (
    LONGER,
    OLD_LONGER,
    OLD_TOPIC,
    TOPIC,
    New,
    Old,
    Ports,
    new,
    new_event,
    numbers_in,
    old,
)
from tests.support import PATIENCE, eventually


def at(proxy: ProxyProcess) -> Ports:
    return Ports(proxy.pub_port, proxy.sub_port)


def test_connect_is_proof(bare: Ports) -> None:
    """The first event of a client that has connected reaches an original client that was there before."""
    with old(bare, OLD_TOPIC) as receiver, new(bare) as first:
        first.introduce(receiver.events)
        for number in range(10):
            with new(bare) as sender:
                sender.emit(new_event(number))
                assert numbers_in(receiver.events, number + 1) == list(range(number + 1))


def test_subscribe_is_proof(bare: Ports) -> None:
    """Events emitted after `subscribe` has returned arrive, though original clients have subscribed to the same topics."""
    with old(bare, OLD_TOPIC), old(bare, OLD_LONGER), new(bare) as client:
        client.client.start_consumer()
        for number, topic in enumerate((TOPIC, LONGER)):
            client.client.subscribe(topic)
            client.emit(new_event(number), topic)
        assert numbers_in(client.events, 2) == [0, 1]


@pytest.mark.process
def test_the_echo_sees_a_proxy_that_hangs() -> None:
    """A plain proxy that hangs is noticed while original clients share it, and what was emitted meanwhile reaches them."""
    with (
        running_proxy(plain=True) as proxy,
        old(at(proxy), OLD_TOPIC) as receiver,
        new(at(proxy), echo_interval=0.05, echo_timeout=0.1) as client,
    ):
        client.introduce(receiver.events)
        proxy.stop()
        eventually(lambda: client.client.state is ClientState.DEGRADED, PATIENCE)
        client.emit(new_event(1))
        proxy.go_on()
        client.client.wait_ready(PATIENCE)
        client.emit(new_event(2))
        assert numbers_in(receiver.events, 2) == [1, 2]


@pytest.mark.process
@pytest.mark.parametrize("plain", [True, False])
def test_a_restart(plain: bool) -> None:
    """Killed and started again, a proxy of either kind passes on, in order, what clients of both kinds emit from then on."""
    with running_proxy(plain=plain) as proxy, old(at(proxy), OLD_TOPIC) as one, new(at(proxy), TOPIC) as other:
        peers: list[Old | New] = [one, other]
        for attempt in range(2):
            if attempt:
                proxy.kill()
                eventually(lambda: other.client.state is ClientState.DEGRADED, PATIENCE)
                proxy.start()
                other.client.wait_ready(PATIENCE)
            for sender in peers:
                for receiver in peers:
                    sender.introduce(receiver.events)
            for sender in peers:
                for number in range(100):
                    sender.emit(sender.event(1_000 * attempt + number))
                for receiver in peers:
                    came = numbers_in(receiver.events, 100)
                    assert came == [1_000 * attempt + number for number in range(100)]
                    receiver.events.clear()
