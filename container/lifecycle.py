"""The common part of both kinds of service: state, lifecycle events, restarts."""

from collections.abc import Callable
from enum import StrEnum
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, cast

from dependency_injector import containers, providers

from eventbus._base.clock import clock
from eventbus._base.forks import register_fork
from eventbus._base.log import Log
from eventbus._base.printable import printable
from eventbus.client import EventBusClient
from eventbus.container.periodic import Periodic
from eventbus.container.restarts import RestartPolicy, Restarts
from eventbus.errors import EventBusError, InvalidEvent, InvalidTopic, ServiceFailed, reason_of
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType

_DEFAULT_POLICY = RestartPolicy()
_STARTED, _STOPPED, _ERROR = "service_started", "service_stopped", "service_error"
_HEARTBEAT = "service_heartbeat"
_LAST_BEAT_S = 1.0  # how long the end of a service waits for a heartbeat that is being emitted

_log = Log()


class ServiceState(StrEnum):
    """The state of a service.

    STOPPED → RUNNING ⇄ RESTARTING. From both of these a service gets to STOPPED, through STOPPING if it is asked to stop, or
    to FAILED.
    """

    STOPPED = "stopped"
    """Not started yet, or ended."""
    RUNNING = "running"
    """`run` is running."""
    RESTARTING = "restarting"
    """`run` has failed, and is run again after a pause."""
    STOPPING = "stopping"
    """Asked to stop, and not ended yet."""
    FAILED = "failed"
    """`run` has failed finally; the service can be started again."""


class Lifecycle[EventClass: BaseEvent[Any], EventTypeClass: BaseEventType, EventTopicClass: BaseEventTopic]:
    """The base of `Service` and `AsyncService`. Any thread may call any method, unless its docstring says otherwise.

    Args:
        bus: the client that is injected into the service.
        topic: where the service emits its lifecycle events, of the types ``service_started``, ``service_error`` and
            ``service_stopped``, which the client's event type enum must have. None: it emits none.
        restart: how often `run` is run again after a failure; None: never.
        stop_timeout: the seconds that the service may take to stop.
        heartbeat: seconds from one ``service_heartbeat``, which the enum must have too, to the next while `run` runs; None:
            it emits none.

    Raises:
        InvalidEvent: the enum lacks one of those types.
        TypeError: `bus` is a provider of a client, not a client.
        ValueError: the heartbeat is not positive, or there is no topic to emit it to.
    """

    def __init__(
        self,
        bus: EventBusClient[EventClass, EventTypeClass, EventTopicClass],
        topic: EventTopicClass | None = None,
        *,
        restart: RestartPolicy | None = _DEFAULT_POLICY,
        stop_timeout: float = 10.0,
        heartbeat: float | None = None,
    ) -> None:
        self.bus = bus
        self.name = type(self).__name__
        """The name of the service in the log and in errors: that of its class, unless you set another one."""
        self._check_bus()
        self._topic = topic
        if heartbeat is not None and not (heartbeat > 0 and topic is not None):
            raise ValueError(f"service {self.name}: a heartbeat is a positive number of seconds, and needs a topic")
        self._heartbeat = heartbeat
        self._types = {} if topic is None else self._find_types()
        self._policy = RestartPolicy(limit=0) if restart is None else restart
        self._restarts = Restarts(self._policy)
        self._stop_timeout = stop_timeout
        self._failure: BaseException | None = None
        self._on_end: list[Callable[[], object]] = []
        self._reset_lifecycle()
        register_fork(self)

    if not TYPE_CHECKING:  # type checkers would think that every attribute exists

        def __getattr__(self, name: str) -> object:
            reason = "" if "_on_end" in self.__dict__ else ": its __init__ has to call super().__init__(bus) first"
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{reason}", name=name, obj=self)

    def __repr__(self) -> str:
        return f"<{self.name}, {self._state}>"

    @property
    def state(self) -> ServiceState:
        """The state at this moment."""
        return self._state

    @property
    def is_alive(self) -> bool:
        """Whether the service was started and has not ended since."""
        return self._state not in (ServiceState.STOPPED, ServiceState.FAILED)

    @property
    def stopping(self) -> bool:
        """Whether the service has been asked to stop since it was started."""
        return self._asked_to_stop.is_set()

    @property
    def failure(self) -> BaseException | None:
        """The exception of the last `run`, if the service has failed."""
        return self._failure

    def raise_failure(self) -> None:
        """Raise `ServiceFailed` from the exception of the last `run`, if the service has failed."""
        if self._failure is not None:
            raise ServiceFailed(self.name, reason_of(self._failure)) from self._failure

    def request_stop(self) -> None:
        """Ask the service to stop, without waiting; for handlers, and for `run` itself. Idempotent."""
        self._asked_to_stop.set()
        self._change(ServiceState.STOPPING, {ServiceState.RUNNING, ServiceState.RESTARTING})

    def on_end(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback()` each time when the service has stopped or failed, in its thread or on its event loop.

        Returns:
            a function that removes the callback.
        """
        self._on_end.append(callback)
        return lambda: self._on_end.remove(callback)

    def lifecycle_event(self, event_type: EventTypeClass, error: BaseException | None) -> EventClass | EventTypeClass:
        """Return the event that is emitted when the service starts, stops or fails; override it to fill more fields.

        Args:
            event_type: the client's ``service_started``, ``service_stopped``, ``service_error`` or ``service_heartbeat``.
            error: the exception of `run`; None if it has not failed.
        """
        return event_type

    # Called by the two kinds of service.

    def _after_fork(self) -> None:
        self._reset_lifecycle()

    def _reset_lifecycle(self) -> None:
        """Become a service that was never started: in `__init__`, and in a forked child, where no thread of it runs."""
        self._starting = Lock()
        self._changing = Lock()
        self._state = ServiceState.STOPPED
        self._asked_to_stop = Event()
        self._beating: Periodic | None = None

    def _begin(self) -> None:
        """Change to RUNNING, and emit ``service_started``."""
        self._enter_run()
        self._emit_lifecycle(_STARTED)

    def _begin_anew(self) -> None:
        """Begin for the first time since the service has stopped or failed.

        Raises:
            Exception: `lifecycle_event` returned something that is not an event of this bus, or raised.
            RuntimeError: the system refuses a thread for the heartbeat.
        """
        self._asked_to_stop = Event()  # a new one, because earlier requests to stop meant the earlier run
        self._restarts = Restarts(self._policy)
        self._failure = None
        self._enter_run()
        try:
            self._emit_lifecycle(_STARTED, for_the_first_time=True)
        except BaseException:
            self._change(ServiceState.STOPPED)
            raise
        if self._heartbeat is not None:
            beating = Periodic(f"heartbeat of {self.name}", self._heartbeat, self._beat, delay=self._heartbeat)
            try:
                beating.start()
            except RuntimeError:  # the system refuses another thread
                self._end()
                raise
            self._beating = beating

    def _beat(self) -> None:
        if self._state is ServiceState.RUNNING:
            self._emit_lifecycle(_HEARTBEAT)

    def _enter_run(self) -> None:
        self._change(ServiceState.RUNNING)
        if self.stopping:  # asked before the change above; later requests find it RUNNING and change that themselves
            self._change(ServiceState.STOPPING)

    def _failed(self, error: BaseException) -> float | None:
        """Log and emit that `run` has failed. Returns the seconds until the restart, None if the failure is final."""
        pause = None if self.stopping else self._restarts.pause_after_failure(clock().now())
        if pause is None:
            _log.error(
                "service %s has failed and is not run again",
                self.name,
                exc_info=error,
                service=self.name,
                error=type(error).__name__,
            )
            self._failure = error
            self._change(ServiceState.FAILED)
        else:
            _log.error(
                "service %s has failed and is run again in %g s",
                self.name,
                pause,
                exc_info=error,
                service=self.name,
                error=type(error).__name__,
                seconds=pause,
            )
            self._change(ServiceState.RESTARTING, {ServiceState.RUNNING})
        self._emit_lifecycle(_ERROR, error)
        return pause

    def _end(self) -> None:
        """Emit ``service_stopped``, change to STOPPED unless FAILED, and call the callbacks of `on_end`."""
        if self._beating is not None:
            self._beating.stop(_LAST_BEAT_S)
        try:
            self._emit_lifecycle(_STOPPED, self._failure)
        finally:
            self._change(ServiceState.STOPPED, set(ServiceState) - {ServiceState.FAILED})
            for callback in self._on_end.copy():
                try:
                    callback()
                except BaseException as error:  # SystemExit too, because the other callbacks must be called
                    _log.exception(
                        "a callback of on_end failed on service %s",
                        self.name,
                        service=self.name,
                        error=type(error).__name__,
                    )

    def _change(self, state: ServiceState, from_: set[ServiceState] | None = None) -> None:
        with self._changing:
            before = self._state
            if before is state or (from_ is not None and before not in from_):
                return
            self._state = state
        _log.info(
            "service %s %s, was %s",
            self.name,
            state,
            before,
            service=self.name,
            state=str(state),
            before=str(before),
        )

    def _emit_lifecycle(self, name: str, error: BaseException | None = None, *, for_the_first_time: bool = False) -> None:
        """Emit a lifecycle event. If that fails, log it and let the service go on.

        Only at the first start an invalid event raises, because the caller of `start` can then correct it.
        """
        if self._topic is None:
            return
        try:
            self.bus.emit_event(self.lifecycle_event(self._types[name], error), self._topic)
        except Exception as refused:
            is_away = isinstance(refused, EventBusError) and not isinstance(refused, InvalidEvent | InvalidTopic)
            if for_the_first_time and not is_away:
                raise
            _log.warning(
                "could not emit %s of service %s: %s",
                name,
                self.name,
                printable(reason_of(refused)),
                exc_info=None if is_away else refused,
                type=name,
                service=self.name,
                topic=str(self._topic),
                error=type(refused).__name__,
            )

    def _check_bus(self) -> None:
        given: object = self.bus
        if isinstance(given, providers.Provider | containers.Container) or getattr(type(given), "__IS_MARKER__", False):
            raise TypeError(
                f"service {self.name} got a {type(given).__name__} as its bus, and needs a client: let a provider make the "
                f"service, `providers.Singleton({self.name}, bus=bus.client)`, or call the provider of the client"
            )

    def _find_types(self) -> dict[str, EventTypeClass]:
        wanted = (_STARTED, _STOPPED, _ERROR, *([] if self._heartbeat is None else [_HEARTBEAT]))
        for enum in self.bus.event_types:
            if all(name in enum.__members__ for name in wanted):
                return {name: cast(EventTypeClass, enum[name]) for name in wanted}
        enums = " or ".join(sorted(enum.__name__ for enum in self.bus.event_types)) or "the event type enum"
        raise InvalidEvent(
            f"service {self.name} has a topic for its lifecycle events, but {enums} lacks {', '.join(wanted)}: "
            "add them, or give the service no topic"
        )
