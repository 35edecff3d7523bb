"""Encryption with CURVE: what its keys look like, and making and keeping pairs of them.

A key is written as 40 characters of Z85 (ZeroMQ RFC 32), as everywhere in ZeroMQ. Whoever has a secret key can be taken for
its owner: it is never part of an error or of a `repr`.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from eventbus.errors import InvalidSettings

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_GROUP = 5  # digits, which are four bytes
_KEY = re.compile(f"[{re.escape(_DIGITS)}]{{40}}")
_ENVELOPE = " \t\r\n'\""
_REPLACED = "$"  # by what follows it, in .env files and those of Compose

_PUBLIC_SUFFIX, _SECRET_SUFFIX = ".pub", ".secret"
_NAME = re.compile(r"\w[\w.-]*")


def bare(text: str) -> str:
    """A value without white space and quotes around it, which not everything that sets variables takes off."""
    return text.strip(_ENVELOPE)


def checked_key(text: str, name: str) -> str:
    """Return a key without white space and quotes around it.

    Args:
        text: the key.
        name: what to call it in the error, which does not show it.

    Raises:
        InvalidSettings: it is no key.
    """
    key = bare(text)
    if _KEY.fullmatch(key) is None or any(_number(key[at : at + _GROUP]) >= 2**32 for at in range(0, len(key), _GROUP)):
        raise InvalidSettings(f"{name} is no CURVE key: one has 40 characters, as `eventbus keygen` writes it")
    return key


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * len(_DIGITS) + _DIGITS.index(digit)
    return number


def public_key_of(secret_key: str) -> str:
    """The public key that belongs to a secret one.

    Raises:
        InvalidSettings: it is no key.
    """
    import zmq  # what settings only check needs none of it

    try:
        return zmq.curve_public(secret_key.encode()).decode()
    except (ValueError, zmq.ZMQError):
        raise InvalidSettings("the secret key is no CURVE key: make one with `eventbus keygen`") from None


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client needs to talk to a proxy that uses CURVE.

    Attributes:
        server_public_key: the proxy's public key, by which the client knows that it is the right one.
        secret_key: the client's own secret key, by whose public one the proxy knows the client.

    Raises:
        InvalidSettings: one of them is no key.
    """

    server_public_key: str
    secret_key: str = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "server_public_key", checked_key(self.server_public_key, "the proxy's public key"))
        object.__setattr__(self, "secret_key", checked_key(self.secret_key, "the client's secret key"))
        public_key_of(self.secret_key)

    @property
    def public_key(self) -> str:
        """The client's own public key."""
        return public_key_of(self.secret_key)


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """A new pair of keys.

    Attributes:
        public_key: the public one.
        public_file: where it lies.
        secret_file: where the secret one lies, which only its owner may read.
    """

    public_key: str
    public_file: Path
    secret_file: Path


def read_key(file: Path, name: str) -> str:
    """Return the key in a file.

    Args:
        file: where it lies.
        name: what to call it in the error.

    Raises:
        InvalidSettings: the file cannot be read, or has no key.
    """
    try:
        text = file.read_text()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidSettings(f"cannot read {name} from {file}: {reason}") from None
    return checked_key(text, f"{name} in {file}")


def write_pair(name: str, directory: Path) -> KeyFiles:
    """Make a pair of keys and write each into a file of its own: ``NAME.pub`` and ``NAME.secret``.

    Raises:
        InvalidSettings: the name is not fit for a file, there is such a file already, or none can be written there; nothing
            is written then.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidSettings(f"{name!r} is no name for keys: use letters, digits, '_', '-' and '.'")
    public_file, secret_file = directory / (name + _PUBLIC_SUFFIX), directory / (name + _SECRET_SUFFIX)
    for file in (public_file, secret_file):
        if file.exists():
            raise InvalidSettings(
                f"{file} exists already: whoever has the key of today would be locked out; move it away first"
            )
    public, secret = new_pair()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _write(secret_file, secret, 0o600)
        try:
            _write(public_file, public, 0o644)
        except BaseException:
            secret_file.unlink()
            raise
    except OSError as error:
        raise InvalidSettings(f"cannot write {error.filename or directory}: {error.strerror}") from None
    return KeyFiles(public, public_file, secret_file)


def new_pair() -> tuple[str, str]:
    """A new public key and its secret one, which mean the same wherever they are written."""
    import zmq

    while True:
        public, secret = (key.decode() for key in zmq.curve_keypair())
        if _REPLACED not in public + secret:
            return public, secret


def _write(file: Path, key: str, mode: int) -> None:
    """Write a new file that nobody else has ever been able to read if the mode says so."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w") as stream:
        stream.write(key + "\n")
