"""Hosts, addresses and endpoints."""

import re

import pytest

from eventbus._base.addresses import (
    check_ports,
    checked_host,
    host_and_port,
    is_loopback,
    local_address,
    resolve,
    tcp_endpoint,
)
from eventbus.errors import InvalidSettings


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1:5559"), ("plant-1", "plant-1:5559"), ("*", "*:5559"), ("::1", "[::1]:5559")],
)
def test_ipv6_addresses_have_brackets(host: str, expected: str) -> None:
    """Only an IPv6 address is put in brackets, in endpoints too."""
    assert host_and_port(host, 5559) == expected
    assert tcp_endpoint(host, 5559) == f"tcp://{expected}"


def test_ipv4_is_preferred() -> None:
    """A name with addresses of both kinds is bound at the IPv4 one."""
    assert resolve("localhost") == "127.0.0.1"
    assert resolve("::1") == "::1"
    assert resolve("*") == "*"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "plant..example", "x" * 64], ids=["unknown", "empty", "long"])
def test_an_unknown_host_is_named(host: str) -> None:
    """A host that nobody knows, or can know, is an OSError that names it."""
    with pytest.raises(OSError, match=rf"cannot bind {re.escape(host)}: .*: name one of its own$"):
        resolve(host)


@pytest.mark.parametrize(
    ("host", "loopback", "local"),
    [
        ("127.0.0.1", True, "127.0.0.1"),
        ("::1", True, "::1"),
        ("localhost", True, "127.0.0.1"),
        ("*", False, "127.0.0.1"),
        ("0.0.0.0", False, "127.0.0.1"),
        ("::", False, "::1"),
    ],
)
def test_where_this_machine_reaches_it(host: str, loopback: bool, local: str) -> None:
    """A proxy bound at every address is reached at the loopback address."""
    assert is_loopback(host) is loopback
    assert local_address(host) == local


@pytest.mark.parametrize(
    ("host", "expected"), [("[::1]", "::1"), ("::1", "::1"), ("plant-1", "plant-1"), ("10.0.0.5", "10.0.0.5"), ("*", "*")]
)
def test_brackets_belong_to_urls(host: str, expected: str) -> None:
    """A host may be given with the brackets that an IPv6 address has in an endpoint."""
    assert checked_host(host) == expected


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("plant-1:5559", "only the host belongs here, plant-1: "),
        ("tcp://plant-1:5559", "only the host belongs here, plant-1: "),
        ("[::1]:5559", r"only the host belongs here, \[::1\]: "),
        ("tcp://plant-1", "it is not the name or the address of a host"),
        ("plant 1", "it is not the name or the address of a host"),
        ("", "it is not the name or the address of a host"),
    ],
)
def test_what_is_no_host(host: str, reason: str) -> None:
    """An endpoint, or a host with its port, would become an endpoint that nobody can be found at."""
    with pytest.raises(InvalidSettings, match=f"^host: {reason}"):
        checked_host(host)


@pytest.mark.parametrize(
    ("ports", "reason"),
    [((5559, 5559), "both 5559"), ((5559, 65536), "^65536 is no port"), ((-1, 5560), "^-1 is no port")],
)
def test_what_no_proxy_can_have(ports: tuple[int, int], reason: str) -> None:
    """A proxy has two ports, unless any free ones will do."""
    with pytest.raises(InvalidSettings, match=reason):
        check_ports(*ports)
    check_ports(0, 0)
