"""Resolving hosts, and writing addresses and endpoints. IPv6 addresses contain colons, so URLs put them in brackets."""

from ipaddress import ip_address
from socket import AF_INET, SOCK_STREAM, gaierror, getaddrinfo

ANY = "*"
"""The host that means every address of this machine."""


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
    except gaierror as error:
        raise OSError(error.errno, f"cannot bind {host}: {error.strerror}") from None
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
