"""Finds why a proxy does not let a client in: from its failed handshakes, and by asking the listener there."""

from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

from eventbus._base.zmtp import greet
from eventbus.errors import EncryptionRequired, EventBusError, NotEncrypted, UnknownClient, WrongServerKey
from eventbus.keys import ClientKeys
from eventbus.transports.zeromq.policy import ConnectionStatus

_GREETING_TIMEOUT_S = 0.5


def diagnose(endpoint: str, status: ConnectionStatus, keys: ClientKeys | None) -> Callable[[], EventBusError] | None:
    """Return what makes the error that says why the proxy does not let this client in; None if only waiting helps.

    Takes up to half a second, because it may have to ask what listens there.

    Args:
        endpoint: the proxy's port.
        status: the connection to it.
        keys: the client's.
    """
    if status.refused and keys is not None:
        return partial(UnknownClient, endpoint, keys.public_key)
    if not status.broken_off:
        return None
    match _mechanism_at(endpoint):
        case "CURVE" if keys is None:
            return partial(EncryptionRequired, endpoint)
        case "NULL" if keys is not None:
            return partial(NotEncrypted, endpoint)
        case "CURVE" if keys is not None and status.broken_off > 1:  # a proxy that ends breaks off one handshake
            return partial(WrongServerKey, endpoint, keys.server_public_key)
        case _:
            return None


def _mechanism_at(endpoint: str) -> str:
    """Return the security mechanism of the ZeroMQ socket that listens at an endpoint; empty if there is none."""
    address = urlsplit(endpoint)
    assert address.hostname is not None
    assert address.port is not None
    try:
        return greet(address.hostname, address.port, _GREETING_TIMEOUT_S).mechanism
    except OSError:
        return ""
