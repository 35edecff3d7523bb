"""Forks while a client over NATS is open; started by test_core.py."""

import os
import sys

from eventbus import ForkedClient
from eventbus.nats_options import NatsOptions
from eventbus.transports.nats.core import CoreTransport

if __name__ == "__main__":
    transport = CoreTransport(NatsOptions(url=sys.argv[1], prefix="forking"))
    transport.subscribe(b"t")
    transport.open(20)
    child = os.fork()
    if not child:
        try:
            transport.send(b"t", b"{}")
        except ForkedClient:
            own = CoreTransport(NatsOptions(url=sys.argv[1], prefix="forking"))
            own.open(20)
            own.send(b"t", b"{1}")
            own.close(20)
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert transport.receive() == ([b"t"], [b"{1}"])
    transport.send(b"t", b"{2}")
    assert transport.receive() == ([b"t"], [b"{2}"])
    transport.close(20)
