"""Passing messages on between two bound ports: one run, from binding the ports until they are free again."""

import signal
import struct
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from operator import add
from threading import Lock, Thread
from types import MappingProxyType
from typing import TYPE_CHECKING

import zmq

from eventbus._base.deadline import Deadline
from eventbus._base.descriptors import require_descriptors
from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle, more
from eventbus._base.secret import reveal
from eventbus._base.zmq_sockets import Context, Socket
from eventbus.options import ProxyOptions
from eventbus.proxy import sockets
from eventbus.proxy.allow_list import AllowListFile
from eventbus.proxy.counters import ConnectionCounter
from eventbus.proxy.denials import Denials
from eventbus.proxy.enforcer import Enforcer
from eventbus.proxy.guard import CURVE_BYTES, ConnectionGuard
from eventbus.proxy.health import ProxyHealth, Traffic
from eventbus.proxy.subscribers import Subscribers, descriptor_of
from eventbus.proxy.tcp import Connection, connection_to
from eventbus.proxy.zap import Authenticator
from eventbus.wire.notices import MIN_PAYLOAD_LIMIT, LimitNotice

if TYPE_CHECKING:
    from eventbus.history.server import HistoryServer
    from eventbus.proxy.recording import Recording

# Messages of a publisher that wait to be passed on; then it must wait itself, and loses none. A few are enough, because
# whatever waits here is lost if the process is killed.
_RECEIVE_HWM = 10_000
_GUARD_TIMEOUT_S = 0.1
# A look at what subscribers send takes no longer, and no more frames; nothing else passes meanwhile, so looks are rare.
_MISUSE_TIMEOUT_MS, _MISUSE_FRAMES, _MISUSE_INTERVAL_S = 5, 1_000, 0.05
_ANSWER_TIMEOUT_S = 1.0  # a healthy proxy answers with its counts within a millisecond
# The context has five, its four sockets one each, the two ports one each, the counter's two sockets five together, and the
# two connections of a client one each. With keys: another thread of the context has two, the authenticator a socket and a
# pair, the allow-list one.
_DESCRIPTORS, _DESCRIPTORS_WITH_KEYS = 5 + 4 + 2 + 5 + 2, 2 + 3 + 1

# libzmq keeps a node for each byte of a subscription and walks them recursively: a long one costs 60 times its size, and a
# very long one overflows the stack. A topic has at most 255 bytes.
_MAX_SUBSCRIPTION_BYTES = 4_096


class Forwarding:
    """Passes messages on in a thread, from its creation to `stop`: natively, or under the rules of an allow-list.

    Any thread may call any method.

    Args:
        host: the address to bind.
        pub_port: the port for publishers; 0 picks a free one.
        sub_port: the port for subscribers; 0 picks a free one.
        options: how the proxy behaves; `allow_list` in them is not read.
        allow_list: which clients may connect, and what they may do; None: everybody, everything.
        denials: counts what was denied, over several runs.
        restart: called with the reason when a new run must replace this one, on the same ports and with the same allow-list.
        previous: health of the run that this one replaces; its counts go on.
        readiness_key: the public key with which the proxy connects to itself to find out whether it is ready; None: no
            encryption.
        history: keeps what passes and answers queries; None: nothing is kept.
        upstream_timeout: the seconds in which a publisher must read its subscriptions; else the kernel ends its connection.

    Raises:
        AddressInUse: a port is taken.
        DescriptorsExhausted: the process may not open as many sockets as a proxy needs.
        OSError: the host cannot be bound, or a socket cannot be made.
    """

    def __init__(
        self,
        host: str,
        pub_port: int,
        sub_port: int,
        options: ProxyOptions,
        *,
        allow_list: AllowListFile | None,
        denials: Denials,
        restart: Callable[[str], None],
        previous: ProxyHealth,
        readiness_key: str | None,
        history: "HistoryServer | None" = None,
        upstream_timeout: float = 20.0,
    ) -> None:
        self.allow_list = allow_list
        self.denials = denials
        self._options = options
        self._upstream_timeout = upstream_timeout
        self._restart = restart
        self._restart_requested = False
        self._previous = previous
        self._enforces = allow_list is not None and allow_list.current.has_rules  # for the whole run: the sockets differ
        self._lock = Lock()  # guards the control socket; its holder checks first that the thread lives
        self._traffic = (Traffic(), Traffic(), Traffic(), Traffic())
        self._counts, self._counts_before = [0] * 8, [0] * 8  # the thread's last ones, and those from before it began anew
        self._begun, self._counted = 0, 0  # how often the thread began anew, now and at the last counts
        self._ended: float | None = None
        self._is_controlled = False  # whether the thread runs and can be asked for its counts
        self._subscribers = Subscribers(options.max_subscriptions)
        require_descriptors(_DESCRIPTORS + (_DESCRIPTORS_WITH_KEYS if allow_list else 0))
        # libzmq encrypts in its own threads: a single one would be the bottleneck.
        self._context: Context = zmq.Context(1 if options.secret_key is None else 2)
        with ExitStack() as undo:
            undo.callback(self._context.destroy, linger=0)
            try:
                # Before any socket is bound, because without an authenticator libzmq refuses every client.
                self._authenticator = self._start_authenticator(readiness_key)
                if self._authenticator is not None:
                    undo.callback(self._authenticator.stop)
                self._frontend, self._backend = self._data_sockets()
                # Under rules publishers get no subscriptions, so there are none to count on their side.
                self._guard = ConnectionGuard(
                    options,
                    self._current_traffic,
                    self._restart_once,
                    self._name_at,
                    lambda: history.store.bytes if history else 0,
                )
                self._counter = ConnectionCounter(
                    self._context,
                    self._frontend,
                    self._backend,
                    self._guard,
                    subscriptions=not self._enforces,
                    encrypted=options.secret_key is not None,
                )
                undo.callback(self._counter.end)
                self._recording = self._start_recording(history)
                if self._recording is not None:
                    undo.callback(self._recording.stop)
                self.pub_port, self.sub_port = self._bind(host, pub_port, sub_port)
                self._control, self._commands = self._control_pair()
                self._enforcer = self._make_enforcer(readiness_key)
            except zmq.ZMQError as error:  # another thread has taken the descriptors in the meantime
                raise OSError(error.errno, f"cannot run a proxy: {error.strerror}") from error
            self._log = Log(pub_port=self.pub_port, sub_port=self.sub_port)
            self._started = time.monotonic()
            self._thread = Thread(target=self._run, name="eventbus-proxy", daemon=True)
            self._thread.start()
            self._is_controlled = True
            undo.pop_all()

    @property
    def protection(self) -> str:
        """The protection against strangers, for people; empty if there is none."""
        if self.allow_list is None:
            return ""
        allowed = self.allow_list.current
        clients = "1 client" if len(allowed.clients) == 1 else f"{len(allowed.clients)} clients"
        return f"encrypted, {clients} may connect" + (", with rules" if allowed.has_rules else "")

    def is_alive(self) -> bool:
        """Whether the threads that pass messages on and authenticate clients run."""
        return self._thread.is_alive() and (self._authenticator is None or self._authenticator.is_alive())

    def reload(self) -> None:
        """Read the allow-list again, even if its file seems unchanged."""
        if self.allow_list is not None and self.allow_list.reread():
            self._on_allow_list_change()

    def stop(self) -> None:
        """Stop passing messages on; returns when both ports are free."""
        with self._lock:
            if self._thread.is_alive():
                self._fetch_counts(Deadline(_ANSWER_TIMEOUT_S))
                with suppress(zmq.Again):  # the thread has ended at this very moment
                    self._control.send(b"TERMINATE", zmq.NOBLOCK)
                self._thread.join()
            if self._authenticator is not None:
                self._authenticator.stop()
            if self._recording is not None:
                self._recording.stop()
            self._context.destroy()

    def health(self) -> ProxyHealth:
        """Return the state of this moment, with the counts of the runs before; takes a second at most."""
        deadline = Deadline(_ANSWER_TIMEOUT_S)
        running = False
        if self._lock.acquire(timeout=deadline.left()):
            try:
                running = self.is_alive() and self._fetch_counts(deadline)
            finally:
                self._lock.release()
        subscriptions = self._enforcer.subscriptions if self._enforcer else self._counter.subscriptions
        return ProxyHealth(
            running,
            (self._ended or time.monotonic()) - self._started,
            *self._traffic,
            refused=self._authenticator.refused if self._authenticator else 0,
            denied=MappingProxyType(self.denials.counts),
            connections=self._counter.connections,
            handshake_failures=self._counter.handshake_failures,
            subscriptions=0 if self._ended else subscriptions,
            disconnected=self._guard.disconnected,
            dropped=self._guard.dropped,
            history=None if self._recording is None else self._recording.kept(self._traffic[1].frames // 2),
        ).after(self._previous)

    # Setting up

    def _start_authenticator(self, readiness_key: str | None) -> Authenticator | None:
        if self.allow_list is None:
            return None
        return Authenticator(self._context, self.allow_list, self._on_allow_list_change, readiness_key)

    def _start_recording(self, history: "HistoryServer | None") -> "Recording | None":
        if history is None:
            return None
        from eventbus.proxy.recording import Recording  # here, because a proxy without a history need not be larger

        return Recording(self._context, self._frontend, self._backend, history, enforced=self._enforces)

    def _data_sockets(self) -> tuple[Socket, Socket]:
        """Make the sockets for publishers and for subscribers.

        Queues of data are bounded. Subscriptions count against high-water marks too, and none may be lost: those are 0.
        """
        secret_key = self._options.secret_key
        limit = max(self._options.max_event_bytes, MIN_PAYLOAD_LIMIT)
        largest = limit + (CURVE_BYTES if secret_key else 0)
        frontend = sockets.socket_for(
            self._context, zmq.XSUB, receive_hwm=_RECEIVE_HWM, largest=largest, secret_key=secret_key
        )
        frontend.send(LimitNotice(limit, uuid.uuid4().hex).frame())  # which the socket repeats to each publisher
        backend = sockets.socket_for(
            self._context, zmq.XPUB, send_hwm=self._options.hwm, largest=_MAX_SUBSCRIPTION_BYTES, secret_key=secret_key
        )
        # There is no high-water mark for subscriptions that a publisher does not read, so the kernel ends its connection.
        frontend.set(zmq.TCP_MAXRT, round(1000 * self._upstream_timeout))
        if self._enforces:
            backend.set(zmq.XPUB_MANUAL, 1)
        return frontend, backend

    def _bind(self, host: str, pub_port: int, sub_port: int) -> tuple[int, int]:
        """Bind the port for subscribers, then that for publishers; return both ports, publishers first.

        As soon as they can, publishers send what they kept while no proxy ran: by then subscribers must have reconnected.
        No client waits for a port that is picked now.
        """
        bound = sockets.bind(self._backend, host, sub_port, "EVENTBUS_SUB_PORT")
        if pub_port:
            time.sleep(self._options.settle)
        return sockets.bind(self._frontend, host, pub_port, "EVENTBUS_PUB_PORT"), bound

    def _control_pair(self) -> tuple[Socket, Socket]:
        """Make the socket that controls the thread, and the one from which the thread reads commands."""
        address = f"inproc://eventbus-proxy-{uuid.uuid4().hex}"
        commands = self._context.socket(zmq.PAIR)
        commands.bind(address)
        control = self._context.socket(zmq.PAIR)
        control.connect(address)
        return control, commands

    def _make_enforcer(self, readiness_key: str | None) -> Enforcer | None:
        if self.allow_list is None or not self._enforces:
            return None
        assert self._options.secret_key is not None  # without one there is no allow-list
        return Enforcer(
            self._frontend,
            self._backend,
            self._commands,
            self.allow_list,
            self.denials,
            self._expel,
            reveal(self._options.secret_key),
            readiness_key,
            subscribers=self._subscribers,
            on_excess=self._expel_for_subscriptions,
            recording=self._recording,
        )

    # Counts

    def _fetch_counts(self, deadline: Deadline) -> bool:
        """Ask the thread for its counts; return whether it has answered in time. The caller holds the lock."""
        while self._control.poll(0):
            self._control.recv_multipart()  # an answer that came too late for an earlier call
        while True:
            begun = self._begun
            try:
                self._control.send(b"STATISTICS", zmq.NOBLOCK)
            except zmq.Again:  # the thread has ended at this very moment
                return False
            if not self._control.poll(round(deadline.left() * 1000)):
                return False
            counts = [struct.unpack("=Q", frame)[0] for frame in self._control.recv_multipart()]
            if begun == self._begun:  # else they may be from before or after
                self._keep_counts(counts, begun)
                return True

    def _current_traffic(self) -> tuple[tuple[Traffic, Traffic, Traffic, Traffic], bool]:
        """Return what was passed on, and whether the thread has answered in time.

        It does not wait for another thread that uses the control socket: then the counts are a little old.
        """
        answered = True
        if self._is_controlled and self._lock.acquire(blocking=False):
            try:
                if self._thread.is_alive():
                    answered = self._fetch_counts(Deadline(_GUARD_TIMEOUT_S))
            finally:
                self._lock.release()
        return self._traffic, answered

    def _keep_counts(self, counts: list[int], begun: int) -> None:
        """Keep the counts: frames and bytes by turns, in the order of libzmq.

        Args:
            counts: since the thread began anew.
            begun: how often it had.
        """
        if begun != self._counted:
            self._counts_before = list(map(add, self._counts_before, self._counts))
        self._counts, self._counted = counts, begun
        totals = list(map(add, self._counts_before, counts))
        front_in, front_out, back_in, back_out = (Traffic(*totals[index : index + 2]) for index in range(0, 8, 2))
        self._traffic = front_in, back_out, back_in, front_out

    # Rules

    def _on_allow_list_change(self) -> None:
        """Restart when the first rules come, because native forwarding knows no rules. An enforcer reads new ones itself."""
        if self.allow_list is not None and not self._enforces and self.allow_list.current.has_rules:
            self._restart_once("the allow-list has rules now")

    def _expel(self, key: str) -> None:
        """Expel a client that has sent what no subscriber sends."""
        assert self.allow_list is not None
        name = self.allow_list.current.name(key)
        self.denials.count(name)
        self.allow_list.expel(key)
        self._log.error(
            "client %s has sent what no subscriber sends: it is not let in until the allow-list changes", name, client=name
        )
        self._restart_once("the subscriptions of other clients are not certain any more")

    def _expel_for_subscriptions(self, key: str, connection: Connection) -> None:
        """Expel a client that has too many subscriptions."""
        assert self.allow_list is not None
        name = self.allow_list.current.name(key)
        if self._guard.end(connection, "subscriptions"):
            self.denials.count(name)
            self._log.error(
                "client %s has more than %d subscriptions: it is not let in until the allow-list changes",
                name,
                self._options.max_subscriptions,
                client=name,
                count=self._options.max_subscriptions,
            )
        self.allow_list.expel(key)

    def _restart_once(self, reason: str) -> None:
        if not self._restart_requested:
            self._restart_requested = True
            self._restart(reason)

    def _name_at(self, connection: Connection) -> str:
        """Return the name of the client at an authenticated connection; empty if it is not known.

        Under rules it is that of the connection. Without, libzmq does not tell: then it is known if no other client has
        connected from that address.
        """
        key = self._subscribers.client_at(connection)
        if key is None and self._authenticator is not None:
            key = self._authenticator.key_at(connection.peer[0])
        return "" if key is None or self.allow_list is None else self.allow_list.current.name(key)

    # The thread

    def _run(self) -> None:
        # Other threads take the signals: libzmq's proxy would restart when interrupted, and count from zero.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            if self._enforcer is not None:
                self._enforcer.run()
            else:
                self._forward()
        except Exception as error:
            self._log.exception(
                "the proxy on ports %d and %d has failed: no events pass any more",
                self.pub_port,
                self.sub_port,
                error=type(error).__name__,
            )
        finally:
            self._ended = time.monotonic()
            if self._enforcer is not None:  # it may have ended by itself
                self._keep_counts(self._enforcer.traffic, self._begun)
            self._counter.end()
            # The thread that used a socket closes it.
            for socket in (self._frontend, self._backend, self._commands):
                socket.close()

    def _forward(self) -> None:
        """Pass messages on natively until TERMINATE.

        A peer at the subscribers' port may send a message of several frames, of which libzmq takes the last for a
        subscription. If that is not new, libzmq leaves it out, and its proxy, which waits for no frame, ends. Nothing is
        lost but the counts since they were asked for last.
        """
        throttle, next_look = LogThrottle(), 0.0
        while True:
            try:
                zmq.proxy_steerable(self._frontend, self._backend, None, self._commands)
                return
            except zmq.Again:
                self._begun += 1
                now, timeout_ms = time.monotonic(), 0
                if now >= next_look:
                    next_look, timeout_ms = now + _MISUSE_INTERVAL_S, _MISUSE_TIMEOUT_MS
                ended = self._end_misuse(timeout_ms)
                held_back = None if ended else throttle.admit("misuse")
                if held_back is not None:
                    self._log.warning(
                        "a peer at the port for subscribers has sent what no subscriber sends%s",
                        more(held_back),
                        held_back=held_back,
                    )

    def _end_misuse(self, timeout_ms: int) -> int:
        """End a message that was cut off, pass on what subscribers send next, and end the connections of those who go on.

        Returns how many. A frame tells its connection, but libzmq's proxy has the frames before to itself.
        """
        is_cut_off, ended = True, 0
        self._backend.poll(timeout_ms)
        with suppress(zmq.Again):
            for _ in range(_MISUSE_FRAMES):
                frame = self._backend.recv(zmq.DONTWAIT, copy=False)
                if is_cut_off:  # else a publisher that connects now would miss what comes next
                    self._frontend.send(b"")
                is_cut_off = frame.more
                self._frontend.send(frame, zmq.SNDMORE if is_cut_off else 0, copy=False)
                if is_cut_off:
                    descriptor = descriptor_of(frame)
                    connection = None if descriptor is None else connection_to(self.sub_port, descriptor)
                    ended += connection is not None and self._guard.end(connection, "misuse")
        if is_cut_off:
            self._frontend.send(b"")
        return ended
