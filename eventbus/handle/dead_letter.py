"""DeadLetter: emit an event whose handler has failed to another topic, where people can look at it."""

from dataclasses import dataclass

from eventbus._base.printable import printable
from eventbus.errors import InvalidHeaders, InvalidTopic, reason_of
from eventbus.events import BaseEventTopic
from eventbus.exports import public
from eventbus.handle.middleware import Delivery, Emission, HandleNext, HandleNextAsync, Middleware
from eventbus.wire.frames import MAX_TOPIC_BYTES
from eventbus.wire.requests import REPLY_TO

_REASON, _TOPIC, _HANDLER = "dead-letter-reason", "dead-letter-topic", "dead-letter-handler"
_MAX_CHARACTERS = 500  # of a reason and of a handler's name: all headers together are limited to 8 KiB


@public
@dataclass(frozen=True, slots=True)
class DeadLetter(Middleware):
    """Emits an event whose handler has raised to a dead-letter topic, with the reason; then raises the exception again.

    The event is emitted as it was decoded here, with the headers that came with it and three more: ``dead-letter-reason``
    (class and text of the exception), ``dead-letter-topic`` (where the event came from) and ``dead-letter-handler``. If all
    headers together are too long, it is emitted with these three only. A handler of dead letters reads them with
    `current_headers`, and ``eventbus tail`` shows them.

    An event that has these headers, or that came from the dead-letter topic, is not emitted again. So no dead letter can go
    in circles, even if several services have a `DeadLetter`.

    Attributes:
        topic: the dead-letter topic, a member of the client's topic enum.

    Raises:
        InvalidTopic: `topic` is not a topic.
    """

    topic: BaseEventTopic

    @property
    def emits_to(self) -> tuple[BaseEventTopic]:  # type: ignore[override] # read only, as everything in a frozen dataclass
        """The dead-letter topic."""
        return (self.topic,)

    def __post_init__(self) -> None:
        if not isinstance(self.topic, BaseEventTopic):
            raise InvalidTopic(f"DeadLetter({self.topic!r}): use a member of an enum derived from eventbus.BaseEventTopic")

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        """Call a handler; if it raises, emit the event to the dead-letter topic."""
        try:
            return call_next(delivery)
        except Exception as error:
            self._emit(delivery, error)
            raise

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        """Await an ``async`` handler; if it raises, emit the event to the dead-letter topic."""
        import asyncio

        try:
            return await call_next(delivery)
        except Exception as error:
            # In a thread, because emitting may wait for room in the send buffer.
            await asyncio.to_thread(self._emit, delivery, error)
            raise

    def _emit(self, delivery: Delivery, error: Exception) -> None:
        if delivery.topic == self.topic.value or _TOPIC in delivery.headers:
            return
        headers = {
            _REASON: printable(reason_of(error), _MAX_CHARACTERS),
            _TOPIC: printable(delivery.topic, MAX_TOPIC_BYTES),
            _HANDLER: printable(delivery.handler, _MAX_CHARACTERS),
        }
        try:
            try:
                # Without `reply-to`: the request has failed, and nobody shall answer its dead letter.
                came = {name: value for name, value in delivery.headers.items() if name != REPLY_TO}
                delivery.emit(Emission((delivery.event,), self.topic, {**came, **headers}))
            except InvalidHeaders:
                delivery.emit(Emission((delivery.event,), self.topic, headers))
        except Exception as failure:
            error.add_note(f"and it could not be emitted to {self.topic.value}: {reason_of(failure)}")
