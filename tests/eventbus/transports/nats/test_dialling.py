"""Dialling: what becomes of a connection that cannot be used. Certificates and passwords are in `test_credentials`."""

import subprocess
import sys

import pytest

from tests.nats import Server
from tests.support import PATIENCE

pytestmark = pytest.mark.process

# The first connection shows that the server is there, and imports what is needed. Then one descriptor is left.
SCRIPT = """
import os, resource, sys
from eventbus.errors import EventBusError
from eventbus.nats_options import NatsOptions
from eventbus.transports.nats.core import CoreTransport
transport = CoreTransport(NatsOptions(url=sys.argv[1]))
transport.open(30.0)
transport.close(30.0)
left = os.dup(0)
resource.setrlimit(resource.RLIMIT_NOFILE, (left + 1, left + 1))
os.close(left)
try:
    transport.open(0.5)
except EventBusError as error:
    print(error)
"""


def test_a_connection_that_cannot_be_read_is_closed(shared: Server) -> None:
    """If there are no descriptors for reading it: Python would warn of a socket that nobody has closed."""
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", SCRIPT, shared.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "Too many open files" in done.stdout
    assert done.stderr == ""
