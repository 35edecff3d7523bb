"""Settings from arguments, variables and a file, and the errors about bad ones."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from eventbus import ClientOptions, Compression, EventBusError, InvalidSettings, Packing, ReceivePolicy, SendPolicy
from eventbus.keys import Secret
from eventbus.nats_options import NatsOptions
from eventbus.policies import LogFormat, Metrics, Traces, TransportKind
from eventbus.settings import EventBusSettings
from tests.support import run_script

# Every field with a text for its variable, and the value that this means; none is the default.
FROM_TEXT: dict[str, tuple[str, object]] = {
    "enabled": ("false", False),
    "host": ("bus.plant.example", "bus.plant.example"),
    "pub_port": ("7559", 7559),
    "sub_port": ("7560", 7560),
    "topics": ("a,b", ("a", "b")),
    "embedded_proxy": ("true", True),
    "connect_timeout": ("2.5", 2.5),
    "connect_required": ("false", False),
    "close_timeout": ("3.5", 3.5),
    "linger": ("0", 0.0),
    "send_timeout": ("0.25", 0.25),
    "send_policy": ("drop", SendPolicy.DROP),
    "send_hwm": ("11", 11),
    "receive_hwm": ("12", 12),
    "receive_buffer": ("13", 13),
    "receive_policy": ("block", ReceivePolicy.BLOCK),
    "echo_interval": ("0", 0.0),
    "echo_timeout": ("0.125", 0.125),
    "reconnect_interval": ("0.01", 0.01),
    "reconnect_max_interval": ("30", 30.0),
    "reconnect_attempts": ("14", 14),
    "max_event_bytes": ("14", 14),
    "max_event_values": ("15", 15),
    "resend_bytes": ("1000000", 1_000_000),
    "numbered": ("true", True),
    "packing": ("all", Packing.ALL),
    "packing_max_wait": ("0.002", 0.002),
    "compression": ("zstd", Compression.ZSTD),
    "compression_threshold": ("15", 15),
    "name": ("shop", "shop"),
    "listed": ("false", False),
    "metrics": ("prometheus", Metrics.PROMETHEUS),
    "metrics_timed": ("0.25", 0.25),
    "start": ("last", "last"),
    "repair_timeout": ("0.5", 0.5),
    "history": ("100", 100),
    "history_bytes": ("2MiB", 2 * 1_048_576),
    "history_age": ("60", 60.0),
    "history_file": ("bus.db", Path("bus.db")),
    "traces": ("otel", Traces.OTEL),
    "http_port": ("9464", 9464),
    "http_host": ("0.0.0.0", "0.0.0.0"),
    "log_format": ("json", LogFormat.JSON),
    "proxy_hwm": ("16", 16),
    "proxy_max_subscriptions": ("17", 17),
    "proxy_max_backlog": ("64MiB", 64 * 1_048_576),
    "proxy_max_memory": ("200MiB", 200 * 1_048_576),
    "transport": ("jetstream", TransportKind.JETSTREAM),
    "url": ("nats://one:4222,tls://two", "nats://one:4222,tls://two"),
    "group": ("workers", "workers"),
    "store": ("memory,1MiB,1h,3", "memory,1MiB,1h,3"),
    "subject_prefix": ("site-1.eb", "site-1.eb"),
    "traces_sampled": ("0.01", 0.01),
    "ui_token": ('" nobody-guesses-this "', SecretStr("nobody-guesses-this")),
}

# What Kubernetes tells every pod about a service called `eventbus`.
KUBERNETES = {
    "EVENTBUS_SERVICE_HOST": "10.0.0.11",
    "EVENTBUS_SERVICE_PORT": "5559",
    "EVENTBUS_SERVICE_PORT_PUB": "5559",
    "EVENTBUS_PORT": "tcp://10.0.0.11:5559",
    "EVENTBUS_PORT_5559_TCP": "tcp://10.0.0.11:5559",
    "EVENTBUS_PORT_5559_TCP_PROTO": "tcp",
    "EVENTBUS_PORT_5559_TCP_PORT": "5559",
    "EVENTBUS_PORT_5559_TCP_ADDR": "10.0.0.11",
}


def refusal(**values: Any) -> str:
    """The error about these settings."""
    with pytest.raises(InvalidSettings) as caught:
        EventBusSettings(**values)
    return str(caught.value)


def test_defaults() -> None:
    """Without any variable, the settings are those of a client and a proxy on this machine."""
    settings = EventBusSettings()
    assert settings.enabled is True
    assert (settings.host, settings.pub_port, settings.sub_port) == ("localhost", 5559, 5560)
    assert settings.topics == ()
    assert settings.embedded_proxy is False
    assert settings.store == str(NatsOptions().stored)
    assert settings.subject_prefix == NatsOptions().prefix


def test_the_table_is_complete() -> None:
    """The table of these tests has every field but for the nested ones (see test_security_settings.py)."""
    assert FROM_TEXT.keys() == EventBusSettings.model_fields.keys() - {"security"}


@pytest.mark.parametrize("field", FROM_TEXT)
def test_each_field_has_its_variable(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every field is read from EVENTBUS_ and its name in capitals, and no other field changes with it."""
    text, value = FROM_TEXT[field]
    before = EventBusSettings().model_dump()
    assert before[field] != value
    monkeypatch.setenv(f"EVENTBUS_{field.upper()}", text)
    assert EventBusSettings().model_dump() == before | {field: value}
    assert EventBusSettings.variable(field) == f"EVENTBUS_{field.upper()}"


@pytest.mark.parametrize("field", FROM_TEXT)
def test_each_field_can_stand_in_the_file(field: str, tmp_path: Path) -> None:
    """Every field is read from the file .env in the working directory too."""
    text, value = FROM_TEXT[field]
    (tmp_path / ".env").write_text(f"EVENTBUS_{field.upper()}={text}\n")
    assert getattr(EventBusSettings(), field) == value


def test_arguments_before_variables_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An argument comes before a variable, a variable before .env, that before the default, field by field."""
    (tmp_path / ".env").write_text("EVENTBUS_HOST=file\nEVENTBUS_PUB_PORT=1\nEVENTBUS_SUB_PORT=3\n")
    monkeypatch.setenv("EVENTBUS_HOST", "variable")
    monkeypatch.setenv("EVENTBUS_PUB_PORT", "2")
    settings = EventBusSettings(host="argument")
    assert (settings.host, settings.pub_port, settings.sub_port) == ("argument", 2, 3)
    assert settings.connect_timeout == 5.0


@pytest.mark.parametrize(
    ("text", "topics"),
    [
        ("a,b", ("a", "b")),
        (" a , b ", ("a", "b")),
        ("a", ("a",)),
        ("a,,b,", ("a", "b")),
        ("", ()),
        ('"a,b"', ("a", "b")),
        ("'a', \"b\"", ("a", "b")),
        ('["a", "b"]', ("a", "b")),
        (' ["a b", "c;d", "e,f"] ', ("a b", "c;d", "e,f")),
        ("[]", ()),
    ],
)
def test_topics_are_separated_by_commas(text: str, topics: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics are written a,b, or as a JSON list; blanks and quotes around them and empty ones do not count."""
    monkeypatch.setenv("EVENTBUS_TOPICS", text)
    assert EventBusSettings().topics == topics


@pytest.mark.parametrize("text", ["a;b", "a b", "a, b c", "a\nb", "a'b"])
def test_topics_that_are_separated_otherwise(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other signs between topics are refused with what to write instead: they would make one topic that nobody emits to."""
    monkeypatch.setenv("EVENTBUS_TOPICS", text)
    assert refusal().startswith(f"EVENTBUS_TOPICS={text!r}: topics are separated by commas: a,b; ")


@pytest.mark.parametrize("text", ["*", "a,*", "plant.*"])
def test_topics_are_no_patterns(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern is refused, because nobody emits to a topic that is called so; a topic that is can be named as JSON."""
    monkeypatch.setenv("EVENTBUS_TOPICS", text)
    assert refusal().startswith(f"EVENTBUS_TOPICS={text!r}: topics match exactly, and * stands for no others; ")
    monkeypatch.setenv("EVENTBUS_TOPICS", '["*"]')
    assert EventBusSettings().topics == ("*",)


@pytest.mark.parametrize("text", ['["a"', "[a, b]", '{"a": 1}', "[1]", '["a", null]'])
def test_topics_that_are_almost_json(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that begins like JSON has to be a list of texts."""
    monkeypatch.setenv("EVENTBUS_TOPICS", text)
    assert refusal() == f'EVENTBUS_TOPICS={text!r}: it is not a JSON list of texts, such as ["a", "b"]; a,b will do, too'


def test_topics_as_an_argument() -> None:
    """In code, topics are a sequence of strings, or the text that the variable would have."""
    assert EventBusSettings(topics=["a", "b"]).topics == ("a", "b")
    assert EventBusSettings(topics="a,b").topics == ("a", "b")


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("enabled", "maybe"),
        ("host", ""),
        ("pub_port", "65536"),
        ("pub_port", "-1"),
        ("sub_port", "http"),
        ("embedded_proxy", ""),
        ("connect_timeout", "0"),
        ("connect_timeout", "nan"),
        ("close_timeout", "-1"),
        ("linger", "long"),
        ("send_timeout", "-0.5"),
        ("send_hwm", "0"),
        ("receive_hwm", "1.5"),
        ("receive_buffer", "0"),
        ("receive_policy", "drop"),
        ("packing", "2"),
    ],
)
def test_a_bad_value_is_refused_by_its_variable(field: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad value raises InvalidSettings, which names the variable and the value."""
    monkeypatch.setenv(f"EVENTBUS_{field.upper()}", text)
    said = refusal()
    assert f"EVENTBUS_{field.upper()}={text!r}: " in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("field", "text", "remedy"),
    [
        ("enabled", "nein", "it must be true or false"),
        ("pub_port", "", "it is empty: leave the variable out for the default"),
        ("compression", "", "it is empty: leave the variable out for the default"),
        ("max_event_bytes", "8MiB", "it must be a whole number, without a unit"),
        ("linger", "5s", "it must be a number, without a unit"),
        ("history_bytes", "much", "it must be a number of bytes, or one with a unit, such as 64MiB"),
    ],
)
def test_a_complaint_says_what_to_write(field: str, text: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """People who set a variable have not read pydantic's manual."""
    monkeypatch.setenv(f"EVENTBUS_{field.upper()}", text)
    assert refusal() == f"EVENTBUS_{field.upper()}={text!r}: {remedy}"


@pytest.mark.parametrize(
    ("text", "packing"), [("true", Packing.BATCHES), ("Yes", Packing.BATCHES), ("0", Packing.NONE), ("all", Packing.ALL)]
)
def test_packing_was_a_switch(text: str, packing: Packing, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVENTBUS_PACKING takes what it took as a switch, too; so does the argument."""
    monkeypatch.setenv("EVENTBUS_PACKING", text)
    assert EventBusSettings().packing is packing
    assert EventBusSettings(packing=False).packing is Packing.NONE
    assert EventBusSettings(packing=False).client_options().packing is Packing.NONE


@pytest.mark.parametrize("text", ["1.5", "-0.1", "nan", "some", ""])
def test_what_is_timed_is_auto_or_a_share(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVENTBUS_METRICS_TIMED takes nothing but `auto` and a number from 0 to 1; so does the argument."""
    monkeypatch.setenv("EVENTBUS_METRICS_TIMED", text)
    assert refusal() == f"EVENTBUS_METRICS_TIMED={text!r}: it is neither `auto` nor a number from 0 to 1"
    assert EventBusSettings(metrics_timed="auto").metrics_timed == "auto"
    assert EventBusSettings(metrics_timed=1).metrics_timed == 1.0


@pytest.mark.parametrize("field", ["close_timeout", "linger"])
@pytest.mark.parametrize("text", ["inf", "1e300"])
def test_seconds_are_finite(field: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time for closing that no wait can take is refused at once, not when the service stops."""
    monkeypatch.setenv(f"EVENTBUS_{field.upper()}", text)
    assert f"EVENTBUS_{field.upper()}=" in refusal()


@pytest.mark.parametrize("field", ["send_hwm", "receive_hwm", "receive_buffer", "proxy_hwm"])
def test_more_messages_than_anybody_can_count(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that libzmq does not take is refused at once, with the variable, and not when the service starts."""
    monkeypatch.setenv(f"EVENTBUS_{field.upper()}", "2147483648")
    assert f"EVENTBUS_{field.upper()}=" in refusal()


def test_a_token_that_is_too_short_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The complaint may end in a log, and the token may be a password of its owner."""
    monkeypatch.setenv("EVENTBUS_UI_TOKEN", "hunter2")
    assert "EVENTBUS_UI_TOKEN: it needs at least 16 characters" in refusal()
    assert "hunter2" not in refusal()


def test_a_bad_argument_is_refused() -> None:
    """Arguments are checked as variables are, and named by the variable."""
    assert "EVENTBUS_PUB_PORT=70000: " in refusal(pub_port=70_000)
    assert refusal(topics=["a", 5]) == "EVENTBUS_TOPICS=5: Input should be a valid string"


def test_an_unknown_argument_is_refused() -> None:
    """A misspelt argument raises, as a misspelt variable does."""
    assert "hots" in refusal(hots="elsewhere").lower()


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ("EVENTBUS_PUBPORT", "did you mean EVENTBUS_PUB_PORT?"),
        ("EVENTBUS_TOPIC", "did you mean EVENTBUS_TOPICS?"),
        ("eventbus_hots", "did you mean EVENTBUS_HOST?"),
        ("EVENTBUS_MAX_RECONNECT_ATTEMPTS", "did you mean EVENTBUS_RECONNECT_ATTEMPTS?"),
        ("EVENTBUS_SECRET_KEY", "did you mean EVENTBUS_SECURITY__SECRET_KEY?"),
        ("EVENTBUS_PORT", "did you mean EVENTBUS_HTTP_PORT, EVENTBUS_PUB_PORT or EVENTBUS_SUB_PORT?"),
        ("EVENTBUS_XYZZY_QUUX_FROBNICATE", "`eventbus settings` lists the known ones"),
        ("EVENTBUS_URLS", "did you mean EVENTBUS_URL?"),
        ("EVENTBUS_PASSWORD", "did you mean EVENTBUS_SECURITY__PASSWORD?"),
        ("EVENTBUS_RETRIES", "`eventbus settings` lists the known ones"),
    ],
)
def test_an_unknown_variable_is_refused(wrong: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with our prefix that means nothing raises InvalidSettings with a likely correction."""
    monkeypatch.setenv(wrong, "1")
    assert refusal() == f"{wrong.upper()} is unknown: {remedy}"


@pytest.mark.parametrize("wrong", ["EVENTBUS_HOST__NAME", "EVENTBUS_TOPICS__0", "EVENTBUS__HOST"])
def test_an_unknown_part_of_a_known_variable_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known name that is continued after __ means nothing either, and is not silently ignored."""
    monkeypatch.setenv(wrong, "a")
    assert wrong in refusal()


def test_unknown_names_in_the_file_are_refused_if_they_are_ours(tmp_path: Path) -> None:
    """In .env a misspelt name of ours is refused, and names of others are none of our business."""
    (tmp_path / ".env").write_text("DATABASE_URL=postgres://\nEVENTBUSES=3\nPORT=80\n")
    assert EventBusSettings() == EventBusSettings(host="localhost")
    (tmp_path / ".env").write_text("DATABASE_URL=postgres://\nEVENTBUS_HOTS=3\n")
    assert refusal() == "EVENTBUS_HOTS is unknown: did you mean EVENTBUS_HOST?"


def test_variables_of_others_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables without our prefix mean nothing to us."""
    monkeypatch.setenv("HOST", "elsewhere")
    monkeypatch.setenv("PUB_PORT", "1")
    monkeypatch.setenv("EVENTBUSES", "2")
    assert EventBusSettings().model_dump() == EventBusSettings(host="localhost", pub_port=5559).model_dump()


def test_one_error_names_everything_that_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All bad values and all unknown names, of the environment and of .env, come in one InvalidSettings, each once."""
    (tmp_path / ".env").write_text("EVENTBUS_LINGR=1\nEVENTBUS_SEND_HWM=none\n")
    monkeypatch.setenv("EVENTBUS_PUBPORT", "7559")
    monkeypatch.setenv("EVENTBUS_SUB_PORT", "many")
    monkeypatch.setenv("EVENTBUS_ENABLED", "perhaps")
    said = refusal(host="")
    for expected in (
        "EVENTBUS_LINGR is unknown: did you mean EVENTBUS_LINGER?",
        "EVENTBUS_PUBPORT is unknown: did you mean EVENTBUS_PUB_PORT?",
        "EVENTBUS_SEND_HWM='none': ",
        "EVENTBUS_SUB_PORT='many': ",
        "EVENTBUS_ENABLED='perhaps': ",
        "EVENTBUS_HOST='': ",
    ):
        assert said.count(expected) == 1
    assert len(said.split("; ")) == 6


def test_the_error_is_one_of_ours() -> None:
    """InvalidSettings is an EventBusError and a ValueError, and does not drag pydantic's own along."""
    with pytest.raises(InvalidSettings) as caught:
        EventBusSettings(pub_port=-1)
    assert isinstance(caught.value, EventBusError)
    assert isinstance(caught.value, ValueError)
    assert not isinstance(caught.value, ValidationError)


@pytest.mark.parametrize("name", KUBERNETES)
def test_what_kubernetes_injects_is_ignored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that describe a Kubernetes service called `eventbus` are neither settings nor mistakes."""
    defaults = EventBusSettings()
    monkeypatch.setenv(name, KUBERNETES[name])
    assert EventBusSettings() == defaults


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("EVENTBUS_PROXY_SERVICE_HOST", "10.0.0.11"),
        ("EVENTBUS_PROXY_SERVICE_PORT", "5559"),
        ("EVENTBUS_PROXY_SERVICE_PORT_PUB", "5559"),
        ("EVENTBUS_PROXY_PORT", "tcp://10.0.0.11:5559"),
        ("EVENTBUS_PROXY_PORT_5559_TCP_ADDR", "10.0.0.11"),
    ],
)
def test_kubernetes_services_whose_names_begin_so(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kubernetes service called `eventbus-proxy` does not keep every pod of its namespace from starting."""
    defaults = EventBusSettings()
    monkeypatch.setenv(name, text)
    assert EventBusSettings() == defaults


def test_settings_do_not_change() -> None:
    """Settings are frozen, and have no room for other attributes."""
    settings = EventBusSettings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.host = "elsewhere"
    with pytest.raises((ValidationError, ValueError)):
        settings.hots = "elsewhere"  # type: ignore[attr-defined] # mypy knows it, too
    assert settings.host == "localhost"


def test_every_field_says_what_it_means() -> None:
    """Each field has a description, which the command line shows."""
    assert all(field.description for field in EventBusSettings.model_fields.values())


@pytest.mark.process
def test_importing_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing the packages with a bad and an unknown variable works; making settings then says what is wrong."""
    monkeypatch.setenv("EVENTBUS_PUB_PORT", "many")
    monkeypatch.setenv("EVENTBUS_HOTS", "x")
    done = run_script(
        "import eventbus, eventbus.settings, eventbus.container, eventbus.cli.commands\n"
        "print('imported')\n"
        "try:\n"
        "    eventbus.settings.EventBusSettings()\n"
        "except eventbus.InvalidSettings as error:\n"
        "    print(error)\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    imported, said = done.stdout.splitlines()
    assert imported == "imported"
    assert "EVENTBUS_PUB_PORT='many'" in said
    assert "EVENTBUS_HOTS is unknown" in said


# Hosts and ports


@pytest.mark.parametrize("field", ["host", "http_host"])
@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("FE80::1%eth0", "fe80::1%eth0"),
        ("10.0.0.5", "10.0.0.5"),
        ("'bus'", "bus"),
        (" bus.example.com\n", "bus.example.com"),
        ("event_bus", "event_bus"),
        ("bücher.example", "bücher.example"),
        ("*", "*"),
    ],
)
def test_hosts(field: str, text: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is a name or an address; brackets, quotes and white space around it do not count."""
    monkeypatch.setenv(f"EVENTBUS_{field.upper()}", text)
    assert getattr(EventBusSettings(), field) == host


@pytest.mark.parametrize(
    ("text", "host"),
    [("bus:5559", "bus"), ("10.0.0.5:5559", "10.0.0.5"), ("[::1]:5559", "[::1]"), ("tcp://bus:5559", "bus")],
)
def test_a_host_with_a_port(text: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with a port is refused with where the port belongs, before anything waits for that name."""
    monkeypatch.setenv("EVENTBUS_HOST", text)
    assert refusal() == (
        f"EVENTBUS_HOST={text!r}: only the host belongs here, {host}: ports have variables of their own, "
        "such as EVENTBUS_PUB_PORT"
    )


@pytest.mark.parametrize("text", ["a b", "http://bus/", "bus:", ":::1", "[bus", "bus/5559", "a,b"])
def test_what_is_no_host(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that can be neither a name nor an address is refused as such."""
    monkeypatch.setenv("EVENTBUS_HOST", text)
    assert "it is not the name or the address of a host" in refusal()


def test_equal_ports() -> None:
    """The two ports of a proxy are different ones, unless both are to be picked."""
    assert refusal(sub_port=5559) == (
        "EVENTBUS_PUB_PORT and EVENTBUS_SUB_PORT are both 5559: a proxy has one port for publishers and another one for "
        "subscribers"
    )
    assert EventBusSettings(pub_port=0, sub_port=0).pub_port == 0


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("EVENTBUS_PUB_PORT", "eventbus-pub"),
        ("EVENTBUS_SUB_PORT", "eventbus-sub"),
        ("EVENTBUS_HTTP_PORT", "eventbus-http"),
    ],
)
def test_a_variable_of_kubernetes_with_the_name_of_a_setting(
    name: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that Kubernetes sets for a service with the name of a setting are named as such, with the remedy."""
    monkeypatch.setenv(name, "tcp://10.0.0.1:5559")
    assert refusal() == (
        f"{name}=tcp://10.0.0.1:5559 is set by Kubernetes for a service called {service}: "
        "set `enableServiceLinks: false` in the pod's spec, or rename the service"
    )


# Other files, and classes of one's own


def test_another_file(tmp_path: Path) -> None:
    """`_env_file` names another file, several, or none; the one that does not count is not read for mistakes either."""
    (tmp_path / ".env").write_text("EVENTBUS_HOTS=x\n")
    for name, host in (("one.env", "one"), ("two.env", "two")):
        (tmp_path / name).write_text(f"EVENTBUS_HOST={host}\n")
    assert EventBusSettings(_env_file="one.env").host == "one"
    assert EventBusSettings(_env_file=tmp_path / "two.env").host == "two"
    assert EventBusSettings(_env_file=("one.env", "two.env")).host == "two"
    assert EventBusSettings(_env_file=None).host == "localhost"
    (tmp_path / "one.env").write_text("EVENTBUS_LINGR=1\n")
    assert refusal(_env_file="one.env") == "EVENTBUS_LINGR is unknown: did you mean EVENTBUS_LINGER?"


def test_another_file_that_is_not_there() -> None:
    """A file that was asked for and is not there is named, rather than passed over."""
    assert refusal(_env_file="nowhere.env") == "cannot read nowhere.env: there is no such file"


@pytest.mark.parametrize("line", ["EVENTBUS_PUB_PORT: 6000", "EVENTBUS_PUB_PORT 6000", "export EVENTBUS_PUB_PORT"])
def test_a_line_without_value(tmp_path: Path, line: str) -> None:
    """A line that is meant for us is not passed over, as python-dotenv would; lines of others are their own affair."""
    (tmp_path / ".env").write_text(f"# other: 1\nother: 2\n\nEVENTBUS_HOST=plant-1\n\n{line}\n")
    assert refusal() == "line 6 of .env gives EVENTBUS_PUB_PORT no value: write EVENTBUS_PUB_PORT=…"
    (tmp_path / ".env").write_text(line, "utf-8-sig")  # as some editors begin a file
    assert refusal() == "line 1 of .env gives EVENTBUS_PUB_PORT no value: write EVENTBUS_PUB_PORT=…"


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    """A file in another encoding, as some editors write it, is named."""
    (tmp_path / ".env").write_text("EVENTBUS_HOST=plant-1\n", "utf-16")
    assert refusal() == "cannot read .env: it is not text in UTF-8"
    (tmp_path / ".env").write_text("EVENTBUS_HOST=plant-1\n", "utf-8-sig")
    assert EventBusSettings().host == "plant-1"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """A file without permission to read is named."""
    (tmp_path / ".env").touch(0o000)
    assert refusal() == "cannot read .env: Permission denied"


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("_secrets_dir", "/etc/secrets", "set EVENTBUS_SECRETS_DIR"),
        ("_env_prefix", "BUS_", "derive a class with another model_config"),
        ("_hots", "x", "derive a class with another model_config"),
    ],
)
def test_arguments_of_pydantic_without_effect(name: str, value: str, remedy: str) -> None:
    """Arguments of pydantic-settings that mean nothing here are refused instead of ignored."""
    assert refusal(**{name: value}) == f"{name} has no effect here: {remedy}"


class Database(BaseModel):
    url: str = "none"


class PlantSettings(EventBusSettings):
    plant: str = Field(default="north", description="which plant")
    limits: dict[str, int] = Field(default={}, description="what is too much")
    database: Database = Database()
    replica: Database | None = None
    region: str = Field(default="here", validation_alias="PLANT_REGION")


def test_a_class_with_fields_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields of a derived class have their variables beside the others, nested ones and others' names too."""
    for name, value in {
        "EVENTBUS_PLANT": "south",
        "EVENTBUS_LIMITS__HEAT": "3",
        "EVENTBUS_DATABASE__URL": "one",
        "EVENTBUS_REPLICA__URL": "two",
        "PLANT_REGION": "there",
        "EVENTBUS_HOST": "bus",
    }.items():
        monkeypatch.setenv(name, value)
    settings = PlantSettings()
    assert (settings.plant, settings.limits, settings.region) == ("south", {"heat": 3}, "there")
    assert (settings.database.url, settings.replica, settings.host) == ("one", Database(url="two"), "bus")
    given: dict[str, Any] = {"plant": "east", "PLANT_REGION": "west"}
    assert (PlantSettings(**given).plant, PlantSettings(**given).region) == ("east", "west")
    assert PlantSettings().client_options() == ClientOptions()
    assert "EVENTBUS_PLANT is unknown" in refusal()


def test_mistakes_in_a_class_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its fields are among the guesses and named by their variables."""
    monkeypatch.setenv("EVENTBUS_PLNT", "x")
    monkeypatch.setenv("EVENTBUS_DATABASE__ULR", "x")
    monkeypatch.setenv("EVENTBUS_LIMITS__HEAT", "much")
    with pytest.raises(InvalidSettings) as caught:
        PlantSettings()
    assert "EVENTBUS_PLNT is unknown: did you mean EVENTBUS_PLANT?" in str(caught.value)
    assert "EVENTBUS_LIMITS__HEAT='much': " in str(caught.value)


class BusSettings(EventBusSettings):
    model_config = SettingsConfigDict(env_prefix="plant_bus_")


def test_a_class_with_another_prefix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its variables are read, checked and named with that prefix; those with ours are of others."""
    monkeypatch.setenv("PLANT_BUS_HOST", "bus")
    monkeypatch.setenv("EVENTBUS_HOTS", "x")
    (tmp_path / "PLANT_BUS_SECURITY__TOKEN").write_text("secret")
    monkeypatch.setenv("EVENTBUS_SECRETS_DIR", str(tmp_path))
    settings = BusSettings()
    assert (settings.host, settings.nats_options().token) == ("bus", Secret("secret"))
    monkeypatch.setenv("PLANT_BUS_PUB_PORT", "x")
    monkeypatch.setenv("PLANT_BUS_HOTS", "x")
    with pytest.raises(InvalidSettings) as caught:
        BusSettings()
    assert str(caught.value) == (
        "PLANT_BUS_HOTS is unknown: did you mean PLANT_BUS_HOST?; "
        "PLANT_BUS_PUB_PORT='x': it must be a whole number, without a unit"
    )
    (tmp_path / ".env").write_text("PLANT_BUS_LINGER 1\n")
    with pytest.raises(InvalidSettings, match=r"line 1 of \.env gives PLANT_BUS_LINGER no value"):
        BusSettings()
