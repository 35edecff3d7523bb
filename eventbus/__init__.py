"""A typed ZeroMQ event bus client as a dependency-injected service component.

These are the public names. Each is imported at its first use (PEP 562), with the modules that it needs: a program that only
asks for the version, or that runs only a proxy, loads neither pydantic nor a client.
"""

from typing import TYPE_CHECKING

from eventbus.exports import lazy

if TYPE_CHECKING:
    from eventbus.ask.answers import Answers
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
        GroupDiffers,
        HandlerTimeout,
        HandshakeFailed,
        HistorianMissing,
        HistoryDamaged,
        InvalidAnswer,
        InvalidEvent,
        InvalidHandler,
        InvalidHeaders,
        InvalidRecording,
        InvalidSettings,
        InvalidTopic,
        JetStreamMissing,
        MonkeyPatched,
        NatsRefused,
        NoAnswer,
        NobodyAnswers,
        NotConnected,
        NotEncrypted,
        PermissionDenied,
        ProxyUnreachable,
        ReconnectFailed,
        RequestFailed,
        SendBufferFull,
        SendTimeout,
        ServerTooOld,
        ServiceFailed,
        ServiceTimeout,
        StreamDiffers,
        SwappedPorts,
        TlsFailed,
        TooManyValues,
        UnknownClient,
        WrongCredentials,
        WrongServerKey,
    )
    from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
    from eventbus.handle.current import (
        CurrentDelivery,
        current_delivery,
        current_headers,
        current_topic,
    )
    from eventbus.handle.dead_letter import DeadLetter
    from eventbus.handle.marks import answers, every, on
    from eventbus.handle.middleware import Delivery, Emission, Middleware
    from eventbus.handle.retry import Retry
    from eventbus.handle.time_limit import TimeLimit
    from eventbus.history.historian import EventBusHistorian
    from eventbus.keys import ClientKeys
    from eventbus.observe.health import EventBusHealth
    from eventbus.observe.hooks import EventBusHook
    from eventbus.observe.state import ClientState, StateChange
    from eventbus.observe.stats import DropReason, EventBusStats
    from eventbus.options import ClientOptions, ProxyOptions
    from eventbus.policies import (
        Compression,
        Packing,
        ReceivePolicy,
        SendPolicy,
        Start,
    )
    from eventbus.proxy import EventBusProxy, ProxyHealth
    from eventbus.stamped_event import StampedEvent, now_iso
    from eventbus.wire.rejects import RejectReason

__all__ = [
    "AddressInUse",
    "Answers",
    "BaseEvent",
    "BaseEventTopic",
    "BaseEventType",
    "ClientKeys",
    "ClientOptions",
    "ClientState",
    "Compression",
    "CompressionMissing",
    "CurrentDelivery",
    "DeadLetter",
    "Delivery",
    "DescriptorsExhausted",
    "DropReason",
    "Emission",
    "EncryptionRequired",
    "EventBusClient",
    "EventBusError",
    "EventBusHealth",
    "EventBusHistorian",
    "EventBusHook",
    "EventBusProxy",
    "EventBusStats",
    "EventTooLarge",
    "ExtraMissing",
    "ForkedClient",
    "GroupDiffers",
    "HandlerTimeout",
    "HandshakeFailed",
    "HistorianMissing",
    "HistoryDamaged",
    "InvalidAnswer",
    "InvalidEvent",
    "InvalidHandler",
    "InvalidHeaders",
    "InvalidRecording",
    "InvalidSettings",
    "InvalidTopic",
    "JetStreamMissing",
    "Middleware",
    "MonkeyPatched",
    "NatsRefused",
    "NoAnswer",
    "NobodyAnswers",
    "NotConnected",
    "NotEncrypted",
    "Packing",
    "PermissionDenied",
    "ProxyHealth",
    "ProxyOptions",
    "ProxyUnreachable",
    "ReceivePolicy",
    "ReconnectFailed",
    "RejectReason",
    "RequestFailed",
    "Retry",
    "SendBufferFull",
    "SendPolicy",
    "SendTimeout",
    "ServerTooOld",
    "ServiceFailed",
    "ServiceTimeout",
    "StampedEvent",
    "Start",
    "StateChange",
    "StreamDiffers",
    "SwappedPorts",
    "TimeLimit",
    "TlsFailed",
    "TooManyValues",
    "UnknownClient",
    "WrongCredentials",
    "WrongServerKey",
    "answers",
    "current_delivery",
    "current_headers",
    "current_topic",
    "every",
    "now_iso",
    "on",
]

_HOMES = {
    "eventbus.ask.answers": ("Answers",),
    "eventbus.client": ("EventBusClient",),
    "eventbus.errors": (
        "AddressInUse",
        "CompressionMissing",
        "DescriptorsExhausted",
        "EncryptionRequired",
        "EventBusError",
        "EventTooLarge",
        "ExtraMissing",
        "ForkedClient",
        "GroupDiffers",
        "HandlerTimeout",
        "HandshakeFailed",
        "HistorianMissing",
        "HistoryDamaged",
        "InvalidAnswer",
        "InvalidEvent",
        "InvalidHandler",
        "InvalidHeaders",
        "InvalidRecording",
        "InvalidSettings",
        "InvalidTopic",
        "JetStreamMissing",
        "MonkeyPatched",
        "NatsRefused",
        "NoAnswer",
        "NobodyAnswers",
        "NotConnected",
        "NotEncrypted",
        "PermissionDenied",
        "ProxyUnreachable",
        "ReconnectFailed",
        "RequestFailed",
        "SendBufferFull",
        "SendTimeout",
        "ServerTooOld",
        "ServiceFailed",
        "ServiceTimeout",
        "StreamDiffers",
        "SwappedPorts",
        "TlsFailed",
        "TooManyValues",
        "UnknownClient",
        "WrongCredentials",
        "WrongServerKey",
    ),
    "eventbus.events": ("BaseEvent", "BaseEventTopic", "BaseEventType"),
    "eventbus.handle.current": (
        "CurrentDelivery",
        "current_delivery",
        "current_headers",
        "current_topic",
    ),
    "eventbus.handle.dead_letter": ("DeadLetter",),
    "eventbus.handle.marks": ("answers", "every", "on"),
    "eventbus.handle.middleware": ("Delivery", "Emission", "Middleware"),
    "eventbus.handle.retry": ("Retry",),
    "eventbus.handle.time_limit": ("TimeLimit",),
    "eventbus.history.historian": ("EventBusHistorian",),
    "eventbus.keys": ("ClientKeys",),
    "eventbus.observe.health": ("EventBusHealth",),
    "eventbus.observe.hooks": ("EventBusHook",),
    "eventbus.observe.state": ("ClientState", "StateChange"),
    "eventbus.observe.stats": ("DropReason", "EventBusStats"),
    "eventbus.options": ("ClientOptions", "ProxyOptions"),
    "eventbus.policies": (
        "Compression",
        "Packing",
        "ReceivePolicy",
        "SendPolicy",
        "Start",
    ),
    "eventbus.proxy": ("EventBusProxy", "ProxyHealth"),
    "eventbus.stamped_event": ("StampedEvent", "now_iso"),
    "eventbus.wire.rejects": ("RejectReason",),
}
"""The names that each module defines."""

if TYPE_CHECKING:
    __version__: str
else:  # with a __getattr__, type checkers would believe in every name
    _public, __dir__ = lazy(__name__, _HOMES)

    def __getattr__(name: str) -> object:
        if name != "__version__":
            return _public(name)
        from importlib.metadata import version  # which takes as long as all of ours

        globals()[name] = version(__name__)
        return globals()[name]
