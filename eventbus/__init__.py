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
    ForkedClient,
    HandshakeFailed,
    InvalidEvent,
    InvalidHandler,
    InvalidSettings,
    InvalidTopic,
    NotConnected,
    NotEncrypted,
    ProxyUnreachable,
    ReconnectFailed,
    SendBufferFull,
    SendTimeout,
    UnknownClient,
    WrongServerKey,
)
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType, now_iso
from eventbus.handlers import on
from eventbus.health import EventBusHealth
from eventbus.policies import Compression, ReceivePolicy, SendPolicy
from eventbus.proxy import EventBusProxy, ProxyHealth
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
    "DescriptorsExhausted",
    "DropReason",
    "EncryptionRequired",
    "EventBusClient",
    "EventBusError",
    "EventBusHealth",
    "EventBusProxy",
    "EventBusStats",
    "EventTooLarge",
    "ForkedClient",
    "HandshakeFailed",
    "InvalidEvent",
    "InvalidHandler",
    "InvalidSettings",
    "InvalidTopic",
    "NotConnected",
    "NotEncrypted",
    "ProxyHealth",
    "ProxyUnreachable",
    "ReceivePolicy",
    "ReconnectFailed",
    "RejectReason",
    "SendBufferFull",
    "SendPolicy",
    "SendTimeout",
    "StateChange",
    "UnknownClient",
    "WrongServerKey",
    "now_iso",
    "on",
]
