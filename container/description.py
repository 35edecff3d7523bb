"""Which class of a container emits and handles what, told without starting it.

What is handled is what the marks of ``@on`` and ``@answers`` say. What is emitted is read in the source of the classes: the
topics and types that stand in calls of `emit_event`, `request` and the like; those that are computed stay unknown.
"""

import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from types import get_original_bases
from typing import Any

from dependency_injector import containers
from pydantic import BaseModel

from eventbus.client import EventBusClient
from eventbus.container.classes import possible_classes
from eventbus.container.discovery import wired_handlers
from eventbus.container.emissions import emissions_of, is_ours
from eventbus.container.resources import LastResource, declared, last_resources, walk
from eventbus.events import BaseEventTopic, BaseEventType
from eventbus.handle.marks import Mark, marked_methods
from eventbus.wire.codec import Codec


@dataclass(frozen=True, slots=True)
class Flow:
    """Events that a component emits or handles.

    Attributes:
        topic: the topic's value; None: unknown for what is emitted, any topic for what is handled.
        types: the types' values; empty: unknown.
        member: the method that does it.
        answered: whether they are requests: of what is emitted, whether an answer is awaited; of what is handled, given.
    """

    topic: str | None
    types: tuple[str, ...]
    member: str = ""
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Component:
    """A class, or a wired module, that emits or handles events.

    Attributes:
        name: of the class.
        emits: what it emits.
        handles: what it handles.
    """

    name: str
    emits: tuple[Flow, ...] = ()
    handles: tuple[Flow, ...] = ()


@dataclass(frozen=True, slots=True)
class Bus:
    """One bus of the container.

    Attributes:
        topics: the values of its topics; those that are known if its client does not name the enum.
        classes: the classes of its events.
        types: the values of all types, each with the classes whose events may have it.
    """

    topics: tuple[str, ...]
    classes: tuple[type[BaseModel], ...]
    types: dict[str, tuple[type[BaseModel], ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Description:
    """What a container says of itself.

    Attributes:
        name: of its class.
        buses: one in most containers.
        components: in the order of declaration.
    """

    name: str
    buses: tuple[Bus, ...]
    components: tuple[Component, ...]


def describe(container: containers.Container) -> Description:
    """Describe a container, which is not started."""
    components = tuple(_components(container))
    used = {flow.topic for each in components for flow in (*each.emits, *each.handles) if flow.topic is not None}
    buses = tuple(_bus(resource, used) for resource in last_resources(container))
    flows = [flow for each in components for flow in each.handles]
    resolved = (replace(each, handles=tuple(_on_topics(each.handles, flows, buses))) for each in components)
    return Description(_name(container), buses, tuple(resolved))


def _on_topics(handled: Iterable[Flow], all_handled: Iterable[Flow], buses: Iterable[Bus]) -> Iterator[Flow]:
    """Give handlers without a topic the topics that the client subscribes to: those of the other handlers, or else all."""
    for flow in handled:
        if flow.topic is not None:
            yield flow
            continue
        (bus, *_) = [bus for bus in buses if bus.types.keys() & set(flow.types)] or [Bus((), ())]
        subscribed = {other.topic for other in all_handled if other.topic and bus.types.keys() & set(other.types)}
        topics = [topic for topic in bus.topics if not subscribed or topic in subscribed]
        yield from (replace(flow, topic=topic) for topic in topics or (None,))


def _name(container: containers.Container) -> str:
    # An object of a container is always a DynamicContainer, which keeps the declared class aside.
    declared_class = getattr(container, "declarative_parent", None) or type(container)
    return str(declared_class.__name__)


def _bus(resource: LastResource[Any], used: Iterable[str]) -> Bus:
    container = typing.cast(Any, resource.container)  # an EventBusContainer, or what looks like one
    codec: Codec[BaseModel] = Codec(container.event_class())
    topics = _topics_of(container.client_class())
    values = [topic.value for topic in topics] if topics else sorted(used)
    types = {member.value: codec.classes_of(member) for enum in codec.event_types for member in enum}
    return Bus(tuple(values), codec.classes, types)


def _topics_of(client_class: object) -> type[BaseEventTopic] | None:
    """The enum of topics that the type arguments of a client's class name."""
    origin = typing.get_origin(client_class) or client_class
    for alias in [client_class, *(base for cls in getattr(origin, "__mro__", ()) for base in get_original_bases(cls))]:
        if typing.get_origin(alias) is EventBusClient:
            topics = typing.get_args(alias)[2]
            if isinstance(topics, type) and issubclass(topics, BaseEventTopic):
                return topics
    return None


def _components(container: containers.Container) -> Iterator[Component]:
    found: dict[type, Component] = {}
    for provider in walk(declared(container), selected_only=True):
        for cls in possible_classes(provider):
            if cls is object or cls in found or is_ours(cls):
                continue
            handles = tuple(_handled(marked_methods(cls).items()))
            emits = tuple(Flow(*each) for each in emissions_of(cls))
            if handles or emits:
                found[cls] = Component(cls.__qualname__, emits, handles)
    yield from found.values()
    of_module: dict[str, list[Flow]] = {}
    for handler in wired_handlers(container):
        module = getattr(handler.callback, "__module__", "?")
        name = getattr(handler.callback, "__name__", "?")
        of_module.setdefault(module, []).extend(_handled([(name, handler.marks)]))
    for module, flows in of_module.items():
        yield Component(module, (), tuple(flows))


def _handled(marked: Iterable[tuple[str, tuple[Mark, ...]]]) -> Iterator[Flow]:
    for name, marks in marked:
        for mark in marks:
            if mark.period is None:  # else it is called without an event
                yield Flow(mark.topic and mark.topic.value, tuple(_values(mark.types)), name, mark.options.answers)


def _values(types: Iterable[BaseEventType]) -> Iterator[str]:
    yield from (one.value for one in types)


def is_container(thing: object) -> typing.TypeGuard[containers.Container]:
    """Whether it is a container."""
    return isinstance(thing, containers.Container)


def is_class_of_containers(thing: object) -> typing.TypeGuard[type[containers.Container]]:
    """Whether it is the class of a container, whoever wrote it."""
    return isinstance(thing, type) and issubclass(thing, containers.Container)


def is_container_class(thing: object) -> bool:
    """Whether it is the class of a container, which is not one of dependency_injector's or ours."""
    return is_class_of_containers(thing) and not is_ours(thing)
