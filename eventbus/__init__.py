"""A typed ZeroMQ event bus client as a dependency-injected service component."""

from eventbus.client import EventBusClient
from eventbus.codec import RejectReason
from eventbus.errors import (
    AddressInUse,
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
from eventbus.policies import ReceivePolicy
from eventbus.proxy import EventBusProxy
from eventbus.stats import DropReason, EventBusStats

__all__ = [
    "AddressInUse",
    "BaseEvent",
    "BaseEventTopic",
    "BaseEventType",
    "DropReason",
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
    "ProxyUnreachable",
    "ReceivePolicy",
    "RejectReason",
    "SendTimeout",
    "now_iso",
    "on",
]
