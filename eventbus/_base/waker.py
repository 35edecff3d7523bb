"""Waking a thread that polls sockets."""

import socket


class Waker:
    """A pair of connected sockets, of which the waiting thread polls one. Any thread may wake, also a signal handler."""

    def __init__(self) -> None:
        self._waiting, self._waking = socket.socketpair()
        self._waiting.setblocking(False)
        self._waking.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to poll for input."""
        return self._waiting.fileno()

    def wake(self) -> None:
        """Make the descriptor readable."""
        try:
            self._waking.send(b"\0")
        except BlockingIOError:
            pass  # full, and so readable already
        except OSError:
            pass  # closed meanwhile: nobody waits any more

    def drain(self) -> None:
        """Make the descriptor unreadable again."""
        try:
            while self._waiting.recv(4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Give both descriptors back."""
        self._waiting.close()
        self._waking.close()
