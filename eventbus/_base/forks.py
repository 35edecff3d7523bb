"""What forked children need: each object that has threads, locks or sockets of its process is told of the fork."""

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """What belongs to the process that made it."""

    def _after_fork(self) -> None:
        """Leave the parent's threads and sockets alone, and make new locks: those that other threads held stay locked.

        Called in the child before any other code of ours. It must not wait, log or raise.
        """


_registered: dict[int, weakref.ref[Forkable]] = {}  # by identity, in the order in which they came


def register_fork(thing: Forkable) -> None:
    """Call `thing._after_fork()` in each forked child, as long as it lives. Idempotent; any thread may call it.

    Things are told in the order in which they were registered: a client after its transport.
    """
    key = id(thing)

    def forget(_: object) -> None:
        _registered.pop(key, None)

    _registered.setdefault(key, weakref.ref(thing, forget))


def unregister_fork(thing: Forkable) -> None:
    """Undo `register_fork`. Idempotent; any thread may call it."""
    _registered.pop(id(thing), None)


def _tell_child() -> None:
    for reference in list(_registered.values()):
        thing = reference()
        if thing is not None:
            thing._after_fork()


os.register_at_fork(after_in_child=_tell_child)
