"""What clients may do: the rules of the allow-list applied to messages and subscriptions. Pure."""

from eventbus.proxy.allow_list import AllowList
from eventbus.wire.frames import MARK, MAX_TOPIC_BYTES, PRIVATE

_TOKEN = 17  # bytes, `PRIVATE` and a random UUID
_CACHED = 10_000  # decisions; a client can think of any number of topics


def is_token(topic: bytes) -> bool:
    """Whether this can be what a client proves its path with: everybody may subscribe to those."""
    return topic.startswith(PRIVATE) and len(topic) == _TOKEN


class Authorizer:
    """Decides what of the clients' messages and subscriptions passes. It does not change; one thread at a time.

    ZeroMQ's subscriptions are prefixes: who subscribes to `plant` is also sent what is on `plant2`. So who may have `plant`
    alone is subscribed to the topic and the mark that ends it in a frame with a header (see `wire`), and what is published
    on such a topic is passed on with that mark.

    Args:
        allow_list: the rules.
        marked: topics that stay marked though the rules do not ask for it: who was subscribed under earlier ones expects it.
        probe: the public key with which the proxy itself finds out whether it is ready: it may subscribe to tokens, and
            nothing else.
    """

    def __init__(self, allow_list: AllowList, marked: frozenset[bytes] = frozenset(), probe: str | None = None) -> None:
        self._allow_list = allow_list
        self._probe = probe
        self._clients = allow_list.clients
        self.marked = allow_list.exact | marked
        """Topics that are passed on with a mark."""
        self._passed: dict[tuple[str, bytes], bytes] = {}

    def message(self, key: str, frame: bytes) -> bytes:
        """The first frame with which a message of this first frame passes, an empty one if it does not.

        Args:
            key: the public key of who has sent it.
            frame: its first frame.
        """
        known = self._passed.get((key, frame))
        if known is not None:
            return known
        topic, mark, _ = frame.partition(MARK)
        if mark:  # with a header each frame is another one
            return frame if self.message(key, topic) else b""
        client = self._clients.get(key)
        if client is None or not topic or topic.startswith(PRIVATE) or not client.publish.have(topic):
            passed = b""
        else:
            passed = topic + MARK if topic in self.marked else topic
        if len(frame) <= MAX_TOPIC_BYTES:  # no topic of ours is longer, and a frame may have megabytes
            if len(self._passed) >= _CACHED:
                self._passed.clear()
            self._passed[key, frame] = passed
        return passed

    def subscription(self, key: str, prefix: bytes) -> bytes | None:
        """What to subscribe a client to that wants everything that begins with the prefix; None: nothing.

        Args:
            key: its public key.
            prefix: what it wants.
        """
        client = self._clients.get(key)
        if client is None and key != self._probe:
            return None
        if prefix.startswith(PRIVATE):
            return prefix if is_token(prefix) else None
        if client is None:
            return None
        if client.subscribe.have_all_of(prefix):
            return prefix
        topic, mark, rest = prefix.partition(MARK)
        if client.subscribe.have(topic):
            return topic + MARK + rest if mark else topic + MARK
        return None

    def name(self, key: str) -> str:
        """What the allow-list calls the client with this public key."""
        return self._allow_list.name(key)
