"""`EventBusContainer`: settings, client and subscriptions, for the container of a service."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

from dependency_injector import containers, providers

from eventbus._base.program import client_name
from eventbus.client import EventBusClient
from eventbus.container.discovery import early_hooks
from eventbus.container.resources import AnyClient, Found, LastResource, OwnContainer
from eventbus.container.subscriptions import Subscriptions, open_subscriptions
from eventbus.events import BaseEvent
from eventbus.handle.middleware import Middleware
from eventbus.observe.hooks import EventBusHook
from eventbus.options import ClientOptions
from eventbus.policies import TransportKind
from eventbus.settings import EventBusSettings
from eventbus.telemetry.switch import Telemetry, telemetry
from eventbus.transports.contract import Transport

# How long `emit_event` waits with JetStream: longer than the servers of a cluster take to elect a leader.
_ELECTION_S = 15.0


def transport_of(settings: EventBusSettings, options: ClientOptions | None = None) -> Transport | None:
    """Return the transport that the settings choose; None: ZeroMQ, whose transport the client makes itself.

    Args:
        settings: the settings.
        options: how the connection behaves; None: as the settings say.

    Raises:
        InvalidSettings: a setting was given that has no effect with this transport, or a file cannot be read.
    """
    settings.check_transport()
    if settings.transport is TransportKind.ZEROMQ:
        return None
    options = options or settings.client_options(encrypted=False)
    if settings.transport is TransportKind.NATS:
        from eventbus.transports.nats.core import CoreTransport  # here, because most services use a proxy

        return CoreTransport(settings.nats_options(), options)
    from eventbus.transports.nats.jetstream import JetStreamTransport

    if options.send_timeout == ClientOptions().send_timeout:
        options = replace(options, send_timeout=_ELECTION_S)
    return JetStreamTransport(settings.nats_options(), options)


def _open_client(
    client_class: type[AnyClient],
    event_class: type[BaseEvent[Any]],
    settings: EventBusSettings,
    hooks: Iterable[EventBusHook],
    middleware: Iterable[Middleware],
    transport: Transport | None,
) -> Iterator[AnyClient]:
    """Connect a client, and close it at the end.

    If the settings say so, run a proxy unless another process does, and serve metrics and probes over HTTP, which answer
    already while the client connects.
    """
    given = transport is not None
    if transport is None and settings.enabled:
        transport = transport_of(settings)
    observers = _observers(settings, given=given)
    client = client_class(
        event_class,
        host=settings.host,
        pub_port=settings.pub_port,
        sub_port=settings.sub_port,
        options=settings.client_options(encrypted=settings.enabled and transport is None),
        hooks=(*observers.hooks, *hooks),
        middleware=(*observers.middleware, *middleware),
        transport=transport,
    )
    observers.watch(client)
    if settings.listed:
        client.be_listed()
    with ExitStack() as stack:
        if settings.http_port and settings.enabled:
            from eventbus.telemetry.probes import probes_of  # here, because an HTTP server takes long to import

            stack.enter_context(probes_of(client, settings.http_port, settings.http_host))
        if settings.embedded_proxy and settings.enabled and transport is None:
            from eventbus.container.embedded import EmbeddedProxy  # here, because most services run no proxy

            stack.enter_context(EmbeddedProxy(settings, client))
        stack.enter_context(client)
        yield client


def _observers(settings: EventBusSettings, *, given: bool) -> Telemetry:
    """Hooks and middleware for the telemetry that the settings switch on; none for a disabled client.

    Args:
        settings: the settings.
        given: whether the transport is not that of the settings, so that nobody knows where events go.
    """
    if not settings.enabled:
        return Telemetry()
    of_client = partial(
        telemetry,
        settings.metrics,
        settings.traces,
        timed=settings.metrics_timed,
        sampled=settings.traces_sampled,
        name=client_name(settings.name),
    )
    if given:
        return of_client()
    if settings.transport is TransportKind.ZEROMQ:
        return of_client(host=settings.host, pub_port=settings.pub_port, sub_port=settings.sub_port)
    server = settings.nats_options().servers[0]
    return of_client(host=server.host, pub_port=server.port, sub_port=server.port, messaging_system="nats")


class EventBusContainer(containers.DeclarativeContainer):
    """The bus as part of a service's container::

        class App(containers.DeclarativeContainer):
            bus = providers.Container(EventBusContainer, event_class=MyEvent)
            thermostat = providers.Singleton(Thermostat, bus=bus.client)

    `event_bus` does the same with types: to type checkers the client of the above can be anything.

    The client gets every `EventBusHook` that a provider of the tree provides.

    Starting the service's container (`lifespan`, or its own `init_resources()`) connects the client, then starts every other
    resource, then collects the ``@on`` handlers of all providers in the tree and of all wired modules, subscribes to their
    topics and starts the consumer. Stopping goes in reverse. Any provider can be overridden, in tests for example
    ``transport`` by a `MemoryTransport`, or ``settings`` by an `EventBusSettings` with arguments.

    A subclass, and a container that copies this one by ``containers.copy``, may declare some of the providers anew; then
    the others use those.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in cls.__bases__:
            if issubclass(base, EventBusContainer):
                # As `containers.copy` does: else what is inherited would go on using the providers of the base class.
                containers.copy(base)(cls)

    _own_container = OwnContainer()

    settings = providers.Singleton(EventBusSettings)
    """Read from the environment when the container starts."""

    event_class: providers.Provider[Any] = providers.Dependency()
    """The service's event class, or a `pydantic.TypeAdapter` of a union of event classes; required."""

    client_class: providers.Object[type[AnyClient]] = providers.Object(EventBusClient)
    """The class of the client: a subclass, or ``EventBusClient[MyEvent, MyEventType, MyEventTopic]``."""

    transport: providers.Object[Transport | None] = providers.Object(None)
    """The transport; None for that which the settings choose."""

    middleware: providers.Object[Iterable[Middleware]] = providers.Object(())
    """Middleware around handlers and around emitting, the outermost first, for example a ``providers.List(…)``."""

    hooks = Found(early_hooks, _own_container)
    """Every `EventBusHook` of the tree that needs no client. Those that need one are added when the client is connected."""

    client: providers.Resource[AnyClient] = providers.Resource(
        contextmanager(_open_client),
        client_class=client_class,
        event_class=event_class,
        settings=settings,
        hooks=hooks,
        middleware=middleware,
        transport=transport,
    )
    """The connected client, to be injected into constructors."""

    subscriptions: LastResource[Subscriptions] = LastResource(
        cast(Callable[..., AbstractContextManager[Subscriptions]], open_subscriptions),  # or an async one
        _own_container,
        client,
    )
    """The attached handlers: starts after and stops before every other resource of the whole tree."""
