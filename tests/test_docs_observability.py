"""docs/observability.md and docs/watching.md: what their tables list is what there is."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from eventbus import cli
from eventbus.logs import FIELDS
from eventbus.policies import LogFormat, Metrics, Traces
from eventbus.proxy_health import ProxyHealth
from eventbus.settings import EventBusSettings
from eventbus.telemetry import otel
from eventbus.telemetry.prometheus import PrometheusHook
from eventbus.telemetry.proxy import ProxyCollector

DOCS = Path(__file__).parents[1] / "docs"
OBSERVABILITY = (DOCS / "observability.md").read_text()
WATCHING = (DOCS / "watching.md").read_text()


def first_cells(page: str, pattern: str) -> list[str]:
    """What stands first in the rows of tables, if it looks like this."""
    return re.findall(rf"^\| `({pattern})` \|", page, flags=re.MULTILINE)


def test_the_metrics_for_prometheus() -> None:
    """The tables have every metric of a client and of a proxy with its type and its labels, and no other."""
    registry = CollectorRegistry()
    PrometheusHook(registry)
    registry.register(ProxyCollector(lambda: ProxyHealth(denied={"name": 1})))
    expected = {}
    for family in registry.collect():
        if family.name.endswith("_created"):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        expected[name] = family.type
    rows = re.findall(r"^\| `(eventbus_\w+)` \| (\w+) \|", OBSERVABILITY, flags=re.MULTILINE)
    assert dict(rows) == expected


def test_the_metrics_for_opentelemetry() -> None:
    """The table has the four metrics of the messaging conventions."""
    assert set(first_cells(OBSERVABILITY, r"messaging\.(?:client\.(?:sent|consumed|operation)|process)\.\w+")) == {
        otel.SENT_MESSAGES,
        otel.CONSUMED_MESSAGES,
        otel.OPERATION_DURATION,
        otel.PROCESS_DURATION,
    }


def test_the_variables() -> None:
    """Each variable that switches something on is one, and takes what the table gives it."""
    known = {EventBusSettings.variable(*path) for path, _ in EventBusSettings.fields()}
    switches = re.findall(r"^\| `(EVENTBUS_\w+)=(\w+)`", OBSERVABILITY, flags=re.MULTILINE)
    assert {name for name, _ in switches} <= known
    assert dict(switches) == {
        "EVENTBUS_METRICS": Metrics.PROMETHEUS,
        "EVENTBUS_TRACES": Traces.OTEL,
        "EVENTBUS_HTTP_PORT": "9464",
        "EVENTBUS_LOG_FORMAT": LogFormat.JSON,
    }


def test_the_fields_of_the_log() -> None:
    """The table has every field that records have, with its meaning."""
    rows = re.findall(r"^\| `(eventbus_\w+)` \| (.*) \|$", OBSERVABILITY, flags=re.MULTILINE)
    assert [(name, meaning) for name, meaning in rows if name in FIELDS] == list(FIELDS.items())


def test_the_exit_statuses() -> None:
    """The table has those that commands end with."""
    statuses = re.findall(r"^\| (\d+) \|", WATCHING, flags=re.MULTILINE)
    assert [int(status) for status in statuses] == [cli.DONE, cli.FAILED, cli.BAD_ARGUMENTS, cli.INTERRUPTED]
