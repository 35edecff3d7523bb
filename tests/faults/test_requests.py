"""Requests when the proxy is away or comes back, and in processes that fork.

A part is a program of its own: ``python -m tests.faults.test_requests PUB_PORT SUB_PORT``.
"""

import sys
from threading import Thread
from typing import Any

import pytest

from eventbus import ClientState, EventBusProxy, ForkedClient, NotConnected
from eventbus.errors import NoAnswer
from tests.faults.programs import end_within, expect_resources, resources, run_program
from tests.faults.proxies import running_proxy
from tests.faults.test_fork import fork
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, event, eventually, in_thread

pytestmark = pytest.mark.process

TOPIC, UPDATED = MyEventTopic.my_service, MyEventType.updated


def client(pub_port: int, sub_port: int, **options: Any) -> Bus:
    return Bus(MyEvent, "127.0.0.1", pub_port, sub_port, connect_timeout=PATIENCE, **options)


def serve(service: Bus) -> None:
    service.subscribe(TOPIC)
    service.attach_callback(UPDATED, lambda found: found.value, topic=TOPIC, answers=True)
    service.start_consumer()


def answered(asking: Bus, value: float) -> bool:
    """Whether a request is answered soon: what was under way when a connection ended may be lost."""
    try:
        return asking.request(event(value), topic=TOPIC, reply=float, timeout=1.0) == value
    except NoAnswer:
        return False


def test_a_proxy_that_comes_back() -> None:
    """A request that is made while the proxy is away waits for it; when it is back, all goes on, with the same clients."""
    with running_proxy() as proxy, client(proxy.pub_port, proxy.sub_port) as service:
        serve(service)
        with client(proxy.pub_port, proxy.sub_port) as asking:
            assert asking.request(event(0), topic=TOPIC, reply=float, timeout=PATIENCE) == 0
            for number in range(1, 3):
                proxy.kill()
                eventually(lambda: asking.state is service.state is ClientState.DEGRADED)
                with in_thread(lambda number=number: wait_for_answer(asking, number)):  # type: ignore[misc] # mypy cannot infer a lambda's default
                    proxy.start()
            with pytest.raises(NoAnswer):
                asking.request(event(event_type=MyEventType.stopped), topic=TOPIC, reply=float, timeout=0.1)


def wait_for_answer(asking: Bus, value: float) -> None:
    eventually(lambda: answered(asking, value), PATIENCE)


def test_a_client_that_gives_up(ports: tuple[int, int]) -> None:
    """When the client gives up to reconnect, whoever waits for an answer is told at once."""
    proxy = EventBusProxy("127.0.0.1", *ports)
    proxy.start()
    try:
        with client(*ports, reconnect_attempts=2) as service, client(*ports, reconnect_attempts=2) as asking:
            service.subscribe(TOPIC)
            service.start_consumer()  # and answers nothing

            def ask() -> None:
                with pytest.raises(NotConnected):
                    asking.request(event(), topic=TOPIC, reply=float, timeout=3_600)

            with in_thread(ask):
                eventually(lambda: service.stats().received == 1)
                proxy.stop()
    finally:
        proxy.stop()


def test_fork(proxy: EventBusProxy) -> None:
    """A child's request on an inherited client raises ForkedClient, one on its own is answered; the parent goes on."""
    run_program("tests.faults.test_requests", proxy.pub_port, proxy.sub_port)


def program(pub_port: int, sub_port: int) -> None:
    before = resources()
    with client(pub_port, sub_port) as service, client(pub_port, sub_port) as asking:
        serve(service)
        assert asking.request(event(1), topic=TOPIC, reply=float, timeout=PATIENCE) == 1

        def in_child() -> None:
            with pytest.raises(ForkedClient):
                asking.request(event(2), topic=TOPIC, reply=float, timeout=PATIENCE)
            asking.close()
            with client(pub_port, sub_port) as own:
                assert own.request(event(3), topic=TOPIC, reply=float, timeout=PATIENCE) == 3

        def ask() -> None:
            for number in range(50):
                wait_for_answer(asking, number)

        asking_thread = Thread(target=ask)  # while the process is forked
        asking_thread.start()
        fork(in_child)
        asking_thread.join(PATIENCE)
        assert asking.request(event(4), topic=TOPIC, reply=float, timeout=PATIENCE) == 4
    expect_resources(before)


if __name__ == "__main__":
    end_within(0)
    program(int(sys.argv[1]), int(sys.argv[2]))
