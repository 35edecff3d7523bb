"""Keys and allow-lists for tests."""

import json
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import NamedTuple

import zmq
from zmq.utils import z85


class Pair(NamedTuple):
    """Two keys that belong together."""

    public: str
    secret: str


def pair(name: str | None = None) -> Pair:
    """A new one, without the $ that .env files may replace.

    Args:
        name: of whose keys are in the names of tests; they are always the same.
    """
    for number in count():
        secret = zmq.curve_keypair()[1] if name is None else z85.encode(sha256(f"{name} {number}".encode()).digest())
        found = Pair(zmq.curve_public(secret).decode(), secret.decode())
        if "$" not in found.public + found.secret:
            break
    return found


def listed(name: str, public_key: str, **rules: list[str]) -> str:
    """A client's part of an allow-list."""
    lines = [f"[clients.{json.dumps(name)}]", f"public_key = {json.dumps(public_key)}"]
    return "\n".join([*lines, *(f"{rule} = {json.dumps(topics)}" for rule, topics in rules.items()), ""])


def write_list(file: Path, *clients: str) -> Path:
    """Write an allow-list of these parts."""
    file.write_text("\n".join(clients))
    return file
