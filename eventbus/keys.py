"""CURVE keys: their syntax, the files that hold them, and making new pairs.

A key is written as 40 characters of Z85 (ZeroMQ RFC 32), as everywhere in ZeroMQ. A secret key proves who a peer is, so it
is never part of an error or a `repr`.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from eventbus.errors import InvalidSettings

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_GROUP_DIGITS = 5  # which encode four bytes
_KEY = re.compile(f"[{re.escape(_DIGITS)}]{{40}}")
_ENVELOPE = " \t\r\n'\""
_VARIABLE_SIGN = "$"  # .env files, also those of Compose, replace it and the word that follows

_PUBLIC_SUFFIX, _SECRET_SUFFIX = ".pub", ".secret"
_NAME = re.compile(r"\w[\w.-]*")


def bare(text: str) -> str:
    """Return a value without white space and quotes around it, which some programs that set variables leave on."""
    return text.strip(_ENVELOPE)


def checked_key(text: str, name: str) -> str:
    """Return a key without white space and quotes around it.

    Args:
        text: the key.
        name: what the error calls it; the error does not show the text.

    Raises:
        InvalidSettings: the text is not a key.
    """
    key = bare(text)
    if _KEY.fullmatch(key) is None or any(
        _number(key[at : at + _GROUP_DIGITS]) >= 2**32 for at in range(0, len(key), _GROUP_DIGITS)
    ):
        raise InvalidSettings(f"{name} is no CURVE key: one has 40 characters, as `eventbus keygen` writes it")
    return key


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * len(_DIGITS) + _DIGITS.index(digit)
    return number


def public_key_of(secret_key: str) -> str:
    """Return the public key that belongs to a secret one.

    Raises:
        InvalidSettings: the secret key is not a key.
    """
    import zmq  # late, because checking settings does not need it

    try:
        return zmq.curve_public(secret_key.encode()).decode()
    except (ValueError, zmq.ZMQError):
        raise InvalidSettings("the secret key is no CURVE key: make one with `eventbus keygen`") from None


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """The keys of a client, for a proxy that uses CURVE.

    Attributes:
        server_public_key: the proxy's public key; the client connects to no other proxy.
        secret_key: the client's own secret key; the proxy identifies the client by the public key that belongs to it.

    Raises:
        InvalidSettings: one of them is not a key.
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
        public_key: the public key.
        public_file: the file that holds it.
        secret_file: the file that holds the secret key; only its owner can read it.
    """

    public_key: str
    public_file: Path
    secret_file: Path


def read_key(file: Path, name: str) -> str:
    """Return the key in a file.

    Args:
        file: the file.
        name: what the error calls the key.

    Raises:
        InvalidSettings: the file cannot be read, or does not hold a key.
    """
    try:
        text = file.read_text()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidSettings(f"cannot read {name} from {file}: {reason}") from None
    return checked_key(text, f"{name} in {file}")


def write_pair(name: str, directory: Path) -> KeyFiles:
    """Make a pair of keys and write each into a file of its own: ``NAME.pub`` and ``NAME.secret``.

    Raises:
        InvalidSettings: the name is not fit for a file, or one of the files exists, or cannot be written; then no file is
            left behind.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidSettings(f"{name!r} cannot be the name of keys: use letters, digits, '_', '-' and '.'")
    public_file, secret_file = directory / (name + _PUBLIC_SUFFIX), directory / (name + _SECRET_SUFFIX)
    for file in (public_file, secret_file):
        if file.exists():
            raise InvalidSettings(f"{file} exists already: peers that use its key would be locked out; move it away first")
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
    """Return a new public key and its secret one, without characters that .env files replace."""
    import zmq

    while True:
        public, secret = (key.decode() for key in zmq.curve_keypair())
        if _VARIABLE_SIGN not in public + secret:
            return public, secret


def _write(file: Path, key: str, mode: int) -> None:
    """Write a new file, which has this mode from the start."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w") as stream:
        stream.write(key + "\n")
