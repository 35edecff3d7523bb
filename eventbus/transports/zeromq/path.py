"""A publishing and a subscribing socket to one proxy, and what is done to keep them live."""

import logging
import uuid
from collections.abc import Callable
from threading import RLock, Thread
from time import monotonic, sleep

import zmq

from eventbus._base.deadline import Deadline
from eventbus.errors import EventBusError
from eventbus.observe.state import ClientState, Status
from eventbus.options import ZeroMQOptions
from eventbus.transports.zeromq.policy import ConnectionStatus, ConnectionStatuses, Watch
from eventbus.transports.zeromq.publisher import Publisher
from eventbus.transports.zeromq.subscriber import Subscriber
from eventbus.transports.zeromq.supervisor import supervisor
from eventbus.wire import frames as wire

logger = logging.getLogger("eventbus")

# Between two looks, in seconds. Nobody waits inside of libzmq: a signal handler may close the very socket meanwhile.
_PROBE = 0.0001
_PATIENT_PROBE = 0.001
_DRAIN = 1.0  # seconds
# From READY to sending what was kept, in seconds, when connections were away: those of subscribers were, most likely, and
# they need as long as a proxy of ours gives them, which not every proxy does, nor a network that comes back.
_SETTLE = 0.25

# Kept from being collected until they are closed: collecting would close their sockets, in any order and from any thread,
# and in a forked child it would close what belongs to the parent.
_open_paths: set["Path"] = set()

# Of each leg, whether it was refused, and roughly how often its handshake was broken off.
type Symptoms = tuple[tuple[bool, int], ...]


class Path:
    """Both sockets, open from creation to `close`. A supervised of the supervisor from `watch` on.

    Args:
        publisher: the publishing half.
        subscriber: the subscribing half.
        options: how long to wait for what.
        status: what is told how the path is.
        give_up: called with the path once no more attempts to reconnect are made.
        diagnose: tells from the connections why they are not let in; it may take its time.
    """

    def __init__(
        self,
        publisher: Publisher,
        subscriber: Subscriber,
        options: ZeroMQOptions,
        status: Status,
        give_up: Callable[["Path"], None],
        diagnose: Callable[[ConnectionStatuses], Callable[[], EventBusError] | None],
    ) -> None:
        self.publisher = publisher
        self.subscriber = subscriber
        self.closed = False
        self._status = status
        self._give_up = give_up
        self._diagnose = diagnose
        self._symptoms: Symptoms = ()  # when it was diagnosed last
        self._said: type[EventBusError] | None = None  # of what was found
        self.in_use = False  # whether somebody relies on it by now, or still waits until it opens
        self._lock = RLock()  # guards the watch; a signal handler may close what it interrupts, here and elsewhere
        self._watch = Watch(options, monotonic())
        self._echo: bytes | None = None
        self._echo_began = 0.0
        self._drain_due = 0.0
        self._flushed = False
        self._flush_due: float | None = None  # once READY and until it is flushed
        self._handshakes = 2  # of both legs when it was flushed; to begin with, those of a proxy that was there at once
        self._failed = False  # whether an attempt to connect has since
        self._published_on: int | None = None  # the number of the connection that events were given to
        self._quiet = False
        self._seen: ConnectionStatuses = ConnectionStatus(), ConnectionStatus()  # by the supervisor

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self._status.endpoints}>"

    def watch(self) -> None:
        """Begin to look after it.

        Raises:
            OSError: there is no descriptor left.
        """
        supervisor.watch(self)
        _open_paths.add(self)

    def legs(self) -> ConnectionStatuses:
        """How both connections are at this moment."""
        legs = self.publisher.leg(), self.subscriber.leg()
        if legs != self._seen:
            supervisor.wake(self)  # nothing else tells it of what this look has found
        return legs

    def is_up(self) -> bool:
        """Whether both connections are up."""
        return all(leg.up for leg in self.legs())

    def is_ready(self) -> bool:
        """Whether the path is proven live and nothing has been amiss since."""
        return self._watch.state is ClientState.READY

    def prove(self, deadline: Deadline, *, while_: Callable[[], bool] = lambda: True) -> bool:
        """Subscribe to a token and wait until that has come round through the proxy.

        Returns False if it has not in time, or if the condition is no longer true.
        """
        token = wire.PRIVATE + uuid.uuid4().bytes
        self.publisher.expect(token)
        began = monotonic()
        self.subscriber.subscribe(token)
        try:
            while not self.closed:
                self.subscriber.pump()
                if self.publisher.has_seen(token):
                    self._note_proof(began)
                    return True
                if deadline.passed() or not while_():
                    return False
                sleep(_PROBE if monotonic() - began < 10 * _PATIENT_PROBE else _PATIENT_PROBE)
            return False
        finally:
            self.publisher.forget(token)
            self.subscriber.unsubscribe(token)

    def retire(self) -> None:
        """Tell nobody any more how the path is.

        Without the lock: the supervisor may hold it while it waits for what a signal handler that closes has interrupted.
        """
        self._quiet = True

    def close(self, linger: float) -> None:
        """Wait until what is held is sent, as long as there is time; then close both, and flush in the background."""
        deadline = Deadline(linger)
        while self.publisher.has_more and not deadline.passed():
            sleep(_PATIENT_PROBE)
        self.closed = True
        supervisor.forget(self)
        self.subscriber.close()
        self.publisher.close(deadline.left())
        _open_paths.discard(self)

    # What the supervisor calls.

    def filenos(self) -> tuple[int, ...]:
        return self.publisher.fileno(), self.subscriber.fileno()

    def keep(self, now: float) -> float:
        if self.closed:
            return float("inf")
        if now >= self._drain_due:
            self._drain_due = now + _DRAIN
            self.publisher.drain()
        self.subscriber.pump()
        with self._lock:
            legs = self._seen = self.publisher.leg(), self.subscriber.leg()
            arrived = self._echo is not None and self.publisher.has_seen(self._echo)
            step = self._watch.step(now, legs, arrived=arrived)
            if arrived:
                self._status.proven(now - self._echo_began)
                self.publisher.note_proof()
            if step.cancel:
                self._end_echo()
            if step.echo:
                self._begin_echo(now)
            self._follow(legs, step.state, step.reason)
            self._renew(*step.renew)  # before anybody can prove the old ones
        self._look_for_diagnosis(legs)
        if step.give_up:
            self._give_up(self)
            return float("inf")
        look_again = min(step.look_again, self._drain_due)
        if step.state is ClientState.READY and not self._flushed:
            return max(now + _PATIENT_PROBE, min(look_again, self._flush_due or now))
        return look_again

    def _look_for_diagnosis(self, legs: ConnectionStatuses) -> None:
        """Find out why connections are not let in, in a thread, when something new can be told."""
        symptoms: Symptoms = tuple((leg.refused, leg.broken_off.bit_length()) for leg in legs)
        if symptoms != self._symptoms:
            self._symptoms = symptoms
            if any(leg.refused or leg.broken_off for leg in legs):
                Thread(target=self._find_diagnosis, args=(legs,), name="eventbus-diagnosis", daemon=True).start()
            else:
                self._said = None

    def _find_diagnosis(self, legs: ConnectionStatuses) -> None:
        found = self._diagnose(legs)
        if found is None or not self._status.note_diagnosis(found, if_=lambda: not self._quiet):
            return
        error = found()
        with self._lock:  # another thread may have found the same, perhaps of the other leg
            new = type(error) is not self._said and self.in_use  # else whoever opens it is told
            if new:
                self._said = type(error)
        if new:
            logger.error(
                "%s", error, extra={"eventbus_endpoints": self._status.endpoints, "eventbus_error": type(error).__name__}
            )

    def _note_proof(self, began: float) -> None:
        with self._lock:
            now = monotonic()
            legs = self.legs()
            # Else it has gone down this very moment, and perhaps come back, which the supervisor is about to see.
            if all(leg.up for leg in legs) and not self._watch.has_missed(legs):
                self._end_echo()
                self._watch.proven(now, legs)
                self._status.proven(now - began)
                self.publisher.note_proof()
                self._follow(legs, ClientState.READY, "a subscription has come round through the proxy")
        supervisor.wake(self)

    def _follow(self, legs: ConnectionStatuses, state: ClientState, reason: str) -> None:
        """Do what the state asks for, and tell it."""
        self._failed = self._failed or any(leg.failures for leg in legs)
        if state is ClientState.READY:
            self._published_on = legs[0].handshakes
            if not self._flushed:
                self._flush(sum(leg.handshakes for leg in legs))
        else:
            self._flush_due = None
            if self._flushed:
                self._flushed = False
                self.publisher.hold(0.0 if any(not leg.up for leg in legs) else self._status.echo_age or 0.0)
        if self._published_on is not None and (not legs[0].up or legs[0].handshakes != self._published_on):
            self._published_on = None
            self._try(self.publisher.connection_lost)
        self._status.change(state, reason, if_=lambda: not self._quiet)

    def _flush(self, handshakes: int) -> None:
        """Send what was kept, once subscribers have had time to come back if connections were away."""
        now = monotonic()
        if self._flush_due is None:
            away = self._failed or handshakes != self._handshakes
            self._flush_due = now + _SETTLE if away else now
        if now >= self._flush_due and self.publisher.flush():
            self._flushed, self._flush_due = True, None
            self._handshakes, self._failed = handshakes, False

    def _begin_echo(self, now: float) -> None:
        self._echo, self._echo_began = wire.PRIVATE + uuid.uuid4().bytes, now
        self.publisher.expect(self._echo)
        self.subscriber.subscribe(self._echo)

    def _end_echo(self) -> None:
        if self._echo is not None:
            self.publisher.forget(self._echo)
            self.subscriber.unsubscribe(self._echo)
            self._echo = None

    def _renew(self, publisher: bool, subscriber: bool) -> None:
        for half, wanted in ((self.publisher, publisher), (self.subscriber, subscriber)):
            if wanted:
                self._try(half.renew)

    def _try(self, renewal: Callable[[], None]) -> None:
        try:
            renewal()
        except (OSError, zmq.ZMQError) as error:  # no descriptor left; the watch tries again
            logger.warning(
                "cannot open a socket to the proxy: %s",
                error,
                extra={"eventbus_endpoints": self._status.endpoints, "eventbus_error": type(error).__name__},
            )
