"""Resolving hosts, and writing addresses and endpoints. IPv6 addresses contain colons, so URLs put them in brackets."""

import re
from ipaddress import ip_address
from socket import AF_INET, EAI_NONAME, SOCK_STREAM, gaierror, getaddrinfo

from eventbus.errors import InvalidSettings

ANY = "*"
"""The host that means every address of this machine."""

_NAME = re.compile(r"[\w.-]+")
_WITH_PORT = re.compile(r"(?:\w+://)?(?P<host>\[[^\]]*\]|[^:/\[\]]+):(?P<port>\d+)/?")


def bare_host(host: str) -> str:
    """Return a host as sockets take it: an IPv6 address without the brackets that URLs have around it. `ANY` stays.

    Raises:
        InvalidSettings: it has a port, or cannot be the name or the address of a host.
    """
    inside = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in inside:
        try:
            return str(ip_address(inside))
        except ValueError:
            pass
    elif host == ANY or _NAME.fullmatch(inside):
        return inside
    if found := _WITH_PORT.fullmatch(host):
        raise InvalidSettings(
            f"only the host belongs here, {found['host']}: ports have variables of their own, such as EVENTBUS_PUB_PORT"
        )
    raise InvalidSettings("it is not the name or the address of a host, such as bus.example.com, 10.0.0.5 or ::1")


def checked_host(host: str) -> str:
    """Like `bare_host`, of a constructor's argument: the error says which, and does not repeat what may be a key."""
    try:
        if not isinstance(host, str):
            raise InvalidSettings("it must be a text")
        return bare_host(host)
    except InvalidSettings as error:
        raise InvalidSettings(f"host: {error}") from None


def check_port(port: int) -> None:
    """Check that this can be a port; 0 is any free one.

    Raises:
        InvalidSettings: it is too large, or negative, or no number.
    """
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise InvalidSettings(f"{port!r} is no port: ports are numbers up to 65535")


def check_ports(pub_port: int, sub_port: int) -> None:
    """Check that a proxy can have these two ports; 0 is any free one.

    Raises:
        InvalidSettings: they are equal, or one is no port.
    """
    check_port(pub_port)
    check_port(sub_port)
    if pub_port == sub_port != 0:
        raise InvalidSettings(
            f"EVENTBUS_PUB_PORT and EVENTBUS_SUB_PORT are both {pub_port}: a proxy has one port for publishers and "
            "another one for subscribers"
        )


def is_ipv6(host: str) -> bool:
    """Whether the text is an IPv6 address, rather than an IPv4 address or a name."""
    return ":" in host


def is_address(host: str) -> bool:
    """Whether it is an IPv4 or IPv6 address as text, rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def host_and_port(host: str, port: int | str) -> str:
    """Return `host:port` as URLs have it, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"


def tcp_endpoint(host: str, port: int | str) -> str:
    """Return the endpoint that ZeroMQ connects to or binds; the port `*` picks a free one."""
    return f"tcp://{host_and_port(host, port)}"


def resolve(host: str) -> str:
    """Return the address to bind for a host, IPv4 if there is one, because libzmq binds addresses only. `ANY` stays.

    Raises:
        OSError: there is no such host.
    """
    if host == ANY:
        return host
    try:
        found = getaddrinfo(host, None, type=SOCK_STREAM)
    except (gaierror, UnicodeError) as error:  # UnicodeError: a part between dots is empty or too long
        reason = error.strerror if isinstance(error, gaierror) else error
        text = f"cannot bind {host}: this machine cannot find an address of it ({reason}): name one of its own"
        raise OSError(EAI_NONAME if isinstance(error, UnicodeError) else error.errno, text) from None
    return str(min(found, key=lambda info: info[0] != AF_INET)[4][0])


def is_loopback(host: str) -> bool:
    """Whether a socket bound at this host can be reached from this machine only.

    Raises:
        OSError: there is no such host.
    """
    return host != ANY and ip_address(resolve(host)).is_loopback


def local_address(host: str) -> str:
    """Return the address at which this machine reaches a socket bound at a host: loopback for every address.

    Raises:
        OSError: there is no such host.
    """
    address = resolve(host)
    if address == ANY:
        return "127.0.0.1"
    if ip_address(address).is_unspecified:
        return "::1" if is_ipv6(address) else "127.0.0.1"
    return address
