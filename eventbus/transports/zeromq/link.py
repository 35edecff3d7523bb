"""The link to one proxy: a publishing and a subscribing socket, and all that keeps both connections live."""

import uuid
from collections.abc import Callable
from threading import RLock, Thread, current_thread, main_thread
from time import monotonic, sleep

import zmq

from eventbus._base.deadline import Deadline
from eventbus._base.locking import call_locked
from eventbus._base.log import Log
from eventbus.errors import EventBusError
from eventbus.observe.state import ClientState, Status
from eventbus.options import ZeroMQOptions
from eventbus.transports.zeromq.context import Use
from eventbus.transports.zeromq.policy import ConnectionStatuses, PolicyState, decide, proven
from eventbus.transports.zeromq.publisher import Publisher
from eventbus.transports.zeromq.subscriber import Subscriber
from eventbus.transports.zeromq.supervisor import supervisor
from eventbus.wire.frames import PRIVATE

# Between two looks for a token. No thread waits inside of libzmq: a signal handler may close the very socket meanwhile.
_FIRST_POLL_S, _POLL_S = 0.0001, 0.001
_FIRST_POLLS_FOR_S = 0.01
_DRAIN_INTERVAL_S = 1.0
# From READY to sending the outbox, if connections were down. Most likely those of other subscribers were down, too, and
# they need this time to reconnect: our proxy gives it to them, other proxies do not, nor does a network that comes back.
_SETTLE_S = 0.25

_HANDLER_PATIENCE_S = 1.0  # the supervisor is quicker, unless it waits for what a signal handler has interrupted

_FREQUENT_TRIES = 64  # failures; until then addresses are tried after 1, 2, 4 and so on, from then on after every 64

# Referenced until they are closed: the garbage collector would close their sockets in any order and from any thread, and in
# a forked child it would close what belongs to the parent.
_open_links: set["ProxyLink"] = set()

# Of each connection: whether it was refused, and roughly how many handshakes were broken off.
type Symptoms = tuple[tuple[bool, int], ...]


class ProxyLink:
    """Both sockets, open from creation to `close`; the supervisor keeps them live from `watch` on.

    Args:
        use: that of the context which both sockets belong to.
        publisher: the publishing half.
        subscriber: the subscribing half.
        options: how long to wait for what.
        status: where the state of the link is reported.
        give_up: called with the link when no more attempts to reconnect are made.
        diagnose: tells from the connections why the proxy does not let the client in; may take its time.
        report_overdue: called once, in a thread, if the link is opened and not READY after the connect timeout.
        answers_at_ipv6: tells whether the proxy answers at an IPv6 address of its name only; may take its time. None: the
            host is an address.

    Attributes:
        use: as given.
        closed: whether `close` has begun to close the sockets.
        opened: whether the transport's `open` has returned. Before that, `open` raises what the link would log.
    """

    def __init__(
        self,
        use: Use,
        publisher: Publisher,
        subscriber: Subscriber,
        options: ZeroMQOptions,
        status: Status,
        give_up: Callable[["ProxyLink"], None],
        diagnose: Callable[[ConnectionStatuses], Callable[[], EventBusError] | None],
        report_overdue: Callable[[], None] = lambda: None,
        answers_at_ipv6: Callable[[], bool] | None = None,
    ) -> None:
        self.use = use
        self.publisher = publisher
        self.subscriber = subscriber
        self.closed = False
        self.opened = False
        self._options = options
        self._status = status
        self._give_up = give_up
        self._diagnose = diagnose
        self._report_overdue = report_overdue
        self._overdue_at = monotonic() + options.connect_timeout
        self._answers_at_ipv6 = answers_at_ipv6
        self._addresses_tried = 0  # grows with the failures, after which addresses are tried again
        self._log = Log(endpoints=status.endpoints)
        self._symptoms: Symptoms = ()  # at the last diagnosis
        self._logged: type[EventBusError] | None = None  # the last diagnosis that was logged
        self._lock = RLock()  # guards all below; reentrant, because a signal handler may close the link it interrupts
        self._policy = PolicyState(echo_due=monotonic())
        self._echo: bytes | None = None  # the token of the echo under way
        self._echo_began = 0.0
        self._drain_due = 0.0
        self._flushed = False
        self._flush_due: float | None = None  # from READY until the outbox is empty
        # At the last flush. To begin with, as if the proxy was there at once: one handshake of each connection.
        self._flushed_handshakes = 2
        self._failed = False  # whether an attempt to connect has failed since the last flush
        self._ready_on: ConnectionStatuses | None = None  # the connections at the last READY
        self._publishing_lost = False  # whether the publishing connection of then is lost
        self._applying = False  # guarded by the lock: only a handler of signals or of the log can find it set
        self._reporting = True
        self._supervised_statuses = ConnectionStatuses()  # as the supervisor has seen them last

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self._status.endpoints}>"

    def watch(self) -> None:
        """Let the supervisor keep the link live.

        Raises:
            OSError: there is no descriptor left.
        """
        supervisor.watch(self)
        _open_links.add(self)

    def statuses(self) -> ConnectionStatuses:
        """Return the status of both connections at this moment."""
        statuses = self._read_statuses()
        if statuses != self._supervised_statuses:
            supervisor.wake(self)  # the events that this call has read do not wake it any more
        return statuses

    def is_up(self) -> bool:
        """Whether both connections are up."""
        return self.statuses().are_up

    def is_ready(self) -> bool:
        """Whether the link is proven live, and nothing has failed since."""
        return self._policy.state is ClientState.READY

    def prove(self, deadline: Deadline, *, while_: Callable[[], bool] = lambda: True) -> bool:
        """Subscribe to a token, and wait until the subscription has come back through the proxy.

        Returns False if it has not in time, or if the condition is no longer true.
        """
        token = _new_token()
        began = monotonic()
        try:
            self.publisher.expect(token)
            self.subscriber.subscribe(token)
            while not self.closed:
                self.subscriber.process_commands()
                if self.publisher.has_seen(token):
                    self._note_proof(began)
                    return True
                if deadline.passed() or not while_():
                    return False
                sleep(_FIRST_POLL_S if monotonic() - began < _FIRST_POLLS_FOR_S else _POLL_S)
            return False
        finally:
            self.publisher.forget(token)
            self.subscriber.unsubscribe(token)

    def has_subscriber(self, topic: bytes, timeout: float, *, watchers: bool = True) -> bool | None:
        """Whether anybody subscribes to a topic or a prefix of it; see `KnowsSubscribers`, and for watchers `KnowsWatchers`.

        The proxy passes subscriptions on in the order in which they come. So after a proof all are known that were in force
        before it began.
        """
        found = self.publisher.has_subscriber(topic, watchers=watchers)
        if found is False and timeout > 0:
            proven = self.prove(Deadline(timeout), while_=self.is_ready)
            return self.publisher.has_subscriber(topic, watchers=watchers) if proven else None
        return found

    def stop_reporting(self) -> None:
        """Report no more changes of the state.

        Without the lock: a signal handler that closes the link may have interrupted a thread that the supervisor waits for
        while it holds the lock.
        """
        self._reporting = False

    def close(self, linger: float) -> None:
        """Wait up to `linger` seconds until the outbox is sent; then close both sockets, and flush in the background."""
        deadline = Deadline(linger)
        while self.publisher.has_more and not deadline.passed():
            sleep(_POLL_S)
        self.closed = True
        supervisor.forget(self)
        self.subscriber.close()
        self.publisher.close(deadline.left())
        _open_links.discard(self)

    # Called by the supervisor.

    def filenos(self) -> tuple[int, ...]:
        return self.publisher.fileno(), self.subscriber.fileno()

    def supervise(self, now: float) -> float:
        if self.closed:
            return float("inf")
        if now >= self._drain_due:
            self._drain_due = now + _DRAIN_INTERVAL_S
            self.publisher.drain()
        self.subscriber.process_commands()
        with self._lock:
            statuses = self._supervised_statuses = self._read_statuses()
            arrived = self._echo is not None and self.publisher.has_seen(self._echo)
            step = decide(self._policy, now, statuses, self._options, arrived=arrived)
            self._policy = step.after
            if arrived:
                self._status.proven(now - self._echo_began)
                self.publisher.note_proof()
            if step.cancel:
                self._end_echo()
            if step.echo:
                self._begin_echo(now)
            self._apply(statuses, step.state, step.reason)
            # Before another thread can prove the old sockets.
            if step.renew.publishing:
                self._try(self.publisher.renew)
            if step.renew.subscribing:
                self._try(self.subscriber.renew)
        self.publisher.report()
        self._check_symptoms(statuses)
        if step.state is ClientState.CONNECTING:
            self._try_addresses(statuses.failures)
            if self.opened and now >= self._overdue_at:
                self._overdue_at = float("inf")
                Thread(target=self._report_overdue, name="eventbus-diagnosis", daemon=True).start()
        if step.give_up:
            self._give_up(self)
            return float("inf")
        look_again = min(step.look_again, self._drain_due)  # _drain_due is often enough for _overdue_at
        if step.state is ClientState.READY and not self._flushed:
            return max(now + _POLL_S, min(look_again, self._flush_due or now))
        return look_again

    def _read_statuses(self) -> ConnectionStatuses:
        return ConnectionStatuses(self.publisher.status(), self.subscriber.status())

    def _check_symptoms(self, statuses: ConnectionStatuses) -> None:
        """Find out in a thread why connections are not let in, if there are new symptoms."""
        symptoms: Symptoms = tuple((status.refused, status.broken_off.bit_length()) for status in statuses)
        if symptoms != self._symptoms:
            self._symptoms = symptoms
            if any(status.refused or status.broken_off for status in statuses):
                Thread(target=self._report_diagnosis, args=(statuses,), name="eventbus-diagnosis", daemon=True).start()
            else:
                self._logged = None

    def _try_addresses(self, failures: int) -> None:
        """Find out after failures, seldom and in a thread, whether another address of the proxy's name answers."""
        tries = min(failures, _FREQUENT_TRIES).bit_length() + failures // _FREQUENT_TRIES
        if failures and self._answers_at_ipv6 is not None and tries != self._addresses_tried:
            self._addresses_tried = tries
            Thread(
                target=self._choose_address, args=(self._answers_at_ipv6,), name="eventbus-diagnosis", daemon=True
            ).start()

    def _choose_address(self, answers_at_ipv6: Callable[[], bool]) -> None:
        ipv6 = answers_at_ipv6()
        with self._lock:
            if self._policy.state is ClientState.CONNECTING and not self.closed and ipv6 != self.publisher.ipv6:
                self.publisher.ipv6 = self.subscriber.ipv6 = ipv6
                self._try(self.publisher.renew)
                self._try(self.subscriber.renew)
        supervisor.wake(self)

    def _report_diagnosis(self, statuses: ConnectionStatuses) -> None:
        diagnosis = self._diagnose(statuses)
        if diagnosis is None or not self._status.note_diagnosis(diagnosis, if_=lambda: self._reporting):
            return
        error = diagnosis()
        with self._lock:  # another thread may have found the same, perhaps of the other connection
            new = type(error) is not self._logged and self.opened
            if new:
                self._logged = type(error)
        if new:
            self._log.error("%s", error, error=type(error).__name__)

    def _note_proof(self, began: float) -> None:
        def note() -> None:
            now = monotonic()
            statuses = self.statuses()
            # Else a connection was lost this very moment, and is perhaps back: the supervisor is about to see that.
            if statuses.are_up and not self._policy.has_missed(statuses) and not self._applying:
                self._end_echo()
                self._policy = proven(now, statuses, self._options)
                self._status.proven(now - began)
                self.publisher.note_proof()
                self._apply(statuses, ClientState.READY, "a subscription has come back through the proxy")

        # A signal handler may have interrupted what holds a lock that the supervisor waits for while it holds this one. Then
        # the supervisor notes a proof of its own as soon as the handler has returned.
        call_locked(self._lock, _HANDLER_PATIENCE_S if current_thread() is main_thread() else -1, note)
        supervisor.wake(self)

    def _apply(self, statuses: ConnectionStatuses, state: ClientState, reason: str) -> None:
        """Hold or flush the outbox as the state demands, and report the state."""
        self._applying = True  # a handler that proves the link meanwhile must not flush what is being flushed
        try:
            self._apply_to_outbox(statuses, state)
            self._status.change(state, reason, if_=lambda: self._reporting)
        finally:
            self._applying = False

    def _apply_to_outbox(self, statuses: ConnectionStatuses, state: ClientState) -> None:
        self._failed = self._failed or statuses.failures > 0
        if state is ClientState.READY:
            if self._ready_on is not None and self._publishing_lost:
                before, now = self._ready_on.subscribing, statuses.subscribing
                self.publisher.reconnected(same_proxy=now.handshakes == before.handshakes)
            self._ready_on, self._publishing_lost = statuses, False
            if not self._flushed:
                self._flush(statuses.handshakes)
        else:
            self._flush_due = None
            if self._flushed:
                self._flushed = False
                # Also if a connection has just ended: the proxy may have hung before.
                self.publisher.hold(self._status.echo_age or 0.0)
        if self._ready_on is not None and not self._publishing_lost:
            before, now = self._ready_on.publishing, statuses.publishing
            if not now.up or now.handshakes != before.handshakes:
                self._publishing_lost = True
                self._try(self.publisher.connection_lost)

    def _flush(self, handshakes: int) -> None:
        """Send the outbox; if connections were down, only after subscribers have had time to reconnect."""
        now = monotonic()
        if self._flush_due is None:
            were_down = self._failed or handshakes != self._flushed_handshakes
            self._flush_due = now + _SETTLE_S if were_down else now
        if now >= self._flush_due and self.publisher.flush():
            self._flushed, self._flush_due = True, None
            self._flushed_handshakes, self._failed = handshakes, False

    def _begin_echo(self, now: float) -> None:
        self._echo, self._echo_began = _new_token(), now
        self.publisher.expect(self._echo)
        self.subscriber.subscribe(self._echo)

    def _end_echo(self) -> None:
        echo, self._echo = self._echo, None  # first, because a signal handler that proves the link ends it, too
        if echo is not None:
            self.publisher.forget(echo)
            self.subscriber.unsubscribe(echo)

    def _try(self, renewal: Callable[[], None]) -> None:
        """Replace a socket; if that fails, because there is no descriptor left, the policy has it tried again."""
        try:
            renewal()
        except (OSError, zmq.ZMQError) as error:
            self._log.warning("cannot open a socket to the proxy: %s", error, error=type(error).__name__)


def _new_token() -> bytes:
    """Return a subscription that no other client has."""
    return PRIVATE + uuid.uuid4().bytes
