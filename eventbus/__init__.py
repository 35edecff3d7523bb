"""A typed ZeroMQ event bus client as a dependency-injected service component."""

from eventbus.client import EventBusClient
from eventbus.codec import RejectReason
from eventbus.errors import (
    AddressInUse,
    CompressionMissing,
    DescriptorsExhausted,
    EventBusError,
    EventTooLarge,
    ForkedClient,
    InvalidEvent,
    InvalidHandler,
    InvalidSettings,
    InvalidTopic,
    NotConnected,
    ProxyUnreachable,
    ReconnectFailed,
    SendBufferFull,
    SendTimeout,
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
    "ClientState",
    "Compression",
    "CompressionMissing",
    "DescriptorsExhausted",
    "DropReason",
    "EventBusClient",
    "EventBusError",
    "EventBusHealth",
    "EventBusProxy",
    "EventBusStats",
    "EventTooLarge",
    "ForkedClient",
    "InvalidEvent",
    "InvalidHandler",
    "InvalidSettings",
    "InvalidTopic",
    "NotConnected",
    "ProxyHealth",
    "ProxyUnreachable",
    "ReceivePolicy",
    "ReconnectFailed",
    "RejectReason",
    "SendBufferFull",
    "SendPolicy",
    "SendTimeout",
    "StateChange",
    "now_iso",
    "on",
]
