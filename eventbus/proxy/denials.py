"""The denials of a proxy: counted and logged by client, and kept until the notice to the client is sent."""

from threading import Lock

from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle
from eventbus._base.printable import printable
from eventbus.wire.frames import MAX_TOPIC_BYTES
from eventbus.wire.notices import Action, DenialNotice

log = Log()

_MAX_PENDING_PER_CLIENT = 100  # different denials; a client can invent any number of topics
_OTHER_TOPICS = "…".encode()  # stands for the topics beyond that


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
            "denied client %s to %s on topic %r: the allow-list does not permit it; %d more since the last such line",
            name,
            action,
            topic,
            "not permitted",
        )

    def add_malformed(self, name: str, topic: bytes) -> None:
        """Count one more message that does not have exactly two frames, and log it if its turn has come."""
        self._add(
            "denied client %s to %s on topic %r: the message does not have two frames; %d more since the last such line",
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
                action,
                topic,
                held_back,
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
            what = action, _OTHER_TOPICS
        of_client[what] = of_client.get(what, 0) + 1

    def take(self) -> list[DenialNotice]:
        """Return all notices, and forget them."""
        pending, self._pending = self._pending, {}
        return [DenialNotice(key, *what, count) for key, of_client in pending.items() for what, count in of_client.items()]
