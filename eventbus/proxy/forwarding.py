"""Passing messages on between two bound ports, from their binding until they are free again; and how that goes."""

import logging
import signal
import struct
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from threading import Lock, Thread
from types import MappingProxyType

import zmq

from eventbus._base.deadline import Deadline
from eventbus._base.descriptors import require_descriptors
from eventbus.proxy import sockets as binding
from eventbus.proxy.allow_list import AllowListFile
from eventbus.proxy.counters import ConnectionCounter
from eventbus.proxy.denials import Denials
from eventbus.proxy.enforcer import Enforcer
from eventbus.proxy.health import ProxyHealth, Traffic
from eventbus.proxy.zap import Authenticator

logger = logging.getLogger("eventbus")

_HWM = 100_000  # messages, per connection
_ANSWER = 1.0  # seconds within which a healthy proxy tells its counts; it takes less than a millisecond
# A context has five, each of four sockets one, each of two ports one, the census of both five, and each client's two
# connections one. With keys there are another thread of the context with two, a socket and a pair of whoever
# authenticates, and the allow-list.
_DESCRIPTORS, _WITH_KEYS = 5 + 4 + 2 + 5 + 2, 2 + 3 + 1

# libzmq keeps a node per byte of a subscription and walks them recursively: a long one costs 60 times its size, a very long
# one the stack. A topic has 255 bytes.
_MAX_SUBSCRIPTION_BYTES = 4_096
_MIN_EVENT_BYTES = 1_024  # a smaller limit would refuse topics, and the handshake itself


class Forwarding:
    """Passes messages on in a thread, from its creation to `stop`; natively, or under the rules of an allow-list.

    Args:
        host: the address to bind.
        pub_port: the port for publishers; 0 picks a free one.
        sub_port: the port for subscribers; 0 picks a free one.
        max_event_bytes: the largest frame from a publisher.
        settle: how many seconds subscribers get to come back before publishers may.
        secret_key: the proxy's; None for no encryption.
        allow_list: who may connect, and what they may do.
        denials: where is counted what was denied.
        begin_anew: called with the reason when others must be made instead, on the same ports and with the same allow-list.
        earlier: how the one was that this one goes on for; what that has counted counts on.
        probe: the public key with which the proxy itself finds out whether it is ready; None for no encryption.
    """

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
        earlier: ProxyHealth,
        probe: str | None,
    ) -> None:
        self.allow_list = allow_list
        self.denials = denials
        require_descriptors(_DESCRIPTORS + (_WITH_KEYS if allow_list else 0))
        self._begin_anew = begin_anew
        self._earlier = earlier
        self._authenticator: Authenticator | None = None
        self._enforces = allow_list is not None and allow_list.current.has_rules  # once and for all: the sockets differ
        self._enforcer: Enforcer | None = None
        self._gives_way = False  # whether another one that enforces has been asked for
        # libzmq encrypts in its own threads: one of them is the bottleneck then.
        self._context = zmq.Context(1 if secret_key is None else 2)
        with ExitStack() as undo:
            undo.callback(self._context.destroy, linger=0)
            try:
                if self.allow_list is not None:
                    # The first, for without one libzmq lets nobody in.
                    self._authenticator = Authenticator(self._context, self.allow_list, self._follow_rules, probe)
                    undo.callback(self._authenticator.stop)
                # Data queues are bounded. Subscriptions count against high-water marks too, and must never be forgotten.
                self._backend = binding.socket_for(
                    self._context, zmq.XPUB, send_hwm=_HWM, largest=_MAX_SUBSCRIPTION_BYTES, secret_key=secret_key
                )
                if self._enforces:
                    self._backend.set(zmq.XPUB_MANUAL, 1)
                largest = max(max_event_bytes, _MIN_EVENT_BYTES)
                self._frontend = binding.socket_for(
                    self._context, zmq.XSUB, receive_hwm=_HWM, largest=largest, secret_key=secret_key
                )
                # Under rules publishers are not told of subscriptions.
                self._counter = ConnectionCounter(
                    self._context, self._frontend, self._backend, subscriptions=not self._enforces
                )
                undo.callback(self._counter.end)
                self.sub_port = binding.bind(self._backend, host, sub_port, "EVENTBUS_SUB_PORT")
                if pub_port:
                    # The back first: publishers that have kept events while no proxy ran send them as soon as they can, and
                    # subscribers must be there by then. On a port that was not known before nobody waits.
                    time.sleep(settle)
                self.pub_port = binding.bind(self._frontend, host, pub_port, "EVENTBUS_PUB_PORT")
                address = f"inproc://eventbus-proxy-{uuid.uuid4().hex}"
                self._commands = self._context.socket(zmq.PAIR)
                self._commands.bind(address)
                self._control = self._context.socket(zmq.PAIR)
                self._control.connect(address)
                if self.allow_list is not None and self._enforces:
                    self._enforcer = Enforcer(
                        self._frontend, self._backend, self._commands, self.allow_list, self.denials, self._expel, probe
                    )
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
                running = self.is_alive() and self._ask(deadline)
            finally:
                self._controlling.release()
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
        ).after(self._earlier)

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
        self._note([struct.unpack("=Q", frame)[0] for frame in self._control.recv_multipart()])
        return True

    def _note(self, counts: list[int]) -> None:
        """Keep the counts, which are frames and bytes by turns, in the order of libzmq."""
        front_in, front_out, back_in, back_out = (Traffic(*counts[index : index + 2]) for index in range(0, 8, 2))
        self._traffic = front_in, back_out, back_in, front_out

    def _follow_rules(self) -> None:
        """After a change of the allow-list: what is passed on natively cannot be ruled. An enforcer sees for itself."""
        if self.allow_list is None or self._enforces or self._gives_way:
            return
        if self.allow_list.current.has_rules:
            self._gives_way = True
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
            extra={"eventbus_client": name, "eventbus_pub_port": self.pub_port, "eventbus_sub_port": self.sub_port},
        )
        self._begin_anew("what others have subscribed to is not sure any more")

    def _pass_on(self) -> None:
        # Signals are for other threads: interrupted, libzmq's proxy would start anew and count from zero.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            if self._enforcer is not None:
                self._enforcer.run()
            else:
                zmq.proxy_steerable(self._frontend, self._backend, None, self._commands)
        except Exception as error:
            logger.exception(
                "the proxy on ports %d and %d has ended, events pass no more",
                self.pub_port,
                self.sub_port,
                extra={
                    "eventbus_pub_port": self.pub_port,
                    "eventbus_sub_port": self.sub_port,
                    "eventbus_error": type(error).__name__,
                },
            )
        finally:
            self._ended = time.monotonic()
            if self._enforcer is not None:  # which may have ended by itself
                self._note(self._enforcer.traffic)
            self._counter.end()
            # Sockets are closed by the thread that used them.
            for socket in (self._frontend, self._backend, self._commands):
                socket.close()
