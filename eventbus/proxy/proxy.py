"""The XSUB/XPUB proxy that joins publishers and subscribers, embedded in a thread or a process of its own."""

import logging
import os
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from eventbus._base.addresses import is_loopback
from eventbus.errors import InvalidSettings
from eventbus.keys import ClientKeys, checked_key, new_pair, public_key_of
from eventbus.proxy.allow_list import AllowListFile
from eventbus.proxy.denials import Denials
from eventbus.proxy.forwarding import Forwarding
from eventbus.proxy.health import Connections, HandshakeFailures, ProxyHealth, Traffic

__all__ = ["Connections", "EventBusProxy", "HandshakeFailures", "ProxyHealth", "Traffic"]

logger = logging.getLogger("eventbus")


class EventBusProxy:
    """Passes every event from the publishers on one port to the subscribers on the other, natively in libzmq.

    It keeps nothing: an event goes to those who are subscribed when it passes. A subscriber that does not keep up loses
    events when its queue here is full, and delays nobody else. Whoever sends what is not ZeroMQ, or is too large, is
    disconnected. Any thread may call any method.

    With a secret key it speaks CURVE only, to clients on the allow-list only, which it reads again when the file changes. If
    the list has rules, it passes on only what they permit: between half and two thirds as many events per second. When the
    first rule comes, and when a client sends on its subscribing side what no subscriber sends, all connections end once;
    such a client is not let in again until the list changes.

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
        allow_list: the file that says who may connect; see `eventbus.proxy.allow_list`. It goes with the secret key.

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
        self.probe_keys: ClientKeys | None = None
        """With which the proxy lets itself in, to find out whether it is ready: nobody else has them, and they are good for
        tokens only. None: no encryption."""
        if secret_key is not None:
            secret_key = checked_key(secret_key, "the proxy's secret key")
            self.probe_keys = ClientKeys(public_key_of(secret_key), new_pair()[1])
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
        self._asked = self._ports = (pub_port, sub_port)
        self._max_event_bytes = max_event_bytes
        self._settle = settle
        self._secret_key = secret_key
        self._allow_list_path = allow_list
        self._lock = Lock()
        self._running: Forwarding | None = None
        self._starting = self._restarting = False
        self._last = ProxyHealth()  # of the one that was stopped last

    @property
    def pub_port(self) -> int:
        """The port for publishers: while the proxy runs, or begins anew, the bound one, else the one asked for."""
        return self._ports[0]

    @property
    def sub_port(self) -> int:
        """The port for subscribers: while the proxy runs, or begins anew, the bound one, else the one asked for."""
        return self._ports[1]

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
                self._ports = self._asked
            if self._running is None:
                allow_list = None if self._allow_list_path is None else AllowListFile(self._allow_list_path)
                self._starting = True
                try:
                    self._start(*self._asked, allow_list, Denials(), ProxyHealth())
                finally:
                    self._starting = False
                self._warn_if_open()

    def stop(self) -> None:
        """Stop passing events on and free both ports; returns when they are free. Idempotent."""
        with self._lock:
            running = self._running
            self._stop()
            self._ports = self._asked
            if running is not None:
                logger.info(
                    "proxy on ports %d and %d stopped after %.0f s",
                    running.pub_port,
                    running.sub_port,
                    self._last.uptime,
                    extra={
                        "eventbus_host": self.host,
                        "eventbus_pub_port": running.pub_port,
                        "eventbus_sub_port": running.sub_port,
                        "eventbus_seconds": self._last.uptime,
                    },
                )

    def is_running(self) -> bool:
        """Whether it passes events on at this moment."""
        running = self._running
        return self._restarting or (running is not None and running.is_alive())

    def is_beginning(self) -> bool:
        """Whether it is about to pass events on, and gives subscribers time to come back: when it starts or begins anew."""
        return self._starting or self._restarting

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

    def _start(
        self, pub_port: int, sub_port: int, allow_list: AllowListFile | None, denials: Denials, earlier: ProxyHealth
    ) -> None:
        self._running = Forwarding(
            self.host,
            pub_port,
            sub_port,
            max_event_bytes=self._max_event_bytes,
            settle=self._settle,
            secret_key=self._secret_key,
            allow_list=allow_list,
            denials=denials,
            begin_anew=self._begin_anew,
            earlier=earlier,
            probe=self.probe_keys.public_key if self.probe_keys else None,
        )
        self._ports = self._running.pub_port, self._running.sub_port
        logger.info(
            "proxy listens on %s: publishers on port %d, subscribers on port %d%s",
            self.host,
            self.pub_port,
            self.sub_port,
            f"; {self.protection}" if self.protection else "",
            extra={
                "eventbus_host": self.host,
                "eventbus_pub_port": self.pub_port,
                "eventbus_sub_port": self.sub_port,
            },
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
                    ports = running.pub_port, running.sub_port
                    logger.warning(
                        "%s: all clients are disconnected once, and come back",
                        reason,
                        extra={
                            "eventbus_reason": reason,
                            "eventbus_pub_port": ports[0],
                            "eventbus_sub_port": ports[1],
                        },
                    )
                    self._stop()
                    self._start(*ports, running.allow_list, running.denials, self._last)
        except Exception as error:
            self._ports = self._asked
            logger.exception(
                "the proxy could not be started again, events pass no more",
                extra={"eventbus_host": self.host, "eventbus_error": type(error).__name__},
            )
        finally:
            self._restarting = False

    def _warn_if_open(self) -> None:
        if self._secret_key is None and not is_loopback(self.host):
            logger.warning(
                "ANYBODY WHO REACHES %s CAN READ AND SEND EVERY EVENT: the proxy listens beyond this machine without keys. "
                "Make some with `eventbus keygen`, or bind 127.0.0.1",
                self.host,
                extra={
                    "eventbus_host": self.host,
                    "eventbus_pub_port": self.pub_port,
                    "eventbus_sub_port": self.sub_port,
                },
            )
