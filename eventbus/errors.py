"""The errors of this library, as one tree. Every error carries its facts as attributes and says the remedy in its text.

EventBusError
├── InvalidEvent             what was emitted is no event of this bus         (also a TypeError)
├── InvalidTopic             the topic is of another enum, or cannot be sent  (also a ValueError)
├── InvalidHeaders           headers of an event cannot be sent               (also a ValueError)
├── InvalidHandler           a callback or @on method cannot be wired         (also a TypeError)
├── InvalidSettings          a setting is unknown or has a bad value          (also a ValueError)
│   └── ExtraMissing         the library that a setting needs is not installed
│       └── CompressionMissing   the library of a compression is not installed
├── EventTooLarge            the event is larger than allowed                 (also a ValueError)
├── TooManyValues            the event has more values than allowed           (also a ValueError)
├── PayloadTooLarge          a payload is too large when it is decompressed   (also a ValueError)
├── PayloadDamaged           a compressed payload cannot be decompressed      (also a ValueError)
├── NotConnected             the call needs an open client                    (also a ConnectionError)
│   ├── ForkedClient         the client was opened by the parent process
│   └── ReconnectFailed      the last attempt to reconnect has failed
├── ProxyUnreachable         no proxy answered in time                        (also a TimeoutError)
├── HandshakeFailed          proxy and client do not agree on who may talk    (also a ConnectionError)
│   ├── SwappedPorts         the client's two ports are the proxy's, exchanged
│   ├── WrongServerKey       the proxy is not the one whose key the client has
│   ├── UnknownClient        the proxy's allow-list does not have the client's key
│   ├── EncryptionRequired   the proxy uses CURVE, the client has no keys
│   ├── NotEncrypted         the client has keys, the proxy does not use CURVE
│   ├── NatsRefused          a NATS server does not let this client in
│   ├── WrongCredentials     a NATS server does not know this user, or not by this secret
│   ├── TlsFailed            client and NATS server do not agree on TLS
│   ├── ServerTooOld         the NATS server is older than what this library needs
│   ├── JetStreamMissing     the NATS server stores no streams
│   ├── StreamDiffers        there is a stream of that name with other subjects
│   ├── GroupDiffers         there is a group of that name with other topics
│   └── PermissionDenied     the NATS server does not permit a subject
├── SendBufferFull           the send buffer is full, the event was not sent
│   └── SendTimeout          the send buffer stayed full                      (also a TimeoutError)
├── NobodyAnswers            nobody subscribes to the topic of a request
├── NoAnswer                 no answer to a request came in time              (also a TimeoutError)
├── RequestFailed            the handler that was to answer has failed
├── InvalidAnswer            an answer is not of the class that was asked for (also a ValueError)
├── HistorianMissing         no historian on the bus answers                  (also a TimeoutError)
├── HistoryDamaged           what a historian has answered cannot be read     (also a ValueError)
├── InvalidRecording         a line of a file is none of a recording          (also a ValueError)
├── HandlerTimeout           a handler took longer than its time limit        (also a TimeoutError)
├── ServiceFailed            a service has failed, and is not run again
├── ServiceTimeout           a service did not stop in time                   (also a TimeoutError)
├── NotSettled               in a test, something is still under way           (also a TimeoutError)
├── AddressInUse             the proxy's port is taken                        (also an OSError)
│   └── ProbePortInUse       the port of metrics and probes is taken
├── DescriptorsExhausted     the process may open no more files or sockets    (also an OSError)
└── MonkeyPatched            gevent or eventlet has replaced Python's threads  (also a RuntimeError)
"""

import errno

from eventbus.exports import public

_SHOWN_KEY_CHARACTERS = 6  # enough to tell keys apart; the whole text may be a secret key that was set as a public one
_OS_FACTS = ("errno", "strerror", "filename", "filename2")  # what an OSError does not keep in its __dict__


@public
class EventBusError(Exception):
    """The root of all errors that this package raises on purpose.

    An error holds its facts as attributes and composes its text from them; its ``args`` are what its class takes, in order.
    `pickle` and `copy` keep its class, attributes, text and notes, so that it travels between processes. Its traceback and
    its cause do not travel, as with every exception of Python. The same holds for classes that you derive from these.
    """

    def __repr__(self) -> str:
        # With the text, because people read an error in a list or an exception group, too.
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        # BaseException would have the class called with `args`. That fails where `__init__` takes something else, as it may
        # in a derived class, and multiprocessing.Pool waits without end for a result that it cannot unpickle.
        state = vars(self) | {"args": self.args}
        if isinstance(self, OSError):
            state |= {name: fact for name in _OS_FACTS if (fact := getattr(self, name)) is not None}
        return _new, (type(self), *self.args), state


def _new(kind: type[EventBusError], *args: object) -> EventBusError:
    """An error before its `__init__`; pickle and copy set its attributes next."""
    return kind.__new__(kind, *args)


@public
class InvalidEvent(EventBusError, TypeError):
    """The object handed to the client is no event of its class, or a bare type lacks what the class needs."""


@public
class InvalidTopic(EventBusError, ValueError):
    """The topic is no member of the client's topic enum, or its value cannot be sent."""


@public
class InvalidHeaders(EventBusError, ValueError):
    """The headers of an event are no texts, or too long."""


@public
class InvalidHandler(EventBusError, TypeError):
    """A callback or a method marked with ``@on`` cannot be called with an event of this bus."""


@public
class InvalidSettings(EventBusError, ValueError):
    """One or more settings are unknown or have a bad value; the text names each variable."""


@public
class ExtraMissing(InvalidSettings):
    """A library is needed that comes with an extra of this package, and it is not installed.

    Attributes:
        extra: the extra that brings the library.
        wanted_by: the setting that needs it, or what it is needed for.
        library: its name, if that is not the name of the extra.
    """

    def __init__(self, extra: str, wanted_by: str, library: str = "") -> None:
        super().__init__()
        self.args = extra, wanted_by, library
        self.extra = extra
        self.wanted_by = wanted_by
        self.library = library

    def __str__(self) -> str:
        return f"{self.library or self.extra} is not installed: pip install 'eventbus[{self.extra}]' ({self.wanted_by})"


@public
class CompressionMissing(ExtraMissing):
    """A compression is to be used, or has been used by a publisher, and its library is not installed.

    Attributes:
        compression: the name of the compression, which is also that of the extra that brings the library.
    """

    def __init__(self, compression: str) -> None:
        name = str(compression)  # of a member of an enum, only its value
        super().__init__(name, "EVENTBUS_COMPRESSION")
        self.args = (name,)
        self.compression = name


@public
class EventTooLarge(EventBusError, ValueError):
    """The event is larger than the client may send, or than the proxy accepts; nothing was sent.

    Attributes:
        topic: the topic that it was emitted to.
        size: the size of its JSON, in bytes; if the proxy refuses it, that of the payload, which may be compressed.
        limit: the largest size that the client allows, in bytes.
        proxy_limit: the largest payload that the proxy accepts, in bytes; None: it is the client that refuses the event.
        peer: what accepts no more, if the transport has something else than a proxy.
        remedy: how that accepts more.
    """

    def __init__(
        self,
        topic: str,
        size: int,
        limit: int,
        proxy_limit: int | None = None,
        peer: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__()
        self.args = topic, size, limit, proxy_limit, peer, remedy
        self.topic = topic
        self.size = size
        self.limit = limit
        self.proxy_limit = proxy_limit
        self.peer = peer
        self.remedy = remedy

    def __str__(self) -> str:
        if self.proxy_limit is not None:
            remedy = self.remedy or "raise EVENTBUS_MAX_EVENT_BYTES for the proxy"
            return (
                f"{self.topic}: the payload is {self.size} bytes, the {self.peer or 'proxy'} accepts {self.proxy_limit} "
                f"(this client's own limit is {self.limit}): make it smaller, or {remedy}"
            )
        return (
            f"{self.topic}: the event is {self.size} bytes of JSON, the limit is {self.limit}: "
            "make it smaller, or raise EVENTBUS_MAX_EVENT_BYTES for this client, its receivers and the proxy"
        )


@public
class TooManyValues(EventBusError, ValueError):
    """The event has more values, at any depth, than may be sent; nothing was sent. Receivers would take long to decode it.

    Attributes:
        topic: the topic that it was emitted to.
        limit: the number of values that the client allows.
    """

    def __init__(self, topic: str, limit: int) -> None:
        super().__init__()
        self.args = topic, limit
        self.topic = topic
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"{self.topic}: the event has more than {self.limit} values: send it in parts or as one text, "
            "or raise EVENTBUS_MAX_EVENT_VALUES for this client and its receivers"
        )


class PayloadTooLarge(EventBusError, ValueError):
    """A compressed payload holds more than is allowed, or its header says so; no more of it was decompressed.

    Attributes:
        limit: the largest size that is allowed, in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.args = (limit,)
        self.limit = limit

    def __str__(self) -> str:
        return f"more than {self.limit} bytes, compressed (the limit is EVENTBUS_MAX_EVENT_BYTES, and never above 8 MiB)"


class PayloadDamaged(EventBusError, ValueError):
    """A compressed payload is damaged or cut off, or other bytes follow it."""


@public
class NotConnected(EventBusError, ConnectionError):
    """The call needs an open client.

    Attributes:
        endpoints: the endpoints of the client's proxy.
    """

    def __init__(self, endpoints: str) -> None:
        super().__init__()
        self.args = (endpoints,)
        self.endpoints = endpoints

    def __str__(self) -> str:
        return f"the client for {self.endpoints} is not connected: call connect(), or use it inside `with client:`"


@public
class ForkedClient(NotConnected):
    """The process was forked while the client was open: the sockets belong to the parent, the child must not use them."""

    def __str__(self) -> str:
        return (
            f"the client for {self.endpoints} was connected before this process was forked: "
            "create and connect a client of its own in the child"
        )


@public
class ReconnectFailed(NotConnected):
    """The client has given up: all attempts to reconnect that it may make have failed. It is closed.

    Attributes:
        attempts: the number of attempts made.
        peer: what did not come back, if the transport has something else than a proxy.
    """

    def __init__(self, endpoints: str, attempts: int, peer: str | None = None) -> None:
        super().__init__(endpoints)
        self.args = endpoints, attempts, peer
        self.attempts = attempts
        self.peer = peer

    def __str__(self) -> str:
        return (
            f"no {self.peer or 'event bus proxy'} came back at {self.endpoints} in {self.attempts} attempts to reconnect, "
            "and no more are made: call connect() again once it runs, "
            "or raise EVENTBUS_RECONNECT_ATTEMPTS (-1: never give up)"
        )


@public
class ProxyUnreachable(EventBusError, TimeoutError):
    """No proxy forwarded a message in time.

    Attributes:
        endpoints: both endpoints that were tried.
        timeout: how long they were tried, in seconds.
        hint: what was found out about it; empty if nothing was.
        remedy: what to do about that; empty: start a proxy, or set other variables.
        peer: what did not answer, if the transport has something else than a proxy.
    """

    def __init__(self, endpoints: str, timeout: float, hint: str = "", remedy: str = "", peer: str | None = None) -> None:
        super().__init__()
        self.args = endpoints, timeout, hint, remedy, peer
        self.endpoints = endpoints
        self.timeout = timeout
        self.hint = hint
        self.remedy = remedy
        self.peer = peer

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        remedy = (
            self.remedy or "start one with `eventbus proxy`, or set EVENTBUS_HOST, EVENTBUS_PUB_PORT and EVENTBUS_SUB_PORT"
        )
        peer = self.peer or "event bus proxy"
        return f"no {peer} answered at {self.endpoints} within {self.timeout:g} s{hint}: {remedy}"


@public
class HandshakeFailed(EventBusError, ConnectionError):
    """Proxy and client do not agree on who may talk to whom. A client that need not be connected goes on trying.

    Attributes:
        endpoint: the endpoint of the proxy.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self.args = (endpoint,)
        self.endpoint = endpoint

    def __str__(self) -> str:
        return f"the proxy at {self.endpoint} and this client do not agree on who may talk: see `eventbus check`"


@public
class SwappedPorts(HandshakeFailed):
    """The client's two ports are those of a proxy, exchanged.

    Attributes:
        pub_port: the port for publishers, as the client has it.
        sub_port: the port for subscribers, as the client has it.
    """

    def __init__(self, endpoint: str, pub_port: int, sub_port: int) -> None:
        super().__init__(endpoint)
        self.args = endpoint, pub_port, sub_port
        self.pub_port = pub_port
        self.sub_port = sub_port

    def __str__(self) -> str:
        return (
            f"the ports of the proxy at {self.endpoint} are swapped (publishers connect to {self.sub_port} and subscribers "
            f"to {self.pub_port}): set EVENTBUS_PUB_PORT={self.sub_port} and EVENTBUS_SUB_PORT={self.pub_port}"
        )


@public
class WrongServerKey(HandshakeFailed):
    """The proxy does not have the secret key that belongs to the public one that the client expects.

    Attributes:
        server_public_key: the public key that the client expects.
    """

    def __init__(self, endpoint: str, server_public_key: str) -> None:
        super().__init__(endpoint)
        self.args = endpoint, server_public_key
        self.server_public_key = server_public_key

    def __str__(self) -> str:
        return (
            f"wrong server key: the proxy at {self.endpoint} has not the secret key that belongs to the public key "
            f"{self.server_public_key[:_SHOWN_KEY_CHARACTERS]}…: set EVENTBUS_SECURITY__SERVER_PUBLIC_KEY "
            "to what `eventbus keygen` printed for the proxy"
        )


@public
class UnknownClient(HandshakeFailed):
    """The proxy's allow-list does not have the client's public key.

    Attributes:
        public_key: the client's public key.
    """

    def __init__(self, endpoint: str, public_key: str) -> None:
        super().__init__(endpoint)
        self.args = endpoint, public_key
        self.public_key = public_key

    def __str__(self) -> str:
        return (
            f"unknown client: the proxy at {self.endpoint} does not have the public key of this client on its allow-list: "
            f"add {self.public_key} there (no restart is needed), or set EVENTBUS_SECURITY__SECRET_KEY_FILE to the right key"
        )


@public
class EncryptionRequired(HandshakeFailed):
    """The proxy talks to clients with keys only, and this one has none."""

    def __str__(self) -> str:
        return (
            f"encryption required: the proxy at {self.endpoint} uses CURVE, and this client has no keys: "
            "set EVENTBUS_SECURITY__SERVER_PUBLIC_KEY and EVENTBUS_SECURITY__SECRET_KEY_FILE"
        )


@public
class NotEncrypted(HandshakeFailed):
    """The client has keys, and does not talk to a proxy that does not use CURVE."""

    def __str__(self) -> str:
        return (
            f"not encrypted: the proxy at {self.endpoint} does not use CURVE, and this client does: start the proxy with "
            "EVENTBUS_SECURITY__SECRET_KEY_FILE and EVENTBUS_SECURITY__ALLOW_LIST, "
            "or leave out this client's EVENTBUS_SECURITY__SERVER_PUBLIC_KEY"
        )


@public
class NatsRefused(HandshakeFailed):
    """A NATS server does not let this client in.

    Attributes:
        reason: what it says, or what is wrong with the client's settings.
    """

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(endpoint)
        self.args = endpoint, reason
        self.reason = reason

    def __str__(self) -> str:
        return f"the NATS server at {self.endpoint} does not let this client in: {self.reason}: see `eventbus check`"


@public
class WrongCredentials(HandshakeFailed):
    """A NATS server does not know this user, or not by this secret.

    Attributes:
        user: who the client says it is; empty: it does not say.
        reason: what the server says.
    """

    def __init__(self, endpoint: str, user: str, reason: str) -> None:
        super().__init__(endpoint)
        self.args = endpoint, user, reason
        self.user = user
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"wrong credentials: the NATS server at {self.endpoint} does not let {self.user or 'a client without a user'} "
            f"in ({self.reason}): set the user in EVENTBUS_URL (nats://user@host) and EVENTBUS_SECURITY__PASSWORD_FILE, "
            "or EVENTBUS_SECURITY__TOKEN, or EVENTBUS_SECURITY__CREDENTIALS"
        )


@public
class TlsFailed(HandshakeFailed):
    """Client and NATS server do not agree on TLS.

    Attributes:
        reason: what is wrong.
    """

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(endpoint)
        self.args = endpoint, reason
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"TLS failed with the NATS server at {self.endpoint}: {self.reason}: set EVENTBUS_SECURITY__CA_FILE to the "
            "certificate of its authority, EVENTBUS_SECURITY__CERT_FILE and EVENTBUS_SECURITY__KEY_FILE if it asks for the "
            "client's, and the name in its certificate as the host in EVENTBUS_URL"
        )


@public
class ServerTooOld(HandshakeFailed):
    """The NATS server is older than what this library needs: it would ignore which topics a consumer wants.

    Attributes:
        version: what it is.
        required: what is needed at least.
    """

    def __init__(self, endpoint: str, version: str, required: str) -> None:
        super().__init__(endpoint)
        self.args = endpoint, version, required
        self.version = version
        self.required = required

    def __str__(self) -> str:
        return (
            f"the NATS server at {self.endpoint} is version {self.version or 'unknown'}, and {self.required} is needed: "
            "upgrade it, or set EVENTBUS_URL to another one"
        )


@public
class JetStreamMissing(HandshakeFailed):
    """The NATS server stores no streams.

    Attributes:
        reason: what it says.
    """

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(endpoint)
        self.args = endpoint, reason
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"the NATS server at {self.endpoint} has no JetStream ({self.reason}): start it with `nats-server -js -sd DIR`, "
            "or set EVENTBUS_TRANSPORT=nats, which stores nothing"
        )


@public
class StreamDiffers(HandshakeFailed):
    """There is a stream of that name, and it has other subjects.

    Attributes:
        stream: its name.
        subjects: those that it has.
        wanted: those that it should have.
    """

    def __init__(self, endpoint: str, stream: str, subjects: tuple[str, ...], wanted: tuple[str, ...]) -> None:
        super().__init__(endpoint)
        self.args = endpoint, stream, subjects, wanted
        self.stream = stream
        self.subjects = subjects
        self.wanted = wanted

    def __str__(self) -> str:
        return (
            f"the stream {self.stream!r} at {self.endpoint} has the subjects {', '.join(self.subjects) or 'of others'}, and "
            f"this bus needs {', '.join(self.wanted)}: set EVENTBUS_SUBJECT_PREFIX to one that is free, or change the "
            "stream (`nats stream edit`)"
        )


@public
class GroupDiffers(HandshakeFailed):
    """There is a group of that name with other topics, and its workers are running.

    Attributes:
        group: its name.
        topics: those that it has.
        wanted: those of this client.
    """

    def __init__(self, endpoint: str, group: str, topics: tuple[str, ...], wanted: tuple[str, ...]) -> None:
        super().__init__(endpoint)
        self.args = endpoint, group, topics, wanted
        self.group = group
        self.topics = topics
        self.wanted = wanted

    def __str__(self) -> str:
        return (
            f"the group {self.group!r} at {self.endpoint} has the topics {', '.join(self.topics) or 'of nobody'}, and this "
            f"client subscribes to {', '.join(self.wanted)}: all workers of a group need the same topics. Stop the others "
            "first, or set EVENTBUS_GROUP to another name"
        )


@public
class PermissionDenied(HandshakeFailed):
    """The NATS server does not permit this user a subject. The connection stays.

    Attributes:
        action: what was denied: ``subscribe`` or ``publish``.
        subject: the subject.
        user: who the client is; empty: it has not said.
    """

    def __init__(self, endpoint: str, action: str, subject: str, user: str) -> None:
        super().__init__(endpoint)
        self.args = endpoint, action, subject, user
        self.action = action
        self.subject = subject
        self.user = user

    def __str__(self) -> str:
        return (
            f"the NATS server at {self.endpoint} does not permit {self.user or 'a client without a user'} to {self.action} "
            f"on {self.subject}: change the permissions in the server's configuration, or the user in EVENTBUS_URL"
        )


@public
class SendBufferFull(EventBusError):
    """The send buffer is full, so the event was not sent.

    Attributes:
        endpoint: the endpoint that the buffer belongs to.
        limit: the number of messages that the buffer holds.
        peer: what may be away, if the transport has something else than a proxy.
    """

    def __init__(self, endpoint: str, limit: int, peer: str | None = None) -> None:
        super().__init__()
        self.args = endpoint, limit, peer
        self.endpoint = endpoint
        self.limit = limit
        self.peer = peer

    def __str__(self) -> str:
        return (
            f"the send buffer to {self.endpoint} is full ({self.limit} messages), the event was not sent: "
            f"is the {self.peer or 'proxy'} running? (EVENTBUS_SEND_HWM, EVENTBUS_SEND_POLICY)"
        )


@public
class SendTimeout(SendBufferFull, TimeoutError):
    """The send buffer stayed full, so the event was not sent.

    Attributes:
        timeout: how long the call waited, in seconds.
    """

    def __init__(self, endpoint: str, limit: int, timeout: float, peer: str | None = None) -> None:
        super().__init__(endpoint, limit, peer)
        self.args = endpoint, limit, timeout, peer
        self.timeout = timeout

    def __str__(self) -> str:
        return (
            f"the send buffer to {self.endpoint} stayed full ({self.limit} messages) for {self.timeout:g} s, "
            f"the event was not sent: is the {self.peer or 'proxy'} running? (EVENTBUS_SEND_HWM, EVENTBUS_SEND_TIMEOUT)"
        )


@public
class NobodyAnswers(EventBusError):
    """Nobody subscribes to the topic of a request; it was not sent.

    Attributes:
        topic: the topic of the request.
        event_type: the type of the event.
    """

    def __init__(self, topic: str, event_type: str) -> None:
        super().__init__()
        self.args = topic, event_type
        self.topic = topic
        self.event_type = event_type

    def __str__(self) -> str:
        return (
            f"nobody subscribes to {self.topic}, so nobody answers {self.event_type}: "
            "start the service that has the handler marked with @answers"
        )


@public
class NoAnswer(EventBusError, TimeoutError):
    """No answer to a request came in time. It may have been received, and its handler may have run.

    Attributes:
        topic: the topic of the request.
        event_type: the type of the event.
        timeout: how many seconds the request has waited.
        option: how to let it wait longer, if not by an argument of the call.
    """

    def __init__(self, topic: str, event_type: str, timeout: float, option: str | None = None) -> None:
        super().__init__()
        self.args = topic, event_type, timeout, option
        self.topic = topic
        self.event_type = event_type
        self.timeout = timeout
        self.option = option

    def __str__(self) -> str:
        return (
            f"no answer to {self.event_type} on {self.topic} within {self.timeout:g} s: either no subscriber of the topic "
            f"has a handler marked with @answers for this type, or it takes longer ({self.option or 'timeout=…'})"
        )


@public
class RequestFailed(EventBusError):
    """The handler that was to answer a request has raised an error, in another process perhaps. Its log has the traceback.

    Attributes:
        topic: the topic of the request.
        event_type: the type of the event.
        error_type: the name of the error's class, as the answerer has sent it.
        error_text: the error's text, of which only the beginning travels.
    """

    def __init__(self, topic: str, event_type: str, error_type: str, error_text: str) -> None:
        super().__init__()
        self.args = topic, event_type, error_type, error_text
        self.topic = topic
        self.event_type = event_type
        self.error_type = error_type
        self.error_text = error_text

    def __str__(self) -> str:
        return (
            f"the handler of {self.event_type} on {self.topic} has failed with {self.error_type}: {self.error_text} "
            "(the log of the answering service has the traceback)"
        )


@public
class InvalidAnswer(EventBusError, ValueError):
    """An answer has come that is not of the class that was asked for, or cannot be read.

    Attributes:
        topic: the topic of the request.
        event_type: the type of the event.
        reply: the name of the class.
        detail: what is wrong with it.
    """

    def __init__(self, topic: str, event_type: str, reply: str, detail: str) -> None:
        super().__init__()
        self.args = topic, event_type, reply, detail
        self.topic = topic
        self.event_type = event_type
        self.reply = reply
        self.detail = detail

    def __str__(self) -> str:
        return (
            f"the answer to {self.event_type} on {self.topic} is no {self.reply}: {self.detail}; "
            "`reply` and what the handler returns must be of the same class"
        )


@public
class HistorianMissing(EventBusError, TimeoutError):
    """No historian on the bus answers, so what was emitted before cannot be had.

    Attributes:
        endpoints: where the client is connected.
        timeout: how many seconds it has waited for an answer; 0: there is none that could answer.
    """

    def __init__(self, endpoints: str, timeout: float) -> None:
        super().__init__()
        self.args = endpoints, timeout
        self.endpoints = endpoints
        self.timeout = timeout

    def __str__(self) -> str:
        seen = f"no historian has answered within {self.timeout:g} s" if self.timeout else "there is no historian"
        return f"{seen} at {self.endpoints}: run `eventbus historian`, or a proxy with EVENTBUS_HISTORY=1000"


@public
class HistoryDamaged(EventBusError, ValueError):
    """What a historian has answered cannot be read: it has another version, or another one answers, too.

    Attributes:
        endpoints: where the client is connected.
        detail: what is wrong.
    """

    def __init__(self, endpoints: str, detail: str) -> None:
        super().__init__()
        self.args = endpoints, detail
        self.endpoints = endpoints
        self.detail = detail

    def __str__(self) -> str:
        return (
            f"an answer of the historian at {self.endpoints} cannot be read: {self.detail}; give both the same version, and "
            "run one historian on a bus, in the proxy or beside it"
        )


@public
class InvalidRecording(EventBusError, ValueError):
    """A line of a file is none of a recording, as `eventbus record` writes it.

    Attributes:
        path: the file.
        line: the number of the line.
        detail: what is wrong.
    """

    def __init__(self, path: str, line: int, detail: str) -> None:
        super().__init__()
        self.args = path, line, detail
        self.path = path
        self.line = line
        self.detail = detail

    def __str__(self) -> str:
        return f"line {self.line} of {self.path} is none of a recording: {self.detail}; `eventbus record` writes such files"


@public
class HandlerTimeout(EventBusError, TimeoutError):
    """An ``async`` handler took longer than its time limit, and was cancelled.

    Attributes:
        handler: the handler's qualified name with its module.
        limit: its time limit, in seconds.
    """

    def __init__(self, handler: str, limit: float) -> None:
        super().__init__()
        self.args = handler, limit
        self.handler = handler
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.handler} was cancelled: it took longer than its time limit of {self.limit:g} s"


@public
class ServiceFailed(EventBusError):
    """A service has failed more often than its restart policy allows; its cause is what `run` has raised at last.

    Attributes:
        service: the name of the service.
        reason: the class and the text of the cause, which stay when the error comes from another process.
    """

    def __init__(self, service: str, reason: str) -> None:
        super().__init__()
        self.args = service, reason
        self.service = service
        self.reason = reason

    def __str__(self) -> str:
        return f"service {self.service} has failed and is not run again: {self.reason}"


@public
class ServiceTimeout(EventBusError, TimeoutError):
    """A service was asked to stop and goes on.

    Attributes:
        service: the name of the service.
        timeout: how long it had to stop, in seconds.
        remedy: what to change in it.
    """

    def __init__(self, service: str, timeout: float, remedy: str) -> None:
        super().__init__()
        self.args = service, timeout, remedy
        self.service = service
        self.timeout = timeout
        self.remedy = remedy

    def __str__(self) -> str:
        return (
            f"service {self.service} did not stop within {self.timeout:g} s: {self.remedy}, or give it a longer stop_timeout"
        )


class NotSettled(EventBusError, TimeoutError):
    """Something is still under way in a test after its time.

    Attributes:
        timeout: how long the test has waited, in seconds.
        under_way: what it is.
    """

    def __init__(self, timeout: float, under_way: str) -> None:
        super().__init__()
        self.args = timeout, under_way
        self.timeout = timeout
        self.under_way = under_way

    def __str__(self) -> str:
        return (
            f"still under way after {self.timeout:g} s: {self.under_way}: let it end, or wait by the clock of the test, as "
            "`Service.pause`, `Retry` and `TimeLimit` do"
        )


@public
class AddressInUse(EventBusError, OSError):
    """A port of the proxy is taken.

    Attributes:
        endpoint: the address that could not be bound.
        port: the taken port.
        variable: the setting of the port.
        errno: ``errno.EADDRINUSE``.
    """

    def __init__(self, endpoint: str, port: int, variable: str) -> None:
        super().__init__()
        self.args = endpoint, port, variable
        self.errno = errno.EADDRINUSE
        self.endpoint = endpoint
        self.port = port
        self.variable = variable

    def __str__(self) -> str:
        return (
            f"port {self.port} is taken, cannot bind {self.endpoint}: "
            f"is another proxy running (`eventbus check`)? Stop it, or set {self.variable}"
        )


class ProbePortInUse(AddressInUse):
    """The port at which metrics and probes are to be served is taken."""

    def __init__(self, endpoint: str, port: int) -> None:
        super().__init__(endpoint, port, "EVENTBUS_HTTP_PORT")
        self.args = endpoint, port

    def __str__(self) -> str:
        return (
            f"port {self.port} is taken, cannot serve metrics and probes at {self.endpoint}: "
            f"stop what listens there, or set {self.variable}"
        )


@public
class DescriptorsExhausted(EventBusError, OSError):
    """The process may not open as many files and sockets as are needed: nothing was opened.

    Attributes:
        needed: the number of descriptors needed.
        limit: the most that the process may have open altogether.
        errno: ``errno.EMFILE``.
    """

    def __init__(self, needed: int, limit: int) -> None:
        super().__init__()
        self.args = needed, limit
        self.errno = errno.EMFILE
        self.needed = needed
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"{self.needed} more descriptors are needed, and too many of the {self.limit} that this process may have "
            "are in use: raise the limit (`ulimit -n`, or LimitNOFILE= of its systemd unit), or close what is not needed"
        )


@public
class MonkeyPatched(EventBusError, RuntimeError):
    """gevent or eventlet has replaced Python's threads or sockets, and the call would hang or fail.

    The consumer and a proxy wait inside of libzmq. In a greenlet such a wait blocks the whole process.

    Attributes:
        library: the package that has replaced them.
    """

    def __init__(self, library: str) -> None:
        super().__init__(library)
        self.library = library

    def __str__(self) -> str:
        remedy = "use another worker class (gunicorn: gthread)"
        if self.library == "gevent":
            remedy += ", or call gevent.monkey.patch_all(thread=False)"
        return f"{self.library} has replaced Python's threads, and waiting for ZeroMQ would block all of them: {remedy}"


def reason_of(error: BaseException) -> str:
    """The class and the text of an error, for people; only the class, if the text is empty or cannot be had."""
    try:
        text = str(error)
    except Exception:  # a service's own __str__ may raise anything
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
