"""The log helper: it turns keyword arguments into prefixed fields, and adds the facts of the object that logs."""

import logging
from collections.abc import MutableMapping
from typing import Any

FIELD_PREFIX = "eventbus_"

# What the calls of a logger take by themselves; everything else is a fact.
LOGGING_ARGUMENTS = frozenset({"exc_info", "stack_info", "stacklevel"})


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger whose keyword arguments become fields of the record: `topic="plant"` is `eventbus_topic`.

    The record keeps the constant text and its arguments, so that log readers can group by the text. Any thread may use it.

    Args:
        name: the logger's name.
        facts: fields of every record of this object; a call may add others and replace these.
    """

    def __init__(self, name: str = "eventbus", **facts: object) -> None:
        super().__init__(logging.getLogger(name), facts)

    # The signature of logging's own; the values are what a call was given. It is not called below the logger's level.
    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        """Make fields of all arguments that are not logging's own."""
        options: dict[str, Any] = {name: kwargs.pop(name) for name in LOGGING_ARGUMENTS & kwargs.keys()}
        options["extra"] = {FIELD_PREFIX + name: value for name, value in {**(self.extra or {}), **kwargs}.items()}
        return msg, options
