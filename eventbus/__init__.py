"""A typed ZeroMQ event bus client as a dependency-injected service component."""

from eventbus.client import EventBusClient
from eventbus.errors import (
    AddressInUse,
    DescriptorsExhausted,
    EventBusError,
    ForkedClient,
    InvalidEvent,
    InvalidHandler,
    InvalidSettings,
    InvalidTopic,
    NotConnected,
    ProxyUnreachable,
    SendTimeout,
)
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType, now_iso
from eventbus.handlers import on
from eventbus.proxy import EventBusProxy, ProxyHealth
from eventbus.stats import EventBusStats

__all__ = [
    "AddressInUse",
    "BaseEvent",
    "BaseEventTopic",
    "BaseEventType",
    "DescriptorsExhausted",
    "EventBusClient",
    "EventBusError",
    "EventBusProxy",
    "EventBusStats",
    "ForkedClient",
    "InvalidEvent",
    "InvalidHandler",
    "InvalidSettings",
    "InvalidTopic",
    "NotConnected",
    "ProxyHealth",
    "ProxyUnreachable",
    "SendTimeout",
    "now_iso",
    "on",
]
