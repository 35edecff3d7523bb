"""Applies the rules of the allow-list to messages and subscriptions. Pure."""

from eventbus.errors import InvalidTopic
from eventbus.proxy.allow_list import ALL_TOPICS, AllowList
from eventbus.proxy.publisher_ids import PublisherIds
from eventbus.wire.first_frame import parse_head
from eventbus.wire.frames import MARK, MAX_TOPIC_BYTES, PRIVATE, TOKEN_BYTES, head_of, topic_frame, topic_of
from eventbus.wire.history import is_history_topic_of
from eventbus.wire.private_topics import EVERYTHING_TOPIC, HISTORY_PREFIX, PRESENCE_TOPIC, PRIVATE_PREFIXES, REPLY_PREFIX
from eventbus.wire.requests import is_answer, is_reply_topic_of, owner_of

# The topics with which private ones begin. As a prefix, each would show the answers to all clients.
_BEGINNINGS = frozenset(prefix[:length] for prefix in PRIVATE_PREFIXES for length in range(1, len(prefix)))
_MAX_CACHED_DECISIONS = 10_000  # decisions; a client can invent any number of topics


def is_token(topic: bytes) -> bool:
    """Whether this can be a token, to which each client may subscribe to prove that its path is live."""
    return topic.startswith(PRIVATE) and len(topic) == TOKEN_BYTES


def is_topic(topic: bytes) -> bool:
    """Whether a topic of this library can be named so. What begins like a payload, for example, is none."""
    if len(topic) > MAX_TOPIC_BYTES:  # perhaps megabytes
        return False
    try:
        topic_frame(topic.decode())
    except (UnicodeDecodeError, InvalidTopic):
        return False
    return True


class Authorizer:
    """Decides which messages and subscriptions of clients pass. It does not change; one thread at a time.

    ZeroMQ's subscriptions are prefixes: a subscriber of `plant` also gets what is published on `plant2`. So a client that
    may have `plant` alone is subscribed to the topic and the mark that ends it in a first frame with a header (see
    `frames`), and messages on such a topic pass with that mark.

    Requests need no rules of their own: a client may subscribe to reply topics of its own key, and send answers to any (see
    `wire.requests`).

    Args:
        allow_list: the rules.
        marked: topics that stay marked although these rules do not ask for it, because subscriptions made under earlier
            rules expect the mark.
        publisher_ids: replaces the ids in numbered messages; None: they pass as they are.
        readiness_key: the public key with which the proxy itself checks whether it is ready. It may subscribe to tokens
            only.
    """

    def __init__(
        self,
        allow_list: AllowList,
        *,
        marked: frozenset[bytes] = frozenset(),
        publisher_ids: PublisherIds | None = None,
        readiness_key: str | None = None,
    ) -> None:
        self._publisher_ids = publisher_ids
        self._readiness_key = readiness_key
        self._clients = allow_list.clients
        self.marked = allow_list.exact | marked | _BEGINNINGS
        """Topics whose messages pass with a mark."""
        # What passes by key and first frame, or by key and head of a numbered frame without headers.
        self._passed: dict[tuple[str, bytes], bytes] = {}
        self._heads: dict[tuple[str, bytes], bytes] = {}

    def message(self, key: str, frame: bytes) -> bytes:
        """Return the first frame with which a message passes, empty if the message is denied.

        Args:
            key: the sender's public key.
            frame: the first frame that the sender has sent.
        """
        known = self._passed.get((key, frame))
        if known is not None:
            return known
        head = head_of(frame)
        known = self._heads.get((key, head))
        if known is not None:
            return known + frame[len(head) :]
        if frame.startswith(PRIVATE_PREFIXES):
            return self._private(key, frame)
        topic, mark, _ = frame.partition(MARK)
        if mark:  # with a header, each frame is another one
            if not self.message(key, topic):
                return b""
            passed = self._with_own_id(key, frame)
            if parse_head(head) is not None:  # which repeats from message to message
                if len(self._heads) >= _MAX_CACHED_DECISIONS:
                    self._heads.clear()
                self._heads[key, head] = head_of(passed)
            return passed
        client = self._clients.get(key)
        # Receivers take what is no topic for part of another message.
        if client is None or not client.publish.permits(topic) or not is_topic(topic):
            passed = b""
        else:
            passed = topic + MARK if topic in self.marked else topic
        if len(frame) <= MAX_TOPIC_BYTES:  # no topic of this library is longer, and a frame may have megabytes
            if len(self._passed) >= _MAX_CACHED_DECISIONS:
                self._passed.clear()
            self._passed[key, frame] = passed
        return passed

    def subscription(self, key: str, prefix: bytes) -> bytes | None:
        """Return the prefix to which a client is subscribed when it asks for another one; None if that is denied.

        Args:
            key: the client's public key.
            prefix: the prefix for which the client asks.
        """
        client = self._clients.get(key)
        if client is None and key != self._readiness_key:
            return None
        if prefix.startswith(PRIVATE):
            return prefix if is_token(prefix) else None
        if client is None:
            return None
        if prefix.startswith(REPLY_PREFIX):
            return prefix if is_reply_topic_of(prefix, owner_of(key)) else None
        if prefix in (PRESENCE_TOPIC, EVERYTHING_TOPIC):
            return prefix
        if prefix.startswith(HISTORY_PREFIX):
            return prefix if is_history_topic_of(prefix, owner_of(key)) else None
        if client.subscribe.permits_all(prefix) and (prefix not in _BEGINNINGS or client.subscribe == ALL_TOPICS):
            return prefix
        topic, mark, rest = prefix.partition(MARK)
        if client.subscribe.permits(topic):
            return topic + MARK + rest if mark else topic + MARK
        return None

    def _private(self, key: str, frame: bytes) -> bytes:
        """Return the first frame with which an answer, a query to a historian or a question passes; empty if it is denied.

        Each client may send queries on topics of its own key, and only it may subscribe to them, beside those who may
        subscribe to everything, as a historian must. Those who may publish on the topic of the question who is there may ask
        it; each client may subscribe to that topic, because it only learns that somebody asks.
        """
        if frame.startswith(REPLY_PREFIX):
            return self._answer(key, frame)
        topic = topic_of(frame)
        client = self._clients.get(key)
        if client is None:
            return b""
        passes = client.publish.permits(topic) if topic == PRESENCE_TOPIC else is_history_topic_of(topic, owner_of(key))
        return self._with_own_id(key, frame) if passes else b""

    def _answer(self, key: str, frame: bytes) -> bytes:
        """Return the first frame with which an answer passes, empty if it is denied.

        Each client may answer: it knows a reply topic only if it may subscribe to the topic of the request. On a reply topic
        nothing else passes, whatever its sender may publish.
        """
        return self._with_own_id(key, frame) if key in self._clients and is_answer(frame) else b""

    def _with_own_id(self, key: str, frame: bytes) -> bytes:
        return frame if self._publisher_ids is None else self._publisher_ids.replace(key, frame)
