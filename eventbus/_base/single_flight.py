"""Calling a function that may hang, in a thread, with a timeout."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from threading import Lock, Thread


class SingleFlight[Answer]:
    """Calls a function in a thread, one call at a time; concurrent callers share its answer. Any thread may use it.

    A function that hangs thus costs one thread, however often it is called.
    """

    def __init__(self, function: Callable[[], Answer]) -> None:
        self._function = function
        self._lock = Lock()
        self._pending: Future[Answer] | None = None
        self._cancelled = False

    def call(self, timeout: float) -> Answer:
        """Return what the function returns, or raise what it raises.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: the function takes longer.
            CancelledError: `cancel` was called.
        """
        with self._lock:
            if self._cancelled:
                raise CancelledError
            pending = self._pending
            if pending is None or pending.done():
                pending = Future()
                Thread(target=self._run, args=(pending,), name="eventbus-single-flight", daemon=True).start()
                self._pending = pending
        try:
            return pending.result(timeout)
        except TimeoutError:
            if pending.done():  # the function itself has raised it
                raise
            raise TimeoutError(f"no answer within {timeout:g} s") from None

    def cancel(self) -> None:
        """Make the callers that wait, and all later ones, raise CancelledError. Idempotent."""
        with self._lock:
            self._cancelled = True
            if self._pending is not None:
                self._pending.cancel()

    def _run(self, pending: Future[Answer]) -> None:
        try:
            answer = self._function()
        except BaseException as error:
            with suppress(InvalidStateError):  # cancelled meanwhile
                pending.set_exception(error)
        else:
            with suppress(InvalidStateError):
                pending.set_result(answer)
