"""A typed ZeroMQ event bus client as a dependency-injected service component.

These are the public names. Each says ``eventbus`` as its module, so that tracebacks and pickles do not depend on the file in
which it is defined. The proxy is imported at the first use of one of its names.
"""

from typing import TYPE_CHECKING

from eventbus.client import EventBusClient
from eventbus.errors import (
    AddressInUse,
    CompressionMissing,
    DescriptorsExhausted,
    EncryptionRequired,
    EventBusError,
    EventTooLarge,
    ExtraMissing,
    ForkedClient,
    HandlerTimeout,
    HandshakeFailed,
    InvalidEvent,
    InvalidHandler,
    InvalidHeaders,
    InvalidSettings,
    InvalidTopic,
    MonkeyPatched,
    NotConnected,
    NotEncrypted,
    ProxyUnreachable,
    ReconnectFailed,
    SendBufferFull,
    SendTimeout,
    ServiceFailed,
    ServiceTimeout,
    SwappedPorts,
    UnknownClient,
    WrongServerKey,
)
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType, StampedEvent, now_iso
from eventbus.handle import (
    DeadLetter,
    Delivery,
    Emission,
    Middleware,
    Retry,
    TimeLimit,
    current_headers,
    current_topic,
    on,
)
from eventbus.keys import ClientKeys
from eventbus.observe.health import EventBusHealth
from eventbus.observe.hooks import EventBusHook
from eventbus.observe.state import ClientState, StateChange
from eventbus.observe.stats import DropReason, EventBusStats
from eventbus.options import ClientOptions, ProxyOptions
from eventbus.policies import Compression, ReceivePolicy, SendPolicy
from eventbus.wire.codec import RejectReason

if TYPE_CHECKING:
    from eventbus.proxy import EventBusProxy, ProxyHealth

__all__ = [
    "AddressInUse",
    "BaseEvent",
    "BaseEventTopic",
    "BaseEventType",
    "ClientKeys",
    "ClientOptions",
    "ClientState",
    "Compression",
    "CompressionMissing",
    "DeadLetter",
    "Delivery",
    "DescriptorsExhausted",
    "DropReason",
    "Emission",
    "EncryptionRequired",
    "EventBusClient",
    "EventBusError",
    "EventBusHealth",
    "EventBusHook",
    "EventBusProxy",
    "EventBusStats",
    "EventTooLarge",
    "ExtraMissing",
    "ForkedClient",
    "HandlerTimeout",
    "HandshakeFailed",
    "InvalidEvent",
    "InvalidHandler",
    "InvalidHeaders",
    "InvalidSettings",
    "InvalidTopic",
    "Middleware",
    "MonkeyPatched",
    "NotConnected",
    "NotEncrypted",
    "ProxyHealth",
    "ProxyOptions",
    "ProxyUnreachable",
    "ReceivePolicy",
    "ReconnectFailed",
    "RejectReason",
    "Retry",
    "SendBufferFull",
    "SendPolicy",
    "SendTimeout",
    "ServiceFailed",
    "ServiceTimeout",
    "StampedEvent",
    "StateChange",
    "SwappedPorts",
    "TimeLimit",
    "UnknownClient",
    "WrongServerKey",
    "current_headers",
    "current_topic",
    "now_iso",
    "on",
]

_LATE = {"EventBusProxy", "ProxyHealth"}  # of the proxy, which a client does not need

for _name in __all__:
    if _name not in _LATE:
        globals()[_name].__module__ = __name__

if not TYPE_CHECKING:  # with a __getattr__, type checkers would believe in every name

    def __getattr__(name: str) -> object:
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from eventbus import proxy

        found = getattr(proxy, name)
        found.__module__ = __name__
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
