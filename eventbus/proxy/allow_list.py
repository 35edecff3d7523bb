"""Who may connect to a proxy, and what each may publish and subscribe to: the allow-list and its rules.

The allow-list is a TOML file::

    [clients.thermostat]
    public_key = "…"                    # 40 characters, as `eventbus keygen` prints it
    publish = ["plant", "alarm*"]       # topics, or beginnings of topics; left out: all
    subscribe = ["*"]
"""

import logging
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import Self

from eventbus.errors import InvalidSettings, InvalidTopic
from eventbus.keys import checked_key
from eventbus.wire.frames import topic_frame

logger = logging.getLogger("eventbus")

_ANY = "*"


@dataclass(frozen=True, slots=True)
class Topics:
    """A set of topics: some exactly, and all that begin with one of some prefixes."""

    exact: frozenset[bytes]
    prefixes: tuple[bytes, ...]

    def have(self, topic: bytes) -> bool:
        """Whether the topic is among them."""
        return topic in self.exact or topic.startswith(self.prefixes)

    def have_all_of(self, prefix: bytes) -> bool:
        """Whether every topic that begins with the prefix is among them."""
        return prefix.startswith(self.prefixes)


ALL = Topics(frozenset(), (b"",))


@dataclass(frozen=True, slots=True)
class Client:
    """One client that may connect.

    Attributes:
        name: what the allow-list calls it.
        public_key: by which it is known.
        publish: the topics that it may publish.
        subscribe: the topics that it may subscribe to.
    """

    name: str
    public_key: str
    publish: Topics = ALL
    subscribe: Topics = ALL


class AllowList:
    """The clients that may connect. It does not change once it is made.

    Raises:
        InvalidSettings: two clients have the same key.
    """

    def __init__(self, clients: Iterable[Client] = ()) -> None:
        by_key: dict[str, Client] = {}
        for client in clients:
            other = by_key.setdefault(client.public_key, client)
            if other is not client:
                raise InvalidSettings(f"clients {other.name} and {client.name} have the same public_key: each needs its own")
        self.clients: Mapping[str, Client] = MappingProxyType(by_key)
        """By public key."""
        self.has_rules = any(client.publish != ALL or client.subscribe != ALL for client in by_key.values())
        """Whether anybody may not do everything."""
        self.exact: frozenset[bytes] = frozenset().union(*(client.subscribe.exact for client in by_key.values()))
        """Topics that somebody may subscribe to without those that begin alike."""

    def name(self, key: str) -> str:
        """What it calls the client with this public key."""
        client = self.clients.get(key)
        return client.name if client else f"{key} (on the allow-list no more)"

    def without(self, key: str) -> "AllowList":
        """The same, but for the client with this public key."""
        return AllowList(client for client in self.clients.values() if client.public_key != key)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Make one from TOML.

        Raises:
            InvalidSettings: it is no TOML, or something in it is unknown or has a bad value; the text names each.
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


def _parse_client(name: str, entry: object) -> Client:
    if not isinstance(entry, dict):
        raise InvalidSettings("it must be a table: [clients.NAME] and then its public_key")
    unknown = entry.keys() - {"public_key", "publish", "subscribe"}
    if unknown:  # a misspelt rule must not mean that there is none
        raise InvalidSettings(f"{', '.join(sorted(unknown))}: only public_key, publish and subscribe are known")
    key = entry.get("public_key")
    if not isinstance(key, str):
        raise InvalidSettings("its public_key is missing")
    key = checked_key(key, "its public_key")
    return Client(name, key, _parse_topics(entry, "publish"), _parse_topics(entry, "subscribe"))


def _parse_topics(entry: Mapping[str, object], rule: str) -> Topics:
    patterns = entry.get(rule, [_ANY])
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise InvalidSettings(f'{rule} must be a list of topics, such as ["plant", "alarm*"]')
    exact: set[bytes] = set()
    prefixes: set[bytes] = set()
    for pattern in patterns:
        name, star, rest = pattern.partition(_ANY)
        if rest:
            raise InvalidSettings(f"{rule}: a * may stand only at the end, not as in {pattern!r}")
        try:
            (prefixes if star else exact).add(topic_frame(name) if name or not star else b"")
        except InvalidTopic as error:
            raise InvalidSettings(f"{rule}: {error}") from None
    if b"" in prefixes:
        return ALL
    return Topics(frozenset(exact), tuple(sorted(prefixes)))


class AllowListFile:
    """The allow-list in a file, which is read again when it has changed. Any thread may use it.

    Args:
        path: where it is.

    Raises:
        InvalidSettings: there is no such file, or it is no allow-list.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = RLock()
        self._seen: tuple[int, ...] | None = self._stamp()
        self.current = self._read()
        """What is in force."""

    def refresh(self) -> bool:
        """Read the file if it has changed since the last time; whether something new is in force now.

        If it cannot be used any more, what was in force stays so, and an error is logged.
        """
        with self._lock:
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            self._seen = stamp
            try:
                self.current = self._read()
            except InvalidSettings as error:
                logger.error(
                    "%s; what was read before stays in force",
                    error,
                    extra={"eventbus_file": str(self._path), "eventbus_error": type(error).__name__},
                )
                return False
            count = len(self.current.clients)
            logger.info(
                "allow-list %s read again: %d clients may connect",
                self._path,
                count,
                extra={"eventbus_file": str(self._path), "eventbus_count": count},
            )
            return True

    def reread(self) -> bool:
        """Read the file even if it seems not to have changed; see `refresh`."""
        with self._lock:
            self._seen = None
            return self.refresh()

    def expel(self, key: str) -> None:
        """Take a client off what is in force, until the file is read again."""
        with self._lock:
            self.current = self.current.without(key)

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return (0,)
        # The second for what keeps the first, such as new permissions; the last for what is renamed over it.
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
