"""What the asker of a historian may read under the rules of an allow-list. Pure."""

from collections.abc import Callable

from eventbus.history.server import Permits
from eventbus.proxy.allow_list import AllowList
from eventbus.wire.requests import owner_of


def permissions(allow_list: Callable[[], AllowList | None]) -> Callable[[bytes], Permits]:
    """Return what tells which topics the owner of a reply topic may read: those that it may subscribe to.

    The proxy lets a client subscribe to reply topics of its own key only. So whoever has sent a query, the answer
    reaches the client with that key alone.

    Args:
        allow_list: returns the list in force; None: everybody may read everything.
    """
    known: AllowList | None = None
    by_owner: dict[bytes, Permits] = {}

    def permits(owner: bytes) -> Permits:
        nonlocal known, by_owner
        allowed = allow_list()
        if allowed is None:
            return _everything
        if allowed is not known:
            known = allowed
            by_owner = {owner_of(key): client.subscribe.permits for key, client in allowed.clients.items()}
        return by_owner.get(owner, _nothing)

    return permits


def _everything(topic: bytes) -> bool:
    return True


def _nothing(topic: bytes) -> bool:
    return False
