"""Waiting for conditions and for threads, each with a deadline."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread
from time import monotonic

PATIENCE_S = 20.0  # only ever used up by a failing test
_MIN_PAUSE_S, _MAX_PAUSE_S = 0.0005, 0.005  # between two looks: what is true soon is seen soon


def eventually(condition: Callable[[], object], timeout: float = PATIENCE_S, what: str = "") -> None:
    """Return as soon as the condition is true; fail if it is not in time."""
    end = monotonic() + timeout
    never, pause = Event(), _MIN_PAUSE_S
    while not condition():
        if monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}")
        never.wait(pause)
        pause = min(2 * pause, _MAX_PAUSE_S)


def run_threads(count: int, action: Callable[[int], object]) -> None:
    """Call `action(0)` to `action(count - 1)`, each in a thread, at once; raise the first of their exceptions."""
    errors: list[BaseException] = []
    threads = [_begun(partial(action, number), errors) for number in range(count)]
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "a thread has not finished"
    if errors:
        raise errors[0]


@contextmanager
def in_thread(
    action: Callable[[], object], what: Callable[[], str] = lambda: "the thread has not finished"
) -> Iterator[Thread]:
    """Run the action in a thread; at the end of the block it must have come to an end, without an exception.

    Args:
        action: what it raises is raised.
        what: says what has failed if it does not end in time, as that stands then.
    """
    errors: list[BaseException] = []
    thread = _begun(action, errors)
    yield thread
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), what()
    if errors:
        raise errors[0]


def end_in_time(action: Callable[[], object], what: Callable[[], str]) -> None:
    """Run the action in a thread, because it may hang; see `in_thread`."""
    with in_thread(action, lambda: f"not within {PATIENCE_S:g} s: {what()}"):
        pass


def _begun(action: Callable[[], object], errors: list[BaseException]) -> Thread:
    """Start the action in a thread; what it raises is added to the errors."""

    def run() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    return thread


def is_waiting(thread: Thread) -> bool:
    """Whether the thread waits for a condition at this moment, unless that is the start of another thread."""
    frame = sys._current_frames().get(thread.ident or 0)
    names: list[str] = []
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names[:1] == ["wait"] and "start" not in names
