"""Marking handlers, finding them again, and checking what is attached."""

import functools
import types
from typing import Any

import pytest

from eventbus import InvalidHandler, on
from eventbus.handle.marks import Mark, callback_name, check_callback, marked_functions, marked_methods
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

    @on(STARTED)
    def imported(event: MyEvent) -> None: ...

    imported.__module__ = "elsewhere"
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


def test_callback_names_lead_to_the_code() -> None:
    """A callback's name in a message has its module and qualified name."""
    assert callback_name(Service().plain).endswith("test_marks.Service.plain")
    assert callback_name(test_callback_names_lead_to_the_code).endswith("test_marks.test_callback_names_lead_to_the_code")
    assert callback_name(3) == "3"
