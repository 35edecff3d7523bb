"""Dialling: what becomes of a connection that cannot be used. Certificates and passwords are in `test_credentials`."""

import subprocess
import sys

import pytest

from eventbus.errors import ProxyUnreachable
from eventbus.nats_options import NatsOptions, NatsServer
from eventbus.transports.nats.core import CoreTransport
from eventbus.transports.nats.dialling import dial
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


@pytest.mark.parametrize("host", ["plant..example", "x" * 64], ids=["empty", "long"])
def test_a_host_that_nobody_can_know_is_one_that_does_not_answer(host: str) -> None:
    """A name with an empty part, or one that is too long, which a server of the cluster may tell, too, ends no thread."""
    with pytest.raises(OSError, match="no such host"):
        dial(NatsServer(host, 4222), NatsOptions(), 1.0)
    transport = CoreTransport(NatsOptions(url=f"nats://{host}:4222"))
    with pytest.raises(ProxyUnreachable, match="no such host"):
        transport.open(0.2)
