"""Marking handlers, finding them again, and checking what is attached."""

import functools
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Literal, NewType, Protocol

import pytest

from eventbus import InvalidHandler, on
from eventbus.handle.marks import (
    Mark,
    callback_name,
    check_callback,
    check_event_class,
    handlers_of,
    marked_functions,
    marked_methods,
)
from tests.support import MyEvent, MyEventTopic, MyEventType

STARTED, STOPPED = MyEventType.started, MyEventType.stopped


class Service:
    @on(STARTED)
    def plain(self, event: MyEvent) -> None: ...

    @on(STARTED, STOPPED, topic=MyEventTopic.other)
    async def waiting(self, event: MyEvent) -> None: ...

    @on(STOPPED)
    @on(STARTED)
    def stacked(self, event: MyEvent) -> None: ...

    @on(STARTED)
    @staticmethod
    def static_inside(event: MyEvent) -> None: ...

    @staticmethod
    @on(STARTED)
    def static_outside(event: MyEvent) -> None: ...

    @classmethod
    @on(STARTED)
    def of_class(cls, event: MyEvent) -> None: ...

    def unmarked(self, event: MyEvent) -> None: ...

    @property
    def explosive(self) -> None:
        raise AssertionError("looking for marks must run no code of the class")


class Derived(Service):
    def plain(self, event: MyEvent) -> None: ...

    @on(STOPPED)
    def added(self, event: MyEvent) -> None: ...


def test_marks_say_types_and_topic() -> None:
    """Each marked method is found with what its decorators say."""
    found = marked_methods(Service)
    assert found["plain"] == (Mark((STARTED,), None),)
    assert found["waiting"] == (Mark((STARTED, STOPPED), MyEventTopic.other),)
    assert set(found["stacked"]) == {Mark((STARTED,), None), Mark((STOPPED,), None)}


def test_static_and_class_methods_are_found() -> None:
    """The mark may stand on either side of staticmethod and classmethod."""
    assert {"static_inside", "static_outside", "of_class"} <= marked_methods(Service).keys()


def test_unmarked_members_are_not_found_and_not_run() -> None:
    """Only marked methods are found; properties are not evaluated."""
    assert marked_methods(Service).keys().isdisjoint({"unmarked", "explosive"})


def test_overriding_keeps_the_mark_and_base_comes_first() -> None:
    """A method that overrides a marked one is a handler too; base classes' handlers come first."""
    names = list(marked_methods(Derived))
    assert "plain" in names
    assert names.index("waiting") < names.index("added")


def test_none_in_its_place_is_no_handler() -> None:
    """A class says by None, as it does with `__hash__`, that it does not have the handler of its base."""

    class Without(Derived):
        plain = None  # type: ignore[assignment] # mypy does not know that

    class Again(Without):
        @on(STARTED)
        def plain(self, event: MyEvent) -> None: ...  # type: ignore[override] # of None

    assert "plain" not in marked_methods(Without)
    assert "plain" in marked_methods(Again)
    assert len(handlers_of(Without())) == len(handlers_of(Again())) - 1


def test_another_name_is_no_other_handler() -> None:
    """A method with two names is called once, but one that overrides two handlers is both."""

    class Renamed(Service):
        also_plain = Service.plain
        static_again = vars(Service)["static_inside"]

    class Both(Service):
        def plain(self, event: MyEvent) -> None: ...

        stacked = plain

    assert marked_methods(Renamed) == marked_methods(Service)
    assert marked_methods(Both) == marked_methods(Service)


def test_marking_changes_nothing_else() -> None:
    """The decorator returns the function itself."""

    def handler(event: MyEvent) -> None: ...

    assert on(STARTED)(handler) is handler


def test_a_wrapper_does_not_mark_what_it_wraps() -> None:
    """Marking a functools.wraps wrapper leaves the wrapped function with its own marks only."""

    @on(STARTED)
    def inner(event: MyEvent) -> None: ...

    @on(STOPPED)
    @functools.wraps(inner)
    def outer(event: MyEvent) -> None: ...

    module = types.ModuleType(__name__)
    module.inner, module.outer = inner, outer  # type: ignore[attr-defined] # a module made by hand
    marks = dict(marked_functions(module))
    assert marks[inner] == (Mark((STARTED,), None),)
    assert set(marks[outer]) == {Mark((STARTED,), None), Mark((STOPPED,), None)}


def test_functions_of_a_module_but_not_its_imports() -> None:
    """A module's own marked functions are found; what it imports belongs to another one."""

    @on(STARTED)
    def own(event: MyEvent) -> None: ...

    elsewhere = {"__name__": "elsewhere", "on": on, "STARTED": STARTED}
    exec("@on(STARTED)\ndef imported(event): ...", elsewhere)
    imported = elsewhere["imported"]
    module = types.ModuleType(__name__)
    module.own, module.imported, module.number = own, imported, 3  # type: ignore[attr-defined] # a module made by hand
    assert [function for function, _ in marked_functions(module)] == [own]


@pytest.mark.parametrize("wrong", [(), ("started",), (STARTED, None), (MyEventTopic.other,)])
def test_on_needs_event_types(wrong: Any) -> None:
    """@on without types, or with something else, raises InvalidHandler when the class is defined."""
    with pytest.raises(InvalidHandler, match="@on needs members of an event type enum"):
        on(*wrong)


def test_on_needs_a_topic_for_a_topic() -> None:
    """@on(topic=...) with something else than a topic raises InvalidHandler."""
    topic: Any = "my_service"
    with pytest.raises(InvalidHandler, match="topic"):
        on(STARTED, topic=topic)


def test_callables_of_one_event_are_accepted() -> None:
    """Functions, methods, objects, partials and built-ins that can be called with one event pass."""

    class Callable:
        def __call__(self, event: MyEvent, more: int = 0) -> None: ...

    def two(first: object, event: MyEvent) -> None: ...

    accepted: list[Any] = [Service().plain, Callable(), functools.partial(two, 1), [].append, print, lambda *events: None]
    for callback in accepted:
        check_callback(callback)


@pytest.mark.parametrize(
    "wrong", [lambda: None, lambda one, two: None, lambda event, *, needed: None, Service.plain, 3, None]
)
def test_what_cannot_be_called_with_one_event_is_refused(wrong: Any) -> None:
    """Too few or too many parameters, an unbound method, or no callable raise InvalidHandler."""
    with pytest.raises(InvalidHandler, match="called with"):
        check_callback(wrong)


@pytest.mark.parametrize("decorators", [(), (staticmethod,), (classmethod,)])
def test_what_is_in_a_class_body_is_marked_through_its_descriptor(decorators: tuple[Any, ...]) -> None:
    """The mark of a static or class method is on the function inside, which wiring keeps when it replaces the descriptor."""

    def handle(*_: object) -> None: ...

    marked: Any = handle
    for decorate in decorators:
        marked = decorate(marked)
    on(STARTED)(marked)
    rewired = decorators[0](handle) if decorators else handle
    assert marked_methods(type("Rewired", (), {"handle": rewired}))["handle"] == (Mark((STARTED,), None),)


def test_partials_and_callable_objects_are_marked() -> None:
    """@on marks a partial, a callable object and a partial method, in a module and in a class."""

    class Called:
        def __call__(self, event: MyEvent) -> None: ...

    def two(first: object, event: MyEvent) -> None: ...

    class Holder:
        of_class = on(STARTED)(Called())
        method = on(STARTED)(functools.partialmethod(two))  # type: ignore[type-var] # a descriptor

    module = types.ModuleType(__name__)
    module.called, module.part = on(STARTED)(Called()), on(STARTED)(functools.partial(two, 1))  # type: ignore[attr-defined] # by hand
    assert [function for function, _ in marked_functions(module)] == [module.called, module.part]
    assert [handler.callback for handler in handlers_of(module)] == [module.called, module.part]
    assert marked_methods(Holder).keys() == {"of_class", "method"}
    assert not marked_methods(Called)
    for handler in handlers_of(Holder()):
        check_callback(handler.callback)


def test_a_decorator_that_hides_what_it_wraps() -> None:
    """A function belongs to the module where @on stands, also if a decorator of another module has replaced it."""
    elsewhere: dict[str, Any] = {"__name__": "elsewhere"}
    exec("def decorate(function):\n    return lambda event: function(event)", elsewhere)
    decorate: Callable[[Callable[[MyEvent], None]], Callable[[MyEvent], None]] = elsewhere["decorate"]

    @on(STARTED)
    @decorate
    def handle(event: MyEvent) -> None: ...

    assert handle.__module__ == "elsewhere"
    module = types.ModuleType(__name__)
    module.handle = module.again = handle  # type: ignore[attr-defined] # a module made by hand
    assert [function for function, _ in marked_functions(module)] == [handle]


def test_a_proxy_in_a_module_is_left_alone() -> None:
    """A module may contain an object that raises when one looks into it."""

    class Proxy:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    module = types.ModuleType(__name__)
    module.proxy = Proxy()  # type: ignore[attr-defined] # a module made by hand
    assert list(marked_functions(module)) == []


class Slotted:
    __slots__ = ()

    def __call__(self, event: MyEvent) -> None: ...


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (Service, "a class: decorate its methods"),
        (property(lambda self: None), "not a function"),
        (3, "not a function"),
        (Slotted(), "no room for attributes"),
        ([].append, "no room for attributes"),
    ],
)
def test_what_cannot_be_marked_is_refused(wrong: Any, reason: str) -> None:
    """@on over a class, a property, no callable, or what has no attributes raises InvalidHandler with the reason."""
    with pytest.raises(InvalidHandler, match=reason):
        on(STARTED)(wrong)


def generator(event: MyEvent) -> Iterator[None]:
    yield


async def async_generator(event: MyEvent) -> AsyncIterator[None]:
    yield


class Generating:
    def __call__(self, event: MyEvent) -> Iterator[None]:
        yield


@pytest.mark.parametrize("wrong", [generator, async_generator, Generating(), functools.partial(generator)])
def test_a_generator_function_is_refused(wrong: Callable[..., object]) -> None:
    """Calling a generator function runs nothing of its body, so it handles nothing."""
    with pytest.raises(InvalidHandler, match="is a generator function"):
        check_callback(wrong)


class OtherEvent(MyEvent):
    more: str = ""


class HasValue(Protocol):
    value: float


type Either = OtherEvent | Annotated[MyEvent, "the usual one"]
New = NewType("New", MyEvent)


@pytest.mark.parametrize(
    "annotation",
    [MyEvent, "MyEvent", object, Any, HasValue, Either, OtherEvent | MyEvent, New, "Unknown", Annotated[MyEvent, 1]],
    ids=str,
)
def test_annotations_that_fit_the_event_class(annotation: object) -> None:
    """The event's class, a base, a union with it, or what says nothing of the class is accepted."""

    def handle(event): ...  # type: ignore[no-untyped-def] # annotated in the next line

    handle.__annotations__["event"] = annotation
    check_event_class(handle, (MyEvent,))


@pytest.mark.parametrize("annotation", [int, "OtherEvent", OtherEvent | None, Literal[3]], ids=str)
def test_annotations_of_another_class_are_refused(annotation: object) -> None:
    """A class that the events do not have is refused, and the error names both."""

    class Called:
        def __call__(self, event): ...  # type: ignore[no-untyped-def] # annotated in the next line

    Called.__call__.__annotations__["event"] = annotation
    if annotation == Literal[3]:  # names no class
        check_event_class(Called(), (MyEvent,))
        return
    with pytest.raises(InvalidHandler, match=r"Called takes `event: .*`, but gets events of class MyEvent"):
        check_event_class(Called(), (MyEvent,))


def test_callback_names_lead_to_the_code() -> None:
    """A callback's name in a message has its module and qualified name."""

    class Empty(Service, dict[str, str]): ...

    assert callback_name(Service().plain).endswith("test_marks.Service.plain")
    assert callback_name(test_callback_names_lead_to_the_code).endswith("test_marks.test_callback_names_lead_to_the_code")
    assert callback_name(functools.partial(Service().plain)).endswith("test_marks.Service.plain")
    assert callback_name(Empty().plain).endswith("test_callback_names_lead_to_the_code.<locals>.Empty.plain")
    assert callback_name(Slotted()).endswith("test_marks.Slotted")
    assert callback_name(3) == "3"
