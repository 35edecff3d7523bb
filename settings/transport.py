"""The settings of NATS, and which settings go with which transport.

`eventbus.nats_options` is imported when a value is checked, because most buses run over ZeroMQ and give none.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, SecretStr

from eventbus._base.secret import Secret
from eventbus.errors import InvalidSettings
from eventbus.keys import bare
from eventbus.policies import TransportKind

DEFAULT_STORE = "file,1GiB,7d,1"  # as `nats_options.Store()` is written

_OF_NATS = ("url", "group", "store", "subject_prefix")
_OF_ZEROMQ = ("host", "pub_port", "sub_port", "embedded_proxy")
_OF_JETSTREAM = ("store",)
_SECRETS_OF_NATS = ("password", "password_file", "token", "credentials", "ca_file", "cert_file", "key_file")
_SECRETS_OF_ZEROMQ = ("server_public_key", "secret_key", "secret_key_file")


def _bare(value: object) -> object:
    return bare(value) if isinstance(value, str) else value


def _bare_or_none(value: object) -> object:
    return _bare(value) or None  # an empty variable is none


def _url(text: str | None) -> str | None:
    if text is not None:
        from eventbus.nats_options import parse_servers

        parse_servers(text)
    return text


def _group(text: str | None) -> str | None:
    if text is not None:
        from eventbus.nats_options import check_group

        check_group(text)
    return text


def _store(text: str) -> str:
    from eventbus.nats_options import parse_store

    return str(parse_store(text))


def _prefix(text: str) -> str:
    from eventbus.nats_options import check_prefix

    check_prefix(text)
    return text


NatsUrl = Annotated[str | None, BeforeValidator(_bare_or_none), AfterValidator(_url)]
Group = Annotated[str | None, BeforeValidator(_bare_or_none), AfterValidator(_group)]
StoreText = Annotated[str, BeforeValidator(_bare), AfterValidator(_store)]
SubjectPrefix = Annotated[str, BeforeValidator(_bare), AfterValidator(_prefix)]


def read_password(password: SecretStr | None, file: Path | None) -> Secret | None:
    """The password, from its file if there is one.

    Raises:
        InvalidSettings: the file cannot be read.
    """
    if file is None:
        return None if password is None else Secret(password.get_secret_value())
    try:
        return Secret(file.read_text("utf-8-sig").strip())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidSettings(f"EVENTBUS_SECURITY__PASSWORD_FILE: cannot read {file}: {reason}") from None


def misplaced(kind: TransportKind, given: Iterable[str], secrets: Iterable[str]) -> Iterator[str]:
    """Yield a complaint for each setting that was given and has no effect with a transport.

    Args:
        kind: the transport.
        given: names of settings that were given.
        secrets: the same of those of security.
    """
    given, secrets = set(given), set(secrets)
    if kind is TransportKind.ZEROMQ:
        wrong = [name for name in _OF_NATS if name in given] + [
            f"security__{name}" for name in _SECRETS_OF_NATS if name in secrets
        ]
        remedy = "set EVENTBUS_TRANSPORT=nats or jetstream"
    else:
        wrong = [name for name in _OF_ZEROMQ if name in given]
        wrong += [f"security__{name}" for name in _SECRETS_OF_ZEROMQ if name in secrets]
        remedy = "set EVENTBUS_TRANSPORT=zeromq; NATS servers stand in EVENTBUS_URL"
    for name in wrong:
        yield f"EVENTBUS_{name.upper()} has no effect with EVENTBUS_TRANSPORT={kind}: leave it out, or {remedy}"
    if kind is TransportKind.NATS:
        for name in _OF_JETSTREAM:
            if name in given:
                yield (
                    f"EVENTBUS_{name.upper()} has no effect with EVENTBUS_TRANSPORT=nats, which stores nothing: leave it "
                    "out, or set EVENTBUS_TRANSPORT=jetstream"
                )
