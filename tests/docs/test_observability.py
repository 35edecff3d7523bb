"""docs/observability.md: its examples are what is seen, and what its tables list is what there is."""

import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from eventbus import ClientState, EventBusProxy
from eventbus.cli.historian_metrics import HistorianCollector
from eventbus.policies import LogFormat, Metrics, Traces
from eventbus.proxy.health import ProxyHealth
from eventbus.proxy.metrics import ProxyCollector
from eventbus.settings import EventBusSettings
from eventbus.telemetry import names
from eventbus.telemetry.logs import FIELDS, JsonFormatter, TextFormatter
from eventbus.telemetry.prometheus import PrometheusHook
from eventbus.wire.history import Kept
from tests.docs.pages import Reader, commands, needs, path_of, section, write_events
from tests.docs.running import done, surroundings
from tests.support import PATIENCE, Bus, eventually

PAGE = path_of("observability.md").read_text()


def first_cells(pattern: str) -> list[str]:
    """The first cells of the rows of tables, if they look like this."""
    return re.findall(rf"^\| `({pattern})` \|", PAGE, flags=re.MULTILINE)


def test_the_metrics_for_prometheus() -> None:
    """The tables have every metric of a client, a proxy and a historian with its type and its labels, and no other."""
    registry = CollectorRegistry()
    PrometheusHook(registry)
    registry.register(ProxyCollector(lambda: ProxyHealth(denied={"name": 1}, history=Kept())))
    registry.register(HistorianCollector(lambda: (Kept(), True, 0.5)))
    expected = {}
    for family in registry.collect():
        if family.name.endswith("_created"):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        expected[name] = family.type
    rows = re.findall(r"^\| `(eventbus_\w+)` \| (\w+) \|", PAGE, flags=re.MULTILINE)
    assert dict(rows) == expected


def test_the_metrics_for_opentelemetry() -> None:
    """The table has every metric of OpenTelemetry, and no other."""
    assert set(first_cells(r"(?:messaging|eventbus)\.(?:client|process)\.[\w.]+")) - {
        names.CLIENT_STATE,
        names.CLIENT_ID,
    } == {
        *names.OTEL_OF_PROMETHEUS.values(),
        names.OPERATION_DURATION,
    }


def test_the_variables() -> None:
    """Each variable that switches something on is one, and takes what the table gives it."""
    known = {EventBusSettings.variable(*path) for path, _ in EventBusSettings.fields()}
    switches = re.findall(r"^\| `(EVENTBUS_\w+)=(\w+)`", PAGE, flags=re.MULTILINE)
    assert {name for name, _ in switches} <= known
    assert dict(switches) == {
        "EVENTBUS_METRICS": Metrics.PROMETHEUS,
        "EVENTBUS_TRACES": Traces.OTEL,
        "EVENTBUS_HTTP_PORT": "9464",
        "EVENTBUS_LOG_FORMAT": LogFormat.JSON,
    }


def test_the_fields_of_the_log() -> None:
    """The table has every field that records have, with its meaning."""
    rows = re.findall(r"^\| `(eventbus_\w+)` \| (.*) \|$", PAGE, flags=re.MULTILINE)
    assert [(name, meaning) for name, meaning in rows if name in FIELDS] == list(FIELDS.items())


def test_the_probe(tmp_path: Path) -> None:
    """A proxy that serves over HTTP answers as it is shown."""
    needs("curl")
    with section("observability.md", "Probes and scrapes") as part:
        (ask,) = commands(part.one("console"))
    reader = Reader(tmp_path)
    with reader.terminal("eventbus proxy --http-port 9464") as terminal:
        terminal.wait_for_text("proxy on 127.0.0.1")
        answer = json.loads(reader.run(f"{ask.text} --retry 20 --retry-connrefused"))
    shown = json.loads(ask.output)
    assert answer.pop("round_trip") >= 0
    assert shown.pop("round_trip") >= 0
    assert answer == shown


def test_the_lines_of_the_log(proxy: EventBusProxy, connected: Callable[..., Bus], caplog: pytest.LogCaptureFixture) -> None:
    """A client whose proxy goes away logs what is shown, as text and as JSON."""
    with section("observability.md", "Logs") as part:
        as_text, as_json = part.one("text"), json.loads(part.one("json"))
    client = connected()
    ports = {str(proxy.pub_port): "5559", str(proxy.sub_port): "5560"}
    proxy.stop()

    def warnings() -> list[logging.LogRecord]:
        return [record for record in list(caplog.records) if record.levelno == logging.WARNING]

    eventually(warnings, PATIENCE)  # it is logged a moment after the state has changed
    (record,) = warnings()
    assert client.state is ClientState.DEGRADED

    def as_shown(text: str) -> str:
        """The line with the page's ports, and both connections: the second may end a moment after the first."""
        text = re.sub(r"(?<=:)\d+\b", lambda found: ports.get(found[0], found[0]), text)
        both = "the publishing and the subscribing connections are down"
        return re.sub(r"the (publishing|subscribing) connection is down", both, text)

    assert without_time(as_shown(TextFormatter().format(record))) == without_time(as_text.rstrip())
    facts = json.loads(as_shown(JsonFormatter().format(record)))
    assert facts.pop("time")
    assert as_json.pop("time")
    assert facts.pop("eventbus_client_name") == client.name
    assert as_json.pop("eventbus_client_name")
    assert facts.pop("message").startswith(as_json.pop("message").rstrip("…"))
    assert facts == as_json


def without_time(line: str) -> str:
    """A line of the log from its level on."""
    return line.split(" ", 2)[2]


def test_names(tmp_path: Path) -> None:
    """The client has the name that the settings give it."""
    write_events(tmp_path)
    with section("observability.md", "Names") as part:
        (tmp_path / "names.py").write_text(part.one("python"))
    done([sys.executable, "names.py"], tmp_path, surroundings())
