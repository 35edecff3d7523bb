"""Keeping a proxy within its memory and its descriptors: the connections that use most of them are ended."""

import errno
import os
import resource
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from threading import Lock
from types import MappingProxyType
from typing import Literal

from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle, more
from eventbus._base.zmq_sockets import HANDSHAKE_TIMEOUT_S
from eventbus.options import ProxyOptions
from eventbus.proxy import memory, tcp
from eventbus.proxy.backlog import Backlogs
from eventbus.proxy.health import Traffic
from eventbus.proxy.ledger import Ledger, SubscriptionShares
from eventbus.proxy.tcp import Connection, TcpState

type Reason = Literal["slow", "unfinished", "too_large", "handshake", "subscriptions", "misuse", "descriptors"]
type Opened = dict[int, float]
"""The time at which each connection of a port was opened, by descriptor, the newest last."""

REASONS: tuple[Reason, ...] = ("slow", "unfinished", "too_large", "handshake", "subscriptions", "misuse", "descriptors")
_OF_STRANGERS: tuple[Reason, ...] = ("handshake", "descriptors")  # who has not been authenticated
_TEXTS: Mapping[Reason, str] = MappingProxyType(
    {
        "slow": "it reads too slowly",
        "unfinished": "it sends faster than its messages end",
        "too_large": "it has sent a message above EVENTBUS_MAX_EVENT_BYTES, which was refused, or bytes that are none",
        "handshake": "it sends too much before it is authenticated",
        "subscriptions": "it has too many subscriptions (EVENTBUS_PROXY_MAX_SUBSCRIPTIONS)",
        "misuse": "it has sent what no subscriber sends",
        "descriptors": "descriptors run out (raise `ulimit -n`, LimitNOFILE= of a systemd unit)",
    }
)

_MIB = 1_048_576
HANDSHAKES_END_S = HANDSHAKE_TIMEOUT_S + 1.0
"""The age of a connection at which its handshake has ended, whatever its result."""

# What a client has sent at least when its handshake ends: a greeting of 64 bytes, and READY with its socket type.
_MIN_HANDSHAKE_BYTES = 91
# What a client that uses CURVE sends until it is authenticated is less than 1 kB; what it has received by then is more than
# a greeting of 64 bytes and WELCOME of 170, and less if it is not.
_MAX_HANDSHAKE_BYTES, _AUTHENTICATED_BYTES = 65_536, 260
CURVE_BYTES = 33
"""The bytes that encryption adds to a frame; libzmq counts them as part of the payload."""

_FRAME_BYTES = 9  # that ZeroMQ adds to a frame, at most

_RESERVED_DESCRIPTORS = 24  # not for clients, but for probes, metrics, the allow-list, the log
_SILENCE_S = 0.25  # connections that have been silent for this long make room for others
_MAX_ENDED_FOR_ONE = 8  # silent connections that make room for a new one
_FLOOD_CONNECTIONS = 8  # with this many silent connections left, a new one is ended instead
_MIN_FREE_DESCRIPTORS = 2  # with fewer, libzmq would try without end to accept a connection
_SUBSCRIPTION_BYTES = 300  # the longest topic, encrypted, with what ZeroMQ adds
_SAMPLE_INTERVAL_S, _SAMPLE_SUBSCRIPTIONS = 5.0, 1_000  # the time, or the new ones, after which connections are sampled

_SAMPLES_OF_QUEUE = 4  # samples of a backlog while as much is passed on as a queue may hold
_MIN_MESSAGE_BYTES = 128  # two frames in libzmq's queue, whatever they hold
_MIN_GROWTH_BYTES = 16 * _MIB  # no limit is closer to what the process has at its start
_ACCOUNTABLE_BYTES = _MIB  # connections that account for less are not ended for that
# Shares of the way from the start to the limit: from the first on connections are ended, until the second is reached.
_PRESSURE_SHARE, _RELIEF_SHARE = 0.6, 0.3
# Checks in a row above the limit before all connections end: while some are ended, and while it is not known which to end.
_CHECKS_WHILE_ENDING, _CHECKS_WHILE_UNKNOWN = 4, 2
# libzmq keeps subscriptions in small pieces, which the C library does not return to the system when they are free.
_TRIM_SUBSCRIPTIONS = 10_000  # that have ended since the last time
_TRIM_INTERVAL_S, _FREEING_S = 1.0, 3.0


class ConnectionGuard:
    """Ends connections that endanger the proxy, and has the proxy restart when that does not help.

    One thread, the counter's, calls its methods, but for `disconnected` and `end`, which any thread may use.

    Args:
        options: the proxy's.
        traffic: returns what was passed on (from publishers, to subscribers, from subscribers, to publishers), and whether
            the proxy answers. It must not wait for another thread that waits for this one.
        restart: called with the reason when the memory is above its limit and stays there.
        name: returns the client's name at an authenticated connection, if it is known; empty: it is not.
        kept_bytes: returns the memory that a history has, which counts for no limit.
    """

    interval_s = 0.25
    """The seconds from one check to the next."""

    def __init__(
        self,
        options: ProxyOptions,
        traffic: Callable[[], tuple[tuple[Traffic, Traffic, Traffic, Traffic], bool]],
        restart: Callable[[str], None],
        name: Callable[[Connection], str],
        kept_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._options = options
        self._traffic = traffic
        self._restart = restart
        self._name = name
        self._kept_bytes = kept_bytes
        self._log = Log()
        self._throttle = LogThrottle()
        self._listening: set[int] = set()  # the proxy's ports
        self._lock = Lock()  # guards the next two
        self._ending: set[Connection] = set()  # those that libzmq has perhaps not closed yet
        self._counts: Counter[str] = Counter()
        self._known: tuple[dict[int, tuple[float, Connection]], ...] = ({}, {})
        self._ledgers: tuple[Ledger, Ledger] | None = None
        self._backlogs = Backlogs(options.hwm)
        self._backlogs_at = Traffic()  # what had been passed on to subscribers at their last sample
        self._dropped = 0  # messages, about, for slow subscribers
        self._shares = SubscriptionShares()
        self._sampled = self._trimmed = 0.0  # when that was done last
        self._freeing_until = 0.0  # by then libzmq has freed what it held for connections that were ended
        self._baseline: int | None = None  # what `_resident` was at the first check
        self._kept = 0  # bytes that the history has had at most
        self._above = 0  # checks in a row above the limit
        self._restarting = False
        self._live = self._made = self._ended = 0  # subscriptions

    @property
    def disconnected(self) -> Mapping[str, int]:
        """The number of connections that were ended, by reason."""
        with self._lock:
            return {reason: self._counts[reason] for reason in REASONS}

    @property
    def dropped(self) -> int:
        """The number of messages that full queues of subscribers have dropped; an estimate, see `Backlogs`."""
        return self._dropped

    def listens(self, descriptor: int) -> None:
        """Learn a port of the proxy from the descriptor that listens at it."""
        port = tcp.port_of(descriptor)
        if port is not None:
            self._listening.add(port)

    def subscribed(self) -> None:
        """Count a subscription that no other connection had."""
        self._live += 1
        self._made += 1

    def unsubscribed(self) -> None:
        """Count the end of a subscription that no other connection has."""
        self._live = max(0, self._live - 1)
        self._ended += 1

    def accepted(self, port: int, descriptor: int, ports: tuple[Opened, Opened], now: float) -> None:
        """Make room if a new connection has got one of the last descriptors.

        Args:
            port: 0 for publishers, 1 for subscribers.
            descriptor: the connection's; the kernel gives the lowest that is free.
            ports: the open connections of both ports.
            now: the time, in seconds.
        """
        left = self._left_after(descriptor)
        if left >= _RESERVED_DESCRIPTORS:
            return
        ended, silent = self._end_silent(ports, now)
        if not ended and (silent >= _FLOOD_CONNECTIONS or left < _MIN_FREE_DESCRIPTORS):
            newcomer = self._connection(port, descriptor, ports[port].get(descriptor, now))
            if newcomer is not None:
                self.end(newcomer, "descriptors")

    def end(self, connection: Connection, reason: Reason, size: int = 0) -> bool:
        """End a connection, count and log that; return whether it was open. Any thread may call it.

        Args:
            connection: the connection.
            reason: why.
            size: the bytes that it holds, about; 0: they do not matter.
        """
        if self._listening and tcp.port_of(connection.descriptor) not in self._listening:
            return False  # a connection of the program around the proxy, which has got this descriptor since
        with self._lock:
            if connection in self._ending or not tcp.disconnect(connection):
                return False
            self._ending.add(connection)
            self._counts[reason] += 1
        self._report_end(connection, reason, size)
        return True

    def refused(self, connection: Connection) -> None:
        """Count and log that libzmq has ended a connection because of what came on it."""
        with self._lock:
            self._counts["too_large"] += 1
        self._report_end(connection, "too_large")

    def _report_end(self, connection: Connection, reason: Reason, size: int = 0) -> None:
        name = "" if reason in _OF_STRANGERS else self._name(connection)
        held_back = self._throttle.admit(reason)
        if held_back is not None:
            self._log.warning(
                "disconnected %s%s%s: %s%s",
                f"client {name} at " if name else "",
                connection,
                f", which holds about {size / _MIB:.0f} MiB of memory" if size else "",
                _TEXTS[reason],
                more(held_back),
                client=name or None,
                address=str(connection),
                reason=reason,
                held_back=held_back,
            )

    def check(self, ports: tuple[Opened, Opened], now: float) -> None:
        """Check descriptors, handshakes, subscriptions and memory, and end connections where that is needed.

        Args:
            ports: the open connections of both ports.
            now: the time, in seconds.
        """
        try:
            self._check(ports, now)
        except Exception as error:  # a defect of ours, after which the proxy must go on
            if self._throttle.admit("defect") is not None:
                self._log.exception("the proxy could not check its connections", error=type(error).__name__)

    # Checks

    def _check(self, ports: tuple[Opened, Opened], now: float) -> None:
        self._forget(ports)
        if self._left_after(_lowest_free_descriptor()) < _RESERVED_DESCRIPTORS:
            self._end_silent(ports, now)
        if self._options.secret_key is not None:
            self._check_handshakes(ports, now)
        (_, to_subscribers, _, _), answers = self._traffic()
        if not answers:
            self._end_floods(ports[1])
        elif self._made >= _SAMPLE_SUBSCRIPTIONS or now - self._sampled >= _SAMPLE_INTERVAL_S:
            self._check_subscriptions(ports[1], now)
        if self._ended >= _TRIM_SUBSCRIPTIONS:
            self._ended = 0
            self._freeing_until = now + _FREEING_S
        if now < self._freeing_until:
            self._trim(now)
        self._check_backlogs(ports[1], to_subscribers, now)
        self._check_memory(ports, now)

    def _end_silent(self, ports: tuple[Opened, Opened], now: float) -> tuple[int, int]:
        """End the connections that have been silent longest; return how many, and how many are silent."""
        young: list[tuple[float, Connection]] = []
        for index, opened in enumerate(ports):
            for descriptor, since in reversed(opened.items()):
                if now - since > HANDSHAKES_END_S:
                    break
                connection = self._connection(index, descriptor, since)
                if connection is not None:
                    young.append((since, connection))
        ended = silent = 0
        for since, connection in sorted(young):
            state = tcp.state_of(connection)
            if state is None or state.received >= _MIN_HANDSHAKE_BYTES:
                continue
            silent += 1
            if now - since > _SILENCE_S:
                ended += self.end(connection, "descriptors")
            if ended == _MAX_ENDED_FOR_ONE or silent - ended == _FLOOD_CONNECTIONS:
                break
        return ended, silent

    def _left_after(self, descriptor: int) -> int:
        """Return how many descriptors are left if this was the lowest free one; say once a minute if there are few."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        left = limit - descriptor - 1
        if left >= _RESERVED_DESCRIPTORS:
            return left
        held_back = self._throttle.admit("scarce")
        if held_back is not None:
            self._log.warning(
                "%d of %d descriptors are left: connections that say nothing are ended to make room; "
                "raise the limit (`ulimit -n`, LimitNOFILE= of a systemd unit)",
                max(0, left),
                limit,
                count=max(0, left),
                held_back=held_back,
            )
        return left

    def _check_handshakes(self, ports: tuple[Opened, Opened], now: float) -> None:
        for index, opened in enumerate(ports):
            for descriptor, since in reversed(opened.items()):
                if now - since > HANDSHAKES_END_S:
                    break
                connection = self._connection(index, descriptor, since)
                state = None if connection is None else tcp.state_of(connection)
                if connection is None or state is None:
                    continue
                if state.received > _MAX_HANDSHAKE_BYTES and state.sent < _AUTHENTICATED_BYTES:
                    self.end(connection, "handshake")

    def _check_subscriptions(self, opened: Opened, now: float) -> None:
        received: dict[Connection, int] = {}
        fresh: set[Connection] = set()
        for connection, state, since in self._states(1, opened):
            received[connection] = state.received
            if since >= self._sampled:
                fresh.add(connection)
        self._shares.update(received, fresh, self._made, self._live)
        self._made, self._sampled = 0, now
        limit = self._options.max_subscriptions
        if self._live > limit:
            for connection in self._shares.above(limit):
                self.end(connection, "subscriptions")

    def _end_floods(self, opened: Opened) -> None:
        """End connections that send subscriptions so fast that the proxy does nothing but take them in.

        libzmq passes no message on before it has taken in all subscriptions that are there. Those of a fleet that comes back
        take a while, too, but no client of it has more than it may.
        """
        fresh = {connection for connection, _, since in self._states(1, opened) if since >= self._sampled}
        received = {connection: state.received for connection, state, _ in self._states(1, opened)}
        for connection, sent in self._shares.sent(received, fresh).items():
            if sent > self._options.max_subscriptions * _SUBSCRIPTION_BYTES:
                self.end(connection, "subscriptions")

    def _check_backlogs(self, opened: Opened, went_out: Traffic, now: float) -> None:
        """Count what full queues have dropped, and end the connections of subscribers for which too much waits.

        A sample is due when a quarter of what a queue may hold has been passed on.
        """
        last, limit = self._backlogs_at, self._options.max_backlog
        messages, size = (went_out.frames - last.frames) // 2, went_out.bytes - last.bytes
        if messages < self._options.hwm // _SAMPLES_OF_QUEUE and (not limit or size < limit // _SAMPLES_OF_QUEUE):
            return
        self._backlogs_at = went_out
        states = {connection: state for connection, state, _ in self._states(1, opened)}
        growth = self._resident_growth()  # of which the backlogs are a part
        may_be_full = growth >= self._options.hwm * _MIN_MESSAGE_BYTES
        for connection, backlog in self._backlogs.update(states, went_out, may_be_full=may_be_full).items():
            if backlog.dropped:
                self._report_dropped(connection, backlog.dropped)
            if limit and min(backlog.bytes, growth) > limit and self.end(connection, "slow", min(backlog.bytes, growth)):
                self._freeing_until = now + _FREEING_S

    def _report_dropped(self, connection: Connection, count: int) -> None:
        self._dropped += count
        name = self._name(connection)
        # Not by connection: a client that is disconnected and comes back would fill the log, and the throttle for good.
        held_back = self._throttle.admit(f"dropped {name or connection.peer[0]}")
        if held_back is not None:
            self._log.warning(
                "%s%s reads too slowly: its queue of %d messages is full (EVENTBUS_PROXY_HWM), about %d were dropped",
                f"client {name} at " if name else "subscriber ",
                connection,
                self._options.hwm,
                count,
                client=name or None,
                address=str(connection),
                count=count,
                held_back=held_back,
            )

    def _check_memory(self, ports: tuple[Opened, Opened], now: float) -> None:
        growth, room = self._growth()
        if not room or growth < room * _RELIEF_SHARE:
            self._ledgers = None
            self._above = 0
            return
        self._account(ports)
        if growth >= room * _PRESSURE_SHARE:
            self._trim(now)  # what is free already is no reason to end a connection
            growth, room = self._growth()
        if growth < room * _PRESSURE_SHARE:
            self._above = 0
            return
        ended = self._end_largest(growth - round(room * _RELIEF_SHARE), now)
        self._above = self._above + 1 if growth >= room else 0
        if self._restarting or self._above < (_CHECKS_WHILE_ENDING if ended else _CHECKS_WHILE_UNKNOWN):
            return
        self._restarting = True
        self._restart(
            f"the process has {(growth + (self._baseline or 0)) // _MIB} MiB of memory, above EVENTBUS_PROXY_MAX_MEMORY, "
            f"for {self._describe_largest()}"
        )

    def _end_largest(self, needed: int, now: float) -> int:
        """End the connections that hold most, as few as together hold the `needed` bytes; return how many."""
        held = [
            (account.bytes, connection, account)
            for ledger in self._ledgers or ()
            for connection, account in ledger.accounts.items()
            if account.bytes >= _ACCOUNTABLE_BYTES
        ]
        ended = 0
        for size, connection, account in sorted(held, key=lambda item: -item[0]):
            if needed <= 0:
                break
            ended += self.end(connection, "slow" if account.backlog > account.unfinished else "unfinished", size)
            needed -= size
        self._freeing_until = now + _FREEING_S
        return ended

    # Tools

    def _trim(self, now: float) -> None:
        """Return free memory to the system, at most once a second, because it takes a while."""
        if now - self._trimmed >= _TRIM_INTERVAL_S:
            self._trimmed = now
            memory.trim()

    def _resident_growth(self) -> int:
        """Return how many bytes the process has grown by since its first check; 0 if the system does not tell."""
        resident = self._resident()
        return 0 if resident is None or self._baseline is None else resident - self._baseline

    def _resident(self) -> int | None:
        """Return the resident memory of this process without that of a history; None if the system does not tell."""
        resident = memory.resident_bytes()
        self._kept = max(self._kept, self._kept_bytes())  # what it has no more, the process may still have
        return None if resident is None else resident - self._kept

    def _growth(self) -> tuple[int, int]:
        """Return how many bytes the process has grown by, and by how many it may; 0 and 0 if there is no limit."""
        if self._baseline is None:
            self._baseline = self._resident()
        if self._baseline is None or not self._options.max_memory:
            return 0, 0
        return self._resident_growth(), max(self._options.max_memory - self._baseline, _MIN_GROWTH_BYTES)

    def _account(self, ports: tuple[Opened, Opened]) -> None:
        states = [
            {connection: state for connection, state, _ in self._states(index, opened)} for index, opened in enumerate(ports)
        ]
        # After the kernel's counts: what has come in meanwhile only makes estimates smaller.
        (from_publishers, to_subscribers, from_subscribers, to_publishers), _ = self._traffic()
        overhead = _FRAME_BYTES + (0 if self._options.secret_key is None else CURVE_BYTES)
        directions = (from_publishers, to_publishers), (from_subscribers, to_subscribers)
        if self._ledgers is None:
            self._ledgers = Ledger(), Ledger()
        for ledger, of_port, (into, out) in zip(self._ledgers, states, directions, strict=True):
            ledger.update(of_port, came_in=into.bytes + overhead * into.frames, went_out=out.bytes)

    def _states(self, port: int, opened: Opened) -> Iterator[tuple[Connection, TcpState, float]]:
        """Yield each open connection of a port, its state, and when it was opened."""
        for descriptor, since in opened.items():
            connection = self._connection(port, descriptor, since)
            state = None if connection is None else tcp.state_of(connection)
            if connection is not None and state is not None:
                yield connection, state, since

    def _connection(self, port: int, descriptor: int, since: float) -> Connection | None:
        known = self._known[port].get(descriptor)
        if known is not None and known[0] == since:
            return known[1]
        connection = tcp.connection_at(descriptor)
        if connection is not None:
            self._known[port][descriptor] = since, connection
        return connection

    def _forget(self, ports: tuple[Opened, Opened]) -> None:
        for known, opened in zip(self._known, ports, strict=True):
            if len(known) > len(opened):
                for descriptor in known.keys() - opened.keys():
                    del known[descriptor]
        with self._lock:
            self._ending = {
                connection
                for connection in self._ending
                if any(known.get(connection.descriptor, (0, None))[1] == connection for known in self._known)
            }

    def _describe_largest(self) -> str:
        found = [(a.bytes, c) for ledger in self._ledgers or () for c, a in ledger.accounts.items() if a.bytes > 0]
        if not found:
            return f"{self._live} subscriptions, or memory that is not accounted for"
        size, connection = max(found, key=lambda item: item[0])
        name = self._name(connection)
        return f"at most {size // _MIB} MiB of {f'client {name} at ' if name else ''}{connection}, among others"


def _lowest_free_descriptor() -> int:
    """Return the descriptor that the next connection gets; the limit if there is none left."""
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    os.close(descriptor)
    return descriptor
