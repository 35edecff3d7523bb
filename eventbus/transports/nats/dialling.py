"""Dialling a NATS server: connecting, TLS, and what client and server say of themselves."""

import socket
import ssl
from collections.abc import Iterator

from eventbus.errors import HandshakeFailed, NatsRefused, ServerTooOld, TlsFailed, WrongCredentials
from eventbus.nats_options import NatsOptions, NatsServer
from eventbus.transports.nats.channel import Channel, TlsChannel
from eventbus.transports.nats.connection import ConnectionLost, reason_of
from eventbus.transports.nats.credentials import login, tls_context, user_of
from eventbus.transports.nats.protocol import (
    CRLF,
    PING,
    PONG,
    Info,
    Parser,
    Ping,
    Pong,
    ProtocolError,
    ServerError,
    connect,
    parse_info,
)

REQUIRED_VERSION = (2, 10)
_MAX_INFO_BYTES = 65_536


def dial(server: NatsServer, nats: NatsOptions, timeout: float) -> tuple[Channel, Info, bytes]:
    """Connect to a server that lets the client in. Returns what it says of itself, and what has come behind that.

    Args:
        server: the server.
        nats: who the client is, and whom it trusts.
        timeout: how many seconds each step may take.

    Raises:
        HandshakeFailed: the server is too old, or does not let the client in, or one does not trust the other.
        EventBusError: a file of the settings cannot be used.
        ProtocolError: it is no NATS server.
        OSError: nobody answers, or not in time.
    """
    try:
        channel = Channel(socket.create_connection((server.host, server.port), timeout))
    except UnicodeError as error:  # a part of the name between dots is empty or too long
        raise OSError(f"there is no such host: {error}") from None
    try:
        info, begun = _read_info(channel, server)
        version = _version_of(info)
        if version < REQUIRED_VERSION:
            raise ServerTooOld(str(server), info.version, ".".join(map(str, REQUIRED_VERSION)))
        if server.tls or info.tls_required or nats.ca_file is not None:
            context = tls_context(nats)
            if not info.tls_available:
                raise TlsFailed(str(server), "the server does not offer it")
            try:
                channel = TlsChannel(channel, context, server.tls_name or server.host, begun)
            except ssl.SSLError as error:
                raise TlsFailed(str(server), reason_of(error)) from None
            begun = b""
        begun = _introduce(channel, server, nats, info, begun)
        channel.set_timeout(None)
        return channel, info, begun
    except BaseException:
        channel.close()
        raise


def _read_info(channel: Channel, server: NatsServer) -> tuple[Info, bytes]:
    data = b""
    while b"\r\n" not in data:
        more = channel.read()
        data += more
        if not more or not b"INFO ".startswith(data[:5].upper()[:5]) or len(data) > _MAX_INFO_BYTES:
            raise ProtocolError(f"what answers at {server} is no NATS server")
    line, _, begun = data.partition(b"\r\n")
    return parse_info(line[5:]), begun


def _introduce(channel: Channel, server: NatsServer, nats: NatsOptions, info: Info, begun: bytes) -> bytes:
    """Say who the client is, and wait until the server lets it in. Returns what has come behind that."""
    fields: dict[str, object] = {
        "verbose": False,
        "pedantic": False,
        "lang": "python",
        "version": "1",
        "name": "eventbus",
        "protocol": 1,
        "headers": True,
        "no_responders": True,
        "echo": True,
        "tls_required": isinstance(channel, TlsChannel),
    }
    _write_all(channel, connect(fields | login(nats, server, info.nonce)) + PING)
    parser = Parser()
    while True:
        line, end, behind = begun.partition(CRLF)
        if not end:
            more = channel.read()
            if not more:
                raise ConnectionLost("the server has ended the connection")
            begun += more
            continue
        begun = behind
        for other in parser.feed(line + end).others:
            if isinstance(other, Pong):
                return begun
            if isinstance(other, ServerError):
                raise _refused(server, nats, other.text)
            if isinstance(other, Ping):
                _write_all(channel, PONG)


def _refused(server: NatsServer, nats: NatsOptions, text: str) -> HandshakeFailed:
    lowered = text.lower()
    if "authorization" in lowered or "authentication" in lowered or "expired" in lowered or "revoked" in lowered:
        return WrongCredentials(str(server), user_of(nats, server), text)
    if "tls" in lowered:
        return TlsFailed(str(server), text)
    return NatsRefused(str(server), text)


def _version_of(info: Info) -> tuple[int, ...]:
    numbers: Iterator[str] = iter(info.version.split("-")[0].split("."))
    return tuple(int(number) for number in numbers if number.isdigit())


def _write_all(channel: Channel, data: bytes) -> None:
    """Write during the handshake, when there is room for these few bytes."""
    view = memoryview(data)
    while view:
        view = view[channel.write(view) :]
    while not channel.flush():
        pass
