"""How a client talks to NATS: where the servers are, who it is, and what a stream keeps. Checked when they are made."""

import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import time
from typing import NamedTuple
from urllib.parse import urlsplit

from eventbus._base.addresses import bare_host, check_port
from eventbus._base.moments import moment_of
from eventbus._base.secret import Secret
from eventbus.errors import InvalidSettings
from eventbus.options import check_types
from eventbus.policies import Start

NATS_URL = "nats://127.0.0.1:4222"
_DEFAULT_PORT = 4222
_SCHEMES = {"nats": False, "tls": True}
_NOT_IN_GROUPS = re.compile(r"[.*>/\\\s\x00-\x1f]")
_PREFIX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_AGE = re.compile(r"(\d+)\s*([smhdw])")
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class NatsServer(NamedTuple):
    """One server.

    Attributes:
        host: its name or address.
        port: where it listens for clients.
        tls: whether the URL demands encryption.
        user: the name of the user, if the URL has one.
        tls_name: whose certificate it has to have; empty: that of `host`.
    """

    host: str
    port: int
    tls: bool = False
    user: str = ""
    tls_name: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'nats'}://{host}:{self.port}"


class Store(NamedTuple):
    """How a stream is made if it is missing.

    Attributes:
        storage: ``file`` or ``memory``.
        max_bytes: how many bytes it keeps; the oldest events make room.
        max_age: for how many seconds it keeps an event; 0: for ever.
        replicas: on how many servers of a cluster it is kept.
    """

    storage: str = "file"
    max_bytes: int = 1_073_741_824
    max_age: int = 604_800
    replicas: int = 1

    def __str__(self) -> str:
        return f"{self.storage},{_size_text(self.max_bytes)},{_age_text(self.max_age)},{self.replicas}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsOptions:
    """Where NATS servers are and how they are used, beside the options of every connection.

    Attributes:
        url: one or more servers, separated by commas: ``nats://host:4222``, ``tls://user@host:4222``.
        password: of the user that the URL names.
        token: instead of user and password.
        credentials: the path of a credentials file, or of one with the seed of an NKEY; needs ``eventbus[nats]``.
        ca_file: the path of the certificates that are trusted; None: those of the system.
        cert_file: the path of the client's own certificate, with `key_file`.
        key_file: the path of the private key of that.
        group: services with the same group share the work: each event goes to one of them. With JetStream it also keeps
            their position while all of them are away.
        start: where a service without a position begins, a `Start`, a time in ISO format, or how long ago, such as ``10m``.
            JetStream only.
        store: how the stream is made if it is missing, such as ``file,1GiB,7d,1``: storage, bytes, age, replicas.
        prefix: what all subjects begin with, and the stream's name. Buses that share a server need different ones.
        ack_wait: seconds after which an event that no worker of a group has confirmed goes to another one. A worker that is
            alive asks for more time before that.
        max_event_bytes: the largest event that the service has set; it is compared with the server's limit.

    Raises:
        InvalidSettings: one of them cannot be right.
    """

    url: str = NATS_URL
    password: str | Secret | None = None
    token: str | Secret | None = None
    credentials: str | os.PathLike[str] | None = None
    ca_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    group: str | None = None
    start: str = Start.NEW
    store: str | Store = field(default_factory=Store)
    prefix: str = "eb"
    ack_wait: float = 30.0
    max_event_bytes: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        parse_servers(self.url)
        for name in ("password", "token"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Secret(value))
        if self.group is not None:
            check_group(self.group)
        check_start(self.start)
        object.__setattr__(self, "store", parse_store(self.store))
        check_prefix(self.prefix)

    @property
    def servers(self) -> list[NatsServer]:
        """The servers of the URL."""
        return parse_servers(self.url)

    @property
    def stored(self) -> Store:
        """`store` as a value."""
        return parse_store(self.store)

    @property
    def stream(self) -> str:
        """The name of the stream."""
        return self.prefix.replace(".", "-")


def parse_servers(url: str) -> list[NatsServer]:
    """Return the servers that a URL names, or several URLs with commas between them.

    Raises:
        InvalidSettings: one is no such URL, or has a password.
    """
    parts = [part.strip() for part in url.split(",") if part.strip()]
    if not parts:
        raise InvalidSettings(f"it is empty: give the URL of a NATS server, such as {NATS_URL}")
    return [_parse_server(part) for part in parts]


def _parse_server(url: str) -> NatsServer:
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        port = parts.port or _DEFAULT_PORT
    except ValueError:
        raise InvalidSettings(f"it is no URL of a NATS server, such as {NATS_URL}") from None
    if parts.password is not None:  # before anything that would show the URL
        raise InvalidSettings(
            "it has a password in it, which logs would show: give it in EVENTBUS_SECURITY__PASSWORD or "
            "EVENTBUS_SECURITY__PASSWORD_FILE, and the user in the URL, nats://user@host:4222"
        )
    if parts.scheme not in _SCHEMES or parts.path.strip("/") or parts.query or not parts.hostname:
        raise InvalidSettings(f"it is no URL of a NATS server, such as {NATS_URL} or tls://host:4222")
    check_port(port)
    return NatsServer(bare_host(parts.hostname), port, _SCHEMES[parts.scheme], parts.username or "")


def check_group(group: str) -> None:
    """Check that a group can have this name.

    Raises:
        InvalidSettings: it is empty or has a character that NATS does not allow.
    """
    if not group or _NOT_IN_GROUPS.search(group):
        raise InvalidSettings(f"{group!r} is no name of a group: leave out blanks and . * > / \\")


def check_prefix(prefix: str) -> None:
    """Check that subjects can begin with this.

    Raises:
        InvalidSettings: they cannot.
    """
    if not _PREFIX.fullmatch(prefix) or prefix.upper().startswith(("$", "_INBOX")):
        raise InvalidSettings(f"{prefix!r} cannot begin subjects: use letters, digits, _ and -, such as eb or site-1.eb")


def check_start(start: str) -> None:
    """Check that this says where to begin.

    Raises:
        InvalidSettings: it does not.
    """
    if not (isinstance(start, str) and start in set(Start)):
        start_time(start)


def start_time(start: str) -> datetime:
    """The time where to begin: one in ISO format, local without a time zone, or how long ago.

    Raises:
        InvalidSettings: it is neither.
    """
    try:
        return datetime.fromtimestamp(moment_of(start, time()), UTC)
    except InvalidSettings:
        raise InvalidSettings(
            f"{start!r} is no start: use new, all, last, a time such as 2026-01-31T12:00:00Z, or how long ago, such as 10m"
        ) from None


def parse_store(store: str | Store) -> Store:
    """Read ``storage,bytes,age,replicas``; what is left out at the end has its default.

    Raises:
        InvalidSettings: a part cannot be read.
    """
    if isinstance(store, Store):
        return store
    if not isinstance(store, str):
        raise _no_store(store)
    parts = [part.strip() for part in store.split(",")]
    default = Store()
    if not 1 <= len(parts) <= 4 or parts[0] not in ("file", "memory"):
        raise _no_store(store)
    size = _SIZE.fullmatch(parts[1]) if len(parts) > 1 else None
    age = _AGE.fullmatch(parts[2]) if len(parts) > 2 else None
    replicas = parts[3] if len(parts) > 3 else str(default.replicas)
    if (
        (len(parts) > 1 and size is None)
        or (len(parts) > 2 and age is None and parts[2] != "0")
        or replicas not in ("1", "3", "5")
    ):
        raise _no_store(store)
    max_bytes = default.max_bytes
    if size is not None:
        max_bytes = int(size[1]) * (1024 if size[3] else 1000) ** _UNITS[size[2].upper()]
    max_age = default.max_age if len(parts) < 3 else int(age[1]) * _SECONDS[age[2]] if age else 0
    return Store(parts[0], max_bytes, max_age, int(replicas))


def _no_store(store: str) -> InvalidSettings:
    return InvalidSettings(
        f"{store!r} does not say how a stream is made: use storage,bytes,age,replicas such as {Store()}; "
        "file or memory, an age such as 12h or 0, and 1, 3 or 5 replicas"
    )


def _size_text(size: int) -> str:
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        factor = 1024 ** _UNITS[unit[0]]
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def _age_text(age: int) -> str:
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if age and age % seconds == 0:
            return f"{age // seconds}{unit}"
    return f"{age}s" if age else "0"
