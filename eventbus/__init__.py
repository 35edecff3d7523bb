"""A typed ZeroMQ event bus client as a dependency-injected service component."""

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
    UnknownClient,
    WrongServerKey,
)
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType, now_iso
from eventbus.handle import DeadLetter, Delivery, Emission, Middleware, Retry, TimeLimit, on
from eventbus.keys import ClientKeys
from eventbus.observe.health import EventBusHealth
from eventbus.observe.hooks import EventBusHook
from eventbus.observe.state import ClientState, StateChange
from eventbus.observe.stats import DropReason, EventBusStats
from eventbus.policies import Compression, ReceivePolicy, SendPolicy
from eventbus.proxy.proxy import EventBusProxy, ProxyHealth
from eventbus.wire.codec import RejectReason
from eventbus.wire.headers import current_headers

__all__ = [
    "AddressInUse",
    "BaseEvent",
    "BaseEventTopic",
    "BaseEventType",
    "ClientKeys",
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
    "StateChange",
    "TimeLimit",
    "UnknownClient",
    "WrongServerKey",
    "current_headers",
    "now_iso",
    "on",
]
