"""Calling what may hang, one call at a time."""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from threading import Event, Thread

import pytest

from eventbus._base.single_flight import SingleFlight
from tests.support import PATIENCE, eventually, is_waiting, run_threads


def test_it_returns_and_raises_as_the_function_does() -> None:
    """The next call is a new one, also after an error; the function may raise TimeoutError itself."""
    results: Iterator[int | Exception] = iter([1, ValueError("bad"), TimeoutError("of the function"), 2])

    def function() -> int:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    flight = SingleFlight(function)
    assert flight.call(PATIENCE) == 1
    with pytest.raises(ValueError, match="bad"):
        flight.call(PATIENCE)
    with pytest.raises(TimeoutError, match="of the function"):
        flight.call(PATIENCE)
    assert flight.call(PATIENCE) == 2


def test_who_calls_meanwhile_shares_the_answer() -> None:
    """A function that hangs is called once, however many call; each waits for its own timeout."""
    go, calls = Event(), []

    def function() -> int:
        calls.append(1)
        go.wait(PATIENCE)
        return 7

    flight = SingleFlight(function)
    for _ in range(3):
        with pytest.raises(TimeoutError, match=r"no answer within 0\.01 s"):
            flight.call(0.01)
    answers: list[int] = []
    threads = [Thread(target=lambda: answers.append(flight.call(PATIENCE))) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: all(is_waiting(thread) for thread in threads))
    go.set()
    for thread in threads:
        thread.join()
    assert (answers, calls) == ([7] * 4, [1])


def test_cancelling_frees_those_who_wait() -> None:
    """After cancel() each waiting and each later caller gets CancelledError."""
    go = Event()
    flight = SingleFlight(lambda: go.wait(PATIENCE))
    errors: list[BaseException] = []

    def use(number: int) -> None:
        if number == 0:
            eventually(lambda: flight._pending is not None)
            flight.cancel()
        else:
            try:
                flight.call(PATIENCE)
            except CancelledError as error:
                errors.append(error)

    run_threads(5, use)
    go.set()
    assert len(errors) == 4
    with pytest.raises(CancelledError):
        flight.call(PATIENCE)
