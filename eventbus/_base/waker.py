"""Waking a thread that polls sockets."""

import socket


class Waker:
    """A pair of connected sockets; the waiting thread polls one of them. Any thread and any signal handler may wake it."""

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
            pass  # the buffer is full, so the descriptor is readable
        except OSError:
            pass  # another thread has closed it

    def drain(self) -> None:
        """Make the descriptor unreadable again."""
        try:
            while self._waiting.recv(4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close both descriptors."""
        self._waiting.close()
        self._waking.close()
