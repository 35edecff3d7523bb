"""Whether a bus has a historian. It subscribes to all topics, so this is known without asking it."""

from eventbus.transports.contract import KnowsSubscribers, Transport
from eventbus.wire.private_topics import HISTORY_PREFIX

_SOMEBODY = HISTORY_PREFIX + b"?"  # whoever subscribes to this subscribes to all queries
_CHECK_S = 1.0  # at most, to make sure that there is none


def may_have_historian(transport: Transport, timeout: float) -> bool:
    """Return False if it is sure that no historian is there.

    Args:
        transport: open.
        timeout: up to how many seconds it may take to find out; a second at most.
    """
    return not (
        isinstance(transport, KnowsSubscribers) and transport.has_subscriber(_SOMEBODY, min(_CHECK_S, timeout)) is False
    )
