"""A client's state: waiting for it to be READY, and callbacks on its changes."""

import logging
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from threading import Condition, Thread
from time import monotonic

from eventbus._base.deadline import Deadline
from eventbus._base.log import Log
from eventbus.errors import EventBusError
from eventbus.exports import public


@public
class ClientState(StrEnum):
    """The state of the path to the proxy and back.

    CLOSED → CONNECTING → READY ⇄ DEGRADED, and from each of them back to CLOSED.
    """

    CONNECTING = "connecting"
    """Opened, and the path is not proven yet. Emitted events are kept."""
    READY = "ready"
    """The path is proven in both directions."""
    DEGRADED = "degraded"
    """It was READY, and a connection is down or an echo is overdue. Emitted events are kept; it recovers by itself."""
    CLOSED = "closed"
    """Not connected yet, closed, or given up after the last attempt to reconnect."""


@public
@dataclass(frozen=True, slots=True)
class StateChange:
    """One change of a client's state, the argument of callbacks of `EventBusClient.on_state_change`.

    Attributes:
        before: the old state.
        state: the new state.
        reason: what the client has noticed, as text for people.
    """

    before: ClientState
    state: ClientState
    reason: str


type StateCallback = Callable[[StateChange], object]


class Status:
    """The state of one transport, which changes it. Any thread may read, wait and listen.

    Listeners are called one after the other, in the order of the changes, in a thread that exists only while there are
    changes to report: they may block and call the client.

    Args:
        endpoints: where the transport connects to, for the log.
        failure: makes the error of `raise_failure`, if the transport can never be opened.

    Attributes:
        round_trip: seconds that the last echo took through the proxy; None before the first.
        diagnosis: makes the error that says why the path does not become READY, if waiting does not help; None if unknown.
        connections: how often the path has become READY. What was under way when this number changed may be lost.
    """

    def __init__(self, endpoints: str, failure: Callable[[], EventBusError] | None = None) -> None:
        self.endpoints = endpoints
        self.round_trip: float | None = None
        self.diagnosis: Callable[[], EventBusError] | None = None
        self.connections = 0
        self._log = Log(endpoints=endpoints)
        self._changed = Condition()
        self._state = ClientState.CLOSED
        self._failure = failure
        self._proven_at: float | None = None
        self._degraded_at = 0.0
        self._troubled = False  # whether the log has reported trouble from which the client has not recovered
        self._listeners: tuple[weakref.ref[Listener], ...] = ()
        self._kept: set[Listener] = set()
        self._unreported: deque[tuple[StateChange, list[Listener]]] = deque()
        self._reporting = False

    def name_client(self, name: str) -> None:
        """Write the client's name into the lines of the log from now on."""
        self._log = Log(endpoints=self.endpoints, client_name=name)

    @property
    def state(self) -> ClientState:
        """The state at this moment."""
        return self._state

    @property
    def echo_age(self) -> float | None:
        """Seconds since the last echo came back; None before the first."""
        return None if self._proven_at is None else monotonic() - self._proven_at

    def change(self, state: ClientState, reason: str, *, if_: Callable[[], bool] = lambda: True) -> None:
        """Change the state, log the change, and report it to the listeners.

        Nothing happens if the state is the same, or if `if_`, which is called under the lock, returns False.
        """
        before = self._set(state, reason, if_=if_)
        if before is not state:
            # DEGRADED is for people; other parts of the client log the failures that lead to the other states.
            # Recovery has the level of the trouble, so that a reader who sees one sees the other.
            degraded = state is ClientState.DEGRADED
            recovered = state is ClientState.READY and self._troubled
            level = logging.WARNING if degraded or recovered else logging.INFO
            if recovered and before is ClientState.DEGRADED:
                seconds = monotonic() - self._degraded_at
                self._log.log(
                    level,
                    "event bus ready again after %.1f s, at %s: %s",
                    seconds,
                    self.endpoints,
                    reason,
                    state=str(state),
                    before=str(before),
                    reason=reason,
                    seconds=seconds,
                )
            else:
                self._log.log(
                    level,
                    "event bus %s, was %s, at %s: %s",
                    state,
                    before,
                    self.endpoints,
                    reason,
                    state=str(state),
                    before=str(before),
                    reason=reason,
                )
            self._troubled = degraded
            if degraded:
                self._degraded_at = monotonic()

    def fail(self, failure: Callable[[], EventBusError]) -> None:
        """Close for good: `raise_failure` raises the error that `failure` makes, until the state changes again."""
        error = failure()
        before = self._set(ClientState.CLOSED, str(error), failure)
        self._log.error("%s", error, state=str(ClientState.CLOSED), before=str(before), error=type(error).__name__)

    @property
    def failure(self) -> EventBusError | None:
        """The reason why the transport has given up, as a new error each time; None if it has not."""
        failure = self._failure
        return None if failure is None else failure()

    def raise_failure(self) -> None:
        """Raise `failure`, if there is one."""
        failure = self.failure
        if failure is not None:
            raise failure

    def note_diagnosis(self, diagnosis: Callable[[], EventBusError], *, if_: Callable[[], bool]) -> bool:
        """Set `diagnosis` if the link is still not READY and `if_` returns True; return whether it was set."""
        with self._changed:
            noted = self._state in (ClientState.CONNECTING, ClientState.DEGRADED) and if_()
            if noted:
                self.diagnosis = diagnosis
                self._troubled = True
            return noted

    def note_trouble(self) -> bool:
        """Note that the log reports trouble; return False, and note nothing, if the state is not CONNECTING any more."""
        with self._changed:
            connecting = self._state is ClientState.CONNECTING and self.diagnosis is None
            self._troubled = self._troubled or connecting
            return connecting

    def proven(self, round_trip: float) -> None:
        """Note that an echo has come back just now, after `round_trip` seconds."""
        self.round_trip = round_trip
        self._proven_at = monotonic()

    def wait_ready(self, deadline: Deadline) -> bool:
        """Wait until the state is READY or CLOSED or the deadline has passed; return whether it is READY."""
        settled = (ClientState.READY, ClientState.CLOSED)
        with self._changed:
            self._changed.wait_for(lambda: self._state in settled, deadline.left())
            return self._state is ClientState.READY

    def listen(self, callback: StateCallback, *, kept_by: set["Listener"] | None = None) -> Callable[[], None]:
        """Call the callback with every change from now on, until the returned function is called.

        Args:
            callback: called with each change.
            kept_by: a set of the caller's, which keeps the callback alive instead of this object. Threads refer to the state
                of an open transport, and would keep alive everything that the callback refers to.
        """
        listener = Listener(callback)
        listening = weakref.ref(listener)
        kept_by = self._kept if kept_by is None else kept_by

        def stop() -> None:
            with self._changed:
                self._listeners = tuple(other for other in self._listeners if other is not listening)
                if (kept := listening()) is not None:
                    kept_by.discard(kept)

        with self._changed:
            kept_by.add(listener)
            self._listeners = (*self._listeners, listening)
        return stop

    def _set(
        self,
        state: ClientState,
        reason: str,
        failure: Callable[[], EventBusError] | None = None,
        if_: Callable[[], bool] = lambda: True,
    ) -> ClientState:
        """Change the state and report it, if the condition holds; return the old state, or `state` if it does not hold."""
        with self._changed:
            before = self._state
            if not if_():
                return state
            if failure is not None or state is not ClientState.CLOSED:
                self._failure = failure
            if before is not state:
                self._state = state
                self.connections += state is ClientState.READY
                if state in (ClientState.CONNECTING, ClientState.READY):
                    self.diagnosis = None
                self._changed.notify_all()
                self._report(StateChange(before, state, reason))
            return before

    def _report(self, change: StateChange) -> None:
        listeners = [listener for listening in self._listeners if (listener := listening()) is not None]
        if listeners:
            self._unreported.append((change, listeners))
            if not self._reporting:
                self._reporting = True  # first, because a signal handler may come here while the thread starts
                try:
                    Thread(target=self._report_all, name="eventbus-state", daemon=True).start()
                except RuntimeError:  # the interpreter ends, and starts no more threads
                    self._reporting = False

    def _report_all(self) -> None:
        while True:
            with self._changed:
                if not self._unreported:
                    self._reporting = False
                    return
                change, listeners = self._unreported.popleft()
            for listener in listeners:
                if weakref.ref(listener) in self._listeners:  # else it was stopped meanwhile
                    try:
                        listener.callback(change)
                    except BaseException as error:  # SystemExit too: it must not end this thread
                        self._log.exception(
                            "a callback of on_state_change failed on %s",
                            change,
                            state=str(change.state),
                            error=type(error).__name__,
                        )


class Listener:
    """One call of `listen`: the same callback may listen twice."""

    def __init__(self, callback: StateCallback) -> None:
        self.callback = callback
