"""How a handler is to be called: the keyword arguments of `@on`, checked."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from eventbus.errors import InvalidHandler
from eventbus.handle.middleware import Middleware


@dataclass(frozen=True, slots=True)
class HandlerOptions:
    """How one handler is called.

    Attributes:
        answers: whether what it returns answers requests.
        concurrency: how many calls may run at once; None: as many as without this option.
        key: calls for events with the same key run one after the other; None: calls have no order.
        where: only for events for which this is true; None: for all.
        middleware: is called around this handler only, inside of that of the client, the outermost first.

    Raises:
        InvalidHandler: one of them makes no sense.
    """

    answers: bool = False
    concurrency: int | None = None
    key: Callable[[Any], object] | None = None  # Any: an event of whatever class the handler takes
    where: Callable[[Any], object] | None = None
    middleware: tuple[Middleware, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        answers: bool = False,
        concurrency: int | None = None,
        key: Callable[[Any], object] | None = None,
        where: Callable[[Any], object] | None = None,
        middleware: Iterable[Middleware] = (),
    ) -> "HandlerOptions":
        """Return these options, checked, because untyped code may give anything."""
        if concurrency is not None and (not isinstance(concurrency, int) or concurrency < 1):
            raise InvalidHandler(f"concurrency={concurrency!r}: it is how many calls may run at once, at least 1")
        if key is not None and concurrency is None:
            raise InvalidHandler("key=…: it orders calls that run at once, so say how many: concurrency=8")
        for name, function in (("key", key), ("where", where)):
            if function is not None and not callable(function):
                raise InvalidHandler(f"{name}={function!r}: it is a function of the event")
        if isinstance(middleware, Middleware):
            raise InvalidHandler(f"middleware={middleware!r}: it is a list: middleware=[…]")
        around = tuple(middleware)
        for one in around:
            if not isinstance(one, Middleware):
                raise InvalidHandler(f"middleware=[{one!r}]: each is an object of a class derived from eventbus.Middleware")
        return cls(answers, concurrency, key, where, around)

    @property
    def is_plain(self) -> bool:
        """Whether the handler can be called as it is."""
        return not (self.answers or self.concurrency or self.middleware) and self.where is None


PLAIN = HandlerOptions()
