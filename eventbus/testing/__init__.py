"""Tools for the tests of services: `bus_test`, and parts of it for tests of other kinds.

The suite for authors of transports is `eventbus.testing.conformance`, and the fixtures are `eventbus.testing.pytest_plugin`:
both need pytest, this does not.
"""

from eventbus.errors import NotSettled
from eventbus.testing._bus_test import AsyncBusTest, BusTest, abus_test, bus_test
from eventbus.testing._clock import ManualClock
from eventbus.testing._transport import FaultyHub, Message, RecordingTransport

__all__ = [
    "AsyncBusTest",
    "BusTest",
    "FaultyHub",
    "ManualClock",
    "Message",
    "NotSettled",
    "RecordingTransport",
    "abus_test",
    "bus_test",
]
