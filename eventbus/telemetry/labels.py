"""Values of labels and attributes: printable, and bounded in number, although strangers may choose the names."""

from collections.abc import Callable
from functools import cached_property
from threading import RLock

from eventbus._base.forks import register_fork
from eventbus._base.printable import printable
from eventbus.wire.frames import MAX_TOPIC_BYTES

LIMIT = 100
OTHER = "_OTHER"  # the name of OpenTelemetry for values that are on no list; a topic may be called `other`


class Bounded[Value](dict[str, Value]):
    """A dict that makes a value for each of the first names that are looked up, and one value for all other names.

    A known name costs the lookup of a dict. Any thread may look up.

    Args:
        make: makes the value of a name; its argument is printable and at most 255 characters long, or `OTHER`.
        limit: the number of names that have a value of their own.
    """

    def __init__(self, make: Callable[[str], Value], limit: int = LIMIT) -> None:
        super().__init__()
        self._make = make
        self._limit = limit
        self._adding = RLock()  # a signal handler may emit
        register_fork(self)

    def _after_fork(self) -> None:
        self._adding = RLock()

    def __missing__(self, name: str) -> Value:
        with self._adding:
            if name not in self:
                if len(self) >= self._limit:
                    return self._others
                self[name] = self._make(printable(name, MAX_TOPIC_BYTES))
            return self[name]

    @cached_property
    def _others(self) -> Value:
        return self._make(OTHER)


def error_type(error: BaseException) -> str:
    """Return the error's class with its module, as OpenTelemetry wants it in ``error.type``."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
