"""What services of both kinds have in common: their state, what they tell on the bus, and whether they run again."""

import logging
from collections.abc import Callable
from enum import StrEnum
from threading import Event, Lock
from time import monotonic
from typing import Any, cast

from eventbus.client import EventBusClient
from eventbus.container.restarts import RestartPolicy, Restarts
from eventbus.errors import EventBusError, InvalidEvent, InvalidTopic, ServiceFailed
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType

logger = logging.getLogger("eventbus")

_USUAL = RestartPolicy()
_STARTED, _STOPPED, _ERROR = "service_started", "service_stopped", "service_error"


class ServiceState(StrEnum):
    """What a service is doing.

    STOPPED → RUNNING ⇄ RESTARTING, and from each of them over STOPPING back to STOPPED, or to FAILED.
    """

    STOPPED = "stopped"
    """Not started yet, or ended."""
    RUNNING = "running"
    """In `run`."""
    RESTARTING = "restarting"
    """`run` has failed, and runs again after a pause."""
    STOPPING = "stopping"
    """Asked to stop, and not ended yet."""
    FAILED = "failed"
    """`run` has failed, and does not run again; starting begins anew."""


class Lifecycle[EventClass: BaseEvent[Any], EventTypeClass: BaseEventType, EventTopicClass: BaseEventTopic]:
    """The base of `Service` and `AsyncService`. Any thread may call any method, unless it says otherwise.

    Args:
        bus: the client that the service is injected with.
        topic: where it tells that it has started, has failed or has stopped: by events of the types ``service_started``,
            ``service_error`` and ``service_stopped``, which the client's event type enum has to have. None: nowhere.
        restart: how often it is run again when `run` fails; None: never.
        stop_timeout: how many seconds it may take to stop.

    Raises:
        InvalidEvent: the enum lacks one of those types.
    """

    def __init__(
        self,
        bus: EventBusClient[EventClass, EventTypeClass, EventTopicClass],
        topic: EventTopicClass | None = None,
        *,
        restart: RestartPolicy | None = _USUAL,
        stop_timeout: float = 10.0,
    ) -> None:
        self.bus = bus
        self.name = type(self).__name__
        """What it is called in the log and in errors."""
        self._topic = topic
        self._types = {} if topic is None else self._find_types()
        self._policy = RestartPolicy(limit=0) if restart is None else restart
        self._restarts = Restarts(self._policy)
        self._stop_timeout = stop_timeout
        self._starting = Lock()
        self._changing = Lock()
        self._state = ServiceState.STOPPED
        self._asked_to_stop = Event()
        self._failure: BaseException | None = None
        self._on_end: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        return f"<{self.name}, {self._state}>"

    @property
    def state(self) -> ServiceState:
        """What it is doing at this moment."""
        return self._state

    @property
    def is_alive(self) -> bool:
        """Whether it was started and has not ended since."""
        return self._state not in (ServiceState.STOPPED, ServiceState.FAILED)

    @property
    def stopping(self) -> bool:
        """Whether it has been asked to stop since it was started."""
        return self._asked_to_stop.is_set()

    @property
    def failure(self) -> BaseException | None:
        """What `run` has raised in the end, if the service has failed."""
        return self._failure

    def raise_failure(self) -> None:
        """Raise `ServiceFailed`, from what `run` has raised, if the service has failed."""
        if self._failure is not None:
            raise ServiceFailed(self.name, self._failure) from self._failure

    def request_stop(self) -> None:
        """Ask it to stop, and do not wait until it has; for handlers, and for `run` itself. Idempotent."""
        self._asked_to_stop.set()
        self._change(ServiceState.STOPPING, {ServiceState.RUNNING, ServiceState.RESTARTING})

    def on_end(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback()` each time when the service has ended, however; in its thread, or on its event loop.

        Calling what is returned ends it.
        """
        self._on_end.append(callback)
        return lambda: self._on_end.remove(callback)

    def lifecycle_event(self, event_type: EventTypeClass, error: BaseException | None) -> EventClass | EventTypeClass:
        """Return what is emitted when the service starts, stops or fails; override it if your events have more to say.

        Args:
            event_type: the client's ``service_started``, ``service_stopped`` or ``service_error``.
            error: what `run` has raised; None if it has not failed.
        """
        return event_type

    # What the two kinds of service do with it.

    def _begin(self) -> None:
        """Tell that it runs from now on."""
        self._change(ServiceState.STOPPING if self.stopping else ServiceState.RUNNING)
        try:
            self._tell(_STARTED)
        except BaseException:
            self._change(ServiceState.STOPPED)
            raise

    def _begin_anew(self) -> None:
        """Begin for the first time since it has stopped or failed."""
        self._asked_to_stop = Event()  # another one: whoever has just asked it to stop meant the last time
        self._restarts = Restarts(self._policy)
        self._failure = None
        self._begin()

    def _failed(self, error: BaseException) -> float | None:
        """Tell that `run` has raised this. Returns the seconds until it runs again, None if it does not."""
        pause = None if self.stopping else self._restarts.pause_after_failure(monotonic())
        if pause is None:
            logger.error(
                "service %s has failed and is not run again",
                self.name,
                exc_info=error,
                extra={"eventbus_service": self.name, "eventbus_error": type(error).__name__},
            )
            self._failure = error
            self._change(ServiceState.FAILED)
        else:
            logger.error(
                "service %s has failed and is run again in %g s",
                self.name,
                pause,
                exc_info=error,
                extra={
                    "eventbus_service": self.name,
                    "eventbus_error": type(error).__name__,
                    "eventbus_seconds": pause,
                },
            )
            self._change(ServiceState.RESTARTING, {ServiceState.RUNNING})
        self._tell(_ERROR, error)
        return pause

    def _end(self) -> None:
        """Tell that it does not run any more."""
        try:
            self._tell(_STOPPED, self._failure)
        finally:
            self._change(ServiceState.STOPPED, set(ServiceState) - {ServiceState.FAILED})
            for callback in self._on_end.copy():
                callback()

    def _change(self, state: ServiceState, from_: set[ServiceState] | None = None) -> None:
        with self._changing:
            before = self._state
            if before is state or (from_ is not None and before not in from_):
                return
            self._state = state
        logger.info(
            "service %s %s, was %s",
            self.name,
            state,
            before,
            extra={"eventbus_service": self.name, "eventbus_state": str(state), "eventbus_before": str(before)},
        )

    def _tell(self, name: str, error: BaseException | None = None) -> None:
        """Emit a lifecycle event. That the bus is away does not keep a service from its work."""
        if self._topic is None:
            return
        try:
            self.bus.emit_event(self.lifecycle_event(self._types[name], error), self._topic)
        except (InvalidEvent, InvalidTopic):
            raise
        except EventBusError as refused:
            logger.warning(
                "could not emit %s of service %s: %s",
                name,
                self.name,
                refused,
                extra={
                    "eventbus_type": name,
                    "eventbus_service": self.name,
                    "eventbus_topic": str(self._topic),
                    "eventbus_error": type(refused).__name__,
                },
            )

    def _find_types(self) -> dict[str, EventTypeClass]:
        wanted = (_STARTED, _STOPPED, _ERROR)
        for enum in self.bus.event_types:
            if all(name in enum.__members__ for name in wanted):
                return {name: cast(EventTypeClass, enum[name]) for name in wanted}
        enums = " or ".join(sorted(enum.__name__ for enum in self.bus.event_types)) or "the event type enum"
        raise InvalidEvent(
            f"service {self.name} has a topic for its life cycle, but {enums} lacks {', '.join(wanted)}: "
            "add them, or give the service no topic"
        )
