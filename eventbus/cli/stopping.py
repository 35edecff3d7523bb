"""The signals that end a command which runs until it is stopped: that is its end, not a failure."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def until_stopped() -> Iterator[None]:
    """Leave the block at SIGTERM or Ctrl-C, in the main thread, so that the command cleans up and ends with status 0.

    After that the previous handlers are back: a second signal ends a command that hangs. It is an exception, not an event to
    set, because a signal handler that sets an event waits forever for a lock that the code it has interrupted holds. SIGINT
    stays ignored if it is, as in a background process of a shell.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)
