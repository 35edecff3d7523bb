"""The settings of a client and of the proxy, from ``EVENTBUS_…`` variables and a ``.env`` file."""

import difflib
import os
import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, NoDecode, SettingsConfigDict

from eventbus.errors import InvalidSettings
from eventbus.policies import Compression, ReceivePolicy, SendPolicy

PREFIX = "EVENTBUS_"

# Kubernetes describes a service called `eventbus`, or `eventbus-…`, to every pod in variables of these names; and
# EVENTBUS_…_PORT is its own where the value is a URL.
_KUBERNETES = re.compile(r"EVENTBUS_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")
_KUBERNETES_PORT = re.compile(r"EVENTBUS_(\w+_)?PORT=(tcp|udp|sctp)://")

type Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


def _split(value: object) -> object:
    """``a,b`` to its parts: lists come from the environment without brackets and quotes."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class EventBusSettings(BaseSettings):
    """Everything that can be configured, each field from the variable ``EVENTBUS_`` and its name in capitals.

    Arguments come before variables, variables before the file ``.env`` in the working directory. It does not change once it
    is made.

    Raises:
        InvalidSettings: a variable with this prefix is unknown, or a value is bad; the text names each.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    enabled: bool = Field(default=True, description="false: a client whose calls do nothing, and no socket")
    host: str = Field(default="localhost", min_length=1, description="where the proxy runs")
    pub_port: int = Field(default=5559, ge=0, le=65535, description="the proxy's port for publishers (XSUB)")
    sub_port: int = Field(default=5560, ge=0, le=65535, description="the proxy's port for subscribers (XPUB)")
    topics: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(), description="topics to subscribe to from the start, as a,b"
    )
    embedded_proxy: bool = Field(default=False, description="true: the container runs a proxy if none runs yet")
    connect_timeout: Seconds = Field(default=5.0, gt=0, description="seconds to wait for the proxy")
    connect_required: bool = Field(default=True, description="false: start without a proxy, and connect when one appears")
    close_timeout: Seconds = Field(default=5.0, description="seconds that closing may take")
    linger: Seconds = Field(default=1.0, description="seconds of those for flushing what was emitted")
    send_timeout: Seconds = Field(default=5.0, description="seconds to wait while the send buffer is full")
    send_policy: SendPolicy = Field(
        default=SendPolicy.BLOCK,
        description="when the send buffer is full: block up to that timeout, raise, or drop the event",
    )
    send_hwm: PositiveInt = Field(default=100_000, description="messages in the send buffer")
    receive_hwm: PositiveInt = Field(default=100_000, description="messages that wait to be decoded")
    receive_buffer: PositiveInt = Field(
        default=10_000, description="events that wait for recv_event(); 1000 until its first call"
    )
    receive_policy: ReceivePolicy = Field(
        default=ReceivePolicy.DROP_OLDEST, description="when so many wait: drop_oldest, drop_newest or block"
    )
    echo_interval: Seconds = Field(default=5.0, description="seconds from one echo through the proxy to the next; 0: none")
    echo_timeout: Seconds = Field(
        default=1.0, gt=0, description="seconds that one may stay away before the state is degraded"
    )
    reconnect_interval: Seconds = Field(default=0.05, ge=0.001, description="seconds before the first attempt to reconnect")
    reconnect_max_interval: Seconds = Field(
        default=0.2, ge=0.001, description="the interval doubles with each attempt, up to so many seconds"
    )
    reconnect_attempts: int = Field(default=-1, ge=-1, description="how many before the client gives up; -1: for ever")
    max_event_bytes: PositiveInt = Field(
        default=16_777_216, lt=2**31, description="the largest payload of a message; what is larger is refused"
    )
    numbered: bool = Field(
        default=False, description="true: receivers see what is missing, and what a lost connection took is sent again"
    )
    packing: bool = Field(
        default=True, description="false: emit_events() sends one message per event, for receivers with the original client"
    )
    compression: Compression = Field(
        default=Compression.NONE,
        description="none, zlib, zstd or lz4 for large payloads; receivers with the original client need none",
    )
    compression_threshold: PositiveInt = Field(
        default=1024, description="bytes; larger payloads are compressed, if that makes them smaller"
    )

    # Any: these are pydantic's own arguments beside the fields.
    def __init__(self, **values: Any) -> None:
        known = type(self).model_fields
        complaints = [f"{name} is no setting" for name in values if name not in known and not name.startswith("_")]
        complaints += _unknown_variables(type(self))
        try:
            super().__init__(**values)
        except ValidationError as error:
            complaints += _explain(error)
        if complaints:
            raise InvalidSettings("; ".join(complaints))

    @classmethod
    def variable(cls, field: str) -> str:
        """The name of a field's environment variable."""
        return PREFIX + field.upper()


def _unknown_variables(settings: type[EventBusSettings]) -> Iterator[str]:
    """A complaint for each variable that has our prefix and means nothing: most likely it is misspelt."""
    known = {settings.variable(field) for field in settings.model_fields}
    given = {**DotEnvSettingsSource(settings).env_vars, **os.environ}
    for name, value in sorted({name.upper(): value for name, value in given.items()}.items()):
        foreign = _KUBERNETES.match(name) or _KUBERNETES_PORT.match(f"{name}={value}")
        if name.startswith(PREFIX) and name not in known and not foreign:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {close[0]}?" if close else "`eventbus settings` lists the known ones"
            yield f"{name} is unknown: {remedy}"


def _explain(error: ValidationError) -> Iterator[str]:
    for part in error.errors(include_url=False, include_context=False):
        name = PREFIX + "__".join(str(step) for step in part["loc"]).upper()
        yield f"{name}={part['input']!r}: {part['msg']}"
