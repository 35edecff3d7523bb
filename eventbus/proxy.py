"""The XSUB/XPUB proxy that joins publishers and subscribers, embedded in a thread or a process of its own."""

import logging
import os
import signal
import struct
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from threading import Lock, Thread
from types import MappingProxyType, TracebackType
from typing import Self

import zmq

from eventbus import binding
from eventbus.access import AllowListFile
from eventbus.curve import checked_key, public_key_of
from eventbus.deadline import Deadline
from eventbus.descriptors import require_descriptors
from eventbus.enforcer import Denials, Enforcer
from eventbus.errors import InvalidSettings
from eventbus.zap import Authenticator

logger = logging.getLogger("eventbus")

_HWM = 100_000  # messages, per connection
_ANSWER = 1.0  # seconds within which a healthy proxy tells its counts; it takes less than a millisecond
# A context has five, each of four sockets one, each of two ports one, and each client's two connections one. With keys
# there are another thread of the context with two, a socket and a pair of whoever authenticates, and the allow-list.
_DESCRIPTORS, _WITH_KEYS = 5 + 4 + 2 + 2, 2 + 3 + 1

# libzmq keeps a node per byte of a subscription and walks them recursively: a long one costs 60 times its size, a very long
# one the stack. A topic has 255 bytes.
_MAX_SUBSCRIPTION_BYTES = 4_096
_MIN_EVENT_BYTES = 1_024  # a smaller limit would refuse topics, and the handshake itself


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went one way: frames, of which each message of this bus has two, and the bytes in them."""

    frames: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class ProxyHealth:
    """How a proxy is at one moment, or was when it ended.

    The counts begin with `start`. What goes out is counted when it is handed on, once, however many get
    it: also what nobody has subscribed to, and what was dropped because a subscriber's queue was full.

    Attributes:
        running: whether it passes messages on: it has been started and it answers.
        uptime: seconds since it was started; of one that has ended, how long it ran.
        from_publishers: what publishers have sent.
        to_subscribers: what was handed on to subscribers.
        from_subscribers: subscriptions, and their ends, that subscribers have sent and that change anything for publishers.
        to_publishers: what was handed on to publishers.
        refused: connections of clients whose keys are not on the allow-list.
        denied: how often each client, by its name in the allow-list, was denied to publish or to subscribe.
    """

    running: bool = False
    uptime: float = 0.0
    from_publishers: Traffic = Traffic()
    to_subscribers: Traffic = Traffic()
    from_subscribers: Traffic = Traffic()
    to_publishers: Traffic = Traffic()
    refused: int = 0
    denied: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


class EventBusProxy:
    """Passes every event from the publishers on one port to the subscribers on the other, natively in libzmq.

    It keeps nothing: an event goes to those who are subscribed when it passes. A subscriber that does not keep up loses
    events when its queue here is full, and delays nobody else. Whoever sends what is not ZeroMQ, or is too large, is
    disconnected. Any thread may call any method.

    With a secret key it speaks CURVE only, to clients on the allow-list only, which it reads again when the file changes. If
    the list has rules, it passes on only what they permit: about half as many events per second.

    Args:
        host: the address to bind. The default lets nobody but this machine in; whoever can reach another one can send and
            read every event, and end the subscriptions of others (by ending what it never began, which libzmq passes on),
            unless there is a secret key.
        pub_port: the port for publishers (XSUB); 0 picks a free one.
        sub_port: the port for subscribers (XPUB); 0 picks a free one.
        max_event_bytes: the largest payload of a message. A publisher that sends a larger one is disconnected.
        settle: how many seconds subscribers get to come back before publishers may, on ports that are not picked. Publishers
            send what they have kept while no proxy ran as soon as they can: subscribers miss none of it if this is longer
            than they take between two attempts to reconnect.
        secret_key: the proxy's own CURVE key, as `eventbus keygen` writes it; None: no encryption.
        allow_list: the file that says who may connect; see `eventbus.access`. It goes with the secret key.

    Raises:
        InvalidSettings: the key is none, or goes without an allow-list, with which libzmq would let anybody in, or the other
            way round.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        pub_port: int = 5559,
        sub_port: int = 5560,
        *,
        max_event_bytes: int = 16_777_216,
        settle: float = 0.25,
        secret_key: str | None = None,
        allow_list: str | os.PathLike[str] | None = None,
    ) -> None:
        if secret_key is not None:
            secret_key = checked_key(secret_key, "the proxy's secret key")
            public_key_of(secret_key)
            if allow_list is None:
                raise InvalidSettings(
                    "a proxy with a secret key needs an allow-list, or anybody could connect: "
                    "set EVENTBUS_SECURITY__ALLOW_LIST"
                )
        elif allow_list is not None:
            raise InvalidSettings(
                "an allow-list needs a secret key, or nobody can be told apart: "
                "set EVENTBUS_SECURITY__SECRET_KEY_FILE (`eventbus keygen` makes one)"
            )
        self.host = host
        self._asked = (pub_port, sub_port)
        self._max_event_bytes = max_event_bytes
        self._settle = settle
        self._secret_key = secret_key
        self._allow_list_path = allow_list
        self._lock = Lock()
        self._running: _Running | None = None
        self._restarting = False
        self._last = ProxyHealth()  # of the one that was stopped last

    @property
    def pub_port(self) -> int:
        """The port for publishers: while the proxy runs the bound one, else the one asked for."""
        running = self._running
        return running.pub_port if running else self._asked[0]

    @property
    def sub_port(self) -> int:
        """The port for subscribers: while the proxy runs the bound one, else the one asked for."""
        running = self._running
        return running.sub_port if running else self._asked[1]

    def start(self) -> None:
        """Bind both ports and start passing events on, in a thread. Returns when it does. Idempotent.

        Raises:
            AddressInUse: a port is taken.
            InvalidSettings: the allow-list cannot be read.
            DescriptorsExhausted: the process may not open as many sockets as a proxy needs.
            OSError: the host cannot be bound.
        """
        with self._lock:
            if self._running is not None and not self._running.is_alive():
                self._stop()  # it has ended of itself
            if self._running is None:
                allow_list = None if self._allow_list_path is None else AllowListFile(self._allow_list_path)
                self._start(*self._asked, allow_list, Denials())
                self._warn_if_open()

    def stop(self) -> None:
        """Stop passing events on and free both ports; returns when they are free. Idempotent."""
        with self._lock:
            self._stop()

    def is_running(self) -> bool:
        """Whether it passes events on at this moment."""
        running = self._running
        return self._restarting or (running is not None and running.is_alive())

    def reload(self) -> None:
        """Read the allow-list again, also if its file seems unchanged. If it cannot be read, what was in force stays so."""
        running = self._running
        if running is not None:
            running.reload()

    @property
    def protection(self) -> str:
        """What keeps strangers out while it runs, for people; empty: nothing."""
        running = self._running
        return running.protection if running else ""

    def health(self) -> ProxyHealth:
        """Return how it is and what it has passed on.

        Takes less than a millisecond, and a second at most: a proxy that has not answered by then counts as not running,
        whatever keeps it, and the counts are the last that it has told.
        """
        running = self._running
        return running.health() if running else self._last

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _start(self, pub_port: int, sub_port: int, allow_list: AllowListFile | None, denials: Denials) -> None:
        self._running = _Running(
            self.host,
            pub_port,
            sub_port,
            max_event_bytes=self._max_event_bytes,
            settle=self._settle,
            secret_key=self._secret_key,
            allow_list=allow_list,
            denials=denials,
            begin_anew=self._begin_anew,
        )
        logger.info(
            "proxy listens on %s: publishers on port %d, subscribers on port %d%s",
            self.host,
            self.pub_port,
            self.sub_port,
            f"; {self.protection}" if self.protection else "",
        )

    def _stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._last = self._running.health()
            self._running = None

    def _begin_anew(self, reason: str) -> None:
        """Start again on the same ports with the same allow-list, in a thread: subscriptions must not stay."""
        self._restarting = True
        Thread(target=self._restart, args=(reason,), name="eventbus-proxy-restart", daemon=True).start()

    def _restart(self, reason: str) -> None:
        try:
            with self._lock:
                running = self._running
                if running is not None:
                    logger.warning("%s: all clients are disconnected once, and come back", reason)
                    ports = running.pub_port, running.sub_port
                    self._stop()
                    self._start(*ports, running.allow_list, running.denials)
        except Exception:
            logger.exception("the proxy could not be started again, events pass no more")
        finally:
            self._restarting = False

    def _warn_if_open(self) -> None:
        if self._secret_key is None and not binding.is_loopback(self.host):
            logger.warning(
                "ANYBODY WHO REACHES %s CAN READ AND SEND EVERY EVENT: the proxy listens beyond this machine without keys. "
                "Make some with `eventbus keygen`, or bind 127.0.0.1",
                self.host,
            )


class _Running:
    """A proxy from bound ports to freed ports."""

    def __init__(
        self,
        host: str,
        pub_port: int,
        sub_port: int,
        *,
        max_event_bytes: int,
        settle: float,
        secret_key: str | None,
        allow_list: AllowListFile | None,
        denials: Denials,
        begin_anew: Callable[[str], None],
    ) -> None:
        self.allow_list = allow_list
        self.denials = denials
        require_descriptors(_DESCRIPTORS + (_WITH_KEYS if allow_list else 0))
        self._begin_anew = begin_anew
        self._authenticator: Authenticator | None = None
        self._enforces = allow_list is not None and allow_list.current.has_rules
        # libzmq encrypts in its own threads: one of them is the bottleneck then.
        self._context = zmq.Context(1 if secret_key is None else 2)
        with ExitStack() as undo:
            undo.callback(self._context.destroy, linger=0)
            try:
                if self.allow_list is not None:
                    # The first, for without one libzmq lets everybody in.
                    self._authenticator = Authenticator(self._context, self.allow_list, self._follow_rules)
                    undo.callback(self._authenticator.stop)
                # Data queues are bounded. Subscriptions count against high-water marks too, and must never be forgotten.
                self._backend = binding.socket_for(
                    self._context, zmq.XPUB, send_hwm=_HWM, largest=_MAX_SUBSCRIPTION_BYTES, secret_key=secret_key
                )
                if self._enforces:
                    self._backend.set(zmq.XPUB_MANUAL, 1)
                self.sub_port = binding.bind(self._backend, host, sub_port, "EVENTBUS_SUB_PORT")
                if pub_port:
                    # The back first: publishers that have kept events while no proxy ran send them as soon as they can, and
                    # subscribers must be there by then. On a port that was not known before nobody waits.
                    time.sleep(settle)
                largest = max(max_event_bytes, _MIN_EVENT_BYTES)
                self._frontend = binding.socket_for(
                    self._context, zmq.XSUB, receive_hwm=_HWM, largest=largest, secret_key=secret_key
                )
                self.pub_port = binding.bind(self._frontend, host, pub_port, "EVENTBUS_PUB_PORT")
                address = f"inproc://eventbus-proxy-{uuid.uuid4().hex}"
                self._commands = self._context.socket(zmq.PAIR)
                self._commands.bind(address)
                self._control = self._context.socket(zmq.PAIR)
                self._control.connect(address)
            except zmq.ZMQError as error:  # others have taken the descriptors meanwhile
                raise OSError(error.errno, f"cannot run a proxy: {error.strerror}") from error
            # Whoever touches the control socket holds the lock, and looks first whether the thread lives.
            self._controlling = Lock()
            self._traffic = (Traffic(),) * 4
            self._started = time.monotonic()
            self._ended: float | None = None
            self._thread = Thread(target=self._pass_on, name="eventbus-proxy", daemon=True)
            self._thread.start()
            undo.pop_all()

    @property
    def protection(self) -> str:
        """What keeps strangers out, for people."""
        if self.allow_list is None:
            return ""
        allowed = self.allow_list.current
        clients = "1 client" if len(allowed.clients) == 1 else f"{len(allowed.clients)} clients"
        return f"encrypted, {clients} may connect" + (", with rules" if allowed.has_rules else "")

    def is_alive(self) -> bool:
        return self._thread.is_alive() and (self._authenticator is None or self._authenticator.is_alive())

    def reload(self) -> None:
        if self.allow_list is not None and self.allow_list.reread():
            self._follow_rules()

    def stop(self) -> None:
        with self._controlling:
            if self._thread.is_alive():
                self._ask(Deadline(_ANSWER))
                with suppress(zmq.Again):  # it has ended this very moment
                    self._control.send(b"TERMINATE", zmq.NOBLOCK)
                self._thread.join()
            if self._authenticator is not None:
                self._authenticator.stop()
            self._context.destroy()

    def health(self) -> ProxyHealth:
        deadline = Deadline(_ANSWER)
        running = False
        if self._controlling.acquire(timeout=deadline.left()):
            try:
                running = self._thread.is_alive() and self._ask(deadline)
            finally:
                self._controlling.release()
        return ProxyHealth(
            running,
            (self._ended or time.monotonic()) - self._started,
            *self._traffic,
            refused=self._authenticator.refused if self._authenticator else 0,
            denied=MappingProxyType(self.denials.counts),
        )

    def _ask(self, deadline: Deadline) -> bool:
        """Ask the thread for its counts; return whether it has answered in time."""
        while self._control.poll(0):
            self._control.recv_multipart()  # too late for whoever asked
        try:
            self._control.send(b"STATISTICS", zmq.NOBLOCK)
        except zmq.Again:  # it has ended this very moment
            return False
        if not self._control.poll(round(deadline.left() * 1000)):
            return False
        counts = [struct.unpack("=Q", frame)[0] for frame in self._control.recv_multipart()]
        front_in, front_out, back_in, back_out = (Traffic(*counts[index : index + 2]) for index in range(0, 8, 2))
        self._traffic = front_in, back_out, back_in, front_out
        return True

    def _follow_rules(self) -> None:
        """After a change of the allow-list: what is passed on natively cannot be ruled. An enforcer sees for itself."""
        if self.allow_list is not None and self.allow_list.current.has_rules and not self._enforces:
            self._enforces = True
            self._begin_anew("the allow-list has rules now")

    def _expel(self, key: str) -> None:
        """After a message that no subscriber sends."""
        assert self.allow_list is not None
        name = self.allow_list.current.name(key)
        self.denials.count(name)
        self.allow_list.expel(key)
        logger.error(
            "client %s has sent what no subscriber sends: it is not let in until the allow-list changes",
            name,
            extra={"eventbus_client": name},
        )
        self._begin_anew("what others have subscribed to is not sure any more")

    def _pass_on(self) -> None:
        # Signals are for other threads: interrupted, libzmq's proxy would start anew and count from zero.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            if self.allow_list is not None and self._enforces:
                Enforcer(self._frontend, self._backend, self._commands, self.allow_list, self.denials, self._expel).run()
            else:
                zmq.proxy_steerable(self._frontend, self._backend, None, self._commands)
        except Exception:
            logger.exception("the proxy on ports %d and %d has ended, events pass no more", self.pub_port, self.sub_port)
        finally:
            self._ended = time.monotonic()
            # Sockets are closed by the thread that used them.
            for socket in (self._frontend, self._backend, self._commands):
                socket.close()
