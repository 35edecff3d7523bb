"""The settings of a client and of the proxy, from ``EVENTBUS_…`` variables and a ``.env`` file."""

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from eventbus.errors import InvalidSettings
from eventbus.keys import (
    PUBLIC_SUFFIX,
    SECRET_SUFFIX,
    ClientKeys,
    Secret,
    bare,
    checked_key,
    is_key,
    masked,
    public_key_of,
    read_key,
)
from eventbus.options import HOST, PUB_PORT, SUB_PORT, ClientOptions, ProxyOptions
from eventbus.policies import Compression, LogFormat, Metrics, ReceivePolicy, SendPolicy, Traces

PREFIX = "EVENTBUS_"
_NESTED = "__"
_CLIENT = ClientOptions()  # its defaults are those of the settings
_SETTLE_FACTOR = 1.25  # a proxy waits longer for subscribers than they wait before they reconnect
_SECURITY = f"{PREFIX}SECURITY{_NESTED}"

_SIMILARITY = 0.85  # from 0 to 1: at least that of a misspelt name
# Where Docker and Kubernetes mount secrets, one file each.
_SECRETS_DIR, _SECRETS = f"{PREFIX}SECRETS_DIR", "/run/secrets"

# Kubernetes describes a service called `eventbus`, or `eventbus-…`, to every pod in variables with these names. It also sets
# EVENTBUS_…_PORT, to a URL.
_KUBERNETES = re.compile(r"EVENTBUS_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")
_KUBERNETES_PORT = re.compile(r"EVENTBUS_(\w+_)?PORT=(tcp|udp|sctp)://")

type Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


def _split(value: object) -> object:
    """Split ``a,b``: lists in the environment have no brackets and quotes."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class SecuritySettings(BaseModel):
    """Keys, and who may connect. A client has the proxy's public key and its own secret key, a proxy its own and a list."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    server_public_key: str | None = Field(
        default=None, description="the proxy's public key: the client encrypts, and talks to no other proxy"
    )
    secret_key: SecretStr | None = Field(
        default=None, description="the client's or the proxy's own secret key, as `eventbus keygen` writes it"
    )
    secret_key_file: Path | None = Field(default=None, description="a file that holds it instead")
    allow_list: Path | None = Field(default=None, description="the proxy's: the TOML file that says who may connect")

    @field_validator("*", mode="before")
    @classmethod
    def _bare(cls, value: object) -> object:
        return bare(value) or None if isinstance(value, str) else value

    @field_validator("server_public_key")
    @classmethod
    def _check_public_key(cls, value: str | None) -> str | None:
        return None if value is None else checked_key(value, "it")

    @field_validator("secret_key")
    @classmethod
    def _check_secret_key(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else SecretStr(checked_key(value.get_secret_value(), "it"))

    @field_validator("secret_key_file", "allow_list", mode="before")
    @classmethod
    def _check_file(cls, value: object) -> object:
        # A path of a key's length may look like one, but then there is such a file.
        if isinstance(value, str) and is_key(bare(value)) and not Path(value).exists():
            raise InvalidSettings(
                f"it is a key, where the name of a file belongs: a key goes into {_SECURITY}SECRET_KEY, "
                f"or into a file that {_SECURITY}SECRET_KEY_FILE names"
            )
        return value

    @field_validator("secret_key_file")
    @classmethod
    def _check_secret_file(cls, value: Path | None) -> Path | None:
        if value is not None and value.suffix == PUBLIC_SUFFIX:
            raise InvalidSettings(
                f"{value} is the file of a public key: name that of the secret one, {value.with_suffix(SECRET_SUFFIX)}"
            )
        return value

    @model_validator(mode="after")
    def _check_one_secret(self) -> Self:
        if self.secret_key is not None and self.secret_key_file is not None:
            raise InvalidSettings(f"{_SECURITY}SECRET_KEY and {_SECURITY}SECRET_KEY_FILE are both set: unset one of them")
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        return _masked_arguments(super().__repr_args__())

    def own_secret_key(self) -> Secret | None:
        """Return the secret key, from its file if there is one; None: there is no secret key.

        Raises:
            InvalidSettings: the file cannot be read, or does not hold a key.
        """
        if self.secret_key_file is not None:
            return Secret(read_key(self.secret_key_file, f"{_SECURITY}SECRET_KEY_FILE", secret=True))
        return None if self.secret_key is None else Secret(self.secret_key.get_secret_value())

    def client_keys(self) -> ClientKeys | None:
        """Return the keys of a client; None: it does not encrypt.

        Raises:
            InvalidSettings: one of the two keys is missing, or is not a key.
        """
        secret_key = self.own_secret_key()
        if self.server_public_key is None and secret_key is None:
            return None
        if self.server_public_key is None:
            raise InvalidSettings(
                f"a client with a secret key also needs the proxy's public one: set {_SECURITY}SERVER_PUBLIC_KEY"
            )
        if secret_key is None:
            raise InvalidSettings(
                f"{_SECURITY}SERVER_PUBLIC_KEY needs a secret key of the client's own: "
                f"set {_SECURITY}SECRET_KEY_FILE (`eventbus keygen` makes one)"
            )
        if secret_key == Secret(self.server_public_key):
            raise InvalidSettings(
                f"{_SECURITY}SERVER_PUBLIC_KEY is the client's secret key: set it to the public key of the proxy"
            )
        return ClientKeys(self.server_public_key, secret_key)

    def proxy_secret_key(self) -> Secret | None:
        """Return the proxy's secret key; None: it does not encrypt.

        Raises:
            InvalidSettings: the key is missing or not a key, or does not belong to the public key that is set.
        """
        secret_key = self.own_secret_key()
        if secret_key is None and (self.server_public_key is not None or self.allow_list is not None):
            raise InvalidSettings(
                f"the proxy's secret key is missing: set {_SECURITY}SECRET_KEY_FILE (`eventbus keygen` makes one)"
            )
        if secret_key is not None and self.server_public_key not in (None, public_key_of(secret_key)):
            raise InvalidSettings(
                f"{_SECURITY}SERVER_PUBLIC_KEY does not belong to the proxy's secret key: is that one of a client? "
                f"The public key of the secret one is {public_key_of(secret_key)}"
            )
        return secret_key


class EventBusSettings(BaseSettings):
    """All settings. Each field is read from the variable with the prefix ``EVENTBUS_`` and the field's name in capitals.

    An argument takes precedence over a variable, a variable over the file ``.env`` in the working directory, and that over a
    file in the directory `EVENTBUS_SECRETS_DIR` (by default ``/run/secrets``), which is named like a variable. Settings do
    not change once they are made.

    Raises:
        InvalidSettings: a variable with this prefix is unknown, or a value is bad; the text names each of them.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_nested_delimiter="__", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    enabled: bool = Field(default=_CLIENT.enabled, description="false: a client whose calls do nothing, and no socket")
    host: str = Field(default=HOST, min_length=1, description="where the proxy runs")
    pub_port: int = Field(default=PUB_PORT, ge=0, le=65535, description="the proxy's port for publishers (XSUB)")
    sub_port: int = Field(default=SUB_PORT, ge=0, le=65535, description="the proxy's port for subscribers (XPUB)")
    topics: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=tuple(_CLIENT.topics), description="topics to subscribe to from the start, as a,b"
    )
    embedded_proxy: bool = Field(default=False, description="true: the container runs a proxy if none runs yet")
    connect_timeout: Seconds = Field(default=_CLIENT.connect_timeout, gt=0, description="seconds to wait for the proxy")
    connect_required: bool = Field(
        default=_CLIENT.connect_required, description="false: start without a proxy, and connect when one appears"
    )
    close_timeout: Seconds = Field(default=_CLIENT.close_timeout, description="seconds that closing may take")
    linger: Seconds = Field(
        default=_CLIENT.linger, description="how many of those seconds are for flushing what was emitted"
    )
    send_timeout: Seconds = Field(default=_CLIENT.send_timeout, description="seconds to wait while the send buffer is full")
    send_policy: SendPolicy = Field(
        default=_CLIENT.send_policy,
        description="when the send buffer is full: block up to that timeout, raise, or drop the event",
    )
    send_hwm: PositiveInt = Field(default=_CLIENT.send_hwm, description="messages in the send buffer")
    receive_hwm: PositiveInt = Field(default=_CLIENT.receive_hwm, description="messages that wait to be decoded")
    receive_buffer: PositiveInt = Field(
        default=_CLIENT.receive_buffer, description="events that wait for recv_event(); 1000 until its first call"
    )
    receive_policy: ReceivePolicy = Field(
        default=_CLIENT.receive_policy, description="when that many wait: drop_oldest, drop_newest or block"
    )
    echo_interval: Seconds = Field(
        default=_CLIENT.echo_interval, description="seconds from one echo through the proxy to the next; 0: none"
    )
    echo_timeout: Seconds = Field(
        default=_CLIENT.echo_timeout, gt=0, description="seconds that an echo may take before the state is degraded"
    )
    reconnect_interval: Seconds = Field(
        default=_CLIENT.reconnect_interval, ge=0.001, description="seconds before the first attempt to reconnect"
    )
    reconnect_max_interval: Seconds = Field(
        default=_CLIENT.reconnect_max_interval,
        ge=0.001,
        description="the interval doubles with each attempt, up to this many seconds",
    )
    reconnect_attempts: int = Field(
        default=_CLIENT.reconnect_attempts, ge=-1, description="how many before the client gives up; -1: no limit"
    )
    max_event_bytes: PositiveInt = Field(
        default=_CLIENT.max_event_bytes, lt=2**31, description="the largest payload of a message; a larger one is refused"
    )
    numbered: bool = Field(
        default=_CLIENT.numbered,
        description="true: receivers see what is missing, and what a lost connection took is sent again",
    )
    packing: bool = Field(
        default=_CLIENT.packing,
        description="false: emit_events() sends one message per event, for receivers with the original client",
    )
    compression: Compression = Field(
        default=_CLIENT.compression,
        description="none, zlib, zstd or lz4 for large payloads; receivers with the original client need none",
    )
    compression_threshold: PositiveInt = Field(
        default=_CLIENT.compression_threshold,
        description="bytes; larger payloads are compressed, if that makes them smaller",
    )
    metrics: Metrics = Field(
        default=Metrics.NONE, description="none, prometheus or otel: where events are counted and timed"
    )
    traces: Traces = Field(
        default=Traces.NONE,
        description="none, otel or otel-with-baggage: spans, and a trace context that travels with events",
    )
    http_port: int = Field(
        default=0, ge=0, le=65535, description="where /metrics, /healthz and /readyz are served; 0: nowhere"
    )
    http_host: str = Field(default="127.0.0.1", min_length=1, description="the address that those are served at")
    log_format: LogFormat = Field(default=LogFormat.TEXT, description="text or json: how the commands write their log")
    security: SecuritySettings = Field(default=SecuritySettings(), description="keys, and who may connect")

    @field_validator("host", "http_host")
    @classmethod
    def _check_host(cls, value: str) -> str:
        if masked(value) != value:  # errors and log lines would show it
            raise InvalidSettings(f"it is a key, where a host belongs: a key goes into {_SECURITY}SECRET_KEY")
        return value

    # Any: these are pydantic's own arguments beside the fields.
    def __init__(self, **values: Any) -> None:
        known = type(self).model_fields
        complaints = [f"{name} is no setting" for name in values if name not in known and not name.startswith("_")]
        complaints += _unknown_variables(type(self))
        try:
            super().__init__(**values)
        except ValidationError as error:
            complaints += _explain(type(self), error)
        except SettingsError as error:  # of EVENTBUS_SECURITY, about which there is a complaint already
            complaints = complaints or [str(error)]
        if complaints:
            raise InvalidSettings("; ".join(complaints))

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        return _masked_arguments(super().__repr_args__())

    def client_options(self, *, encrypted: bool = True) -> ClientOptions:
        """How a client with these settings behaves.

        Args:
            encrypted: False leaves the keys out, also unusable ones, for a client that does not connect to the proxy.

        Raises:
            InvalidSettings: one of the client's two keys is missing, or is not a key.
        """
        return _options(ClientOptions, self, keys=self.security.client_keys() if encrypted else None)

    def proxy_options(self) -> ProxyOptions:
        """How a proxy with these settings behaves.

        Raises:
            InvalidSettings: the proxy's secret key is missing, or not a key, or does not belong to the public key that is
                set.
        """
        return _options(
            ProxyOptions,
            self,
            settle=_SETTLE_FACTOR * self.reconnect_max_interval,
            secret_key=self.security.proxy_secret_key(),
            allow_list=self.security.allow_list,
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where values come from, in the order of precedence."""
        return init_settings, env_settings, dotenv_settings, _Secrets(settings_cls)

    @classmethod
    def variable(cls, *path: str) -> str:
        """Return the name of a field's environment variable. A nested field is given with the fields around it."""
        return PREFIX + _NESTED.join(path).upper()

    @classmethod
    def fields(cls) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
        """Yield each field that has a variable, also the nested ones, with the names that lead to it."""
        for name, field in cls.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from (((name, inner), of_inner) for inner, of_inner in field.annotation.model_fields.items())
            else:
                yield (name,), field


# Any: a test holds that each option has the type of its setting.
def _options[Options: (ClientOptions, ProxyOptions)](
    kind: type[Options], settings: EventBusSettings, **derived: Any
) -> Options:
    """Options of a kind: each has the setting of the same name, except for those that are derived from several settings."""
    names = {field.name for field in fields(kind)} - derived.keys()
    return kind(**{name: getattr(settings, name) for name in names}, **derived)


def _masked_arguments(arguments: Iterable[tuple[str | None, object]]) -> Iterator[tuple[str | None, object]]:
    """Yield what a `repr` shows, without keys that were given where another value belongs."""
    for name, value in arguments:
        shown = "" if name == "server_public_key" or isinstance(value, BaseModel) else str(value)
        yield name, value if masked(shown) == shown else masked(shown)


class _Secrets(EnvSettingsSource):
    """Files of a directory as variables: the name of each is that of a variable, in any case."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in _secret_files()}


def _secrets_directory() -> Path:
    return Path(os.environ.get(_SECRETS_DIR) or _SECRETS)


def _secret_files() -> Iterator[tuple[str, str]]:
    """Yield the name and the content of each file with our prefix in the directory of secrets; no other file is read."""
    directory = _secrets_directory()
    try:
        files = [file for file in directory.iterdir() if file.name.upper().startswith(PREFIX) and not file.is_dir()]
    except OSError as error:
        if os.environ.get(_SECRETS_DIR):
            raise InvalidSettings(f"cannot read {_SECRETS_DIR}={masked(str(directory))}: {error.strerror}") from None
        return
    for file in files:
        try:
            yield file.name, file.read_text().strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise InvalidSettings(f"cannot read the secret {masked(str(file))}: {reason}") from None


def _unknown_variables(settings: type[EventBusSettings]) -> Iterator[str]:
    """Yield a complaint for each variable that has our prefix and is no setting: most likely it is misspelt."""
    known = {settings.variable(*path) for path, _ in settings.fields()}
    variables = {**DotEnvSettingsSource(settings).env_vars, **os.environ}
    given = {name.upper(): value for name, value in (dict(_secret_files()) | variables).items()}
    in_files = given.keys() - {name.upper() for name in variables}
    for name, value in sorted(given.items()):
        foreign = not name.startswith(PREFIX) or _KUBERNETES.match(name) or _KUBERNETES_PORT.match(f"{name}={value}")
        if name == _SECRETS_DIR:
            if name not in os.environ:
                yield f"{name} is read from the environment only, and in capitals only"
        elif name not in known and not foreign:
            # A file with a name of its own may lie there, too, such as one that SECRET_KEY_FILE names.
            close = difflib.get_close_matches(name, known, n=1, cutoff=_SIMILARITY if name in in_files else 0.6)
            if name in in_files and not close:
                continue
            remedy = f"did you mean {close[0]}?" if close else "`eventbus settings` lists the known ones"
            yield f"{name}{f' (a file in {_secrets_directory()})' if name in in_files else ''} is unknown: {remedy}"


def _explain(settings: type[EventBusSettings], error: ValidationError) -> Iterator[str]:
    for part in error.errors(include_url=False, include_context=False):
        path = tuple(str(step) for step in part["loc"])
        text = part["msg"].removeprefix("Value error, ")
        if path[0] == "security":  # the value may be a secret, also that of another field
            yield f"{PREFIX}{_NESTED.join(path).upper()}: {text}" if len(path) > 1 else text
        else:
            yield masked(f"{settings.variable(*path)}={part['input']!r}: {text}")
