"""The fork registry: objects that own threads, locks or sockets renew them in each forked child."""

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """An object that belongs to the process that made it."""

    def _after_fork(self) -> None:
        """Make new locks, because those that other threads held stay locked, and leave the parent's sockets alone.

        Called in the child before any other code of this package. It must not wait, log or raise.
        """


_registered: dict[int, weakref.ref[Forkable]] = {}  # by identity, in order of registration


def register_fork(thing: Forkable) -> None:
    """Call `thing._after_fork()` in each forked child while the object lives. Idempotent; any thread may call it.

    Objects are called in the order of their registration, so a client comes after its transport. The registry keeps no
    object alive.
    """
    key = id(thing)

    def forget(_: object) -> None:
        _registered.pop(key, None)

    _registered.setdefault(key, weakref.ref(thing, forget))


def unregister_fork(thing: Forkable) -> None:
    """Undo `register_fork`. Idempotent; any thread may call it."""
    _registered.pop(id(thing), None)


def _renew_all() -> None:
    for reference in list(_registered.values()):
        thing = reference()
        if thing is not None:
            thing._after_fork()


os.register_at_fork(after_in_child=_renew_all)
