"""Decides when a batch counts as handled: its callbacks have returned, and its coroutines have ended. No sockets."""

from collections.abc import Callable
from threading import RLock


class Confirmation:
    """Confirms one batch. It begins with one part, the dispatching itself; any thread may begin and end parts.

    Args:
        confirm: called once all parts have ended, if each of them was handled.
        give_back: called then if not.
    """

    def __init__(self, confirm: Callable[[], object], give_back: Callable[[], object] = lambda: None) -> None:
        self._confirm = confirm
        self._give_back = give_back
        self._lock = RLock()  # a signal handler may interrupt a call in the same thread
        self._parts = 1
        self._handled = True

    def begin(self) -> None:
        """Begin another part: a coroutine that was started."""
        with self._lock:
            self._parts += 1

    def end(self, *, handled: bool) -> None:
        """End a part.

        Args:
            handled: whether it was handled, perhaps with an error; False: it was dropped or cancelled, and is to come again.
        """
        with self._lock:
            self._parts -= 1
            self._handled = self._handled and handled
            parts = self._parts
        if parts == 0:
            (self._confirm if self._handled else self._give_back)()
