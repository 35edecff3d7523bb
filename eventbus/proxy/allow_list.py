"""The allow-list: which clients may connect to a proxy, and which topics each may publish and subscribe to.

The allow-list is a TOML file::

    [clients.thermostat]
    public_key = "…"                    # 40 characters, as `eventbus keygen` prints it
    publish = ["plant", "alarm*"]       # topics, or prefixes of topics; left out: all
    subscribe = ["*"]
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import Self

from eventbus._base.log import Log
from eventbus.errors import InvalidSettings, InvalidTopic
from eventbus.keys import checked_key
from eventbus.wire.frames import topic_frame

log = Log()

_WILDCARD = "*"


@dataclass(frozen=True, slots=True)
class TopicRule:
    """The topics that a client may use.

    Attributes:
        exact: single topics.
        prefixes: all topics that begin with one of these.
    """

    exact: frozenset[bytes]
    prefixes: tuple[bytes, ...]

    def permits(self, topic: bytes) -> bool:
        """Whether the rule permits the topic."""
        return topic in self.exact or topic.startswith(self.prefixes)

    def permits_all(self, prefix: bytes) -> bool:
        """Whether the rule permits every topic that begins with the prefix."""
        return prefix.startswith(self.prefixes)


ALL_TOPICS = TopicRule(frozenset(), (b"",))


@dataclass(frozen=True, slots=True)
class AllowedClient:
    """A client that may connect.

    Attributes:
        name: its name in the allow-list.
        public_key: the key by which the proxy knows it.
        publish: the topics that it may publish.
        subscribe: the topics to which it may subscribe.
    """

    name: str
    public_key: str
    publish: TopicRule = ALL_TOPICS
    subscribe: TopicRule = ALL_TOPICS


class AllowList:
    """The clients that may connect. Immutable.

    Raises:
        InvalidSettings: two clients have the same key.
    """

    def __init__(self, clients: Iterable[AllowedClient] = ()) -> None:
        by_key: dict[str, AllowedClient] = {}
        for client in clients:
            other = by_key.setdefault(client.public_key, client)
            if other is not client:
                raise InvalidSettings(f"clients {other.name} and {client.name} have the same public_key: each needs its own")
        self.clients: Mapping[str, AllowedClient] = MappingProxyType(by_key)
        """By public key."""
        self.has_rules = any(client.publish != ALL_TOPICS or client.subscribe != ALL_TOPICS for client in by_key.values())
        """Whether there is anything that a client may not do."""
        self.exact: frozenset[bytes] = frozenset().union(*(client.subscribe.exact for client in by_key.values()))
        """Topics to which a client may subscribe exactly, without the topics that begin alike."""

    def name(self, key: str) -> str:
        """Return the name of the client with this public key."""
        client = self.clients.get(key)
        return client.name if client else f"{key} (no longer on the allow-list)"

    def without(self, key: str) -> "AllowList":
        """Return a list of all clients but the one with this public key."""
        return AllowList(client for client in self.clients.values() if client.public_key != key)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an allow-list from TOML.

        Raises:
            InvalidSettings: the text is no TOML, or something in it is unknown or has a bad value; the error names each.
        """
        try:
            content = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # tomllib's own is a ValueError; endless numbers raise another one
            raise InvalidSettings(f"no TOML: {error}") from None
        clients = content.pop("clients", {})
        complaints = [f"{name!r} is unknown: clients stand in [clients.NAME]" for name in content]
        if not isinstance(clients, dict):
            raise InvalidSettings("`clients` must be tables: [clients.NAME]")
        parsed = []
        for name, entry in clients.items():
            try:
                parsed.append(_parse_client(name, entry))
            except InvalidSettings as error:
                complaints.append(f"client {name}: {error}")
        if complaints:
            raise InvalidSettings("; ".join(complaints))
        return cls(parsed)


def _parse_client(name: str, entry: object) -> AllowedClient:
    if not isinstance(entry, dict):
        raise InvalidSettings("it must be a table: [clients.NAME] and then its public_key")
    unknown = entry.keys() - {"public_key", "publish", "subscribe"}
    if unknown:  # a misspelt rule must not count as no rule
        raise InvalidSettings(f"{', '.join(sorted(unknown))}: only public_key, publish and subscribe are known")
    key = entry.get("public_key")
    if not isinstance(key, str):
        raise InvalidSettings("its public_key is missing")
    key = checked_key(key, "its public_key")
    return AllowedClient(name, key, _parse_topics(entry, "publish"), _parse_topics(entry, "subscribe"))


def _parse_topics(entry: Mapping[str, object], rule: str) -> TopicRule:
    patterns = entry.get(rule, [_WILDCARD])
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise InvalidSettings(f'{rule} must be a list of topics, such as ["plant", "alarm*"]')
    exact: set[bytes] = set()
    prefixes: set[bytes] = set()
    for pattern in patterns:
        name, star, rest = pattern.partition(_WILDCARD)
        if rest:
            raise InvalidSettings(f"{rule}: a * may stand only at the end, not as in {pattern!r}")
        try:
            (prefixes if star else exact).add(topic_frame(name) if name or not star else b"")
        except InvalidTopic as error:
            raise InvalidSettings(f"{rule}: {error}") from None
    if b"" in prefixes:
        return ALL_TOPICS
    return TopicRule(frozenset(exact), tuple(sorted(prefixes)))


class AllowListFile:
    """The allow-list in a file, read again when the file has changed. Any thread may use it.

    Args:
        path: the path of the file.

    Raises:
        InvalidSettings: there is no such file, or it is no allow-list.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = RLock()
        self._seen: tuple[int, ...] | None = self._stamp()
        self.current = self._read()
        """The list in force."""

    def refresh(self) -> bool:
        """Read the file if it has changed since the last time; return whether a new list is in force.

        If the file has become unusable, the list in force stays, and an error is logged.
        """
        with self._lock:
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            self._seen = stamp
            try:
                self.current = self._read()
            except InvalidSettings as error:
                log.error("%s; what was read before stays in force", error, file=str(self._path), error=type(error).__name__)
                return False
            count = len(self.current.clients)
            log.info(
                "allow-list %s read again: %d clients may connect", self._path, count, file=str(self._path), count=count
            )
            return True

    def reread(self) -> bool:
        """Read the file even if it seems unchanged; see `refresh`."""
        with self._lock:
            self._seen = None
            return self.refresh()

    def expel(self, key: str) -> None:
        """Remove a client from the list in force, until the file is read again."""
        with self._lock:
            self.current = self.current.without(key)

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return (0,)
        # ctime sees changes that keep mtime, such as new permissions; the inode sees another file renamed over this one.
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino

    def _read(self) -> AllowList:
        try:
            return AllowList.parse(self._path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InvalidSettings(
                f"cannot read the allow-list {self._path} (EVENTBUS_SECURITY__ALLOW_LIST): {reason}"
            ) from None
        except InvalidSettings as error:
            raise InvalidSettings(f"allow-list {self._path} (EVENTBUS_SECURITY__ALLOW_LIST): {error}") from None
