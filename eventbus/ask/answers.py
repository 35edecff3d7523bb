"""The answers of many, as a list."""

from collections.abc import Iterable

from eventbus.errors import EventBusError
from eventbus.exports import public


@public
class Answers[Reply](list[Reply]):
    """The answers to one request to all, in the order in which they came.

    Attributes:
        failures: the errors of those answers that say that a handler has failed, or that could not be read.
    """

    def __init__(self, answers: Iterable[Reply] = (), failures: Iterable[EventBusError] = ()) -> None:
        super().__init__(answers)
        self.failures = tuple(failures)
