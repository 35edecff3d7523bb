"""The connection of a command to its proxy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from eventbus.settings import EventBusSettings
from eventbus.transports.zeromq.transport import ZeroMQOptions, ZeroMQTransport


@contextmanager
def transport_for(settings: EventBusSettings) -> Iterator[ZeroMQTransport]:
    """A transport with these settings, not open yet; it is closed at the end of the block.

    Raises:
        InvalidSettings: the keys do not go together, or cannot be read.
    """
    given = settings.model_dump(include={field.name for field in fields(ZeroMQOptions)})
    # Whoever waits for the outcome wants to be told.
    options = ZeroMQOptions(**given | {"connect_required": True, "keys": settings.security.client_keys()})
    transport = ZeroMQTransport(settings.host, settings.pub_port, settings.sub_port, options)
    try:
        yield transport
    finally:
        transport.close(settings.linger)
