"""TimeLimit: cancel an ``async`` handler that takes too long."""

from dataclasses import dataclass

from eventbus._base.clock import clock
from eventbus.errors import HandlerTimeout
from eventbus.exports import public
from eventbus.handle.middleware import Delivery, HandleNext, HandleNextAsync, Middleware


@public
@dataclass(frozen=True, slots=True)
class TimeLimit(Middleware):
    """Cancels an ``async`` handler that takes too long. Other handlers cannot be cancelled and run without a limit.

    Attributes:
        seconds: how long a call may take.

    Raises:
        ValueError: the limit is not positive.
    """

    seconds: float

    def __post_init__(self) -> None:
        if not self.seconds > 0:  # nor is NaN
            raise ValueError(f"TimeLimit({self.seconds}): the limit must be positive")

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        """Call a handler that is not ``async``, without a limit."""
        return call_next(delivery)

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        """Await an ``async`` handler, and cancel it after `seconds`.

        Raises:
            HandlerTimeout: the handler took longer.
        """
        try:
            async with clock().time_limit(self.seconds) as limit:
                return await call_next(delivery)
        except TimeoutError:
            if limit.expired():
                raise HandlerTimeout(delivery.handler, self.seconds) from None
            raise  # the handler's own
