"""Shared by the tests of security: keys, allow-lists, proxies that use CURVE, and their clients."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Self, Unpack

import zmq

from eventbus import EventBusProxy
from eventbus.keys import ClientKeys
from eventbus.options import ProxyArguments, ProxyOptions
from tests.container.support import open_things
from tests.support import PATIENCE, Bus, RawPeers, client_of, eventually


class Keys(NamedTuple):
    """A pair of keys."""

    public: str
    secret: str


def new_keys() -> Keys:
    """A new pair."""
    return Keys(*(key.decode() for key in zmq.curve_keypair()))


_NOBODY = f'[clients.nobody]\npublic_key = "{new_keys().public}"\n'  # because a list must not be empty


class Guarded:
    """A proxy that uses CURVE, running in a block, with its allow-list. It closes the clients that it has made at the end.

    Args:
        directory: for the allow-list.
        ports: of the proxy.
        keys: of the proxy; None: new ones.
        options: further ones of the proxy.
    """

    def __init__(
        self,
        directory: Path,
        ports: tuple[int, int] = (0, 0),
        keys: Keys | None = None,
        **options: Unpack[ProxyArguments],
    ) -> None:
        self.keys = keys or new_keys()
        self.file = directory / f"allow-{self.keys.public[:4].encode().hex()}.toml"
        self._entries: dict[str, str] = {}
        self._numbers = count()
        self._stack = ExitStack()
        self.write()
        self.proxy = EventBusProxy(
            "127.0.0.1",
            *ports,
            ProxyOptions(secret_key=self.keys.secret, allow_list=os.fspath(self.file)),
            **options,
        )

    def __enter__(self) -> Self:
        self.proxy.start()
        self._stack.callback(self.proxy.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # The allow-list

    def write(self, text: str | None = None) -> None:
        """Write the allow-list, or something else in its place, without an instant in which it is half written."""
        new = self.file.with_suffix(".new")
        new.write_text("".join(self._entries.values()) or _NOBODY if text is None else text)
        new.replace(self.file)

    def reload(self) -> None:
        """Write the allow-list and have it read."""
        self.write()
        self.proxy.reload()

    def set(
        self,
        name: str,
        public_key: str,
        *,
        publish: Sequence[str] | None = None,
        subscribe: Sequence[str] | None = None,
    ) -> None:
        """Put a client into what is written next; None: all topics."""
        rules = (("publish", publish), ("subscribe", subscribe))
        lines = [f"[clients.{name}]", f'public_key = "{public_key}"']
        lines += [f"{rule} = {json.dumps(list(topics))}" for rule, topics in rules if topics is not None]
        self._entries[name] = "\n".join(lines) + "\n"

    def remove(self, name: str) -> None:
        """Leave a client out of what is written next."""
        del self._entries[name]

    def admit(self, name: str = "", **rules: Sequence[str]) -> ClientKeys:
        """Let another client in, and return its keys."""
        keys = new_keys()
        self.set(name or f"client-{next(self._numbers)}", keys.public, **rules)
        self.reload()
        return self.keys_for(keys)

    def keys_for(self, keys: Keys) -> ClientKeys:
        """The keys of a client of this proxy."""
        return ClientKeys(self.keys.public, keys.secret)

    # Its clients

    def client(self, keys: ClientKeys | None, **options: Any) -> Bus:
        """A client, not connected yet."""
        made = client_of(self.proxy, keys=keys, linger=0.1, **options)
        self._stack.callback(made.close)
        return made

    def connected(self, keys: ClientKeys | None, **options: Any) -> Bus:
        """A connected client."""
        made = self.client(keys, **options)
        made.connect(PATIENCE)
        return made

    def raw(self, keys: ClientKeys) -> RawPeers:
        """Sockets of plain pyzmq."""
        made = RawPeers(self.proxy.pub_port, self.proxy.sub_port, keys)
        self._stack.callback(made.close)
        return made


@contextmanager
def leaving_no_more() -> Iterator[None]:
    """Assert that the block leaves no more threads and descriptors behind than there were before. Fewer are fine."""
    threads, tasks, descriptors = open_things()

    def no_more() -> bool:
        now = open_things()
        return len(now[0]) <= len(threads) and now[1] <= tasks and now[2] <= descriptors

    yield
    eventually(no_more, PATIENCE, f"no more than {tasks} threads and {descriptors} descriptors")


def logged(records: Sequence[Any], text: str) -> list[str]:
    """The lines of the log that contain this text."""
    return [line for line in (record.getMessage() for record in list(records)) if text in line]


def wait_for_line(records: Sequence[Any], text: str) -> str:
    """The first line of the log with this text, as soon as there is one."""
    eventually(lambda: logged(records, text), PATIENCE, f"a line with {text!r}")
    return logged(records, text)[0]
