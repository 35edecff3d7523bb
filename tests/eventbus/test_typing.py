"""The types that checkers must infer. mypy checks this file with the rest; running it checks that the calls exist."""

from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, assert_type

from pydantic import Field, TypeAdapter

from eventbus import BaseEvent, EventBusClient, EventBusStats, on
from tests.support import Bus, MyEvent, MyEventTopic, MyEventType


class Started(BaseEvent[MyEventType]):
    type: Literal[MyEventType.started] = MyEventType.started


class Stopped(BaseEvent[MyEventType]):
    type: Literal[MyEventType.stopped] = MyEventType.stopped


def test_the_client_speaks_of_its_own_classes() -> None:
    """The client's arguments and results have the types of its three parameters."""
    client = EventBusClient[MyEvent, MyEventType, MyEventTopic](MyEvent, enabled=False)
    assert_type(client, EventBusClient[MyEvent, MyEventType, MyEventTopic])
    assert_type(client.recv_event(0), MyEvent | None)
    assert_type(client.listen_forever(), Iterator[MyEvent])
    assert_type(client.is_connected(), bool)
    assert_type(client.stats(), EventBusStats)
    assert_type(client.aclose(), Coroutine[Any, Any, None]).close()
    client.close()


def test_with_keeps_the_class() -> None:
    """`with` over a derived client gives that class."""

    class Derived(EventBusClient[MyEvent, MyEventType, MyEventTopic]):
        pass

    with Derived(MyEvent, enabled=False) as client:
        assert_type(client, Derived)


def test_callbacks_take_the_event() -> None:
    """A callback's parameter is the client's event class; it may return anything, or be async."""
    client = Bus(MyEvent, enabled=False)

    def plain(event: MyEvent) -> int:
        return 1

    async def waiting(event: MyEvent) -> None: ...

    client.attach_callback(MyEventType.started, plain)
    client.attach_callback(MyEventType.started, waiting, topic=MyEventTopic.other)
    client.attach_callback(MyEventType.started, lambda event: assert_type(event, MyEvent))
    client.attach_callbacks({MyEventType.started: plain, MyEventType.stopped: waiting})
    client.detach_callback(MyEventType.started, plain)


def test_a_union_is_an_event_class() -> None:
    """A client of a TypeAdapter receives the union."""
    adapter: TypeAdapter[Started | Stopped] = TypeAdapter(Annotated[Started | Stopped, Field(discriminator="type")])
    client = EventBusClient[Started | Stopped, MyEventType, MyEventTopic](adapter, enabled=False)
    assert_type(client.recv_event(0), Started | Stopped | None)


def test_on_returns_what_it_is_given() -> None:
    """The decorator keeps the type of what it marks."""

    def handler(event: MyEvent) -> int:
        return 1

    async def waiting(event: MyEvent) -> str:
        return ""

    assert_type(on(MyEventType.started)(handler)(MyEvent(type=MyEventType.started, time="")), int)
    marked: Callable[[MyEvent], Coroutine[Any, Any, str]] = on(MyEventType.started, topic=MyEventTopic.other)(waiting)
    assert marked is waiting


if TYPE_CHECKING:
    # `warn_unused_ignores`, which strict mode has on, makes each of these a proof that mypy refuses the line.

    def refused(client: Bus) -> None:
        client.emit_event("started", MyEventTopic.other)  # type: ignore[arg-type] # a str is no event
        client.emit_event(MyEventType.started, "other")  # type: ignore[arg-type] # a str is no topic
        client.subscribe("other")  # type: ignore[arg-type] # a str is no topic
        client.attach_callback(MyEventType.started, lambda: None)  # type: ignore[arg-type,misc] # it takes no event
        on("started")  # type: ignore[call-overload] # a str is no event type
