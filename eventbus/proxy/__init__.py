"""The process in the middle, which passes events from publishers to subscribers."""

from eventbus.proxy.health import Connections, HandshakeFailures, ProxyHealth, Traffic
from eventbus.proxy.proxy import EventBusProxy

__all__ = ["Connections", "EventBusProxy", "HandshakeFailures", "ProxyHealth", "Traffic"]
