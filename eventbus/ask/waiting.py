"""Who waits for answers: a thread or a task, for one answer or for several. No sockets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from eventbus._base.clock import clock
from eventbus._base.deadline import Deadline
from eventbus.errors import EventBusError
from eventbus.wire.headers import Headers
from eventbus.wire.requests import MORE

if TYPE_CHECKING:
    import asyncio


class Answer(NamedTuple):
    """A message that has come as an answer.

    Attributes:
        headers: its headers.
        payload: as it came, perhaps compressed.
    """

    headers: Headers
    payload: bytes


class Waiting:
    """Takes the answers to one request, and wakes who waits for them when there are enough.

    One thread at a time calls `take` and `fail`.

    Args:
        enough: how many answers end the waiting, and no more are kept; 0: there is no waiting; None: it goes on until its
            time is up.
        loop: the event loop of the task that waits; None: a thread waits.

    Attributes:
        answers: those that have come and were not taken away, oldest first.
        failure: makes the error to raise, if no more answers can come; else None.
    """

    __slots__ = ("_left", "_locked", "answers", "failure", "future", "loop")

    def __init__(self, enough: int | None = 1, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.answers: deque[Answer] = deque()
        self.failure: Callable[[], EventBusError] | None = None
        self._left = enough
        self.loop = loop
        self.future: asyncio.Future[None] | None = None if loop is None else loop.create_future()
        if loop is None:  # a bare lock wakes a thread in half the time that a Condition takes
            self._locked = Lock()
            self._locked.acquire()
        if enough is not None and enough <= 0:
            self.wake()

    def take(self, answer: Answer) -> bool:
        """Keep an answer. Returns whether there are enough: `wake` is to be called then, and nothing more will be taken."""
        if self._left is None:
            self.answers.append(answer)
            return False
        if self._left > 0:
            self.answers.append(answer)
            self._left -= 1
        return self._left <= 0

    def fail(self, failure: Callable[[], EventBusError]) -> None:
        """End the waiting with an error; `wake` is to be called then."""
        self.failure = failure

    def wake(self) -> None:
        """Wake who waits: the thread, or on its event loop the task."""
        if self.future is None:
            try:  # noqa: SIM105 # the thread that wakes waits for what this one does until it waits itself
                self._locked.release()
            except RuntimeError:  # it is awake already
                pass
        elif not self.future.done():
            self.future.set_result(None)

    def wait(self, deadline: Deadline) -> None:
        """Block until there are enough answers, until it has failed, or until the time is up."""
        clock().acquire(self._locked, deadline.left())

    def raise_failure(self) -> None:
        """Raise the error, if no more answers can come."""
        if self.failure is not None:
            raise self.failure()


class WaitingForParts(Waiting):
    """Takes all messages of one answer that comes in several; a thread waits for each. See `Asker.parts`."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(enough=None)

    def wait(self, deadline: Deadline) -> None:
        """Block until there is a part, until it has failed, or until the time is up."""
        while not self.answers and self.failure is None and not deadline.passed():
            # By the system's clock, because these are questions of clients themselves, not of services. It returns at once
            # if a part has come that was taken away already.
            self._locked.acquire(timeout=deadline.left())

    def take(self, answer: Answer) -> bool:
        """Keep a part, and wake the thread. Returns whether it is the last one."""
        super().take(answer)
        self.wake()
        return MORE not in answer.headers
