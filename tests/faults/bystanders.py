"""A proxy in a process of its own, and well-behaved clients at it, whom no fault of others may concern."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Event

from tests.support import Bus, MyEvent, MyEventTopic, MyEventType, RawPeers, Recorder, event, eventually, in_thread

TOPIC = MyEventTopic.my_service
_PACE = 0.002  # seconds between two events
_BOUND = 64 * 1024  # KiB that the proxy may grow by


def memory_of(process: int) -> int:
    """The memory that a process uses, in KiB."""
    [line] = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1])


class Bystanders:
    """A client that emits, and two that must get all of it and nothing else: a client of ours and a plain subscriber.

    Both receivers subscribe to everything, so nothing passes by unseen.
    """

    def __init__(self, process: subprocess.Popen[str], pub_port: int, sub_port: int, stack: ExitStack) -> None:
        self.process = process
        self.pub_port, self.sub_port = pub_port, sub_port
        self._emitter, self._receiver = (
            stack.enter_context(Bus(MyEvent, "127.0.0.1", pub_port, sub_port, connect_timeout=20)) for _ in range(2)
        )
        self._receiver.subscribe(None)
        self._recorder = Recorder()
        for event_type in MyEventType:
            self._receiver.attach_callback(event_type, self._recorder)
        self._receiver.start_consumer()
        self._plain = stack.enter_context(closing(RawPeers(pub_port, sub_port))).subscriber(b"")
        self._emitter.connect(20)  # by now both subscriptions have come to it
        self._sent = 0
        self._memory = memory_of(process.pid)

    @contextmanager
    def undisturbed(self, strange: Sequence[list[bytes]] | None = ()) -> Iterator[None]:
        """Emit good events while the block runs; then check that they have arrived, in order, and no other has.

        Args:
            strange: messages that are no events: the plain subscriber gets them too, and nothing else, and the client counts
                them as rejected; None: whatever they are.
        """
        first, rejected = self._sent, self.rejected
        done = Event()

        def emit() -> None:
            while not done.wait(_PACE):
                self._emit()

        with in_thread(emit):
            eventually(lambda: self._sent > first)
            try:
                yield
            finally:
                done.set()
        self._emit()
        assert self.process.poll() is None
        good = [float(number) for number in range(first, self._sent)]
        assert self._recorder.wait_for(self._sent)[first:] == good
        messages = self._read_plain()
        assert [value_in(message) for message in messages if is_event(message)] == good
        if strange is not None:
            assert [message for message in messages if not is_event(message)] == list(strange)
            assert self.rejected == rejected + len(strange)
        eventually(lambda: memory_of(self.process.pid) < self._memory + _BOUND)
        assert self._emitter.is_connected()
        assert self._receiver.is_connected()

    @property
    def rejected(self) -> int:
        """The number of messages that the client has rejected until now."""
        return self._receiver.stats().rejected

    def _emit(self) -> None:
        self._emitter.emit_event(event(self._sent), TOPIC)
        self._sent += 1

    def _read_plain(self) -> list[list[bytes]]:
        """The messages that the plain subscriber has received, up to the last good event."""
        messages: list[list[bytes]] = []
        while not messages or not is_event(messages[-1]) or value_in(messages[-1]) != self._sent - 1:
            messages.append(self._plain.recv_multipart())
        return messages


def is_event(message: list[bytes]) -> bool:
    return len(message) == 2 and message[0] == b"my_service"


def value_in(message: list[bytes]) -> float:
    return MyEvent.model_validate_json(message[1]).value
