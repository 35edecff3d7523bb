"""The handlers that are found, in providers and modules, and injections into them."""

import asyncio
import importlib
import logging
import sys
import types
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

import pytest
from dependency_injector import containers, providers

from eventbus import EventBusProxy, InvalidHandler, on
from eventbus.container import EventBusContainer, lifespan
from eventbus.transports.memory import MemoryTransport
from tests.container.support import STARTED, TOPIC, UPDATED, Listener, leaving_nothing
from tests.support import MyEvent, event, eventually, fields_of

if TYPE_CHECKING:
    from nowhere import OnlyForTypeCheckers  # type: ignore[import-not-found] # that is the point of it


class Service:
    """Has handlers, and keeps what was made of it."""

    made: list["Service"] = []  # noqa: RUF012 # one list for all, emptied by a fixture

    def __init__(self) -> None:
        self.values: list[float] = []
        Service.made.append(self)

    @on(UPDATED, topic=TOPIC)
    def keep(self, event: MyEvent) -> None:
        self.values.append(event.value)

    @classmethod
    def create(cls) -> Self:
        return cls()

    @classmethod
    def create_by_name(cls) -> "Service":
        return cls()


def make_service() -> Service:
    return Service()


def make_service_by_name() -> "Service":
    return Service()


def open_service() -> Iterator[Service]:
    yield Service()


class Generic[Value](Service):
    """With type arguments it is no class, but an alias of one."""


class Base(ABC):
    """A base class with a handler that it does not implement."""

    @on(UPDATED, topic=TOPIC)
    @abstractmethod
    def keep(self, event: MyEvent) -> None: ...


class Implementation(Service, Base):
    """An implementation."""


type Alias = Annotated[Service, "an alias"]


def make_optional() -> Service | None:
    return Service()


async def make_asynchronously() -> Service:
    return Service()


def make_aliased() -> Alias:
    return Service()


def make_list() -> list[Service]:
    return [Service()]


def make_base() -> Base:
    return Implementation()


class Maker:
    """A callable object."""

    def __call__(self) -> Service:
        return Service()


class Holder:
    """Has a service as an attribute, and as others."""

    service: "Service"

    def __init__(self) -> None:
        self.service = Service()

    @property
    def of_property(self) -> Service:
        return self.service

    def make(self) -> Service:
        return self.service


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    Service.made.clear()


def app_with(**more: providers.Provider[Any]) -> Any:
    """A container with the bus and these providers."""
    members = {"bus": providers.Container(EventBusContainer, event_class=MyEvent), **more}
    return type("AppWith", (containers.DeclarativeContainer,), members)()


def say(app: Any, value: float) -> None:
    app.bus.client().emit_event(event(value), TOPIC)


# Providers


@pytest.mark.parametrize(
    "provider",
    [
        providers.Singleton(Service),
        providers.ThreadSafeSingleton(Service),
        providers.Resource(Service),
        providers.Resource(open_service),
        providers.Singleton(make_service),
        providers.Singleton(make_service_by_name),
        providers.Singleton(partial(Service)),
        providers.Singleton(partial(make_service)),
        providers.Singleton(Generic[int]),
        providers.Singleton(make_optional),
        providers.Singleton(make_aliased),
        providers.Singleton(make_list),
        providers.Singleton(make_base),
        providers.Singleton(Maker()),
        providers.Singleton(Service).provided,
        providers.Singleton(Holder).provided.service,
        providers.Singleton(Holder).provided.of_property,
        providers.Singleton(Holder).provided.make.call(),
        providers.Singleton(make_list).provided[0],
        providers.Singleton(Service.create),
        providers.Singleton(Service.create_by_name),
    ],
    ids=[
        "singleton",
        "thread-safe singleton",
        "resource of a class",
        "resource of a generator",
        "singleton of an annotated function",
        "annotation in quotes",
        "partial of a class",
        "partial of a function",
        "class with type arguments",
        "annotated as optional",
        "annotated by an alias",
        "annotated as a list",
        "annotated as a base class with handlers",
        "callable object",
        "provided",
        "annotated attribute",
        "property",
        "method",
        "item",
        "singleton of a class method that returns Self",
        "singleton of a class method that returns its class",
    ],
)
def test_the_handlers_of_what_is_provided(at_proxy: EventBusProxy, provider: providers.Provider[Any]) -> None:
    """Whatever kind of provider makes a service, one instance of it handles every event, once."""
    with lifespan(app_with(service=provider)) as app:
        assert len(Service.made) == 1
        say(app, 1)
        say(app, 2)
        eventually(lambda: Service.made[0].values == [1, 2])
        assert len(Service.made) == 1


def test_the_handlers_of_an_object(at_proxy: EventBusProxy) -> None:
    """providers.Object hands an object on that exists already; its handlers are found."""
    with lifespan(app_with(service=providers.Object(Service()))) as app:
        say(app, 1)
        eventually(lambda: app.service().values == [1])


def test_the_handlers_of_objects_in_a_collection(at_proxy: EventBusProxy) -> None:
    """providers.Object hands on a collection, too: the handlers of what is in it are found, each object's once."""
    one, two, three = Service(), Service(), Service()
    with lifespan(
        app_with(
            some=providers.Object([one, (two, {"name": three})]),
            again=providers.Object({one}),
            much=providers.Object(list(range(2_000))),
        )
    ) as app:
        say(app, 1)
        eventually(lambda: [service.values for service in Service.made] == [[1]] * 3)


def test_handlers_run_in_the_order_of_declaration(at_proxy: EventBusProxy) -> None:
    """Providers' handlers run as the container declares them, a nested container's in its place; methods as the class."""
    order: list[str] = []

    class Ordered:
        def __init__(self, name: str, *_: object) -> None:
            self.name = name

        @on(UPDATED, topic=TOPIC)
        def second(self, event: MyEvent) -> None:
            order.append(f"{self.name} second")

        @on(UPDATED, topic=TOPIC)
        def first(self, event: MyEvent) -> None:
            order.append(f"{self.name} first")

    class Nested(containers.DeclarativeContainer):
        inside = providers.Singleton(Ordered, "inside")

    hidden = providers.Singleton(Ordered, "hidden")
    last = providers.Singleton(Ordered, "last")
    with lifespan(
        app_with(
            one=providers.Singleton(Ordered, "one", last, hidden),
            nested=providers.Container(Nested),
            two=providers.Singleton(Ordered, "two"),
            last=last,
        )
    ) as app:
        say(app, 1)
        eventually(lambda: len(order) == 10)
    names = ["one", "inside", "two", "last", "hidden"]
    assert order == [f"{name} {method}" for name in names for method in ("second", "first")]


@pytest.mark.parametrize(
    ("provider", "kind"),
    [
        (providers.Factory(Service), "factory"),
        (providers.Factory(make_service), "factory"),
        (providers.Factory(Holder).provided.service, "factory"),
        (providers.Callable(Service), "callable"),
        (providers.Callable(make_service), "callable"),
        (providers.Coroutine(make_asynchronously), "coroutine"),
        (providers.ThreadLocalSingleton(Service), "thread-local singleton"),
        (providers.ContextLocalSingleton(Service), "context-local singleton"),
        (providers.FactoryAggregate(one=providers.Factory(Service)), "factory"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_many_objects_with_handlers_are_refused(
    at_proxy: EventBusProxy, provider: providers.Provider[Any], kind: str
) -> None:
    """A provider that may make an object with each call is refused with its name: nobody knows which object handles."""
    app = app_with(service=provider)
    refused = pytest.raises(InvalidHandler, match=rf"`service`.* is a {kind} and provides .*Service, .* handler keep")
    with leaving_nothing(), refused, lifespan(app):
        raise AssertionError("it must not start")
    assert Service.made == []


def test_a_callable_may_hand_on(at_proxy: EventBusProxy) -> None:
    """A callable that gets its object from a singleton is no second provider of it."""

    def pick(one: Service, two: Service) -> Service:
        return one

    one, two = providers.Singleton(Service), providers.Singleton(Service)
    with lifespan(app_with(one=one, two=two, picked=providers.Callable(pick, one, two))) as app:
        say(app, 1)
        eventually(lambda: [service.values for service in Service.made] == [[1], [1]])


class Interface(Protocol):
    """Says nothing of handlers."""

    values: list[float]


class Abstract(ABC):
    """Says nothing of handlers either."""

    @abstractmethod
    def keep(self, event: MyEvent) -> None: ...


def make_interface() -> Interface:
    return Service()


def make_abstract() -> Abstract:
    return Implementation()  # type: ignore[return-value] # as if it were one


def make_unannotated():  # type: ignore[no-untyped-def] # on purpose
    return Service()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


UNKNOWN = {
    "lambda": providers.Singleton(lambda: Service()),
    "unannotated": providers.Singleton(make_unannotated),
    "factory": providers.Factory(make_unannotated),
    "callable": providers.Callable(make_unannotated),
    "protocol": providers.Singleton(make_interface),
    "abstract": providers.Singleton(make_abstract),
    "attribute": providers.Singleton(Holder).provided.other,
    "item": providers.Factory(make_unannotated).provided["service"],
}


@pytest.mark.parametrize("provider", UNKNOWN.values(), ids=UNKNOWN)
def test_a_class_that_cannot_be_told(
    at_proxy: EventBusProxy, provider: providers.Provider[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A provider that does not say what it provides is not called, and named in a warning with the remedy."""
    with lifespan(app_with(service=provider)):
        assert Service.made == []
    (warning,) = warnings_of(caplog)
    assert warning.startswith("handlers of `service` are not found, if there are any, because the provider")


def test_what_has_no_provider(at_proxy: EventBusProxy, caplog: pytest.LogCaptureFixture) -> None:
    """An object or a function with handlers that stands in a container without a provider is named in a warning."""

    class Inner(containers.DeclarativeContainer):
        service = Service()

    class Base(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)

        replaced = Service()
        again = Service()

        @on(UPDATED)
        def handle(self, event: MyEvent) -> None: ...

    class App(Base):
        replaced = providers.Singleton(Service)  # type: ignore[assignment] # mypy takes members of containers for attributes
        again = Service()
        inner = providers.Container(Inner)
        other = Service  # the class is for a provider
        right = providers.Singleton(Service)

    with lifespan(App()):
        pass
    assert [warning.partition(": a container")[0] for warning in warnings_of(caplog)] == [
        "handlers of `again` are not found, because it is an object of Service",
        "handlers of `handle` are not found, because it is a function",
        "handlers of `inner.service` are not found, because it is an object of Service",
    ]


def test_the_warning_names_who_depends_on_it(at_proxy: EventBusProxy, caplog: pytest.LogCaptureFixture) -> None:
    """A singleton without a name is named by what it is injected into; other kinds without one are plain values."""
    hidden = [
        providers.Singleton(make_unannotated),
        providers.Callable(make_unannotated),
        providers.Factory(make_unannotated),
    ]
    with lifespan(app_with(user=providers.Singleton(dict, providers.List(*hidden)))):
        pass
    (warning,) = warnings_of(caplog)
    assert warning.startswith("handlers of what `user` depends on are not found")


def test_what_says_nothing_and_exists_already(at_proxy: EventBusProxy, caplog: pytest.LogCaptureFixture) -> None:
    """A singleton that was made before the start, or for another one with handlers, is looked at: no warning is needed."""

    class User(Service):
        def __init__(self, _used: Service, _other: object) -> None:
            super().__init__()

    used = providers.Singleton(make_unannotated)
    early = providers.Singleton(lambda: Service())
    app = app_with(
        early=early, used=used, user=providers.Singleton(User, used, providers.Singleton(Holder).provided.service)
    )
    app.early()
    with lifespan(app):
        say(app, 1)
        eventually(lambda: [service.values for service in Service.made] == [[1]] * 4)
    assert warnings_of(caplog) == []


def test_what_needs_no_annotation(at_proxy: EventBusProxy, caplog: pytest.LogCaptureFixture) -> None:
    """Classes, functions of the standard library, and annotations that name other classes cause no warning."""

    def make_mapping() -> Mapping[str, int]:
        return {}

    with lifespan(
        app_with(
            logger=providers.Singleton(logging.getLogger, "app"),
            cwd=providers.Callable(Path.cwd),
            size=providers.Callable(len, "four"),
            mapping=providers.Singleton(make_mapping),
            config=providers.Configuration(),
            number=providers.Object(4),
            nothing=providers.Singleton(make_nothing),
        )
    ):
        pass
    assert warnings_of(caplog) == []


def make_nothing() -> None: ...


def test_what_a_client_is_made_of(caplog: pytest.LogCaptureFixture) -> None:
    """A transport of which nothing is known causes no warning: it has no handlers. What is beside it does."""
    transport, unknown = providers.Singleton(lambda: MemoryTransport()), providers.Singleton(lambda: Service())

    class Own(EventBusContainer):
        event_class = providers.Object(MyEvent)
        service = unknown

    app, own = app_with(service=unknown), Own()
    for whole, bus in ((app, app.bus), (own, own)):
        with bus.transport.override(transport), lifespan(whole):
            pass
        (warning,) = warnings_of(caplog)
        assert warning.startswith("handlers of `service` are not found")
        caplog.clear()


def test_every_handler_is_said(at_proxy: EventBusProxy, caplog: pytest.LogCaptureFixture) -> None:
    """Starting logs a line for each handler, with its types and topics."""

    class Many:
        @on(UPDATED, topic=TOPIC)
        def one(self, event: MyEvent) -> None: ...

        @on(STARTED, UPDATED)
        @on(UPDATED, topic=TOPIC)
        async def two(self, event: MyEvent) -> None: ...

    caplog.set_level(logging.INFO, "eventbus")
    with lifespan(app_with(many=providers.Singleton(Many))):
        pass
    name = f"{__name__}.{Many.__qualname__}"
    said = [record for record in caplog.records if record.getMessage().startswith("handler ")]
    assert [record.getMessage() for record in said] == [
        f"handler {name}.one: updated on my_service",
        f"handler {name}.two: started, updated on every subscribed topic; updated on my_service",
    ]
    assert fields_of(said[0]) == {
        "eventbus_handler": f"{name}.one",
        "eventbus_type": "updated",
        "eventbus_topic": "my_service",
    }


def test_a_singleton_is_the_one_that_the_service_gets(at_proxy: EventBusProxy) -> None:
    """The object that handles is the one that is injected elsewhere."""
    service = providers.Singleton(Service)
    with lifespan(app_with(service=service, user=providers.Singleton(dict, service=service))) as app:
        say(app, 1)
        eventually(lambda: app.user()["service"].values == [1])


def test_services_inside_other_providers(at_proxy: EventBusProxy) -> None:
    """Services that only stand as arguments of others, in lists or behind selectors, are found too, once."""
    hidden = providers.Singleton(Service)
    with lifespan(
        app_with(
            everything=providers.List(hidden),
            again=providers.Factory(list, providers.List(hidden)),
        )
    ) as app:
        say(app, 1)
        eventually(lambda: [service.values for service in Service.made] == [[1]])


def test_only_the_selected_provider(at_proxy: EventBusProxy) -> None:
    """The selected provider of a selector alone makes an object that handles."""
    chosen = providers.Selector(lambda: "one", one=providers.Singleton(Service), two=providers.Singleton(Listener, None))
    with lifespan(app_with(chosen=chosen)) as app:
        say(app, 1)
        eventually(lambda: [service.values for service in Service.made] == [[1]])


def test_a_selector_that_is_configured_later(at_proxy: EventBusProxy) -> None:
    """Making and wiring a container evaluates no selector: what it reads is configured afterwards."""
    config = providers.Configuration()
    chosen = providers.Selector(config.kind, one=providers.Singleton(Service), two=providers.Singleton(Listener, None))
    app = app_with(config=config, chosen=chosen)
    app.wire(modules=[])
    app.config.kind.from_value("one")
    with lifespan(app):
        say(app, 1)
        eventually(lambda: [service.values for service in Service.made] == [[1]])


def test_overriding_replaces_handlers(at_proxy: EventBusProxy) -> None:
    """An overriding provider's handlers take the place of the overridden one's, which is not made."""

    class Other:
        def __init__(self) -> None:
            self.values: list[float] = []

        @on(UPDATED, topic=TOPIC)
        def keep(self, event: MyEvent) -> None:
            self.values.append(event.value)

    app = app_with(service=providers.Singleton(Service))
    app.service.override(providers.Singleton(Other))
    with lifespan(app):
        say(app, 1)
        eventually(lambda: app.service().values == [1])
        assert Service.made == []


def test_what_has_no_handlers_is_not_made(at_proxy: EventBusProxy) -> None:
    """Starting makes nothing but the objects that have handlers, and what those need."""
    made: list[object] = []

    class Expensive:
        def __init__(self) -> None:
            made.append(self)

    def expensive() -> Expensive:
        return Expensive()

    def unannotated():  # type: ignore[no-untyped-def] # on purpose
        made.append(None)

    with lifespan(
        app_with(
            service=providers.Singleton(Service),
            one=providers.Singleton(Expensive),
            two=providers.Factory(Expensive),
            three=providers.Singleton(expensive),
            four=providers.Singleton(unannotated),
            five=providers.Callable(unannotated),
        )
    ):
        assert made == []
        assert len(Service.made) == 1


def test_annotations_that_only_type_checkers_know(at_proxy: EventBusProxy) -> None:
    """A function whose annotations cannot be evaluated is no reason not to start."""

    def build(first: "OnlyForTypeCheckers" = None) -> "OnlyForTypeCheckers":
        return object()

    with lifespan(app_with(thing=providers.Singleton(build), service=providers.Singleton(Service))) as app:
        say(app, 1)
        eventually(lambda: Service.made[0].values == [1])


def test_an_annotation_beside_one_that_only_type_checkers_know(at_proxy: EventBusProxy) -> None:
    """The handlers of what a function returns are found, also if the annotation of a parameter cannot be evaluated."""

    def build(first: "OnlyForTypeCheckers" = None) -> Service:
        return Service()

    with lifespan(app_with(service=providers.Singleton(build))) as app:
        say(app, 1)
        eventually(lambda: [service.values for service in Service.made] == [[1]])


def test_an_async_dependency_needs_async_with(at_proxy: EventBusProxy) -> None:
    """A service with handlers whose dependency is async is waited for in `async with`, and refused by a plain `with`."""

    class Store(Service):
        def __init__(self, database: str) -> None:
            super().__init__()
            self.database = database

    async def database() -> str:
        return "database"

    def make_app() -> Any:
        return app_with(store=providers.Singleton(Store, database=providers.Coroutine(database)))

    async def main() -> None:
        async with lifespan(make_app()) as app:
            store = await app.store()
            assert store.database == "database"
            say(app, 1)
            await asyncio.to_thread(eventually, lambda: store.values == [1])

    with leaving_nothing():
        asyncio.run(main())


# Methods


class Inherited:
    """The handlers that the derived class inherits."""

    def __init__(self) -> None:
        self.got: list[str] = []

    @on(UPDATED, topic=TOPIC)
    def inherited(self, event: MyEvent) -> None:
        self.got.append("inherited")

    @on(UPDATED, topic=TOPIC)
    def overridden(self, event: MyEvent) -> None:
        self.got.append("of the base class")


class Derived(Inherited):
    heard: list[str] = []  # noqa: RUF012 # static and class methods have nothing else

    def overridden(self, event: MyEvent) -> None:
        self.got.append("overridden")

    @on(UPDATED, topic=TOPIC)
    @staticmethod
    def static_inside(event: MyEvent) -> None:
        Derived.heard.append("static inside")

    @staticmethod
    @on(UPDATED, topic=TOPIC)
    def static_outside(event: MyEvent) -> None:
        Derived.heard.append("static outside")

    @on(UPDATED, topic=TOPIC)
    @classmethod
    def class_inside(cls, event: MyEvent) -> None:
        cls.heard.append("class inside")

    @classmethod
    @on(UPDATED, topic=TOPIC)
    def class_outside(cls, event: MyEvent) -> None:
        cls.heard.append("class outside")


def test_inherited_static_and_class_methods(at_proxy: EventBusProxy) -> None:
    """Inherited methods, overriding ones, static and class methods all handle, each once."""
    Derived.heard.clear()
    with lifespan(app_with(service=providers.Singleton(Derived))) as app:
        say(app, 1)
        eventually(lambda: len(app.service().got) + len(Derived.heard) >= 6)
    assert sorted(app.service().got) == []  # singletons are forgotten
    assert sorted(Derived.heard) == ["class inside", "class outside", "static inside", "static outside"]


def test_an_overriding_method_handles_in_place_of_the_overridden(at_proxy: EventBusProxy) -> None:
    """A method that overrides a marked one handles what that one would have, without a mark of its own."""
    with lifespan(app_with(service=providers.Singleton(Derived))) as app:
        say(app, 1)
        service: Derived = app.service()
        eventually(lambda: len(service.got) == 2)
        assert sorted(service.got) == ["inherited", "overridden"]


# Functions of wired modules

PRELUDE = """
from typing import Annotated
from dependency_injector.wiring import Closing, Provide, inject
from eventbus import on
from tests.support import MyEvent, MyEventTopic, MyEventType
got = []
handles = on(MyEventType.updated, topic=MyEventTopic.my_service)
"""

type WriteModule = Callable[..., types.ModuleType]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Writes a module to a file and imports it; forgets all of them at the end."""
    names: list[str] = []
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(code: str, name: str = "") -> types.ModuleType:
        name = name or f"service_{uuid.uuid4().hex}"
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        if path.with_suffix("").is_dir():
            path = path.with_suffix("") / "__init__.py"
        path.write_text(PRELUDE + dedent(code))
        importlib.invalidate_caches()
        names.append(name)
        return importlib.import_module(name)

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def wire() -> Iterator[Callable[..., None]]:
    """Wires a container, and undoes it at the end."""
    wired: list[Any] = []

    def do(app: Any, **what: Any) -> None:
        wired.append(app)
        app.wire(**what)

    yield do
    for app in wired:
        app.unwire()


ORDERS = {
    "on above inject": "@handles\n@inject",
    "inject above on": "@inject\n@handles",
}


# Wiring replaces functions with markers in a module, also those that are not decorated with @inject.
@pytest.mark.parametrize("decorators", [*ORDERS.values(), "@handles"], ids=[*ORDERS, "on alone"])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("style", ["default", "annotated"])
def test_injection_arrives(
    at_proxy: EventBusProxy,
    write_module: WriteModule,
    wire: Callable[..., None],
    decorators: str,
    asynchronous: bool,
    style: str,
) -> None:
    """@on and @inject work in both orders, for plain and async functions, in both styles of markers."""
    parameter = 'name: str = Provide["name"]' if style == "default" else 'name: Annotated[str, Provide["name"]]'
    module = write_module(f"""
{decorators}
{"async " if asynchronous else ""}def handle(event: MyEvent, {parameter}) -> None:
    got.append((event.value, name))
""")
    app = app_with(name=providers.Object("injected"))
    wire(app, modules=[module])
    with leaving_nothing(), lifespan(app):
        say(app, 1)
        eventually(lambda: module.got == [(1, "injected")])


def test_injection_of_the_client_into_a_function(
    at_proxy: EventBusProxy, write_module: WriteModule, wire: Callable[..., None]
) -> None:
    """A function may have the bus itself injected, and emit with it."""
    module = write_module("""
        @handles
        @inject
        def echo(event: MyEvent, client = Provide["bus.client"]) -> None:
            client.emit_event(event, MyEventTopic.other)

        @on(MyEventType.updated, topic=MyEventTopic.other)
        def hear(event: MyEvent) -> None:
            got.append(event.value)
    """)
    app = app_with()
    wire(app, modules=[module])
    with lifespan(app):
        say(app, 4)
        eventually(lambda: module.got == [4])


@pytest.mark.parametrize("decorators", ORDERS.values(), ids=ORDERS.keys())
def test_injection_into_a_method(
    at_proxy: EventBusProxy, write_module: WriteModule, wire: Callable[..., None], decorators: str
) -> None:
    """A method of a provided object may have injections beside the event, if its module is wired."""
    lines = decorators.replace("\n", "\n    ")
    module = write_module(f"""
class Keeper:
    {lines}
    def handle(self, event: MyEvent, name: str = Provide["name"]) -> None:
        got.append((event.value, name))
""")
    app = app_with(name=providers.Object("injected"), keeper=providers.Singleton(module.Keeper))
    wire(app, modules=[module])
    with lifespan(app):
        say(app, 1)
        eventually(lambda: module.got == [(1, "injected")])


def test_injection_into_a_class_method(
    at_proxy: EventBusProxy, write_module: WriteModule, wire: Callable[..., None]
) -> None:
    """Wiring replaces class and static methods; what @on has marked around them is found all the same."""
    module = write_module("""
class Keeper:
    @handles
    @classmethod
    @inject
    def of_class(cls, event: MyEvent, name: str = Provide["name"]) -> None:
        got.append((event.value, name))

    @handles
    @staticmethod
    def static(event: MyEvent, name: str = Provide["name"]) -> None:
        got.append((event.value, name))
""")
    app = app_with(name=providers.Object("injected"), keeper=providers.Singleton(module.Keeper))
    wire(app, modules=[module])
    with lifespan(app):
        say(app, 1)
        eventually(lambda: module.got == [(1, "injected")] * 2)


def test_what_a_module_marks_beside_functions(
    at_proxy: EventBusProxy, write_module: WriteModule, wire: Callable[..., None]
) -> None:
    """Partials, callable objects and what a decorator without `wraps` returns are handlers of the module that marks them."""
    library = write_module("""
def logged(function):
    def wrapper(event):
        return function(event)
    return wrapper
""")
    module = write_module(f"""
from functools import partial
from {library.__name__} import logged

def append(name, event: MyEvent) -> None:
    got.append(name)

class Called:
    def __call__(self, event: MyEvent) -> None:
        append("called", event)

called = handles(Called())
part = handles(partial(append, "part"))

@handles
@logged
def decorated(event: MyEvent) -> None:
    append("decorated", event)
""")
    app = app_with()
    wire(app, modules=[library, module])
    with lifespan(app):
        say(app, 1)
        eventually(lambda: module.got == ["called", "part", "decorated"])


def test_a_module_made_on_the_fly(
    at_proxy: EventBusProxy, wire: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module need not have a file."""
    module = types.ModuleType(f"flying_{uuid.uuid4().hex}")
    exec(PRELUDE + "@handles\ndef handle(event):\n    got.append(event.value)\n", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    app = app_with()
    wire(app, modules=[module])
    with lifespan(app):
        say(app, 1)
        eventually(lambda: module.got == [1])


def test_wiring_in_the_container_s_configuration(
    at_proxy: EventBusProxy, write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that wires itself by its wiring_config, by the module's name, has those handlers too."""
    module = write_module("""
        @handles
        @inject
        def handle(event: MyEvent, name: str = Provide["name"]) -> None:
            got.append((event.value, name))
    """)

    class SelfWired(containers.DeclarativeContainer):
        wiring_config = containers.WiringConfiguration(modules=[module.__name__])
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        name = providers.Object("by configuration")

    app = SelfWired()
    try:
        with lifespan(app):
            say(app, 1)
            eventually(lambda: module.got == [(1, "by configuration")])
    finally:
        app.unwire()


def test_a_nested_container_s_wiring(at_proxy: EventBusProxy, write_module: WriteModule, wire: Callable[..., None]) -> None:
    """Modules that a nested container is wired to count as well; its own injections arrive."""
    module = write_module("""
        @handles
        @inject
        def handle(event: MyEvent, name: str = Provide["name"]) -> None:
            got.append((event.value, name))
    """)

    class Nested(containers.DeclarativeContainer):
        name = providers.Object("nested")

    app = app_with(nested=providers.Container(Nested))
    wire(app.nested, modules=[module])
    with lifespan(app):
        say(app, 1)
        eventually(lambda: module.got == [(1, "nested")])


def test_a_wired_package(
    at_proxy: EventBusProxy, write_module: WriteModule, wire: Callable[..., None], tmp_path: Path
) -> None:
    """Wiring a package counts for the package itself and everything in it, at any depth; each handler handles once."""
    name = f"package_{uuid.uuid4().hex}"
    (tmp_path / name / "inner").mkdir(parents=True)
    handler = """
        @handles
        @inject
        def handle(event: MyEvent, name: str = Provide["name"]) -> None:
            got.append((event.value, name))
    """
    modules = [write_module(handler, f"{name}{inside}") for inside in ("", ".inner", ".inner.deep", ".flat")]
    beside = write_module(handler, f"{name}_beside")  # its name begins alike, and it is not part of the package
    app = app_with(name=providers.Object("injected"))
    wire(app, packages=[modules[0]], modules=[modules[-1]])
    with lifespan(app):
        say(app, 1)
        eventually(lambda: [module.got for module in modules] == [[(1, "injected")]] * 4)
        assert beside.got == []


def test_functions_of_modules_that_are_not_wired(at_proxy: EventBusProxy, write_module: WriteModule) -> None:
    """A marked function in a module that nobody wired is not a handler of this service."""
    module = write_module("@handles\ndef handle(event):\n    got.append(event.value)\n")
    with lifespan(app_with(service=providers.Singleton(Service))) as app:
        say(app, 1)
        eventually(lambda: Service.made[0].values == [1])
    assert module.got == []


def test_two_apps_wired_to_modules_of_their_own(
    at_proxy: EventBusProxy, write_module: WriteModule, wire: Callable[..., None]
) -> None:
    """Two services in one process each have the functions of their own modules only."""
    code = "@handles\n@inject\ndef handle(event, name=Provide['name']):\n    got.append((event.value, name))\n"
    one, two = write_module(code), write_module(code)
    first, second = app_with(name=providers.Object("first")), app_with(name=providers.Object("second"))
    wire(first, modules=[one])
    wire(second, modules=[two])
    with lifespan(first), lifespan(second):
        say(first, 1)
        eventually(lambda: one.got == [(1, "first")] and two.got == [(1, "second")])


# What is refused


@pytest.mark.parametrize("decorators", [*ORDERS.values(), "@handles"], ids=[*ORDERS, "on alone"])
def test_a_marker_that_nothing_resolves_is_refused(
    at_proxy: EventBusProxy, write_module: WriteModule, wire: Callable[..., None], decorators: str
) -> None:
    """If the container has no such provider, a handler would be called with the marker itself: InvalidHandler names the
    handler and its parameter.
    """
    module = write_module(f"{decorators}\ndef handle(event: MyEvent, name: str = Provide['nmae']) -> None: ...\n")
    app = app_with(name=providers.Object("injected"))
    wire(app, modules=[module])
    with leaving_nothing(), pytest.raises(InvalidHandler, match=rf"{module.__name__}\.handle: .*`name`"), lifespan(app):
        raise AssertionError("it must not start")


@pytest.mark.parametrize("decorators", ORDERS.values(), ids=ORDERS.keys())
def test_a_method_of_a_module_that_is_not_wired_is_refused(
    at_proxy: EventBusProxy, write_module: WriteModule, decorators: str
) -> None:
    """A method with injections in a module that nobody wired raises InvalidHandler with its name."""
    lines = decorators.replace("\n", "\n    ")
    module = write_module(f"""
class Keeper:
    {lines}
    def handle(self, event: MyEvent, name: str = Provide["name"]) -> None: ...
""")
    app = app_with(name=providers.Object("injected"), keeper=providers.Singleton(module.Keeper))
    with leaving_nothing(), pytest.raises(InvalidHandler, match=r"Keeper\.handle: .*wire its module"), lifespan(app):
        raise AssertionError("it must not start")


def test_a_function_without_an_event_is_refused(
    at_proxy: EventBusProxy, write_module: WriteModule, wire: Callable[..., None]
) -> None:
    """A function whose only parameter is injected has no room for the event: InvalidHandler names it."""
    module = write_module("@handles\n@inject\ndef handle(*, name: str = Provide['name']) -> None: ...\n")
    app = app_with(name=providers.Object("injected"))
    wire(app, modules=[module])
    with leaving_nothing(), pytest.raises(InvalidHandler, match=rf"{module.__name__}\.handle"), lifespan(app):
        raise AssertionError("it must not start")


def test_an_injected_parameter_in_the_event_s_place_is_refused(
    at_proxy: EventBusProxy, write_module: WriteModule, wire: Callable[..., None]
) -> None:
    """If the first parameter is injected, the event would take its place: InvalidHandler names the function."""
    module = write_module("@handles\n@inject\ndef handle(name: str = Provide['name']) -> None: ...\n")
    app = app_with(name=providers.Object("injected"))
    wire(app, modules=[module])
    with leaving_nothing(), pytest.raises(InvalidHandler, match=rf"{module.__name__}\.handle"), lifespan(app):
        raise AssertionError("it must not start")


class Generating:
    @on(UPDATED)
    def handle(self, event: MyEvent) -> Iterator[None]:
        yield


class OfAnotherClass:
    @on(UPDATED)
    def handle(self, event: Service) -> None: ...


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [(Generating, "is a generator function"), (OfAnotherClass, "takes `event: Service`, but gets .* MyEvent")],
)
def test_a_handler_that_would_do_nothing_or_fail_is_refused(at_proxy: EventBusProxy, wrong: type[Any], reason: str) -> None:
    """A generator function, and a handler that is annotated with another class than the bus has, are errors of the start."""
    app = app_with(wrong=providers.Singleton(wrong))
    with leaving_nothing(), pytest.raises(InvalidHandler, match=rf"{wrong.__name__}\.handle {reason}"), lifespan(app):
        raise AssertionError("it must not start")


def test_the_event_class_of_an_injected_handler(
    at_proxy: EventBusProxy, write_module: WriteModule, wire: Callable[..., None]
) -> None:
    """The annotation is looked at through @inject, in functions and in methods."""
    code = "def handle(event: int, name: str = Provide['name']) -> None: ...\n"
    function = write_module(f"@handles\n@inject\n{code}")
    method = write_module(f"class Keeper:\n    @handles\n    @inject\n    {code.replace('(', '(self, ')}")
    for module in (function, method):
        more = {"keeper": providers.Singleton(module.Keeper)} if module is method else {}
        app = app_with(name=providers.Object("injected"), **more)
        wire(app, modules=[module])
        with leaving_nothing(), pytest.raises(InvalidHandler, match=r"handle takes `event: int`"), lifespan(app):
            raise AssertionError("it must not start")
