"""Hosts, addresses and endpoints: names to addresses, and how both are written. An IPv6 address contains colons."""

from ipaddress import ip_address
from socket import AF_INET, SOCK_STREAM, gaierror, getaddrinfo

ANY = "*"
"""The host that stands for every address of this machine."""


def is_ipv6(host: str) -> bool:
    """Whether it is an IPv6 address as text, rather than an IPv4 one or a name."""
    return ":" in host


def host_and_port(host: str, port: int | str) -> str:
    """Return both as URLs have them, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"


def tcp_endpoint(host: str, port: int | str) -> str:
    """Return where ZeroMQ connects to, or binds; a port `*` is a free one."""
    return f"tcp://{host_and_port(host, port)}"


def resolve(host: str) -> str:
    """Return the address to bind for a host, because libzmq binds addresses only: an IPv4 one if there is one. `ANY` stays.

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
    """Whether only this machine can reach what is bound at this host.

    Raises:
        OSError: there is no such host.
    """
    return host != ANY and ip_address(resolve(host)).is_loopback


def local_address(host: str) -> str:
    """Return the address at which this machine reaches what is bound at a host: loopback if that is every address.

    Raises:
        OSError: there is no such host.
    """
    address = resolve(host)
    if address == ANY:
        return "127.0.0.1"
    if ip_address(address).is_unspecified:
        return "::1" if is_ipv6(address) else "127.0.0.1"
    return address
