"""Messages over ZeroMQ, through an XSUB/XPUB proxy."""

from eventbus.options import ZeroMQArguments, ZeroMQOptions
from eventbus.transports.zeromq.transport import ZeroMQTransport

__all__ = ["ZeroMQArguments", "ZeroMQOptions", "ZeroMQTransport"]
