"""What services of both kinds have in common: their state, what they tell on the bus, and whether they run again."""

import logging
import os
from collections.abc import Callable
from enum import StrEnum
from threading import Event, Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from dependency_injector import containers, providers

from eventbus._base.printable import printable
from eventbus.client import EventBusClient
from eventbus.container.restarts import RestartPolicy, Restarts
from eventbus.errors import EventBusError, InvalidEvent, InvalidTopic, ServiceFailed, reason_of
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType

logger = logging.getLogger("eventbus")

_USUAL = RestartPolicy()
_STARTED, _STOPPED, _ERROR = "service_started", "service_stopped", "service_error"

# By identity: a service may be a class that cannot be hashed.
_services: "WeakValueDictionary[int, Lifecycle[Any, Any, Any]]" = WeakValueDictionary()


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
        TypeError: the bus is a provider of a client.
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
        self._check_bus()
        self._topic = topic
        self._types = {} if topic is None else self._find_types()
        self._policy = RestartPolicy(limit=0) if restart is None else restart
        self._restarts = Restarts(self._policy)
        self._stop_timeout = stop_timeout
        self._failure: BaseException | None = None
        self._on_end: list[Callable[[], object]] = []
        self._rest()
        _services[id(self)] = self

    if not TYPE_CHECKING:  # to type checkers it would mean that there is every attribute

        def __getattr__(self, name: str) -> object:
            reason = "" if "_on_end" in self.__dict__ else ": its __init__ has to call super().__init__(bus) first"
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{reason}", name=name, obj=self)

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
            raise ServiceFailed(self.name, reason_of(self._failure)) from self._failure

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

    def _rest(self) -> None:
        """Be as one that was never started: at first, and in a forked child, where nothing runs and no lock is held."""
        self._starting = Lock()
        self._changing = Lock()
        self._state = ServiceState.STOPPED
        self._asked_to_stop = Event()

    def _begin(self) -> None:
        """Tell that it runs from now on."""
        self._enter_run()
        self._tell(_STARTED)

    def _begin_anew(self) -> None:
        """Begin for the first time since it has stopped or failed.

        Raises:
            Exception: what it has to tell is no event of the bus.
        """
        self._asked_to_stop = Event()  # another one: whoever has just asked it to stop meant the last time
        self._restarts = Restarts(self._policy)
        self._failure = None
        self._enter_run()
        try:
            self._tell(_STARTED, for_the_first_time=True)
        except BaseException:
            self._change(ServiceState.STOPPED)
            raise

    def _enter_run(self) -> None:
        self._change(ServiceState.RUNNING)
        if self.stopping:  # whoever asks from now on finds it running, and changes that
            self._change(ServiceState.STOPPING)

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
                try:
                    callback()
                except BaseException as error:  # SystemExit too: the others wait for this
                    logger.exception(
                        "a callback of on_end failed on service %s",
                        self.name,
                        extra={"eventbus_service": self.name, "eventbus_error": type(error).__name__},
                    )

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

    def _tell(self, name: str, error: BaseException | None = None, *, for_the_first_time: bool = False) -> None:
        """Emit a lifecycle event, or log that it could not be: that does not keep a service from its work.

        Only the first time it raises what is wrong with the event itself, for then somebody is there to mend it.
        """
        if self._topic is None:
            return
        try:
            self.bus.emit_event(self.lifecycle_event(self._types[name], error), self._topic)
        except Exception as refused:
            is_away = isinstance(refused, EventBusError) and not isinstance(refused, InvalidEvent | InvalidTopic)
            if for_the_first_time and not is_away:
                raise
            logger.warning(
                "could not emit %s of service %s: %s",
                name,
                self.name,
                printable(str(refused)),
                exc_info=None if is_away else refused,
                extra={
                    "eventbus_type": name,
                    "eventbus_service": self.name,
                    "eventbus_topic": str(self._topic),
                    "eventbus_error": type(refused).__name__,
                },
            )

    def _check_bus(self) -> None:
        given: object = self.bus
        if isinstance(given, providers.Provider | containers.Container) or getattr(type(given), "__IS_MARKER__", False):
            raise TypeError(
                f"service {self.name} was given a {type(given).__name__} for its bus, and needs the client: have a provider "
                f"make it, `providers.Singleton({self.name}, bus=bus.client)`, or call the client's"
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


def _forget_parents_services() -> None:
    """In a forked child: what runs belongs to the parent."""
    for service in list(_services.values()):
        service._rest()


os.register_at_fork(after_in_child=_forget_parents_services)
