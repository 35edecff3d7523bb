"""The log of `run` where the program has configured none: to stderr, from INFO on."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from eventbus.errors import InvalidSettings
from eventbus.policies import LogFormat
from eventbus.telemetry.logs import JsonFormatter, TextFormatter


class DefaultLog(logging.StreamHandler):  # type: ignore[type-arg] # of stderr, which typeshed makes a parameter
    """Writes the records of this package to stderr as long as the program has no logging of its own.

    Until `write_kept` it keeps records below WARNING, so that a start that fails says why and nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logger = logging.getLogger("eventbus")
        self._kept: list[logging.LogRecord] | None = []
        self._in_use = False

    def use(self) -> None:
        """Begin, unless the program has configured its logging already."""
        if not (self._is_configured() or self._logger.level or self._logger.disabled):
            self._in_use = True
            self.setFormatter(JsonFormatter() if _is_json() else TextFormatter())
            self._logger.setLevel(logging.INFO)
            self._logger.addHandler(self)
            self._logger.addFilter(self._let_through)
            self.addFilter(self._let_through)  # for the loggers below, to which the other does not apply

    def write_kept(self) -> None:
        """Write what was kept, as the program has configured by now, and keep nothing from now on."""
        kept, self._kept = self._kept, None
        for record in kept or []:
            if self._logger.isEnabledFor(record.levelno):
                self._logger.handle(record)

    def leave(self) -> None:
        """Leave the logging to the program, as if this had never been. Idempotent."""
        if self._in_use:
            self._in_use = False
            self._logger.removeHandler(self)
            self._logger.filters = [one for one in self._logger.filters if one != self._let_through]
            self._logger.setLevel(logging.NOTSET)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or keep it."""
        if self._kept is not None and record.levelno < logging.WARNING:
            self._kept.append(record)
        else:
            super().emit(record)

    def _is_configured(self) -> bool:
        return bool(logging.getLogger().handlers) or any(handler is not self for handler in self._logger.handlers)

    def _let_through(self, record: logging.LogRecord) -> bool:
        """Leave as soon as the program has configured its logging, in a resource for example; it decides from then on."""
        if self._in_use and self._is_configured():
            self.leave()
        return self._in_use or self._logger.isEnabledFor(record.levelno)


def _is_json() -> bool:
    """Whether the settings want JSON. Wrong ones are no error yet: the start of the container has that."""
    from eventbus.settings import EventBusSettings  # here, because a program with a log of its own does not need it

    try:
        return EventBusSettings().log_format is LogFormat.JSON
    except InvalidSettings:
        return os.environ.get("EVENTBUS_LOG_FORMAT") == LogFormat.JSON


@contextmanager
def default_log() -> Iterator[DefaultLog]:
    """Have this log within the block."""
    log = DefaultLog()
    log.use()
    try:
        yield log
    finally:
        log.leave()
