"""What can go wrong, as one tree. Every error carries its facts as attributes and says the remedy in its text.

EventBusError
├── InvalidEvent             what was emitted is no event of this bus         (also a TypeError)
├── InvalidTopic             the topic is of another enum, or cannot be sent  (also a ValueError)
├── InvalidHeaders           headers of an event cannot be sent               (also a ValueError)
├── InvalidHandler           a callback or @on method cannot be wired         (also a TypeError)
├── InvalidSettings          a setting is unknown or has a bad value          (also a ValueError)
│   └── ExtraMissing         the library that a setting needs is not installed
│       └── CompressionMissing   the one for a compression
├── EventTooLarge            the event is larger than allowed                 (also a ValueError)
├── PayloadTooLarge          inflated, a payload would be larger than allowed (also a ValueError)
├── PayloadDamaged           a compressed payload cannot be inflated          (also a ValueError)
├── NotConnected             the call needs an open client                    (also a ConnectionError)
│   ├── ForkedClient         the client was opened by the parent process
│   └── ReconnectFailed      the last attempt to reconnect has failed
├── ProxyUnreachable         no proxy answered in time                        (also a TimeoutError)
├── HandshakeFailed          proxy and client do not agree on who may talk    (also a ConnectionError)
│   ├── WrongServerKey       the proxy is not the one whose key the client has
│   ├── UnknownClient        the proxy's allow-list does not have the client's key
│   ├── EncryptionRequired   the proxy uses CURVE, the client has no keys
│   └── NotEncrypted         the client has keys, the proxy does not use CURVE
├── SendBufferFull           the send buffer is full, the event was not sent
│   └── SendTimeout          it stayed full                                   (also a TimeoutError)
├── HandlerTimeout           a handler took longer than its time limit        (also a TimeoutError)
├── ServiceFailed            a service has failed, and is not run again
├── ServiceTimeout           a service did not stop in time                   (also a TimeoutError)
├── AddressInUse             the proxy's port is taken                        (also an OSError)
│   └── ProbePortInUse       the port of metrics and probes is
└── DescriptorsExhausted     the process may open no more files or sockets    (also an OSError)
"""

import errno


class EventBusError(Exception):
    """The root of all errors that this package raises on purpose."""


class InvalidEvent(EventBusError, TypeError):
    """What was handed to the client is no event of its class, or a bare type lacks what the class needs."""


class InvalidTopic(EventBusError, ValueError):
    """The topic is no member of the client's topic enum, or its value cannot travel on the wire."""


class InvalidHeaders(EventBusError, ValueError):
    """Headers that were to travel with an event are no texts, or too long."""


class InvalidHandler(EventBusError, TypeError):
    """A callback or a method marked with ``@on`` cannot be called with an event of this bus."""


class InvalidSettings(EventBusError, ValueError):
    """One or more settings are unknown or have a bad value; the text names each variable."""


class ExtraMissing(InvalidSettings):
    """A library is needed that comes with an extra of this package, and it is not installed.

    Attributes:
        extra: the extra that brings it.
    """

    def __init__(self, extra: str, wanted_by: str, *, library: str = "") -> None:
        super().__init__(f"{library or extra} is not installed: pip install 'eventbus[{extra}]' ({wanted_by})")
        self.extra = str(extra)


class CompressionMissing(ExtraMissing):
    """A compression is to be used, or has been used by a publisher, and the library that does it is not installed.

    Attributes:
        compression: its name, which is also that of the extra that brings it.
    """

    def __init__(self, compression: str) -> None:
        super().__init__(compression, "EVENTBUS_COMPRESSION")
        self.compression = str(compression)


class EventTooLarge(EventBusError, ValueError):
    """The event is larger than the client may send; nothing was sent.

    Attributes:
        topic: where it was to go.
        size: of its JSON, in bytes.
        limit: the largest that is allowed.
    """

    def __init__(self, topic: str, size: int, limit: int) -> None:
        super().__init__(
            f"{topic}: the event is {size} bytes of JSON, the limit is {limit}: "
            "make it smaller, or raise EVENTBUS_MAX_EVENT_BYTES for this client, its receivers and the proxy"
        )
        self.topic = topic
        self.size = size
        self.limit = limit


class PayloadTooLarge(EventBusError, ValueError):
    """A compressed payload holds more than is allowed, or says so; it was not inflated any further.

    Attributes:
        limit: the most bytes that it may hold.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} bytes, compressed (EVENTBUS_MAX_EVENT_BYTES)")
        self.limit = limit


class PayloadDamaged(EventBusError, ValueError):
    """A compressed payload is no whole stream, or something follows it."""


class NotConnected(EventBusError, ConnectionError):
    """The call needs an open client.

    Attributes:
        endpoints: where the client would connect to.
    """

    def __init__(self, endpoints: str) -> None:
        super().__init__(f"the client for {endpoints} is not connected: call connect(), or use it inside `with client:`")
        self.endpoints = endpoints


class ForkedClient(NotConnected):
    """The process was forked while the client was open: the sockets belong to the parent, the child must not use them."""

    def __init__(self, endpoints: str) -> None:
        EventBusError.__init__(
            self,
            f"the client for {endpoints} was connected before this process was forked: "
            "create and connect a client of its own in the child",
        )
        self.endpoints = endpoints


class ReconnectFailed(NotConnected):
    """The client has given up: as many attempts to reconnect as it may make have failed. It is closed.

    Attributes:
        attempts: how many were made.
    """

    def __init__(self, endpoints: str, attempts: int) -> None:
        EventBusError.__init__(
            self,
            f"no event bus proxy came back at {endpoints} in {attempts} attempts to reconnect, and no more are made: "
            "call connect() again once it runs, or raise EVENTBUS_RECONNECT_ATTEMPTS (-1: never give up)",
        )
        self.endpoints = endpoints
        self.attempts = attempts


class ProxyUnreachable(EventBusError, TimeoutError):
    """No proxy carried a message round in time.

    Attributes:
        endpoints: both endpoints that were tried.
        timeout: how long, in seconds.
    """

    def __init__(self, endpoints: str, timeout: float, hint: str = "") -> None:
        super().__init__(
            f"no event bus proxy answered at {endpoints} within {timeout:g} s"
            + (f" ({hint})" if hint else "")
            + ": start one with `eventbus proxy`, or set EVENTBUS_HOST, EVENTBUS_PUB_PORT and EVENTBUS_SUB_PORT"
        )
        self.endpoints = endpoints
        self.timeout = timeout


class HandshakeFailed(EventBusError, ConnectionError):
    """Proxy and client do not agree on who may talk to whom. A client that need not be connected goes on trying.

    Attributes:
        endpoint: where the proxy is.
    """

    def __init__(self, endpoint: str, text: str) -> None:
        super().__init__(text)
        self.endpoint = endpoint


class WrongServerKey(HandshakeFailed):
    """The proxy does not have the secret key that belongs to the public one that the client expects.

    Attributes:
        server_public_key: the one that the client expects.
    """

    def __init__(self, endpoint: str, server_public_key: str) -> None:
        super().__init__(
            endpoint,
            f"wrong server key: the proxy at {endpoint} has not the secret key that belongs to {server_public_key}: "
            "set EVENTBUS_SECURITY__SERVER_PUBLIC_KEY to what `eventbus keygen` printed for the proxy",
        )
        self.server_public_key = server_public_key


class UnknownClient(HandshakeFailed):
    """The proxy's allow-list does not have the client's public key.

    Attributes:
        public_key: the client's.
    """

    def __init__(self, endpoint: str, public_key: str) -> None:
        super().__init__(
            endpoint,
            f"unknown client: the proxy at {endpoint} does not have the public key of this client on its allow-list: "
            f"add {public_key} there (no restart is needed), or set EVENTBUS_SECURITY__SECRET_KEY_FILE to the right key",
        )
        self.public_key = public_key


class EncryptionRequired(HandshakeFailed):
    """The proxy talks to clients with keys only, and this one has none."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            endpoint,
            f"encryption required: the proxy at {endpoint} uses CURVE, and this client has no keys: "
            "set EVENTBUS_SECURITY__SERVER_PUBLIC_KEY and EVENTBUS_SECURITY__SECRET_KEY_FILE",
        )


class NotEncrypted(HandshakeFailed):
    """The client has keys, and would not talk to a proxy that does not use CURVE."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            endpoint,
            f"not encrypted: the proxy at {endpoint} does not use CURVE, and this client does: start the proxy with "
            "EVENTBUS_SECURITY__SECRET_KEY_FILE and EVENTBUS_SECURITY__ALLOW_LIST, "
            "or leave out this client's EVENTBUS_SECURITY__SERVER_PUBLIC_KEY",
        )


class SendBufferFull(EventBusError):
    """The send buffer is full, so the event was not sent.

    Attributes:
        endpoint: where the buffer leads to.
        limit: how many messages it holds.
    """

    def __init__(self, endpoint: str, limit: int) -> None:
        super().__init__(
            f"the send buffer to {endpoint} is full ({limit} messages), the event was not sent: "
            "is the proxy running? (EVENTBUS_SEND_HWM, EVENTBUS_SEND_POLICY)"
        )
        self.endpoint = endpoint
        self.limit = limit


class SendTimeout(SendBufferFull, TimeoutError):
    """The send buffer stayed full, so the event was not sent.

    Attributes:
        timeout: how long the call waited, in seconds.
    """

    def __init__(self, endpoint: str, limit: int, timeout: float) -> None:
        EventBusError.__init__(
            self,
            f"the send buffer to {endpoint} stayed full ({limit} messages) for {timeout:g} s, the event was not sent: "
            "is the proxy running? (EVENTBUS_SEND_HWM, EVENTBUS_SEND_TIMEOUT)",
        )
        self.endpoint = endpoint
        self.limit = limit
        self.timeout = timeout


class HandlerTimeout(EventBusError, TimeoutError):
    """An ``async`` handler took longer than its time limit, and was cancelled.

    Attributes:
        handler: its qualified name with its module.
        limit: how many seconds it had.
    """

    def __init__(self, handler: str, limit: float) -> None:
        super().__init__(f"{handler} was cancelled: it took longer than its time limit of {limit:g} s")
        self.handler = handler
        self.limit = limit


class ServiceFailed(EventBusError):
    """A service has failed more often than its restart policy allows; its cause is what `run` has raised at last.

    Attributes:
        service: its name.
    """

    def __init__(self, service: str, error: BaseException) -> None:
        super().__init__(f"service {service} has failed and is not run again: {reason_of(error)}")
        self.service = service


class ServiceTimeout(EventBusError, TimeoutError):
    """A service was asked to stop and goes on.

    Attributes:
        service: its name.
        timeout: how many seconds it had.
    """

    def __init__(self, service: str, timeout: float, remedy: str) -> None:
        super().__init__(f"service {service} did not stop within {timeout:g} s: {remedy}, or give it a longer stop_timeout")
        self.service = service
        self.timeout = timeout


class AddressInUse(EventBusError, OSError):
    """A port of the proxy is taken.

    Attributes:
        port: the taken port.
        endpoint: the address that could not be bound.
    """

    def __init__(self, endpoint: str, port: int, variable: str) -> None:
        super().__init__(
            f"port {port} is taken, cannot bind {endpoint}: "
            f"is another proxy running (`eventbus check`)? Stop it, or set {variable}"
        )
        self.endpoint = endpoint
        self.port = port


class ProbePortInUse(AddressInUse):
    """The port at which metrics and probes are to be served is taken."""

    def __init__(self, endpoint: str, port: int) -> None:
        EventBusError.__init__(
            self,
            f"port {port} is taken, cannot serve metrics and probes at {endpoint}: "
            "stop what listens there, or set EVENTBUS_HTTP_PORT",
        )
        self.endpoint = endpoint
        self.port = port


class DescriptorsExhausted(EventBusError, OSError):
    """The process may not open as many files and sockets as are needed: nothing was opened.

    Attributes:
        needed: how many are needed.
        limit: how many the process may have open altogether.
    """

    def __init__(self, needed: int, limit: int) -> None:
        super().__init__(
            f"{needed} more descriptors are needed, and too many of the {limit} that this process may have are in use: "
            "raise the limit (`ulimit -n`, or LimitNOFILE= of its systemd unit), or close what is not needed"
        )
        self.errno = errno.EMFILE
        self.needed = needed
        self.limit = limit


def reason_of(error: BaseException) -> str:
    """What an error says, for people."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
