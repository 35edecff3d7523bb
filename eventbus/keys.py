"""CURVE keys: their syntax, the files that hold them, and making new pairs.

A key is written as 40 characters of Z85 (ZeroMQ RFC 32), as everywhere in ZeroMQ. A secret key proves who a peer is, so it
is never part of an error or a `repr`.
"""

import os
import re
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_IRWXG, S_IRWXO, S_ISREG

from eventbus._base.log import Log
from eventbus._base.secret import Secret, reveal
from eventbus.errors import InvalidSettings
from eventbus.exports import public

__all__ = [
    "PUBLIC_SUFFIX",
    "SECRET_SUFFIX",
    "ClientKeys",
    "KeyFiles",
    "Secret",
    "bare",
    "checked_key",
    "forbid_core_dumps",
    "is_key",
    "masked",
    "new_pair",
    "public_key_of",
    "read_key",
    "reveal",
    "write_pair",
]

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_GROUP_DIGITS = 5  # which encode four bytes
_DIGIT = f"[{re.escape(_DIGITS)}]"
_KEY = re.compile(f"{_DIGIT}{{40}}")
# Where a key may begin within a text, with its forty characters; what divides a name from a value may stand beside it. These
# places overlap, because a key may have such characters, too.
_KEY_INSIDE = re.compile(rf"(?:(?<=[=:])|(?<!{_DIGIT}))(?=({_DIGIT}{{40}})(?:(?=[=:])|(?!{_DIGIT})))")
_NAME_OR_PATH = re.compile(r"[a-z0-9./:-]*")  # not one key in 10**13 has only these characters
_MASK = "(a key, not shown)"
_ENVELOPE = " \t\r\n'\""
_VARIABLE_SIGN = "$"  # .env files, also those of Compose, replace it and the word that follows

PUBLIC_SUFFIX, SECRET_SUFFIX = ".pub", ".secret"
_NAME = re.compile(r"\w[\w.-]*")

_MAX_KEY_FILE_BYTES = 1_000

_log = Log()


def bare(text: str) -> str:
    """Return a value without white space and quotes around it, which some programs that set variables leave on."""
    return text.strip(_ENVELOPE)


def is_key(text: str) -> bool:
    """Whether this is a CURVE key and nothing else."""
    return _KEY.fullmatch(text) is not None and all(
        _number(text[at : at + _GROUP_DIGITS]) < 2**32 for at in range(0, len(text), _GROUP_DIGITS)
    )


def masked(text: str) -> str:
    """Return a text for people, without the keys in it: a user may have given a key where another value belongs.

    A name or path in lower case that could be a key by its length is left.
    """
    shown, end = "", 0
    for found in _KEY_INSIDE.finditer(text):
        if is_key(found[1]) and not _NAME_OR_PATH.fullmatch(found[1]):
            if found.start(1) >= end:
                shown += text[end : found.start(1)] + _MASK
            end = found.end(1)  # of the last of those that overlap
    return shown + text[end:]


def checked_key(text: str | Secret, name: str) -> str:
    """Return a key without white space and quotes around it.

    Args:
        text: the key.
        name: what the error calls it; the error does not show the text.

    Raises:
        InvalidSettings: the text is not a key.
    """
    key = bare(reveal(text))
    if not is_key(key):
        raise InvalidSettings(f"{name} is no CURVE key: one has 40 characters, as `eventbus keygen` writes it")
    return key


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * len(_DIGITS) + _DIGITS.index(digit)
    return number


def public_key_of(secret_key: str | Secret) -> str:
    """Return the public key that belongs to a secret one.

    Raises:
        InvalidSettings: the secret key is not a key.
    """
    import zmq  # late, because checking settings does not need it

    try:
        return zmq.curve_public(reveal(secret_key).encode()).decode()
    except (ValueError, zmq.ZMQError):
        raise InvalidSettings("the secret key is no CURVE key: make one with `eventbus keygen`") from None


@public
@dataclass(frozen=True, slots=True, repr=False)
class ClientKeys:
    """The keys of a client, for a proxy that uses CURVE.

    Attributes:
        server_public_key: the proxy's public key; the client connects to no other proxy.
        secret_key: the client's own secret key, given as text and kept as a `Secret`; the proxy identifies the client by the
            public key that belongs to it.

    Raises:
        InvalidSettings: one of them is not a key.
    """

    server_public_key: str
    secret_key: str | Secret

    def __post_init__(self) -> None:
        object.__setattr__(self, "server_public_key", checked_key(self.server_public_key, "the proxy's public key"))
        object.__setattr__(self, "secret_key", Secret(checked_key(self.secret_key, "the client's secret key")))
        public_key_of(self.secret_key)

    def __repr__(self) -> str:
        return f"ClientKeys(server_public_key={_MASK}, secret_key={self.secret_key!r})"

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


def read_key(file: Path, name: str, *, secret: bool = False) -> str:
    """Return the key in a file. Does not wait: a file that is not a regular one is refused.

    Args:
        file: the file.
        name: what the error calls the key.
        secret: warn, as ssh does, if the file is this user's and other users may read or change it.

    Raises:
        InvalidSettings: the file cannot be read, or does not hold a key.
    """
    path = masked(str(file))
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        try:
            found = os.fstat(descriptor)
            content = os.read(descriptor, _MAX_KEY_FILE_BYTES) if S_ISREG(found.st_mode) else None
        finally:
            os.close(descriptor)
        text = "" if content is None else content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidSettings(f"cannot read {name} from {path}: {reason}") from None
    if content is None:
        raise InvalidSettings(f"cannot read {name} from {path}: it is not a regular file")
    if secret and found.st_uid == os.geteuid() and found.st_mode & (S_IRWXG | S_IRWXO):
        _log.warning("other users may read the secret key in %s: chmod 600 it", path, file=path)
    return checked_key(text, f"{name} in {path}")


def write_pair(name: str, directory: Path) -> KeyFiles:
    """Make a pair of keys and write each into a file of its own: ``NAME.pub`` and ``NAME.secret``.

    Raises:
        InvalidSettings: the name is not fit for a file, or one of the files exists, or cannot be written; then no file is
            left behind.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidSettings(f"{masked(name)!r} cannot be the name of keys: use letters, digits, '_', '-' and '.'")
    public_file, secret_file = directory / (name + PUBLIC_SUFFIX), directory / (name + SECRET_SUFFIX)
    public, secret = new_pair()
    try:
        for file in (public_file, secret_file):
            if file.exists():
                raise InvalidSettings(
                    f"{file} exists already: peers that use its key would be locked out; move it away first"
                )
        _make(directory)
        _write(secret_file, secret.reveal(), 0o600)
        try:
            _write(public_file, public, 0o644)
        except BaseException:
            secret_file.unlink()
            raise
    except OSError as error:
        raise InvalidSettings(f"cannot write {error.filename or directory}: {error.strerror}") from None
    return KeyFiles(public, public_file, secret_file)


def new_pair() -> tuple[str, Secret]:
    """Return a new public key and its secret one, without characters that .env files replace."""
    import zmq

    while True:
        public, secret = (key.decode() for key in zmq.curve_keypair())
        if _VARIABLE_SIGN not in public + secret:
            return public, Secret(secret)


def forbid_core_dumps() -> None:
    """Let this process, and those that it starts, write no core dump, which would hold the secret key."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _make(directory: Path) -> None:
    """Make a directory, and those around it that are missing, for this user only."""
    for missing in reversed([one for one in (directory, *directory.parents) if not one.exists()]):
        missing.mkdir(0o700, exist_ok=True)


def _write(file: Path, key: str, mode: int) -> None:
    """Write a new file, which is there as a whole with this mode or not at all."""
    unfinished = file.with_name(f".{file.name}.{os.urandom(8).hex()}")
    try:
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as stream:
            stream.write(key + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(unfinished, file)  # unlike rename(), it does not replace a file that has appeared in the meantime
        except FileExistsError:
            raise
        except OSError:  # the file system has no hard links
            unfinished.rename(file)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from None
    finally:
        with suppress(OSError):
            unfinished.unlink()
