"""Hosts, addresses and endpoints."""

import pytest

from eventbus._base.addresses import host_and_port, is_loopback, local_address, resolve, tcp_endpoint


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


def test_an_unknown_host_is_named() -> None:
    """A host that nobody knows is an OSError that names it."""
    with pytest.raises(OSError, match=r"cannot bind no-such-host\.invalid: "):
        resolve("no-such-host.invalid")


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
    """What is bound at every address is reached at the loopback address."""
    assert is_loopback(host) is loopback
    assert local_address(host) == local
