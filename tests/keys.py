"""Keys and allow-lists for tests."""

import json
from pathlib import Path
from typing import NamedTuple

import zmq


class Pair(NamedTuple):
    """Two keys that belong together."""

    public: str
    secret: str


def pair() -> Pair:
    """A new one, without the $ that .env files may replace."""
    while True:
        public, secret = (key.decode() for key in zmq.curve_keypair())
        if "$" not in public + secret:
            return Pair(public, secret)


def listed(name: str, public_key: str, **rules: list[str]) -> str:
    """A client's part of an allow-list."""
    lines = [f"[clients.{json.dumps(name)}]", f"public_key = {json.dumps(public_key)}"]
    return "\n".join([*lines, *(f"{rule} = {json.dumps(topics)}" for rule, topics in rules.items()), ""])


def write_list(file: Path, *clients: str) -> Path:
    """Write an allow-list of these parts."""
    file.write_text("\n".join(clients))
    return file
