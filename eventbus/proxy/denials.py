"""The denials of a proxy: counted and logged by client, and kept until the client can know of them."""

from collections import deque
from collections.abc import Callable
from threading import Lock

from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle, more
from eventbus._base.printable import printable
from eventbus.wire.frames import MAX_TOPIC_BYTES
from eventbus.wire.notices import OTHER_TOPICS, Action, DenialNotice

log = Log()

_MAX_PENDING_PER_CLIENT = 100  # different denials; a client can invent any number of topics
_MAX_LASTING_PER_CLIENT = 100  # subscriptions upstream; only clients on the allow-list have any
_LASTING_S = 60.0  # many times what a client needs until its publishing connection is up, too


class Denials:
    """Counts denials by client, and logs them once a minute for each client, action and reason. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[str, int] = {}
        self._throttle = LogThrottle()

    @property
    def counts(self) -> dict[str, int]:
        """The number of denials of each client, by its name."""
        with self._lock:
            return self._counts.copy()

    def count(self, name: str) -> None:
        """Count one more denial."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + 1

    def add(self, name: str, action: Action, topic: bytes) -> None:
        """Count one more denial, and log it if its turn has come."""
        self._add(
            "denied client %s to %s: the allow-list does not permit it%s",
            name,
            action,
            topic,
            "not permitted",
        )

    def add_malformed(self, name: str, topic: bytes) -> None:
        """Count one more message that does not have exactly two frames, and log it if its turn has come."""
        self._add(
            "denied client %s to %s: the message does not have two frames%s",
            name,
            Action.PUBLISH,
            topic,
            "malformed",
        )

    def _add(self, text: str, name: str, action: Action, topic: bytes, reason: str) -> None:
        self.count(name)
        held_back = self._throttle.admit(f"{reason} {action} {name}")
        if held_back is not None:
            topic = topic[:MAX_TOPIC_BYTES]
            log.warning(
                text,
                name,
                action.on(topic),
                more(held_back),
                client=name,
                action=str(action),
                topic=printable(topic.decode(errors="backslashreplace"), MAX_TOPIC_BYTES),
                reason=reason,
                held_back=held_back,
            )


class PendingNotices:
    """Denials whose notice has not been sent yet. One thread at a time."""

    def __init__(self) -> None:
        # By client, so that no client uses up the room of another.
        self._pending: dict[str, dict[tuple[Action, bytes], int]] = {}

    def __bool__(self) -> bool:
        return bool(self._pending)

    def add(self, key: str, action: Action, topic: bytes) -> None:
        """Keep one more denial of the client with this public key."""
        of_client = self._pending.setdefault(key, {})
        what = action, topic[:MAX_TOPIC_BYTES]
        if what not in of_client and len(of_client) >= _MAX_PENDING_PER_CLIENT:
            what = action, OTHER_TOPICS
        of_client[what] = of_client.get(what, 0) + 1

    def take(self) -> list[DenialNotice]:
        """Return all notices, and forget them."""
        pending, self._pending = self._pending, {}
        return [DenialNotice(key, *what, count) for key, of_client in pending.items() for what, count in of_client.items()]


class LastingNotices:
    """The notices that the publishing socket repeats to publishers that connect. One thread at a time.

    A client's subscribing connection can be up before its publishing one, and only the latter receives notices. The proxy
    cannot know which clients have one: it learns the key behind a publishing connection from the first message there.

    Each ends after a minute, or when a rule permits what was denied: else a client that starts again would be told of an
    earlier denial. Each client has the newest 100 at most, so that no client uses up the room of another.
    """

    def __init__(self) -> None:
        # By the client's public key: when each ends, its topic and its frame; the oldest first.
        self._by_client: dict[str, deque[tuple[float, bytes, bytes]]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_client)

    def add(self, notice: DenialNotice, frame: bytes, now: float) -> bytes | None:
        """Note a notice that begins now in this frame; return the frame of one that must end for it."""
        of_client = self._by_client.setdefault(notice.key, deque())
        of_client.append((now + _LASTING_S, notice.topic, frame))
        return of_client.popleft()[-1] if len(of_client) > _MAX_LASTING_PER_CLIENT else None

    def take_ended(self, now: float) -> list[bytes]:
        """Return the frames of those whose time is over, and forget them."""
        ended = []
        for key, of_client in list(self._by_client.items()):
            while of_client and of_client[0][0] <= now:
                ended.append(of_client.popleft()[-1])
            if not of_client:
                del self._by_client[key]
        return ended

    def take_permitted(self, permits: Callable[[str, bytes], bool]) -> list[bytes]:
        """Return the frames of those that new rules permit, and forget them.

        Args:
            permits: whether the client with this public key may subscribe to this topic now.
        """
        ended = []
        for key, of_client in list(self._by_client.items()):
            left = deque(one for one in of_client if not permits(key, one[1]))
            ended += [one[-1] for one in of_client if one not in left]
            if left:
                self._by_client[key] = left
            else:
                del self._by_client[key]
        return ended
