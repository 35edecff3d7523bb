"""`event_bus`: a bus in a service's container whose client has a type."""

import typing
from types import get_original_bases
from typing import Any, TypeAliasType

from dependency_injector import providers
from pydantic import TypeAdapter

from eventbus.client import EventBusClient
from eventbus.container.bus import EventBusContainer
from eventbus.container.resources import AnyClient
from eventbus.errors import InvalidEvent
from eventbus.events import BaseEvent
from eventbus.handle.middleware import Middleware
from eventbus.settings import EventBusSettings
from eventbus.transports.contract import Transport


class EventBusProvider[Client: AnyClient](providers.Container[EventBusContainer]):
    """The result of `event_bus`: the providers of the `EventBusContainer` as attributes, with their types."""

    settings: providers.Provider[EventBusSettings]
    event_class: providers.Provider[Any]
    client_class: providers.Provider[type[Client]]
    transport: providers.Provider[Transport | None]
    middleware: providers.Provider[typing.Iterable[Middleware]]
    client: providers.Resource[Client]


# Any: as dependency_injector declares it. An event class is invariant in its type enum, which each service brings.
def event_bus[Client: AnyClient](
    client_class: type[Client],
    *,
    event_class: type[BaseEvent[Any]] | TypeAdapter[Any] | None = None,
    **overriding: providers.Provider[Any],
) -> EventBusProvider[Client]:
    """Return the provider of an `EventBusContainer` whose client has this class, also for type checkers::

        MyBus = EventBusClient[MyEvent, MyEventType, MyEventTopic]

        class App(containers.DeclarativeContainer):
            bus = event_bus(MyBus)
            thermostat = providers.Singleton(Thermostat, bus=bus.client)

    ``App().bus.client()`` is a `MyBus` then, whereas the client of ``providers.Container(EventBusContainer, …)``, which is
    the same otherwise, can be anything to type checkers.

    Args:
        client_class: ``EventBusClient[…]`` with the service's three classes, or a class that is derived from that.
        event_class: the service's event class, if `client_class` does not name it; or a `pydantic.TypeAdapter` of a union
            with settings of its own, such as a discriminator. A plain union may stand in `client_class`.
        overriding: providers to be used instead of those of the `EventBusContainer`, by their names.

    Raises:
        InvalidEvent: no event class is given, and `client_class` names none.
    """
    given: object = client_class.__value__ if isinstance(client_class, TypeAliasType) else client_class
    events = _event_class(given) if event_class is None else event_class
    for name, value in overriding.items():
        if not isinstance(value, providers.Provider):  # untyped code; dependency_injector would copy it
            overriding[name] = providers.Object(value)
    return EventBusProvider(EventBusContainer, None, client_class=given, event_class=events, **overriding)


def _event_class(client_class: object) -> object:
    """The event class that the type arguments of a client's class name; a TypeAdapter, if that is a union."""
    origin = typing.get_origin(client_class) or client_class
    aliases = [client_class, *(base for cls in getattr(origin, "__mro__", ()) for base in get_original_bases(cls))]
    for alias in aliases:
        if typing.get_origin(alias) is EventBusClient:
            event_class = typing.get_args(alias)[0]
            if isinstance(event_class, type):
                return event_class
            if not isinstance(event_class, typing.TypeVar):
                return TypeAdapter(event_class)
    raise InvalidEvent(
        f"{client_class!r} names no event class: use EventBusClient[MyEvent, MyEventType, MyEventTopic], or give event_class"
    )
