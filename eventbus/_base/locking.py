"""Taking a lock that may not be to be had, in code that signal handlers interrupt."""

from collections.abc import Callable
from threading import RLock
from time import sleep

_PATIENCE_S = 0.02
_PAUSE_S = 0.001


def call_locked(lock: RLock, timeout: float, action: Callable[[], object]) -> bool:
    """Call the action while this thread holds a reentrant lock; return False if the lock was not to be had in time.

    After `acquire`, a signal handler may raise before it is known whether that has succeeded, and the lock would stay taken.
    Here it is free then. Without a timeout, ``with lock`` is as good.

    Args:
        lock: the lock.
        timeout: seconds; 0: do not wait; -1: for ever.
        action: what to do.
    """
    is_owned: Callable[[], bool] = lock._is_owned  # type: ignore[attr-defined] # as threading.Condition does
    if is_owned():  # by the code that a signal handler has interrupted in this thread
        action()
        return True
    try:
        taken = lock.acquire(timeout=timeout)
        if taken:
            action()
            lock.release()
    except BaseException:
        if is_owned():
            lock.release()
        raise
    return taken


def call_with_both(outer: RLock, inner: RLock, action: Callable[[], object]) -> None:
    """Call the action while this thread holds two reentrant locks; it does not wait for the inner one with the outer one.

    A signal handler may want the outer one while the code that it has interrupted holds the inner one.
    """
    while True:
        with outer:
            if call_locked(inner, _PATIENCE_S, action):
                return
        sleep(_PAUSE_S)
