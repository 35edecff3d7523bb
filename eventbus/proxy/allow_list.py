"""The allow-list: which clients may connect to a proxy, and which topics each may publish and subscribe to.

The allow-list is a TOML file::

    default = "nothing"                 # for clients without roles: what a rule that is left out permits; or "all"

    [roles.reader]
    subscribe = ["plant", "alarm*"]     # topics, or prefixes of topics

    [clients.thermostat]
    public_key = "…"                    # 40 characters, as `eventbus keygen` prints it
    publish = ["plant"]
    subscribe = ["*"]

    [clients.display]
    public_key = "…"
    roles = ["reader"]                  # may do what its roles and its own rules permit, and nothing else

The list in force never widens by accident: it stays in force while the file is unreadable, empty or cut off, and a rule that
a client has is lifted only by ``["*"]``, not by leaving it out.
"""

import os
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import reduce
from operator import or_
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import Self

from eventbus._base.log import Log
from eventbus._base.printable import printable
from eventbus.errors import InvalidSettings, InvalidTopic
from eventbus.keys import checked_key, masked
from eventbus.wire.frames import topic_frame

log = Log()

_WILDCARD = "*"
_MAX_RULE_CHARACTERS = 10_000  # characters
_RULES = ("publish", "subscribe")
_MAX_FILE_BYTES = 1_048_576  # some thousands of clients; reading takes about a second


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

    def __or__(self, other: "TopicRule") -> "TopicRule":
        """Return the rule that permits what either permits."""
        prefixes = {*self.prefixes, *other.prefixes}
        return ALL_TOPICS if b"" in prefixes else TopicRule(self.exact | other.exact, tuple(sorted(prefixes)))

    def __str__(self) -> str:
        if self == ALL_TOPICS:
            return "all topics"
        patterns = [topic.decode() for topic in self.exact] + [prefix.decode() + _WILDCARD for prefix in self.prefixes]
        return printable(", ".join(sorted(patterns)), _MAX_RULE_CHARACTERS) or "nothing"


ALL_TOPICS = TopicRule(frozenset(), (b"",))
NO_TOPICS = TopicRule(frozenset(), ())


class Default(StrEnum):
    """The permissions from a rule that is left out, for a client without roles."""

    ALL = "all"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class AllowedClient:
    """A client that may connect.

    Attributes:
        name: its name in the allow-list.
        public_key: the key by which the proxy knows it.
        publish: the topics that it may publish.
        subscribe: the topics to which it may subscribe.
        roles: the names of its roles, whose rules `publish` and `subscribe` include.
        implied: which of `publish` and `subscribe` permit everything only because the list says nothing about them.
    """

    name: str
    public_key: str
    publish: TopicRule = ALL_TOPICS
    subscribe: TopicRule = ALL_TOPICS
    roles: tuple[str, ...] = ()
    implied: frozenset[str] = field(default=frozenset(), compare=False)


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
        """The clients by public key."""
        self.has_rules = any(client.publish != ALL_TOPICS or client.subscribe != ALL_TOPICS for client in by_key.values())
        """Whether there is anything that a client may not do."""
        self.exact: frozenset[bytes] = frozenset().union(*(client.subscribe.exact for client in by_key.values()))
        """Topics to which a client may subscribe exactly, without the topics that begin alike."""

    def __str__(self) -> str:
        """Return who may do what, for people: a paragraph for each client."""
        return "\n".join(
            f"{printable(client.name)}\n"
            f"    public key  {client.public_key}\n"
            f"    roles       {printable(', '.join(client.roles)) or 'none'}\n"
            f"    publish     {client.publish}\n"
            f"    subscribe   {client.subscribe}"
            for client in self.clients.values()
        )

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
        clients, roles, default = content.pop("clients", {}), content.pop("roles", {}), content.pop("default", None)
        complaints = [f"{name!r} is unknown: clients stand in [clients.NAME], roles in [roles.NAME]" for name in content]
        if default is not None and default not in list(Default):
            complaints.append('default must be "all" or "nothing"')
        if not isinstance(clients, dict):
            raise InvalidSettings("`clients` must be tables: [clients.NAME]")
        if not isinstance(roles, dict):
            raise InvalidSettings("`roles` must be tables: [roles.NAME]")
        parsed_roles: dict[str, dict[str, TopicRule]] = {}
        for name, entry in roles.items():
            try:
                parsed_roles[name] = _parse_rules(_parse_table(entry, "roles", _RULES))
            except InvalidSettings as error:
                complaints.append(f"role {name}: {error}")
                parsed_roles[name] = {}  # known, so that its clients are not complained of, too
        parsed = []
        for name, entry in clients.items():
            try:
                parsed.append(_parse_client(name, entry, parsed_roles, default))
            except InvalidSettings as error:
                complaints.append(f"client {name}: {error}")
        if not clients and not complaints:
            complaints.append("it has no clients, so no client could connect")
        if complaints:
            raise InvalidSettings("; ".join(complaints))
        return cls(parsed)


def _parse_table(entry: object, kind: str, known: tuple[str, ...]) -> dict[str, object]:
    if not isinstance(entry, dict):
        raise InvalidSettings(f"it must be a table: [{kind}.NAME]")
    unknown = entry.keys() - set(known)
    if unknown:  # a misspelt rule must not count as no rule
        raise InvalidSettings(f"{', '.join(sorted(unknown))}: only {', '.join(known[:-1])} and {known[-1]} are known")
    return entry


def _parse_client(
    name: str, entry: object, roles: Mapping[str, Mapping[str, TopicRule]], default: Default | None
) -> AllowedClient:
    table = _parse_table(entry, "clients", ("public_key", "roles", *_RULES))
    key = table.get("public_key")
    if not isinstance(key, str):
        raise InvalidSettings("its public_key is missing")
    key = checked_key(key, "its public_key")
    rules = _parse_rules(table)
    if "roles" not in table:
        left_out = [rule for rule in _RULES if rule not in rules]
        rules |= dict.fromkeys(left_out, NO_TOPICS if default == Default.NOTHING else ALL_TOPICS)
        implied = frozenset(left_out) if default is None else frozenset()
        return AllowedClient(name, key, rules["publish"], rules["subscribe"], implied=implied)
    names = table["roles"]
    if not isinstance(names, list) or not all(isinstance(role, str) for role in names):
        raise InvalidSettings('roles must be a list of names, such as ["reader"]')
    unknown = [role for role in names if role not in roles]
    if unknown:
        raise InvalidSettings(f"there is no role {', '.join(unknown)}: roles stand in [roles.NAME]")
    publish, subscribe = (
        reduce(or_, [granted.get(rule, NO_TOPICS) for granted in (rules, *(roles[role] for role in names))])
        for rule in _RULES
    )
    return AllowedClient(name, key, publish, subscribe, roles=tuple(names))


def _parse_rules(entry: Mapping[str, object]) -> dict[str, TopicRule]:
    return {rule: _parse_topics(entry[rule], rule) for rule in _RULES if rule in entry}


def _parse_topics(patterns: object, rule: str) -> TopicRule:
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


def _lifted_by_omission(before: AllowList, after: AllowList) -> list[str]:
    """Name the rules that clients have before, and that permit everything after because they are left out."""
    return [
        f"client {client.name} has lost its {rule} rule"
        for key, client in after.clients.items()
        for rule in sorted(client.implied)
        if key in before.clients and getattr(before.clients[key], rule) != ALL_TOPICS
    ]


class AllowListFile:
    """The allow-list in a file, read again when the file has changed. Any thread may use it; reading never blocks.

    Args:
        path: the path of the file.

    Raises:
        InvalidSettings: there is no such regular file, or it is no allow-list, or no client is on it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = RLock()
        self._seen: tuple[int, ...] | None = self._stamp()
        self.current = self._accepted = self._read()
        """The list in force."""

    def refresh(self) -> bool:
        """Read the file if it has changed since the last time; return whether a new list is in force.

        If the file has become unusable, or would lift a rule by leaving it out, the list in force stays, and an error is
        logged.
        """
        with self._lock:
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            self._seen = stamp
            try:
                found = self._read()
                lifted = _lifted_by_omission(self._accepted, found)
                if lifted:
                    raise InvalidSettings(
                        f"{self._named}: {'; '.join(lifted)}: is the file cut off? "
                        f'To permit everything, write ["{_WILDCARD}"]'
                    )
                self.current = self._accepted = found
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

    @property
    def _named(self) -> str:
        return f"allow-list {masked(str(self._path))} (EVENTBUS_SECURITY__ALLOW_LIST)"

    def _read(self) -> AllowList:
        try:
            return AllowList.parse(self._read_bytes().decode())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InvalidSettings(f"cannot read the {self._named}: {reason}") from None
        except InvalidSettings as error:
            raise InvalidSettings(f"{self._named}: {error}") from None

    def _read_bytes(self) -> bytes:
        with open(self._path, "rb", opener=_open_at_once) as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise InvalidSettings("it is no regular file")
            content = stream.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise InvalidSettings(f"it is larger than {_MAX_FILE_BYTES:,} bytes")
        if mode & stat.S_IWOTH:
            log.warning(
                "every user of this machine can change the allow-list %s, and so let clients in: chmod o-w it",
                self._path,
                file=str(self._path),
            )
        return content


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting: a named pipe would otherwise wait for a writer, and all clients with it."""
    return os.open(path, flags | os.O_NONBLOCK)


def check(path: str | os.PathLike[str]) -> str:
    """Read an allow-list as a proxy does at its start, and return who may do what, for people.

    Raises:
        InvalidSettings: there is no such regular file, or it is no allow-list, or no client is on it; the error names all
            mistakes.
    """
    return str(AllowListFile(path).current)
