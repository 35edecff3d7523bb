"""Checking whether gevent or eventlet has replaced Python's threads, because waits inside of libzmq block their thread."""

import _thread
import select
import socket

from eventbus.errors import MonkeyPatched


def require_native_threads() -> None:
    """Return if threads are native, as receiving needs them. Any thread may call it.

    Raises:
        MonkeyPatched: a library has replaced them. A wait inside of libzmq would block all of its greenlets.
    """
    library = _replaced_by()
    if library is not None:
        raise MonkeyPatched(library)


def require_usable_threads() -> None:
    """Return if threads are good enough for emitting, which waits in `select.poll` and locks only. Any thread may call it.

    Raises:
        MonkeyPatched: a library other than gevent has replaced them, or gevent has without replacing `select.poll`.
    """
    library = _replaced_by()
    if library is not None and not (library == "gevent" and _library_of(getattr(select, "poll", None)) == "gevent"):
        raise MonkeyPatched(library)


def _replaced_by() -> str | None:
    threads = _library_of(_thread.start_new_thread)
    if threads != "_thread":
        return threads
    # eventlet removes `select.poll`, and descriptors of its sockets cannot be used without it.
    if "eventlet" in (_library_of(socket.socket), _library_of(select.select)):
        return "eventlet"
    return None


def _library_of(thing: object) -> str:
    """Return the package that a function or class comes from."""
    return str(getattr(thing, "__module__", "")).partition(".")[0]
