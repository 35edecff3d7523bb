"""The connection of a command to its proxy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from eventbus.settings import EventBusSettings
from eventbus.transports.zeromq.transport import ZeroMQTransport


@contextmanager
def transport_for(settings: EventBusSettings) -> Iterator[ZeroMQTransport]:
    """A transport with these settings, not open yet; it is closed at the end of the block.

    Raises:
        InvalidSettings: the keys do not go together, or cannot be read.
    """
    options = replace(settings.client_options(), connect_required=True)  # a command says so if there is no proxy
    transport = ZeroMQTransport(settings.host, settings.pub_port, settings.sub_port, options)
    try:
        yield transport
    finally:
        transport.close(settings.linger)
