"""Why a proxy does not let a client in, told from what becomes of the handshakes."""

from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

from eventbus._base.zmtp import greet
from eventbus.errors import EncryptionRequired, EventBusError, NotEncrypted, UnknownClient, WrongServerKey
from eventbus.keys import ClientKeys
from eventbus.transports.zeromq.policy import ConnectionStatus

_ANSWER = 0.5  # seconds


def diagnosis(endpoint: str, leg: ConnectionStatus, keys: ClientKeys | None) -> Callable[[], EventBusError] | None:
    """What makes the error that says why the proxy does not let us in; None if there is nothing that only people can change.

    Takes up to half a second, for it may have to ask who listens there.

    Args:
        endpoint: the proxy's port.
        leg: the connection to it.
        keys: what the client shows.
    """
    if leg.refused and keys is not None:
        return partial(UnknownClient, endpoint, keys.public_key)
    if not leg.broken_off:
        return None
    match _mechanism_at(endpoint):
        case "CURVE" if keys is None:
            return partial(EncryptionRequired, endpoint)
        case "NULL" if keys is not None:
            return partial(NotEncrypted, endpoint)
        case "CURVE" if keys is not None and leg.broken_off > 1:  # a proxy that dies breaks off one
            return partial(WrongServerKey, endpoint, keys.server_public_key)
        case _:
            return None


def _mechanism_at(endpoint: str) -> str:
    """The security mechanism of what listens at an endpoint; empty if nothing does, or it is no ZeroMQ socket."""
    address = urlsplit(endpoint)
    assert address.hostname is not None
    assert address.port is not None
    try:
        return greet(address.hostname, address.port, _ANSWER).mechanism
    except OSError:
        return ""
