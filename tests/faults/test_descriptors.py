"""A process without descriptors: nothing aborts it, what runs goes on, and what waited comes when some are free again."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

import pytest

from eventbus import EventBusProxy
from tests.container.support import free_ports
from tests.faults import zmtp
from tests.support import Bus, MyEvent, MyEventTopic, event, eventually, run_script

pytestmark = pytest.mark.process

# What each script begins with.
EXHAUST = """
import os, resource, sys
from threading import Event
from eventbus import DescriptorsExhausted, EventBusProxy
from tests.support import Bus, MyEvent, MyEventTopic, MyEventType, Recorder, event, eventually

resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
taken = []

def exhaust():
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass

def release(count):
    for _ in range(count):
        os.close(taken.pop())

def said(word):
    print(word, flush=True)

def told(word):
    assert sys.stdin.readline().strip() == word
"""

START_PROXIES = """
for left in range(30):
    exhaust()
    release(left)
    proxy = EventBusProxy(pub_port=0, sub_port=0)
    try:
        proxy.start()
    except DescriptorsExhausted:
        said("refused")
    else:
        said("started")
        assert proxy.health().running
        proxy.stop()
"""

RUN_PROXY = """
recorder = Recorder()
with EventBusProxy(pub_port=0, sub_port=0) as proxy:
    with Bus(MyEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port, connect_timeout=20) as client:
        client.subscribe(MyEventTopic.my_service)
        client.attach_callback(MyEventType.updated, recorder)
        client.start_consumer()
        exhaust()
        said(f"{proxy.pub_port} {proxy.sub_port}")
        told("go on")
        for number in range(100):
            client.emit_event(event(number), MyEventTopic.my_service)
        assert recorder.wait_for(100) == list(range(100))
        assert proxy.health().running
        said("went on")
        told("release")
        release(len(taken))
        assert recorder.wait_for(101)[-1] == 100
        said("heard the newcomer")
"""

RUN_CLIENT = """
recorder = Recorder()
with Bus(MyEvent, "127.0.0.1", *map(int, sys.argv[1:]), connect_timeout=20) as client:
    client.subscribe(MyEventTopic.my_service)
    client.attach_callback(MyEventType.updated, recorder)
    client.start_consumer()
    exhaust()
    said("exhausted")
    told("lost")
    eventually(lambda: not client.is_connected())
    exhaust()
    said("alone")
    told("back")
    pause = Event()
    for _ in range(100):  # it tries to come back many times meanwhile
        exhaust()  # its connections have given theirs back
        pause.wait(0.005)
    release(len(taken))
    eventually(client.is_connected)
    client.connect()
    client.emit_event(event(1), MyEventTopic.my_service)
    assert recorder.wait_for(1) == [1]
    said("came back")
"""


class Script:
    """A running script that exchanges progress lines with the test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._output = self._stream(process.stdout)
        self._input = self._stream(process.stdin)

    def says(self) -> str:
        line = self._output.readline().strip()
        assert line, f"ended with status {self._process.wait(20)}"
        return line

    def tell(self, word: str) -> None:
        print(word, file=self._input, flush=True)

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream


@contextmanager
def running(code: str, *arguments: object) -> Iterator[Script]:
    """The script, which must come to its end with the block."""
    with subprocess.Popen(
        [sys.executable, "-c", EXHAUST + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Script(process)
            assert process.wait(20) == 0
        finally:
            process.kill()


def wait_until_greeted(port: int, newcomer: socket.socket) -> None:
    """A proxy may end a newcomer while few descriptors are free: it comes once more then, as sockets of ZeroMQ do."""
    waiting = [newcomer]

    def is_greeted() -> bool:
        with suppress(ConnectionError), waiting.pop() if waiting else zmtp.connect(port) as connection:
            connection.settimeout(20)
            return len(connection.recv(len(zmtp.SIGNATURE), socket.MSG_WAITALL)) == len(zmtp.SIGNATURE)
        return False

    eventually(is_greeted, 30)


def test_a_proxy_starts_or_says_why_not() -> None:
    """However few descriptors are left, starting a proxy works or raises DescriptorsExhausted; it never aborts."""
    done = run_script(EXHAUST + START_PROXIES)
    assert done.returncode == 0
    outcomes = done.stdout.split()
    assert len(outcomes) == 30
    refused = outcomes.count("refused")
    assert outcomes == ["refused"] * refused + ["started"] * (30 - refused)
    assert 16 <= refused <= 21


def test_a_proxy_whose_process_has_none_left() -> None:
    """The proxy and the client in one such process go on. Newcomers wait, and get in when descriptors are free again."""
    with running(RUN_PROXY) as script:
        pub_port, sub_port = map(int, script.says().split())
        with zmtp.connect(pub_port) as one, zmtp.connect(sub_port) as two:
            script.tell("go on")
            assert script.says() == "went on"
            for connection in (one, two):
                connection.setblocking(False)
                with pytest.raises(BlockingIOError):
                    connection.recv(1)
            script.tell("release")
            wait_until_greeted(pub_port, one)
            wait_until_greeted(sub_port, two)
        with Bus(MyEvent, "127.0.0.1", pub_port, sub_port, connect_timeout=20) as newcomer:
            newcomer.emit_event(event(100), MyEventTopic.my_service)
            assert script.says() == "heard the newcomer"


def test_a_client_whose_process_has_none_left() -> None:
    """A client that loses its proxy in such a process lives on, and comes back when descriptors are free again."""
    ports = free_ports()
    with EventBusProxy("127.0.0.1", *ports) as proxy, running(RUN_CLIENT, *ports) as script:
        assert script.says() == "exhausted"
        proxy.stop()
        script.tell("lost")
        assert script.says() == "alone"
        with EventBusProxy("127.0.0.1", *ports):
            script.tell("back")
            assert script.says() == "came back"
