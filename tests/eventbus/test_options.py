"""Options are listed once, with their defaults: what else names them agrees with that list, and repeats no default."""

import ast
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeAliasType, get_args, get_origin, get_type_hints

import pytest
from pydantic import SecretStr

from eventbus import ClientKeys, Compression, EventBusClient, InvalidSettings, Packing, ReceivePolicy, SendPolicy
from eventbus.keys import Secret
from eventbus.nats_options import NatsOptions
from eventbus.options import (
    PROCESS_MAX_MEMORY,
    ClientArguments,
    ClientOptions,
    ProxyArguments,
    ProxyOptions,
    ZeroMQArguments,
    ZeroMQOptions,
)
from eventbus.settings import EventBusSettings
from eventbus.transports.zeromq import ZeroMQTransport
from tests.keys import pair
from tests.support import Bus, MyEvent

ROOT = Path(__file__).parents[2]
PROXY, CLIENT = pair("proxy"), pair("client")

DERIVED = {"keys", "settle", "secret_key", "allow_list", "hwm", "max_backlog", "max_subscriptions", "max_memory"} | {
    "history_bytes",  # with a unit
    "history_file",
}
"""Options that are derived from several settings, from nested ones, or from those with a prefix."""

CHANGED: dict[str, Any] = {
    "enabled": False,
    "topics": ("a", "b"),
    "close_timeout": 1.5,
    "linger": 0.25,
    "receive_buffer": 11,
    "receive_policy": ReceivePolicy.BLOCK,
    "max_event_bytes": 1_000,
    "max_event_values": 500,
    "packing": Packing.ALL,
    "packing_max_wait": 0.25,
    "compression": Compression.ZLIB,
    "compression_threshold": 12,
    "name": "shop",
    "connect_timeout": 2.5,
    "connect_required": False,
    "send_timeout": 3.5,
    "send_policy": SendPolicy.DROP,
    "send_hwm": 13,
    "receive_hwm": 14,
    "echo_interval": 0.0,
    "echo_timeout": 0.5,
    "reconnect_interval": 0.01,
    "reconnect_max_interval": 0.4,
    "reconnect_attempts": 15,
    "resend_bytes": 1_000_000,
    "numbered": True,
    "start": "last",
    "repair_timeout": 0.5,
}


def plain(hint: Any) -> Any:
    """A type without what pydantic checks beside it."""
    if isinstance(hint, TypeAliasType):
        return plain(hint.__value__)
    return plain(get_args(hint)[0]) if get_origin(hint) is Annotated else hint


def settings_types() -> dict[str, Any]:
    return {name: plain(hint) for name, hint in get_type_hints(EventBusSettings, include_extras=True).items()}


@pytest.mark.parametrize(
    ("options", "arguments"),
    [(ZeroMQOptions, ZeroMQArguments), (ClientOptions, ClientArguments), (ProxyOptions, ProxyArguments)],
)
def test_keyword_arguments_are_the_options(options: type, arguments: type) -> None:
    """The keyword arguments that type checkers know are exactly the options, with the same types."""
    assert get_type_hints(arguments) == get_type_hints(options)


@pytest.mark.parametrize("kind", [ClientOptions, ProxyOptions])
def test_each_option_has_its_setting(kind: type[ClientOptions | ProxyOptions]) -> None:
    """Each option that is a plain value has a setting of the same name, type and default."""
    types = settings_types() | {"topics": get_type_hints(ClientOptions)["topics"]}  # a tuple, where any iterable will do
    for field in fields(kind):
        if field.name not in DERIVED:
            assert types[field.name] == get_type_hints(kind)[field.name]
            assert EventBusSettings.model_fields[field.name].default == field.default


def test_no_default_stands_twice() -> None:
    """Settings name the default of an option by its name, and the client has no argument that is an option."""
    options = {field.name for kind in (ClientOptions, ProxyOptions) for field in fields(kind)} | {
        "host",
        "pub_port",
        "sub_port",
    }
    repeated = [
        assigned.target.id
        for assigned in ast.walk(ast.parse((ROOT / "settings" / "model.py").read_text()))
        if isinstance(assigned, ast.AnnAssign)
        and isinstance(assigned.target, ast.Name)
        and assigned.target.id in options - DERIVED
        and isinstance(assigned.value, ast.Call)
        for keyword in assigned.value.keywords
        if keyword.arg == "default" and isinstance(keyword.value, ast.Constant)
    ]
    assert repeated == []
    (constructor,) = (
        node
        for node in ast.walk(ast.parse((ROOT / "eventbus" / "client.py").read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    arguments = {argument.arg for argument in (*constructor.args.args, *constructor.args.kwonlyargs)}
    assert arguments & options == {"host", "pub_port", "sub_port"}
    assert not [node for node in constructor.args.defaults if isinstance(node, ast.Constant)]


def test_every_option_has_a_default() -> None:
    """Options without arguments are those of a client and a proxy on this machine."""
    assert all(field.default is not MISSING for kind in (ClientOptions, ProxyOptions) for field in fields(kind))
    assert (
        ClientOptions(**{field.name: getattr(ZeroMQOptions(), field.name) for field in fields(ZeroMQOptions)})
        == ClientOptions()
    )


def test_from_settings_to_the_options_of_a_client() -> None:
    """Every setting of a client arrives in its options under the same name."""
    assert CHANGED.keys() == {field.name for field in fields(ClientOptions)} - {"keys"}
    assert all(getattr(ClientOptions(), name) != value for name, value in CHANGED.items())
    assert EventBusSettings(**CHANGED).client_options() == ClientOptions(**CHANGED)
    assert EventBusSettings().client_options() == ClientOptions()


def test_from_settings_to_the_keys_of_a_client() -> None:
    """The options have the client's keys, unless the client will not connect to the proxy."""
    settings = EventBusSettings(security={"server_public_key": PROXY.public, "secret_key": SecretStr(CLIENT.secret)})
    assert settings.client_options().keys == ClientKeys(PROXY.public, CLIENT.secret)
    assert settings.client_options(encrypted=False).keys is None


def test_from_settings_to_the_options_of_a_proxy() -> None:
    """A proxy waits longer for subscribers than they wait before they reconnect."""
    settings = EventBusSettings(
        max_event_bytes=1_000,
        reconnect_max_interval=2,
        security={"secret_key": SecretStr(PROXY.secret), "allow_list": "allow.toml"},
    )
    options = settings.proxy_options()
    assert (options.max_event_bytes, options.settle, str(options.allow_list)) == (1_000, 2.5, "allow.toml")
    assert options.secret_key == Secret(PROXY.secret)
    assert EventBusSettings().proxy_options() == ProxyOptions(max_memory=PROCESS_MAX_MEMORY)
    with pytest.raises(InvalidSettings, match="history_bytes=1 is too little"):
        ProxyOptions(history=1, history_bytes=1)
    with pytest.raises(InvalidSettings, match="greater than or equal to 65536"):
        EventBusSettings(history_bytes="63KiB")
    limits = {"proxy_hwm": 10, "proxy_max_subscriptions": 20, "proxy_max_memory": "200MiB", "proxy_max_backlog": "64MiB"}
    assert EventBusSettings(**limits).proxy_options() == ProxyOptions(
        hwm=10, max_backlog=64 * 1_048_576, max_subscriptions=20, max_memory=200 * 1_048_576
    )


def test_a_client_takes_options_and_arguments() -> None:
    """Keyword arguments replace options of the same name."""
    options = ClientOptions(enabled=False, close_timeout=7, topics=["a"])
    with Bus(MyEvent, options=options) as client:
        assert client.topics == {"a"}
    with Bus(MyEvent, options=options, topics=(name for name in ("b", "c"))) as client:
        assert client.topics == {"b", "c"}
    with pytest.raises(TypeError, match="reconnect_tries"):
        EventBusClient(MyEvent, reconnect_tries=3)  # type: ignore[call-arg] # mypy knows it, too


def test_choices_by_value() -> None:
    """Options take the value of a choice instead of its member, and refuse others."""
    arguments: dict[str, Any] = {"send_policy": "drop", "receive_policy": "block", "compression": "zlib"}
    options = ClientOptions(**arguments)
    assert (options.send_policy, options.receive_policy, options.compression) == (
        SendPolicy.DROP,
        ReceivePolicy.BLOCK,
        Compression.ZLIB,
    )
    with pytest.raises(
        InvalidSettings, match=r"^receive_policy='never': it must be one of drop_oldest, drop_newest, block$"
    ):
        replace(options, receive_policy="never")  # type: ignore[arg-type] # mypy knows it, too


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (ClientOptions, "resend_bytes", -1),
        (ClientOptions, "connect_timeout", -0.1),
        (ZeroMQOptions, "echo_timeout", float("nan")),
        (ProxyOptions, "history", -1),
        (ProxyOptions, "max_backlog", -1),
    ],
)
def test_no_size_and_no_time_is_negative(kind: Any, name: str, value: float) -> None:
    """It is refused with the name of the option; what uses it would have another explanation, or none."""
    with pytest.raises(InvalidSettings, match=f"^{name}={value}: it must be 0 or more$"):
        kind(**{name: value})


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ClientOptions, "send_hwm"),
        (ClientOptions, "receive_hwm"),
        (ClientOptions, "receive_buffer"),
        (ClientOptions, "max_event_bytes"),
        (ProxyOptions, "hwm"),
        (ProxyOptions, "max_subscriptions"),
    ],
)
def test_nothing_fits_into_nothing(kind: Any, name: str) -> None:
    """What would let nothing pass, or everything, is refused as the setting is."""
    kind(**{name: 1})
    with pytest.raises(InvalidSettings, match=f"^{name}=0: it must be 1 or more$"):
        kind(**{name: 0})


WRONG_TYPES: list[tuple[Any, str, object, str]] = [
    (ClientOptions, "send_hwm", "x", "send_hwm='x': it must be a whole number"),
    (ClientOptions, "receive_buffer", 1.5, "receive_buffer=1.5: it must be a whole number"),
    (ClientOptions, "resend_bytes", True, "resend_bytes=True: it must be a whole number"),
    (ClientOptions, "connect_timeout", "5", "connect_timeout='5': it must be a number"),
    (ZeroMQOptions, "echo_interval", None, "echo_interval=None: it must be a number"),
    (ClientOptions, "enabled", "false", "enabled='false': it must be True or False"),
    (ClientOptions, "name", 5, "name=5: it must be a text"),
    (ClientOptions, "topics", 5, "topics=5: it must be a list of topics"),
    (ClientOptions, "topics", ["a", 5], "topics: 5 is no topic, which is a text"),
    (ClientOptions, "start", [], r"\[\] is no time that this machine knows"),
    (ClientOptions, "keys", CLIENT.secret, "keys: it must be ClientKeys or None"),
    (ProxyOptions, "settle", "1", "settle='1': it must be a number"),
    (ProxyOptions, "secret_key", CLIENT.secret.encode(), "secret_key: it must be a text or None"),
    (ProxyOptions, "history_file", 5, "history_file=5: it must be a path or None"),
    (ProxyOptions, "allow_list", b"x", "allow_list=b'x': it must be a path or None"),
    (NatsOptions, "url", None, "url=None: it must be a text"),
    (NatsOptions, "group", 5, "group=5: it must be a text or None"),
    (NatsOptions, "password", CLIENT.secret.encode(), "password: it must be a text or None"),
    (NatsOptions, "ca_file", 5, "ca_file=5: it must be a path or None"),
    (NatsOptions, "store", 5, "5 does not say how a stream is made"),
    (NatsOptions, "start", [], r"\[\] is no start"),
    (EventBusClient, "pub_port", "5559", "'5559' is no port"),
    (EventBusClient, "host", None, "host: it must be a text"),
]


@pytest.mark.parametrize(("kind", "name", "value", "text"), WRONG_TYPES, ids=[one[1] for one in WRONG_TYPES])
def test_no_value_has_another_type(kind: Any, name: str, value: object, text: str) -> None:
    """A value of a wrong type is refused where it is given, with its name; a secret is not shown."""
    with pytest.raises(InvalidSettings, match=f"^{text}"):
        kind(*([MyEvent] if kind is EventBusClient else []), **{name: value})


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ClientOptions, "send_hwm"),
        (ClientOptions, "receive_hwm"),
        (ClientOptions, "receive_buffer"),
        (ProxyOptions, "hwm"),
    ],
)
def test_what_libzmq_does_not_take(kind: Any, name: str) -> None:
    """A high-water mark that libzmq does not take is refused with the name of the option, and a buffer as large."""
    kind(**{name: 2**31 - 1})
    with pytest.raises(InvalidSettings, match=rf"^{name}=2147483648: it must be less than 2147483648$"):
        kind(**{name: 2**31})


def test_a_text_is_no_list_of_topics() -> None:
    """A text is not taken for the topics that its letters are."""
    with pytest.raises(InvalidSettings, match=r"topics='plant' is one text, not a list of topics such as \['plant'\]"):
        ClientOptions(topics="plant")


def test_options_of_a_client_are_options_of_its_transport() -> None:
    """A transport takes a client's options as they are."""
    ZeroMQTransport(options=ClientOptions(linger=1)).close(0)
