"""Knowing when nothing is under way in a service that is tested, and naming what is."""

import asyncio
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import Any, NamedTuple

from eventbus.errors import NotSettled
from eventbus.testing._clock import ManualClock
from eventbus.testing._tested_bus import TestedBus
from eventbus.testing._transport import FaultyHub, RecordingTransport

_GRACE_S = 0.2  # for a handler under a time limit, which may be one that hangs on purpose
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.01  # between two looks

_OURS = str(Path(__file__).parents[1])
_INSTALLED = _OURS, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")


class Work(NamedTuple):
    """Something that is under way.

    Attributes:
        what: for people.
        worker: the thread or the task that does it; None: nobody yet.
    """

    what: str
    worker: Thread | asyncio.Task[Any] | None = None

    def __str__(self) -> str:
        frame = None if self.worker is None else _frame_of_service(self.worker)
        if frame is None:
            return self.what
        code = frame.f_code
        return f"{self.what} ({code.co_qualname}, {Path(code.co_filename).name}:{frame.f_lineno})"


class Settling:
    """Waits until nothing is under way. One thread at a time uses it.

    Args:
        clock: what handlers and services wait by. It fires what is due.
        hub: connects the buses.
        buses: those of the container; may grow until they are looked at.
        patience: the seconds that something may be under way.
    """

    def __init__(self, clock: ManualClock, hub: FaultyHub, buses: Sequence[TestedBus], patience: float) -> None:
        self._clock = clock
        self._hub = hub
        self._buses = buses
        self._patience = patience

    def settle(self, given_up: Event | None = None) -> bool:
        """Return True when nothing is under way; False as soon as it is given up.

        Raises:
            NotSettled: something did not end in time.
        """
        now = self._clock.system_time
        end, grace = now() + self._patience, now() + _GRACE_S
        pause, before = _FIRST_PAUSE_S, self._hub.activity
        while given_up is None or not given_up.is_set():
            activity = self._hub.activity
            if activity != before or any(map(_goes_on, self._clock.limited_tasks())):
                before, grace = activity, now() + _GRACE_S
            under_way = list(self._under_way(limited=now() < grace))
            if not under_way and activity == self._hub.activity:
                if not self._clock.fire_next(self._clock.now()):
                    return True
                grace, pause = now() + _GRACE_S, _FIRST_PAUSE_S
                continue
            if now() > end:
                raise NotSettled(self._patience, "; ".join(sorted({*map(str, under_way)})) or "events")
            self._clock.pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        return False

    def _under_way(self, *, limited: bool) -> Iterator[Work]:
        """The work under way.

        Args:
            limited: whether those count that wait for something else up to a time limit.
        """
        clock = self._clock
        yield from map(_thread, clock.threads_under_way())
        sleeping, resting = clock.sleeping_threads(), clock.sleeping_tasks()
        if limited:
            yield from map(_thread, clock.limited_threads())
            yield from (Work(f"task {one.get_name()}", one) for one in clock.limited_tasks())
        else:
            sleeping |= clock.limited_threads()
            resting |= clock.limited_tasks()
        if clock.is_waking_tasks():
            yield Work("a task that was woken")
        if self._hub.is_anything_waited_for():
            yield Work("a message on its way")
        clients = [client for bus in self._buses for client in (bus.client, bus.stand_in) if client is not None]
        for client in clients:
            parts, transport = client._parts, client._transport
            assert isinstance(transport, RecordingTransport)
            if (consumer := parts.consumer.thread) not in (None, *sleeping) and not transport.is_idle():
                yield Work("a handler, or an event on its way to one", consumer)
            inbox = None if parts.inbox is None else parts.inbox._transport
            if isinstance(inbox, RecordingTransport) and not inbox.is_idle():
                yield Work("an answer on its way")
            if parts.is_about_to_ask:
                yield Work("a request that is about to be sent")
            if parts.buffer.is_about_to_be_read():
                yield Work("an event in the receive buffer, for which a thread waits")
            yield from (Work("a handler", one) for one in parts.dispatcher.calls_under_way(sleeping))
            yield from (Work("an async handler", one) for one in parts.dispatcher.coroutines.under_way(resting))
        yield from map(_thread, clock.threads_under_way())  # again: one may have gone on because a coroutine has ended


def _thread(thread: Thread) -> Work:
    return Work(f"thread {thread.name}", thread)


def _goes_on(task: asyncio.Task[Any]) -> bool:
    """Whether a task runs, or will as soon as its loop comes to it: it waits for nothing."""
    return not task.done() and getattr(task, "_fut_waiter", None) is None  # there is no public way to ask


def _frame_of_service(worker: Thread | asyncio.Task[Any]) -> FrameType | None:
    """The innermost frame that runs neither code of this package nor code that is installed."""
    for frame in _frames_of(worker):
        if not frame.f_code.co_filename.startswith(_INSTALLED) and not frame.f_code.co_filename.startswith("<"):
            return frame
    return None


def _frames_of(worker: Thread | asyncio.Task[Any]) -> Iterator[FrameType]:
    """The frames, the innermost first."""
    if isinstance(worker, Thread):
        frame = sys._current_frames().get(worker.ident or 0)
        while frame is not None:
            yield frame
            frame = frame.f_back
        return
    frames: list[FrameType] = []
    awaited: object = worker.get_coro()
    while isinstance(frame := getattr(awaited, "cr_frame", None), FrameType):
        frames.append(frame)
        awaited = getattr(awaited, "cr_await", None)
    yield from reversed(frames)
