"""A client whose process has no descriptors left: nothing aborts, errors say so, and all is well once there are some again.

The limit is a process's own, so each case is a program: ``python -m tests.faults.test_client_descriptors``.
"""

import os
import resource
import subprocess
import sys
from contextlib import suppress

import pytest

from eventbus import ClientState, DescriptorsExhausted, EventBusProxy, ProxyUnreachable
from tests.faults.programs import end_within, expect_resources, ignore_log, resources, run_program
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, event, eventually

pytestmark = pytest.mark.process

TOPIC = MyEventTopic.my_service
LIMIT = 256  # descriptors of a process
ENOUGH = 17  # that the first client of a process needs
ENOUGH_FOR_ANOTHER = 10


def test_connect_with_too_few_descriptors(proxy: EventBusProxy) -> None:
    """connect() raises DescriptorsExhausted, before libzmq would abort, and works again when there are enough."""
    run_program("tests.faults.test_client_descriptors", "connect", proxy.pub_port, proxy.sub_port)


def test_connect_of_another_client_with_too_few_descriptors(proxy: EventBusProxy) -> None:
    """It does the same in a process that has a client already, which goes on as before."""
    run_program("tests.faults.test_client_descriptors", "connect another", proxy.pub_port, proxy.sub_port)


def test_async_callbacks_with_too_few_descriptors(proxy: EventBusProxy) -> None:
    """An `async` callback whose event loop cannot be made is a failure of that callback; the next event has it called."""
    run_program("tests.faults.test_client_descriptors", "run callbacks", proxy.pub_port, proxy.sub_port)


def test_reconnecting_without_descriptors(ports: tuple[int, int]) -> None:
    """A client whose proxy restarts meanwhile is DEGRADED until there are descriptors, then READY with what it has held."""
    with EventBusProxy("127.0.0.1", *ports) as proxy:
        command = [sys.executable, "-W", "error", "-m", "tests.faults.test_client_descriptors", "reconnect"]
        with subprocess.Popen(
            [*command, *map(str, ports)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            assert program.stdout.readline() == "exhausted\n"
            proxy.stop()
            assert program.stdout.readline() == "alone\n"
            with EventBusProxy("127.0.0.1", *ports):
                print("restarted", file=program.stdin, flush=True)
                assert program.stdout.readline() == "received\n"
                assert program.wait(PATIENCE) == 0


# The program.


class Descriptors:
    """Takes the descriptors of this process, but for a few, until the end of the block."""

    def __init__(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        self._taken: list[int] = []

    def take_all_but(self, free: int) -> None:
        with suppress(OSError):
            while True:
                self._taken.append(os.dup(0))
        for _ in range(free):
            os.close(self._taken.pop())

    def give_back(self) -> None:
        while self._taken:
            os.close(self._taken.pop())


def connect(client: Bus, descriptors: Descriptors, needed: int) -> None:
    """Connect with ever more descriptors, until there are enough; each time again when there are."""
    before = resources()
    errors = []
    for free in range(needed + 1):
        descriptors.take_all_but(free)
        try:
            client.connect(PATIENCE if free == needed else 0.5)
        except DescriptorsExhausted as error:
            errors.append(str(error))
        finally:
            descriptors.give_back()
        assert len(errors) + (free == needed) == free + 1, free
        client.connect(PATIENCE)
        check(client, free)
        client.close()
        expect_resources(before)
    assert "ulimit -n" in errors[0]


def connect_another(client: Bus, another: Bus, descriptors: Descriptors) -> None:
    """Do so in a process that has a client."""
    with another:
        connect(client, descriptors, ENOUGH_FOR_ANOTHER)
        check(another, -1)


def run_callbacks(client: Bus, descriptors: Descriptors) -> None:
    """Call an `async` callback while no loop can be made, and again when one can."""
    values = []

    async def callback(received: MyEvent) -> None:
        values.append(received.value)

    client.attach_callback(MyEventType.updated, callback)
    with client:
        client.start_consumer()
        descriptors.take_all_but(0)
        client.emit_event(event(1), TOPIC)
        eventually(lambda: client.stats().handler_errors)
        descriptors.give_back()
        client.emit_event(event(2), TOPIC)
        eventually(lambda: values == [2])


def reconnect(client: Bus, descriptors: Descriptors) -> None:
    """Lose the proxy while there are no descriptors."""
    with client:
        client.start_consumer()
        descriptors.take_all_but(0)
        print("exhausted", flush=True)
        eventually(lambda: client.state is ClientState.DEGRADED)
        descriptors.take_all_but(0)  # those of the lost connections, before there is a proxy to use them for
        print("alone", flush=True)
        sys.stdin.readline()
        client.emit_event(event(1), TOPIC)
        for _ in range(20):
            descriptors.take_all_but(0)
            with pytest.raises(ProxyUnreachable):
                client.wait_ready(0.02)
        descriptors.give_back()
        client.wait_ready(PATIENCE)
        received = client.recv_event(PATIENCE)
        assert received is not None
        assert received.value == 1, "what was held"
        print("received", flush=True)


def check(client: Bus, value: float) -> None:
    """See to it that the client receives what it emits."""
    client.emit_event(event(value), TOPIC)
    while (received := client.recv_event(PATIENCE)) is not None and received.value != value:
        pass  # what another one has emitted
    assert received is not None


def main(action: str, pub_port: int, sub_port: int) -> None:
    end_within(0)
    ignore_log()
    client, another = (Bus(MyEvent, "127.0.0.1", pub_port, sub_port, topics=["my_service"]) for _ in range(2))
    descriptors = Descriptors()
    match action:
        case "connect":
            connect(client, descriptors, ENOUGH)
        case "connect another":
            connect_another(client, another, descriptors)
        case "run callbacks":
            run_callbacks(client, descriptors)
        case "reconnect":
            reconnect(client, descriptors)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
