"""The counts of a process's clients, as a heartbeat carries them."""

from collections import Counter
from typing import Any

from eventbus import DropReason, EventBusClient

COUNTED = ("emitted", "received", "rejected", "dropped", "lost", "repeated", "handler_errors")


# Any: whatever events they have.
def counts_of(*clients: EventBusClient[Any, Any, Any]) -> dict[str, int]:
    """Add up the counts of these clients; see `eventbus.EventBusStats`.

    What waits for `recv_event()`, which nobody here calls, is not dropped by anybody's mistake: it had its handlers. Nor is
    an answer that came too late: the agent has asked again.
    """
    total: Counter[str] = Counter()
    for client in clients:
        stats = client.stats()
        total.update({name: getattr(stats, name) for name in COUNTED})
        for reason in (DropReason.UNREAD, DropReason.UNWANTED_ANSWER):
            total["dropped"] -= stats.drops.get(reason, 0)
    return dict(total)
