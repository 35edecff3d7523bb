"""The settings of a client and of the proxy, from ``EVENTBUS_…`` variables and a ``.env`` file."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import AliasChoices, BaseModel, ByteSize, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from eventbus._base.addresses import check_ports
from eventbus._base.secret import Secret
from eventbus.errors import InvalidSettings
from eventbus.keys import masked
from eventbus.options import HOST, MIN_HISTORY_BYTES, PROCESS_MAX_MEMORY, PUB_PORT, SUB_PORT, ClientOptions, ProxyOptions
from eventbus.policies import Compression, LogFormat, Metrics, Packing, ReceivePolicy, SendPolicy, Traces, TransportKind
from eventbus.settings.security import SecuritySettings
from eventbus.settings.transport import DEFAULT_STORE, Group, NatsUrl, StoreText, SubjectPrefix, misplaced, read_password
from eventbus.settings.values import Beginning, Host, OptionalPath, Seconds, TimedCalls, Topics, UiToken, masked_arguments
from eventbus.settings.variables import (
    NESTED,
    PREFIX,
    SECRETS_DIR,
    SecretFiles,
    explain,
    lines_without_value,
    unknown_variables,
)

if TYPE_CHECKING:
    from eventbus.nats_options import NatsOptions

_CLIENT, _PROXY = ClientOptions(), ProxyOptions()  # their defaults are those of the settings
_SETTLE_FACTOR = 1.25  # a proxy waits longer for subscribers than they wait before they reconnect
_PYDANTIC_ARGUMENTS = {"_build_sources", "_env_file"}  # the latter is for users


class EventBusSettings(BaseSettings):
    """All settings. Each field is read from the variable with the prefix ``EVENTBUS_`` and the field's name in capitals.

    An argument takes precedence over a variable, a variable over the file ``.env`` in the working directory, and that over a
    file in the directory `EVENTBUS_SECRETS_DIR` (by default ``/run/secrets``), which is named like a variable. Settings do
    not change once they are made.

    A class that is derived from this one may have fields of its own, and another ``env_prefix`` in its ``model_config``;
    other errors still name variables by ours. The argument ``_env_file`` names another file than ``.env``, or several, or
    none (None).

    Raises:
        InvalidSettings: a variable with this prefix is unknown, or a value is bad; the text names each of them.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_nested_delimiter=NESTED,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    enabled: bool = Field(default=_CLIENT.enabled, description="false: a client whose calls do nothing, and no socket")
    host: Host = Field(default=HOST, description="where the proxy runs")
    pub_port: int = Field(default=PUB_PORT, ge=0, le=65535, description="the proxy's port for publishers (XSUB)")
    sub_port: int = Field(default=SUB_PORT, ge=0, le=65535, description="the proxy's port for subscribers (XPUB)")
    topics: Topics = Field(default=tuple(_CLIENT.topics), description="topics to subscribe to from the start, as a,b")
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
    send_hwm: PositiveInt = Field(default=_CLIENT.send_hwm, lt=2**31, description="messages in the send buffer")
    receive_hwm: PositiveInt = Field(default=_CLIENT.receive_hwm, lt=2**31, description="messages that wait to be decoded")
    receive_buffer: PositiveInt = Field(
        default=_CLIENT.receive_buffer, lt=2**31, description="events that wait for recv_event(); 1000 until its first call"
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
    max_event_values: PositiveInt = Field(
        default=_CLIENT.max_event_values,
        description="the most values in an event, at any depth; one with more is refused, because decoding takes long",
    )
    resend_bytes: PositiveInt = Field(
        default=_CLIENT.resend_bytes, description="bytes of sent payloads that a numbering client keeps to send them again"
    )
    numbered: bool = Field(
        default=_CLIENT.numbered,
        description="true: receivers see what is missing, and what a lost connection took is sent again",
    )
    packing: Packing = Field(
        default=_CLIENT.packing,
        description="none, batches or all: which events share messages; receivers with the original client need none",
    )
    compression: Compression = Field(
        default=_CLIENT.compression,
        description="none, zlib, zstd or lz4 for large payloads; receivers with the original client need none",
    )
    compression_threshold: PositiveInt = Field(
        default=_CLIENT.compression_threshold,
        description="bytes; larger payloads are compressed, if that makes them smaller",
    )
    name: str = Field(
        default=_CLIENT.name,
        description="what people call the service, in its health, log, spans and metrics; default: the program's name",
    )
    listed: bool = Field(default=True, description="false: `eventbus ps` does not list the service")
    metrics: Metrics = Field(
        default=Metrics.NONE, description="none, prometheus or otel: where events are counted and timed"
    )
    metrics_timed: TimedCalls = Field(
        default="auto",
        description="otel: which durations are recorded: auto (about 1,000 per second and topic), or a share, such as 0.01",
    )
    traces: Traces = Field(
        default=Traces.NONE,
        description="none, otel or otel-with-baggage: spans, and a trace context that travels with events",
    )
    http_port: int = Field(
        default=0, ge=0, le=65535, description="where /metrics, /healthz and /readyz are served; 0: nowhere"
    )
    http_host: Host = Field(default="127.0.0.1", description="the address that those are served at")
    log_format: LogFormat = Field(default=LogFormat.TEXT, description="text or json: how the commands write their log")
    proxy_hwm: PositiveInt = Field(
        default=_PROXY.hwm,
        lt=2**31,
        description="messages in the proxy's queue for each subscriber; when it is full, more are dropped",
    )
    proxy_max_backlog: ByteSize = Field(
        default=ByteSize(_PROXY.max_backlog),
        description="bytes that may wait for one subscriber, such as 64MiB; a slower one is disconnected; 0: no limit",
    )
    proxy_max_subscriptions: PositiveInt = Field(
        default=_PROXY.max_subscriptions, description="subscriptions of a client; a client with more is disconnected"
    )
    proxy_max_memory: ByteSize = Field(
        default=ByteSize(PROCESS_MAX_MEMORY),
        description="memory of `eventbus proxy`, such as 200MiB; first, connections that hold most are ended; 0: no limit",
    )
    packing_max_wait: Seconds = Field(
        default=_CLIENT.packing_max_wait,
        description="with packing `all`, how many seconds an event may wait for others to share a message with",
    )
    start: Beginning = Field(
        default=_CLIENT.start,
        description="where subscriptions begin: new, last, all, a time, or how long ago (10m), by historian or JetStream",
    )
    repair_timeout: Seconds = Field(
        default=_CLIENT.repair_timeout,
        description="seconds that a historian may send nothing while handlers wait for missing events; 0: these are lost",
    )
    history: NonNegativeInt = Field(
        default=_PROXY.history, description="messages of each topic that the proxy keeps for those who come late; 0: none"
    )
    history_bytes: ByteSize = Field(
        default=ByteSize(_PROXY.history_bytes),
        ge=MIN_HISTORY_BYTES,
        description="memory for those of all topics, at least 64KiB, such as 200MiB",
    )
    history_age: float = Field(
        default=_PROXY.history_age, ge=0, allow_inf_nan=False, description="seconds that each is kept; 0: no limit"
    )
    history_file: OptionalPath = Field(default=None, description="the file that has them after a restart; empty: none")
    ui_token: UiToken = Field(
        default=None, description="what a visitor of `eventbus ui` must know; from other machines nobody sees it without"
    )
    security: SecuritySettings = Field(default=SecuritySettings(), description="keys, and who may connect")
    transport: TransportKind = Field(
        default=TransportKind.ZEROMQ,
        description="zeromq: over a proxy; nats: over a NATS server, live; jetstream: over a NATS server that stores events",
    )
    url: NatsUrl = Field(
        default=None, description="NATS servers, as nats://host:4222,tls://user@other:4222; without it, one on this machine"
    )
    group: Group = Field(
        default=None,
        description="NATS: services with the same group share the work; with jetstream, events are kept while all are away",
    )
    store: StoreText = Field(
        default=DEFAULT_STORE,
        validate_default=False,  # which would import what NATS needs
        description="jetstream: how a missing stream is made: storage, bytes, age, replicas",
    )
    subject_prefix: SubjectPrefix = Field(
        default="eb",
        validate_default=False,
        description="NATS: how all subjects begin; buses that share a server need different ones",
    )
    traces_sampled: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="otel: the share of the emissions outside of a span that begin a trace, such as 0.01",
    )

    # Any: these are pydantic's own arguments beside the fields.
    def __init__(self, **values: Any) -> None:
        cls = type(self)
        complaints = [*_unknown_arguments(cls, values), *_missing_files(values.get("_env_file"))]
        env_file = values.get("_env_file", cls.model_config.get("env_file"))
        known = {cls.variable(*path) for path, _ in cls.fields()} | _own_variables(cls)
        prefix = cls.variable("") or PREFIX
        own = tuple(cls.variable(name, "") for name in cls.model_fields.keys() - EventBusSettings.model_fields.keys())
        try:
            lines = [*lines_without_value(_files(env_file), cls.model_config.get("env_file_encoding"), prefix)]
            if lines:  # before python-dotenv, which warns about some of them and passes over all
                raise InvalidSettings("; ".join([*complaints, *lines]))
            of_env_file = DotEnvSettingsSource(cls, env_file=env_file).env_vars
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
            raise InvalidSettings(f"cannot read {_names(env_file)}: {reason}") from None
        complaints += unknown_variables(known, of_env_file, prefix, own)
        try:
            super().__init__(**values)
        except ValidationError as error:
            complaints += explain(cls.variable, error)
        except SettingsError as error:  # of EVENTBUS_SECURITY, about which there is a complaint already
            complaints = complaints or [str(error)]
        if complaints:
            raise InvalidSettings("; ".join(complaints))

    @model_validator(mode="after")
    def _check_ports(self) -> Self:
        check_ports(self.pub_port, self.sub_port)
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        return masked_arguments(super().__repr_args__())

    def client_options(self, *, encrypted: bool = True) -> ClientOptions:
        """The options of a client with these settings.

        Args:
            encrypted: False leaves the keys out, also unusable ones, for a client that does not connect to the proxy.

        Raises:
            InvalidSettings: one of the client's two keys is missing, or is not a key.
        """
        return _options(ClientOptions, self, keys=self.security.client_keys() if encrypted else None)

    def nats_options(self) -> "NatsOptions":
        """The options of a client over NATS with these settings.

        Raises:
            InvalidSettings: a file cannot be read.
        """
        from eventbus.nats_options import NATS_URL, NatsOptions  # late, because most buses run over ZeroMQ

        security = self.security
        return NatsOptions(
            url=self.url or NATS_URL,
            password=read_password(security.password, security.password_file),
            token=None if security.token is None else Secret(security.token.get_secret_value()),
            credentials=security.credentials,
            ca_file=security.ca_file,
            cert_file=security.cert_file,
            key_file=security.key_file,
            group=self.group,
            start=self.start,
            store=self.store,
            prefix=self.subject_prefix,
            max_event_bytes=None if self.max_event_bytes == _CLIENT.max_event_bytes else self.max_event_bytes,
        )

    def check_transport(self) -> None:
        """Return if no setting was given that has no effect with the transport.

        Raises:
            InvalidSettings: there are some; the text names each with the transport, and the remedy.
        """
        complaints = list(misplaced(self.transport, _given(self), _given(self.security)))
        if complaints:
            raise InvalidSettings("; ".join(complaints))

    def proxy_options(self) -> ProxyOptions:
        """The options of a proxy with these settings.

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
            hwm=self.proxy_hwm,
            max_backlog=self.proxy_max_backlog,
            max_subscriptions=self.proxy_max_subscriptions,
            max_memory=self.proxy_max_memory,
            history_bytes=self.history_bytes,
            history_file=self.history_file,
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
        return init_settings, env_settings, dotenv_settings, SecretFiles(settings_cls)

    @classmethod
    def variable(cls, *path: str) -> str:
        """Return the name of a field's environment variable. A nested field is given with the fields around it."""
        config = cls.model_config
        return (config["env_prefix"] + (config["env_nested_delimiter"] or NESTED).join(path)).upper()

    @classmethod
    def fields(cls) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
        """Yield each field that has a variable, also the nested ones, with the names that lead to it."""
        for name, field in cls.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from (((name, inner), of_inner) for inner, of_inner in field.annotation.model_fields.items())
            else:
                yield (name,), field


def _given(settings: BaseModel) -> set[str]:
    """The names of fields that have another value than their default."""
    fields = type(settings).model_fields
    return {name for name in settings.model_fields_set if getattr(settings, name) != fields[name].default}


# Any: a test holds that each option has the type of its setting.
def _options[Options: (ClientOptions, ProxyOptions)](
    kind: type[Options], settings: EventBusSettings, **derived: Any
) -> Options:
    """Options of a kind: each has the setting of the same name, except for those that are derived from several settings."""
    names = {field.name for field in fields(kind)} - derived.keys()
    return kind(**{name: getattr(settings, name) for name in names}, **derived)


def _unknown_arguments(cls: type[EventBusSettings], values: Mapping[str, object]) -> Iterator[str]:
    """Yield a complaint for each argument that is neither a field nor one of pydantic's that work here."""
    known = cls.model_fields.keys() | {alias for field in cls.model_fields.values() for alias in _aliases(field)}
    for name in values.keys() - known:
        if not name.startswith("_"):
            yield f"{name} is no setting"
        elif name not in _PYDANTIC_ARGUMENTS and not name.startswith("_cli_"):
            remedy = f"set {SECRETS_DIR}" if name == "_secrets_dir" else "derive a class with another model_config"
            yield f"{name} has no effect here: {remedy}"


def _aliases(field: FieldInfo) -> set[str]:
    found = {field.alias, field.validation_alias}
    if isinstance(field.validation_alias, AliasChoices):
        found |= {choice for choice in field.validation_alias.choices if isinstance(choice, str)}
    return {alias for alias in found if isinstance(alias, str)}


def _own_variables(cls: type[EventBusSettings]) -> set[str]:
    """Return variables that a derived class reads by other names than those of its fields."""
    return {alias.upper() for field in cls.model_fields.values() for alias in _aliases(field)}


def _files(given: object) -> tuple[Any, ...]:
    """The files that an argument ``_env_file`` names: one, several or none."""
    return tuple(given) if isinstance(given, list | tuple) else () if given is None else (given,)


def _names(given: object) -> str:
    return masked(" or ".join(str(file) for file in _files(given)))


def _missing_files(given: object) -> Iterator[str]:
    """Yield a complaint for each file that was asked for and is not there: pydantic-settings would pass over it."""
    for file in _files(given):
        if not Path(file).expanduser().is_file():
            yield f"cannot read {masked(str(file))}: there is no such file"
