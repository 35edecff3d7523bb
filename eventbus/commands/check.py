"""``eventbus check``: whether a proxy answers."""

import statistics

from eventbus.commands.connection import transport_for
from eventbus.settings import EventBusSettings

_CHECKS = 11


def check(settings: EventBusSettings) -> None:
    """Connect, then measure how long a subscription takes round through the proxy."""
    with transport_for(settings) as transport:
        times = []
        for _ in range(_CHECKS):
            transport.open(settings.connect_timeout)  # the first time it connects
            times.append(transport.status.round_trip or 0.0)
        print(f"ok: {transport.endpoints}, round trip {statistics.median(times) * 1000:.1f} ms")
