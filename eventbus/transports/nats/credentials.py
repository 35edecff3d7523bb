"""Who a client is for a NATS server: the fields of CONNECT, and the context of TLS."""

import base64
import re
import ssl
from pathlib import Path
from typing import Any

from eventbus._base.secret import reveal
from eventbus.errors import ExtraMissing, InvalidSettings
from eventbus.nats_options import NatsOptions, NatsServer

_BLOCK = re.compile(r"-+BEGIN (?P<kind>[A-Z ]+)-+\s+(?P<text>\S+)\s+-+END [A-Z ]+-+")
_VARIABLE = "EVENTBUS_SECURITY__CREDENTIALS"


def login(options: NatsOptions, server: NatsServer, nonce: str) -> dict[str, object]:
    """Return the fields of CONNECT that say who the client is.

    Args:
        options: has the secrets.
        server: its URL has the user.
        nonce: what the server wants to be signed; empty: nothing.

    Raises:
        InvalidSettings: the credentials cannot be read.
        ExtraMissing: the library that signs is not installed.
    """
    if options.credentials is not None:
        return _signed(Path(options.credentials), nonce)
    if options.token is not None:
        return {"auth_token": reveal(options.token)}
    if server.user:
        return {"user": server.user, "pass": "" if options.password is None else reveal(options.password)}
    return {}


def user_of(options: NatsOptions, server: NatsServer) -> str:
    """Who the client is, for people; empty if it has not said who it is."""
    if options.credentials is not None:
        return f"the credentials in {options.credentials}"
    return "the token" if options.token is not None else server.user


def tls_context(options: NatsOptions) -> ssl.SSLContext:
    """Return the context of an encrypted connection.

    Raises:
        InvalidSettings: a file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettings(f"EVENTBUS_SECURITY__CA_FILE {options.ca_file}: {error.strerror or error}") from None
    if options.cert_file is not None:
        try:
            context.load_cert_chain(options.cert_file, options.key_file)
        except (OSError, ssl.SSLError) as error:
            raise InvalidSettings(
                f"EVENTBUS_SECURITY__CERT_FILE {options.cert_file} and EVENTBUS_SECURITY__KEY_FILE {options.key_file}: "
                f"{error.strerror or error}"
            ) from None
    return context


def _signed(path: Path, nonce: str) -> dict[str, object]:
    try:
        import nkeys  # the extra `nats`
    except ImportError:
        raise ExtraMissing("nats", _VARIABLE, library="nkeys") from None
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidSettings(f"{_VARIABLE}: cannot read {path}: {reason}") from None
    blocks = {found["kind"]: found["text"] for found in _BLOCK.finditer(text)}
    seed = blocks.get("USER NKEY SEED", text.strip())
    try:
        pair: Any = nkeys.from_seed(bytearray(seed.encode()))
        fields: dict[str, object] = {"sig": base64.urlsafe_b64encode(pair.sign(nonce.encode())).rstrip(b"=").decode()}
    except Exception:  # the library raises many, and their texts may hold the seed
        raise InvalidSettings(f"{_VARIABLE}: {path} holds no credentials of a user, nor the seed of an NKEY") from None
    if (jwt := blocks.get("NATS USER JWT")) is not None:
        return fields | {"jwt": jwt}
    return fields | {"nkey": pair.public_key.decode()}
