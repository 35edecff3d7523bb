"""The topics that a client may name, and the frame of each."""

import typing
import weakref
from types import get_original_bases

from eventbus.errors import InvalidTopic
from eventbus.events import BaseEventTopic
from eventbus.wire.private_topics import event_topic_frame


class Topics:
    """Checks topics, and remembers the frames of those that are emitted on. Any thread may use it.

    Args:
        client: the client; referred to weakly, because it refers to this.
        generic: the class whose third type parameter is the enum of its topics.

    Attributes:
        last: the topic that was admitted last, and its frame; one tuple, because threads read it without a lock.
    """

    def __init__(self, client: object, generic: type) -> None:
        self._client = weakref.ref(client)
        self._generic = generic
        self._admitted: dict[BaseEventTopic, tuple[BaseEventTopic, bytes]] = {}
        self.last: tuple[object, bytes] = object(), b""

    @property
    def admitted(self) -> frozenset[str]:
        """The values of the topics that were emitted on."""
        return frozenset(topic.value for topic in self._admitted.copy())

    def frame(self, topic: BaseEventTopic) -> bytes:
        """Check a topic, and return its frame.

        Raises:
            InvalidTopic: it is not a topic, or of another enum than the client's type parameters name, or cannot be sent.
        """
        if not isinstance(topic, BaseEventTopic):
            raise InvalidTopic(f"{topic!r} is no topic: use a member of an enum derived from eventbus.BaseEventTopic")
        declared = _declared(self._client(), self._generic)
        if declared is not None and not isinstance(topic, declared):  # BaseEventTopic itself: of any enum
            raise InvalidTopic(
                f"{type(topic).__name__}.{topic.name} is no topic of this client: use a member of {declared.__name__}"
            )
        return event_topic_frame(topic)

    def admit(self, topic: BaseEventTopic) -> bytes:
        """Do the same for a topic to emit on, and remember it.

        Raises:
            InvalidTopic: as `frame`.
        """
        admitted = self._admitted.get(topic) if isinstance(topic, BaseEventTopic) else None
        # Members of different enums are equal when their values are; identity tells them apart.
        if admitted is None or admitted[0] is not topic:
            admitted = self._admitted[topic] = topic, self.frame(topic)
        self.last = admitted
        return admitted[1]


def _declared(client: object, generic: type) -> type[BaseEventTopic] | None:
    """Return the topic enum that the client's type parameters name, if they do.

    The parameters are in the alias that it was made from, ``EventBusClient[E, T, P](...)``, or in the bases of its class.
    """
    aliases = [getattr(client, "__orig_class__", None)]
    for cls in type(client).__mro__:
        aliases += get_original_bases(cls)
    for alias in aliases:
        if typing.get_origin(alias) is generic:
            topic_class = typing.get_args(alias)[2]
            if isinstance(topic_class, type) and issubclass(topic_class, BaseEventTopic):
                return topic_class
    return None
