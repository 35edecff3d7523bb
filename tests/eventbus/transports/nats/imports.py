"""Imports a client and a container, and looks for what belongs to NATS; started by test_core.py."""

import sys

import eventbus
import eventbus.container

if __name__ == "__main__":
    print(eventbus.EventBusClient, eventbus.container.EventBusContainer)
    found = sorted(name for name in sys.modules if name.startswith(("eventbus.transports.nats", "nkeys")))
    assert not found, found
