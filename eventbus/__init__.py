"""A typed ZeroMQ event bus client as a dependency-injected service component."""

from eventbus.client import EventBusClient
from eventbus.codec import RejectReason
from eventbus.curve import ClientKeys
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
from eventbus.handlers import on
from eventbus.headers import current_headers
from eventbus.health import EventBusHealth
from eventbus.hooks import EventBusHook
from eventbus.middleware import Delivery, Emission, Middleware
from eventbus.policies import Compression, ReceivePolicy, SendPolicy
from eventbus.proxy import EventBusProxy, ProxyHealth
from eventbus.resilience import DeadLetter, Retry, TimeLimit
from eventbus.state import ClientState, StateChange
from eventbus.stats import DropReason, EventBusStats

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
