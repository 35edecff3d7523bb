"""How a client is: its state, who waits for it to be ready, and who is told when it changes."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from threading import Condition, Thread
from time import monotonic

from eventbus._base.deadline import Deadline
from eventbus.errors import EventBusError

logger = logging.getLogger("eventbus")


class ClientState(StrEnum):
    """How the way to the proxy and back is.

    CLOSED → CONNECTING → READY ⇄ DEGRADED, and from each of them back to CLOSED.
    """

    CONNECTING = "connecting"
    """Opened, and not proven live yet. What is emitted is kept."""
    READY = "ready"
    """Proven live in both directions."""
    DEGRADED = "degraded"
    """It was ready, and a connection is down or an echo stays away. What is emitted is kept; it recovers by itself."""
    CLOSED = "closed"
    """Not connected yet, closed, or given up after the last attempt to reconnect."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """One change of state, as `EventBusClient.on_state_change` tells it.

    Attributes:
        before: the state until now.
        state: the state from now on.
        reason: what was seen, for people.
    """

    before: ClientState
    state: ClientState
    reason: str


type StateCallback = Callable[[StateChange], object]


class Status:
    """The state of one transport, which changes it. Any thread may ask, wait and listen.

    Listeners are called one after the other, in the order of the changes, in a thread that exists only while there is
    something to tell: they may take their time and call whatever they like.

    Args:
        endpoints: where the transport connects to, for the log.
        failure: makes what `raise_failure` raises, if it is closed for good from the start.
    """

    def __init__(self, endpoints: str, failure: Callable[[], EventBusError] | None = None) -> None:
        self.endpoints = endpoints
        self._changed = Condition()
        self._state = ClientState.CLOSED
        self._failure = failure
        self._listeners: tuple[_Listening, ...] = ()
        self._untold: deque[tuple[StateChange, tuple[_Listening, ...]]] = deque()
        self._telling = False
        self.round_trip: float | None = None
        """Seconds that the last echo took through the proxy."""
        self.diagnosis: Callable[[], EventBusError] | None = None
        """Makes the error that says why the path does not become READY, if that is known: waiting does not help then."""
        self._proven_at: float | None = None

    @property
    def state(self) -> ClientState:
        """The state at this moment."""
        return self._state

    @property
    def echo_age(self) -> float | None:
        """Seconds since the last echo came back; None if none ever has."""
        return None if self._proven_at is None else monotonic() - self._proven_at

    def change(self, state: ClientState, reason: str, *, if_: Callable[[], bool] = lambda: True) -> None:
        """Change the state, unless it is the same, or if the condition is false by then; log it, and tell the listeners."""
        before = self._set(state, reason, if_=if_)
        if before is not state:
            # Losing the path is for people; the rest is told where it is done.
            level = logging.WARNING if state is ClientState.DEGRADED else logging.INFO
            logger.log(
                level,
                "event bus %s, was %s, at %s: %s",
                state,
                before,
                self.endpoints,
                reason,
                extra={
                    "eventbus_state": str(state),
                    "eventbus_before": str(before),
                    "eventbus_reason": reason,
                    "eventbus_endpoints": self.endpoints,
                },
            )

    def fail(self, failure: Callable[[], EventBusError]) -> None:
        """Close for good: from now on `raise_failure` raises what this makes, until the state changes again."""
        error = failure()
        before = self._set(ClientState.CLOSED, str(error), failure)
        logger.error(
            "%s",
            error,
            extra={
                "eventbus_state": str(ClientState.CLOSED),
                "eventbus_before": str(before),
                "eventbus_error": type(error).__name__,
                "eventbus_endpoints": self.endpoints,
            },
        )

    @property
    def failure(self) -> EventBusError | None:
        """Why the transport has given up, if it has; a new error each time."""
        failure = self._failure
        return None if failure is None else failure()

    def raise_failure(self) -> None:
        """Raise why the transport has given up, if it has."""
        failure = self.failure
        if failure is not None:
            raise failure

    def note_diagnosis(self, diagnosis: Callable[[], EventBusError], *, if_: Callable[[], bool]) -> bool:
        """Note why the path does not become READY, unless it has or the condition is false by now; whether it was noted."""
        with self._changed:
            noted = self._state in (ClientState.CONNECTING, ClientState.DEGRADED) and if_()
            if noted:
                self.diagnosis = diagnosis
            return noted

    def proven(self, round_trip: float) -> None:
        """Note that an echo has come back just now, after so many seconds."""
        self.round_trip = round_trip
        self._proven_at = monotonic()

    def wait_ready(self, deadline: Deadline) -> bool:
        """Wait until the state is READY or CLOSED or the time is up; whether it is READY."""
        settled = (ClientState.READY, ClientState.CLOSED)
        with self._changed:
            self._changed.wait_for(lambda: self._state in settled, deadline.left())
            return self._state is ClientState.READY

    def listen(self, callback: StateCallback) -> Callable[[], None]:
        """Tell the callback of every change from now on; calling what is returned ends that."""
        listening = _Listening(callback)

        def stop() -> None:
            with self._changed:
                self._listeners = tuple(other for other in self._listeners if other is not listening)

        with self._changed:
            self._listeners = (*self._listeners, listening)
        return stop

    def _set(
        self,
        state: ClientState,
        reason: str,
        failure: Callable[[], EventBusError] | None = None,
        if_: Callable[[], bool] = lambda: True,
    ) -> ClientState:
        """Change the state, if the condition holds, and have it told; return the state before, or the one asked for."""
        with self._changed:
            before = self._state
            if not if_():
                return state
            if failure is not None or state is not ClientState.CLOSED:
                self._failure = failure
            if before is not state:
                self._state = state
                if state in (ClientState.CONNECTING, ClientState.READY):
                    self.diagnosis = None
                self._changed.notify_all()
                self._tell(StateChange(before, state, reason))
            return before

    def _tell(self, change: StateChange) -> None:
        if self._listeners:
            self._untold.append((change, self._listeners))
            if not self._telling:
                self._telling = True  # first, for a signal handler may come here while the thread starts
                try:
                    Thread(target=self._tell_all, name="eventbus-state", daemon=True).start()
                except RuntimeError:  # the interpreter ends, and starts no thread any more
                    self._telling = False

    def _tell_all(self) -> None:
        while True:
            with self._changed:
                if not self._untold:
                    self._telling = False
                    return
                change, listeners = self._untold.popleft()
            for listening in listeners:
                if listening in self._listeners:  # else it has stopped meanwhile
                    try:
                        listening.callback(change)
                    except BaseException as error:  # SystemExit too: it must not end the telling
                        logger.exception(
                            "a callback of on_state_change failed on %s",
                            change,
                            extra={
                                "eventbus_state": str(change.state),
                                "eventbus_error": type(error).__name__,
                                "eventbus_endpoints": self.endpoints,
                            },
                        )


class _Listening:
    """One call of `listen`: the same callback may listen twice."""

    def __init__(self, callback: StateCallback) -> None:
        self.callback = callback
