"""Asking something that may take its time, or hang, in a thread."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from threading import Lock, Thread


class SingleFlight[Answer]:
    """Asks something in a thread of its own, once at a time: who asks meanwhile shares the answer.

    So what hangs costs one thread, however often it is asked.
    """

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self._ask = ask
        self._lock = Lock()
        self._pending: Future[Answer] | None = None
        self._given_up = False

    def answer(self, timeout: float) -> Answer:
        """Return the answer, or raise what asking raises; TimeoutError if it takes longer."""
        with self._lock:
            if self._given_up:
                raise CancelledError
            pending = self._pending
            if pending is None or pending.done():
                pending = Future()
                Thread(target=self._find, args=(pending,), name="eventbus-probe", daemon=True).start()
                self._pending = pending
        try:
            return pending.result(timeout)
        except TimeoutError:
            if pending.done():  # it is what asking has raised
                raise
            raise TimeoutError(f"no answer within {timeout:g} s") from None

    def give_up(self) -> None:
        """Let nobody wait any more."""
        with self._lock:
            self._given_up = True
            if self._pending is not None:
                self._pending.cancel()

    def _find(self, pending: Future[Answer]) -> None:
        with suppress(InvalidStateError):  # nobody waits any more
            try:
                pending.set_result(self._ask())
            except InvalidStateError:
                raise
            except BaseException as error:
                pending.set_exception(error)
